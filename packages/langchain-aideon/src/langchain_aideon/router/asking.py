"""A request as LangChain's models take it: the caller's own messages, tools and parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import (
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from aideon_core import Completion, Message
from aideon_core.errors import BadRequest, MissingDependency
from langchain_aideon.messages import from_completion, to_messages
from langchain_aideon.messages.carried import CarriedMessage, restored
from langchain_aideon.router import capabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.runnables import Runnable

    from aideon_core.types import Json, Request

_PARAMETERS: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "response_format",
    "logprobs",
    "top_logprobs",
)
_ROLES: Final = {"system": "system", "ai": "assistant"}
# Who reads media is sent a file itself, who does not is sent its text.
_FILES: Final = frozenset({"file", "document"})


class Sealed(ChatMessage):
    """A message that only its own library can read; here it has its role and its text alone."""

    given: BaseMessage


def sealed(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The conversation with each message sealed that has no place in ours."""
    return [_sealed(message) for message in messages]


def _sealed(message: BaseMessage) -> BaseMessage:
    try:
        to_messages([message])
    except (BadRequest, MissingDependency):
        role = _ROLES.get(message.type, "user")
        return Sealed(role=role, content=str(message.text), given=message)
    return message


def messages(request: Request, *, media: bool) -> list[BaseMessage]:
    """The conversation as LangChain's messages: the caller's own, wherever there are any.

    Args:
        request: what is asked.
        media: whether the model reads images and files.
    """
    turns = request.messages if media else [_textual(turn) for turn in request.messages]
    return [_message(turn) for turn in restored(turns)]


def with_tools(model: Runnable[Any, Any], request: Request) -> Runnable[Any, Any]:
    """The model with the request's tools on offer, as its own class offers them."""
    # Without tools nothing is called, whatever a library's word for "none" is.
    if not request.tools or request.tool_choice == "none":
        return model
    said: dict[str, Any] = {}
    if request.tool_choice is not None:
        said["tool_choice"] = _tool_choice(request.tool_choice)
    if request.parallel_tool_calls is not None:
        said["parallel_tool_calls"] = request.parallel_tool_calls
    return capabilities.with_tools(model, request.tools, **said)


def parameters(request: Request) -> dict[str, Any]:
    """The parameters that the caller gave, by OpenAI's names."""
    given = {name: getattr(request, name) for name in _PARAMETERS}
    said = {name: value for name, value in given.items() if value is not None}
    return said | ({"stop": list(request.stop)} if request.stop else {})


def _textual(turn: Message) -> Message:
    if not isinstance(turn, CarriedMessage) or turn.original is None:
        return turn
    blocks = turn.original.content
    kinds = {block.get("type") for block in blocks if isinstance(block, dict)}
    return replace(turn, original=None) if kinds & _FILES else turn


def _message(turn: BaseMessage | Message) -> BaseMessage:
    if isinstance(turn, Sealed):
        return turn.given
    if isinstance(turn, BaseMessage):
        return turn
    return _longer(turn) or _made(turn)


def _made(turn: Message) -> BaseMessage:
    content: Any = turn.content if isinstance(turn.content, str) else list(turn.content)
    match turn.role:
        case "system":
            return SystemMessage(content, name=turn.name)
        case "tool":
            return ToolMessage(content, tool_call_id=turn.tool_call_id or "", name=turn.name)
        case "assistant":
            said = from_completion(Completion(turn.text, tool_calls=turn.tool_calls))
            return said.model_copy(update={"response_metadata": {}, "name": turn.name})
        case _:
            return HumanMessage(content, name=turn.name)


def _longer(turn: Message) -> BaseMessage | None:
    """The caller's system message with what the core put after it, None for other turns."""
    if not isinstance(turn, CarriedMessage) or turn.original is None or turn.role != "system":
        return None
    content, said = turn.content, turn.said
    if not isinstance(content, str) or not isinstance(said, str) or not content.startswith(said):
        return None
    message, added = _message(turn.original), content.removeprefix(said)
    before = message.content
    more = (
        before + added
        if isinstance(before, str)
        else [*before, {"type": "text", "text": added.strip()}]
    )
    return message.model_copy(update={"content": more})


def _tool_choice(choice: str | Json) -> Any:  # noqa: ANN401 - a word, a name or a dict
    """OpenAI's word as LangChain's classes take it."""
    if choice == "required":
        return "any"
    function = choice.get("function") if not isinstance(choice, str) else None
    return function["name"] if isinstance(function, dict) else choice
