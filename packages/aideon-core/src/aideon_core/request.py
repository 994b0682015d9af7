"""OpenAI-style arguments to a Request, checked before anything is sent."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypedDict, Unpack, cast, get_args

from aideon_core.errors import BadRequest
from aideon_core.tools import Tool
from aideon_core.types import Json, Message, Request, Role, ToolCall

Messages: TypeAlias = str | Sequence["Message | Json"]
"""A prompt, or the turns of a conversation: Message values or OpenAI-style dicts."""


class ChatParams(TypedDict, total=False):
    """The parameters of ``chat`` and ``stream``, by OpenAI's names; None means not given.

    Two are ours. ``deadline`` is the seconds the whole answer may take, with every retry and
    fallback. ``output_type`` is what the answer is read as, a type, a JSON Schema, a regex or
    ``"json"``; the result is the completion's ``value``.
    """

    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    stop: str | Sequence[str] | None
    seed: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    tools: Sequence[Json | Callable[..., Any]] | None
    tool_choice: str | Json | None
    parallel_tool_calls: bool | None
    response_format: Json | None
    logprobs: bool | None
    top_logprobs: int | None
    deadline: float | None
    output_type: object


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
        BadRequest: there is no message, a message has no known role, a parameter is unknown
            or out of its range, or nothing can be read as the ``output_type``.
        ConfigError: no tool can be made of a function in ``tools``.
    """
    known = ChatParams.__annotations__
    for name in params:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            raise BadRequest(f"There is no parameter {name!r}.", hint=hint, param=name)
    for name, (low, high) in _RANGES.items():
        _check_number(name, params.get(name), low, high)
    for name, low in (("max_tokens", 1), ("seed", -math.inf)):
        _check_number(name, params.get(name), low, math.inf, whole=True)
    _check_number("top_logprobs", params.get("top_logprobs"), 0, 20, whole=True)
    _check_number("deadline", params.get("deadline"), 0.001, math.inf)
    if not isinstance(params.get("logprobs"), bool | None):
        raise BadRequest(
            f"logprobs is {params['logprobs']!r} and has to be true or false.",
            hint="How many alternatives to tell goes into top_logprobs.",
            param="logprobs",
        )
    _check_tools(params)
    values = cast("dict[str, Any]", {k: v for k, v in params.items() if v is not None})
    values["messages"] = _messages(messages)
    if params.get("top_logprobs"):
        values["logprobs"] = True
    values["stop"] = _stops(params.get("stop"))
    values["tools"] = tuple(_tool(each) for each in params.get("tools") or ())
    request = Request(**{name: value for name, value in values.items() if name != "output_type"})
    return _with_output(request, params.get("output_type"))


def _with_output(request: Request, output_type: object) -> Request:
    if output_type is None:
        return request
    if request.response_format is not None:
        raise BadRequest(
            "output_type and response_format both say what form the answer has.",
            hint="Give one of them; output_type also reads the answer.",
            param="output_type",
        )
    from aideon_core.schema import Output

    output = Output.of(output_type)
    return replace(
        request,
        messages=output.instruct(request.messages),
        response_format=output.response_format(),
        output=output,
    )


def _check_number(
    name: str, value: object, low: float, high: float, *, whole: bool = False
) -> None:
    if value is None:
        return
    kinds = (int,) if whole else (int, float)
    if isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high:
        return
    wanted = "a whole number" if whole else "a number"
    if math.isfinite(low):
        wanted += f" of at least {low:g}" if high == math.inf else f" from {low:g} to {high:g}"
    raise BadRequest(f"{name} is {value!r} and has to be {wanted}.", param=name)


def _check_tools(params: Mapping[str, object]) -> None:
    tools, choice = params.get("tools"), params.get("tool_choice")
    if tools is not None and not (
        isinstance(tools, list | tuple)
        and all(isinstance(each, Mapping) or callable(each) for each in tools)
    ):
        raise BadRequest("tools has to be a list of functions or tool schemas.", param="tools")
    if not isinstance(params.get("response_format", {}) or {}, Mapping):
        raise BadRequest(
            "response_format has to be an object.",
            hint='For example {"type": "json_object"}.',
            param="response_format",
        )
    if choice is None or isinstance(choice, Mapping) or choice in _TOOL_CHOICES:
        return
    raise BadRequest(
        f"tool_choice is {choice!r}.",
        hint=f"It takes one of {', '.join(_TOOL_CHOICES)}, or "
        '{"type": "function", "function": {"name": ...}} for one tool.',
        param="tool_choice",
    )


def _tool(tool: Json | Callable[..., Any]) -> Json:
    return tool if isinstance(tool, Mapping) else Tool.of(tool).schema


def _are_objects(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, Mapping) for each in value)


def _stops(stop: object) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else stop or ()
    if not isinstance(stops, list | tuple) or not all(isinstance(each, str) for each in stops):
        raise BadRequest(f"stop is {stop!r} and has to be text or a list of texts.", param="stop")
    # Every text ends with the empty one; asking for it can only be a slip.
    return tuple(each for each in stops if each)


def _messages(messages: object) -> tuple[Message, ...]:
    if isinstance(messages, str):
        messages = [Message("user", messages)]
    if not isinstance(messages, Sequence) or isinstance(messages, bytes):
        raise BadRequest(
            f"messages is a {type(messages).__name__}.",
            hint="Give a prompt, or a list of messages.",
            param="messages",
        )
    turns = tuple(_message(turn, f"messages[{at}]") for at, turn in enumerate(messages))
    if not turns:
        raise BadRequest("There are no messages to answer.", param="messages")
    return turns


def _message(turn: object, where: str) -> Message:
    if isinstance(turn, Message):
        _check_role(turn.role, where)
        return replace(turn, content=_content(turn.content, where))
    if not isinstance(turn, Mapping):
        raise BadRequest(f"{where} is {turn!r}, not a message.", param=where)
    role = "system" if turn.get("role") == "developer" else turn.get("role")
    _check_role(role, where)
    calls = turn.get("tool_calls") or ()
    if not _are_objects(calls):
        raise BadRequest(f"{where} has tool_calls that are no list.", param=f"{where}.tool_calls")
    return Message(
        role=cast("Role", role),
        content=_content(turn.get("content"), where),
        name=turn.get("name"),
        tool_calls=tuple(_tool_call(call, where) for call in calls),
        tool_call_id=turn.get("tool_call_id"),
    )


def _check_role(role: object, where: str) -> None:
    if role not in get_args(Role):
        raise BadRequest(
            f"{where} has the role {role!r}.",
            hint=f"It takes one of {', '.join(get_args(Role))}.",
            param=f"{where}.role",
        )


def _content(content: object, where: str) -> str | tuple[Json, ...]:
    if content is None:
        return ""
    if isinstance(content, str):
        return _encodable(content, where)
    if _are_objects(content):
        parts = cast("Sequence[Json]", content)
        for part in parts:
            if part.get("type") == "text":
                _encodable(part.get("text"), where)
        if all(isinstance(part.get("type"), str) for part in parts):
            return tuple(parts)
    raise BadRequest(
        f"{where} has content that is neither text nor a list of content parts: {content!r}.",
        hint='A part is an object such as {"type": "text", "text": "..."}.',
        param=f"{where}.content",
    )


def _encodable(text: object, where: str) -> str:
    if not isinstance(text, str):
        raise BadRequest(f"{where} has {text!r} for a text.", param=f"{where}.content")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRequest(
            f"{where} has half a character at position {error.start}.",
            hint="It was cut or decoded wrongly before it came here.",
            param=f"{where}.content",
        ) from error
    return text


def _tool_call(call: Json, where: str) -> ToolCall:
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BadRequest(
            f"{where} has a tool call without a function name.", param=f"{where}.tool_calls"
        )
    arguments = function.get("arguments") or "{}"
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(call.get("id") or "", function["name"], arguments)
