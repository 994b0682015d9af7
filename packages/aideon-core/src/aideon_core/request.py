"""OpenAI-style arguments to a Request, checked before anything is sent."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypedDict, Unpack, cast, get_args

from aideon_core.errors import BadRequest
from aideon_core.types import Json, Message, Request, Role, ToolCall

Messages: TypeAlias = str | Sequence["Message | Json"]
"""A prompt, or the turns of a conversation: Message values or OpenAI-style dicts."""


class ChatParams(TypedDict, total=False):
    """The parameters of ``chat`` and ``stream``, by OpenAI's names; None means not given."""

    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    stop: str | Sequence[str] | None
    seed: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    tools: Sequence[Json] | None
    tool_choice: str | Json | None
    parallel_tool_calls: bool | None
    response_format: Json | None


_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
_TOOL_CHOICES = ("auto", "none", "required")


def build(messages: Messages, **params: Unpack[ChatParams]) -> Request:
    """Check the arguments and make a Request of them.

    Raises:
        BadRequest: there is no message, a message has no known role, or a parameter is
            unknown or out of its range.
    """
    known = ChatParams.__annotations__
    for name in params:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            raise BadRequest(f"There is no parameter {name!r}.", hint=hint, param=name)
    for name, (low, high) in _RANGES.items():
        _check_number(name, params.get(name), low, high)
    _check_number("max_tokens", params.get("max_tokens"), 1, math.inf)
    values = cast("dict[str, Any]", {k: v for k, v in params.items() if v is not None})
    values["messages"] = _messages(messages)
    stop = params.get("stop") or ()
    values["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    values["tools"] = tuple(params.get("tools") or ())
    _check_tool_choice(params.get("tool_choice"))
    return Request(**values)


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if value is None or (isinstance(value, int | float) and low <= value <= high):
        return
    wanted = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
    raise BadRequest(f"{name} is {value!r} and has to be {wanted}.", param=name)


def _check_tool_choice(choice: str | Json | None) -> None:
    if isinstance(choice, str) and choice not in _TOOL_CHOICES:
        raise BadRequest(
            f"tool_choice is {choice!r}.",
            hint=f"It takes one of {', '.join(_TOOL_CHOICES)}, or "
            '{"type": "function", "function": {"name": ...}} for one tool.',
            param="tool_choice",
        )


def _messages(messages: Messages) -> tuple[Message, ...]:
    if isinstance(messages, str):
        return (Message("user", messages),)
    turns = tuple(_message(turn, at) for at, turn in enumerate(messages))
    if not turns:
        raise BadRequest("There are no messages to answer.", param="messages")
    return turns


def _message(turn: Message | Json, at: int) -> Message:
    if isinstance(turn, Message):
        return turn
    where = f"messages[{at}]"
    if not isinstance(turn, Mapping):
        raise BadRequest(f"{where} is {turn!r}, not a message.", param=where)
    role = "system" if turn.get("role") == "developer" else turn.get("role")
    if role not in get_args(Role):
        raise BadRequest(
            f"{where} has the role {role!r}.",
            hint=f"It takes one of {', '.join(get_args(Role))}.",
            param=f"{where}.role",
        )
    content = turn.get("content")
    return Message(
        role=cast("Role", role),
        content=tuple(content) if isinstance(content, list | tuple) else str(content or ""),
        name=turn.get("name"),
        tool_calls=tuple(_tool_call(call, where) for call in turn.get("tool_calls") or ()),
        tool_call_id=turn.get("tool_call_id"),
    )


def _tool_call(call: Json, where: str) -> ToolCall:
    function = call.get("function") or {}
    if not function.get("name"):
        raise BadRequest(
            f"{where} has a tool call without a function name.", param=f"{where}.tool_calls"
        )
    return ToolCall(call.get("id") or "", function["name"], function.get("arguments") or "{}")
