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

    ``top_k``, ``min_p`` and ``repetition_penalty`` have the names that open models' servers
    gave them; a ``top_k`` of 0 or -1 is off. ``logit_bias`` maps token ids of one model, so it
    means something else to every other. ``n`` answers are the completion and its
    ``alternatives``.

    Three are ours. ``deadline`` is the seconds the whole answer may take, with every retry and
    fallback. ``output_type`` is what the answer is read as, a type, a JSON Schema, a regex or
    ``"json"``; the result is the completion's ``value``. ``prefix`` is how the answer begins:
    the model goes on from it.
    """

    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    max_tokens: int | None
    stop: str | Sequence[str] | None
    seed: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    repetition_penalty: float | None
    logit_bias: Mapping[int, float] | Mapping[str, float] | None
    n: int | None
    prefix: str | None
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
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    # What it divides by: 0 has no meaning.
    "repetition_penalty": (0.001, 2.0),
    "deadline": (0.001, math.inf),
    "max_tokens": (1, math.inf),
    "seed": (-math.inf, math.inf),
    "top_k": (-1, math.inf),
    "n": (1, 128),
    "top_logprobs": (0, 20),
}
_WHOLE = frozenset({"max_tokens", "seed", "top_k", "n", "top_logprobs"})
_MOST_BIAS = 100
_MOST_DIGITS = 10
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
    for name, value in params.items():
        if value is not None and name in _RANGES:
            _check_number(name, value, *_RANGES[name], whole=name in _WHOLE)
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
    values["logit_bias"] = _biases(params.get("logit_bias"))
    values["prefix"] = _prefix(params.get("prefix"))
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
        messages=output.instruct(
            request.messages, or_calls=bool(request.tools) and request.tool_choice != "none"
        ),
        response_format=output.response_format(),
        output=output,
    )


def _check_number(
    name: str,
    value: object,
    low: float,
    high: float,
    *,
    whole: bool = False,
) -> None:
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


def _biases(biases: object) -> Mapping[int, float] | None:
    if biases is None:
        return None
    if not isinstance(biases, Mapping):
        raise BadRequest(
            f"logit_bias is {biases!r} and has to map token ids to numbers.",
            hint="For example {1024: -100}.",
            param="logit_bias",
        )
    for bias in biases.values():
        _check_number("logit_bias", bias, -_MOST_BIAS, _MOST_BIAS)
    return {_token_id(token): float(bias) for token, bias in biases.items()} or None


def _token_id(token: object) -> int:
    # JSON has no other keys than text.
    if (
        isinstance(token, str)
        and token.isascii()
        and token.isdecimal()
        and len(token) <= _MOST_DIGITS
    ):
        token = int(token)
    if isinstance(token, int) and not isinstance(token, bool) and token >= 0:
        return token
    raise BadRequest(
        f"logit_bias has {token!r} for a token.",
        hint="It takes ids of the model's vocabulary, whole numbers from 0 on.",
        param="logit_bias",
    )


def _prefix(prefix: object) -> str | None:
    if prefix is None:
        return None
    if not isinstance(prefix, str):
        raise BadRequest(f"prefix is {prefix!r} and has to be text.", param="prefix")
    # Every answer goes on from nothing.
    return _encodable(prefix, "prefix", "prefix") or None


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
        return _encodable(content, where, f"{where}.content")
    if _are_objects(content):
        parts = cast("Sequence[Json]", content)
        for part in parts:
            if part.get("type") == "text":
                _encodable(part.get("text"), where, f"{where}.content")
        if all(isinstance(part.get("type"), str) for part in parts):
            return _read(tuple(parts), where)
    raise BadRequest(
        f"{where} has content that is neither text nor a list of content parts: {content!r}.",
        hint='A part is an object such as {"type": "text", "text": "..."}.',
        param=f"{where}.content",
    )


def _read(parts: tuple[Json, ...], where: str) -> tuple[Json, ...]:
    if all(part["type"] != "file" for part in parts):
        return parts
    # Few messages have files, and reading them takes modules of its own.
    from aideon_core import documents

    return documents.as_text(parts, where)


def _encodable(text: object, where: str, param: str) -> str:
    if not isinstance(text, str):
        raise BadRequest(f"{where} has {text!r} for a text.", param=param)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRequest(
            f"{where} has half a character at position {error.start}.",
            hint="It was cut or decoded wrongly before it came here.",
            param=param,
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
