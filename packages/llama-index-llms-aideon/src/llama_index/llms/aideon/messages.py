"""LlamaIndex's messages to Aideon's and back: pure functions."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    ChatResponse,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
)

from aideon_core import Message
from aideon_core.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aideon_core import Chunk, Completion
    from aideon_core.types import Json, Role

_ROLES: Mapping[MessageRole, Role] = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.TOOL: "tool",
    MessageRole.FUNCTION: "tool",
}


def to_messages(messages: Sequence[ChatMessage]) -> list[Message]:
    """A LlamaIndex conversation as Aideon's."""
    return [
        Message(
            _ROLES[message.role],
            _to_content(message),
            name=message.additional_kwargs.get("name"),
            tool_call_id=message.additional_kwargs.get("tool_call_id"),
        )
        for message in messages
    ]


def _to_content(message: ChatMessage) -> str | tuple[Json, ...]:
    # Thoughts are not sent back, and a cache point is a wish of another provider's.
    blocks = [b for b in message.blocks if not isinstance(b, ThinkingBlock | CachePoint)]
    if all(isinstance(block, TextBlock) for block in blocks):
        return message.content or ""
    return tuple(_to_part(block) for block in blocks)


def _to_part(block: object) -> Json:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text}
    if isinstance(block, ImageBlock):
        return {"type": "image_url", "image_url": {"url": _url(block)}}
    raise BadRequest(
        f"AideonLLM cannot send a {type(block).__name__} yet.", hint="Send text or images."
    )


def _url(image: ImageBlock) -> str:
    if image.url is not None:
        return str(image.url)
    data = b64encode(image.resolve_image().read()).decode()
    return f"data:{image.image_mimetype or 'image/png'};base64,{data}"


def response(answer: Completion) -> ChatResponse:
    """A whole answer as LlamaIndex's."""
    facts = raw(answer)
    return ChatResponse(
        message=ChatMessage(
            role=MessageRole.ASSISTANT, blocks=_blocks(answer.text, answer.reasoning)
        ),
        raw=facts,
        additional_kwargs=_counts(facts),
    )


class Growing:
    """An answer that grows: each piece becomes a response with all the text so far."""

    def __init__(self) -> None:
        self._text = ""
        self._reasoning = ""

    def response(self, chunk: Chunk) -> ChatResponse:
        """The answer up to and with this piece."""
        self._text += chunk.text
        self._reasoning += chunk.reasoning
        facts = raw(chunk)
        message = ChatMessage(
            role=MessageRole.ASSISTANT, blocks=_blocks(self._text, self._reasoning)
        )
        thoughts = {"thinking_delta": chunk.reasoning} if chunk.reasoning else {}
        return ChatResponse(
            message=message,
            delta=chunk.text,
            raw=facts,
            additional_kwargs=_counts(facts) | thoughts,
        )


def raw(answer: Completion | Chunk) -> dict[str, Any]:
    """The facts about an answer as plain JSON; those not known yet are left out."""
    facts: dict[str, Any] = {
        "id": answer.id,
        "model": answer.model,
        "finish_reason": answer.finish_reason,
    }
    if answer.usage is not None:
        facts["usage"] = {
            "prompt_tokens": answer.usage.input_tokens,
            "completion_tokens": answer.usage.output_tokens,
            "total_tokens": answer.usage.total_tokens,
        }
    if answer.cost is not None:
        facts["cost"] = format(answer.cost, "f")
    if answer.route is not None:
        facts["route"] = answer.route.as_dict()
    return {name: value for name, value in facts.items() if value is not None}


def _counts(facts: dict[str, Any]) -> dict[str, Any]:
    route = {"route": facts["route"]} if "route" in facts else {}
    return {**facts.get("usage", {}), **route}


def _blocks(text: str, reasoning: str) -> list[TextBlock | ThinkingBlock]:
    thoughts = [ThinkingBlock(content=reasoning)] if reasoning else []
    return [*thoughts, TextBlock(text=text)]
