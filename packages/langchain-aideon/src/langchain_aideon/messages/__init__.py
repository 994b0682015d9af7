"""LangChain's messages to Aideon's and back: pure functions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolMessage,
    convert_to_openai_data_block,
    is_data_content_block,
)
from langchain_core.messages import ToolCall as LangChainToolCall
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk

from aideon_core import Message, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aideon_core import Chunk, Completion, Usage
    from aideon_core.types import Json

PROVIDER = "aideon"

# What a model said besides its text goes back as tool calls, or not at all.
_NOT_SENT_BACK = frozenset(
    {"tool_use", "tool_call", "invalid_tool_call", "reasoning", "reasoning_content", "thinking"}
)


def to_messages(messages: Sequence[BaseMessage]) -> list[Message | Json]:
    """A LangChain conversation as Aideon's."""
    return [_to_message(message) for message in messages]


def _to_message(message: BaseMessage) -> Message | Json:
    content = _to_content(message.content)
    match message:
        case HumanMessage():
            return Message("user", content, name=message.name)
        case SystemMessage():
            return Message("system", content, name=message.name)
        case AIMessage():
            calls = tuple(_to_tool_calls(message))
            return Message("assistant", content, name=message.name, tool_calls=calls)
        case ToolMessage():
            return Message("tool", content, tool_call_id=message.tool_call_id)
        case ChatMessage():
            return {"role": message.role, "content": content, "name": message.name}
        case _:
            raise TypeError(f"ChatAideon cannot send a {type(message).__name__}.")


def _to_content(content: str | list[str | dict[Any, Any]]) -> str | tuple[Json, ...]:
    if isinstance(content, str):
        return content
    return tuple(
        _to_part(block)
        for block in content
        if isinstance(block, str) or block.get("type") not in _NOT_SENT_BACK
    )


def _to_part(block: str | dict[Any, Any]) -> Json:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    if block.get("type") == "text":
        return {"type": "text", "text": block["text"]}
    if is_data_content_block(block):
        return convert_to_openai_data_block(block)
    return block


def _to_tool_calls(message: AIMessage) -> Iterator[ToolCall]:
    for call in message.tool_calls:
        # Escaped, Japanese and Chinese arguments cost several times the tokens.
        arguments = json.dumps(call["args"], ensure_ascii=False)
        yield ToolCall(call["id"] or "", call["name"], arguments)
    for bad in message.invalid_tool_calls:
        yield ToolCall(bad["id"] or "", bad["name"] or "", bad["args"] or "")


def from_completion(completion: Completion) -> AIMessage:
    """A whole answer as LangChain's."""
    valid, invalid = _from_tool_calls(completion.tool_calls)
    return AIMessage(
        content=completion.text,
        tool_calls=valid,
        invalid_tool_calls=invalid,
        additional_kwargs=_reasoning(completion.reasoning),
        usage_metadata=_from_usage(completion.usage),
        response_metadata=response_metadata(completion),
    )


def from_chunk(chunk: Chunk) -> AIMessageChunk:
    """A piece of an answer as LangChain's; the one with the route is the last."""
    last = chunk.route is not None
    return AIMessageChunk(
        content=chunk.text,
        tool_call_chunks=[
            tool_call_chunk(
                name=delta.name or None,
                args=delta.arguments,
                id=delta.id or None,
                index=delta.index,
            )
            for delta in chunk.tool_calls
        ],
        additional_kwargs=_reasoning(chunk.reasoning),
        usage_metadata=_from_usage(chunk.usage),
        response_metadata=response_metadata(chunk) if last else {},
        chunk_position="last" if last else None,
    )


def response_metadata(answer: Completion | Chunk) -> dict[str, Any]:
    """The facts about an answer that other parts of LangChain look for, as plain JSON."""
    return {
        "model_name": answer.model,
        "model_provider": PROVIDER,
        "finish_reason": answer.finish_reason,
        "cost": None if answer.cost is None else format(answer.cost, "f"),
        "route": None if answer.route is None else answer.route.as_dict(),
    }


def _from_usage(usage: Usage | None) -> UsageMetadata | None:
    if usage is None:
        return None
    return UsageMetadata(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        input_token_details=InputTokenDetails(cache_read=usage.cached_tokens),
        output_token_details=OutputTokenDetails(reasoning=usage.reasoning_tokens),
    )


def _from_tool_calls(
    calls: Sequence[ToolCall],
) -> tuple[list[LangChainToolCall], list[InvalidToolCall]]:
    valid: list[LangChainToolCall] = []
    invalid: list[InvalidToolCall] = []
    for call in calls:
        try:
            arguments = json.loads(call.arguments or "{}", strict=False)
            problem = None if isinstance(arguments, dict) else "The arguments are not an object."
        except ValueError as error:
            problem = f"The arguments are not JSON: {error}."
        if problem is None:
            valid.append(
                LangChainToolCall(name=call.name, args=arguments, id=call.id, type="tool_call")
            )
        else:
            invalid.append(
                InvalidToolCall(
                    name=call.name,
                    args=call.arguments,
                    id=call.id,
                    error=problem,
                    type="invalid_tool_call",
                )
            )
    return valid, invalid


def _reasoning(text: str) -> dict[str, Any]:
    return {"reasoning_content": text} if text else {}
