"""When two calls are equal: they ask the same, and the same may answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from aideon_core.types import Request

if TYPE_CHECKING:
    from aideon_core.cache.reach import Reach
    from aideon_core.schema import Output
    from aideon_core.types import Message

FORMAT: Final = 1
"""Changes with what is hashed or stored, so that rows of another version are never read."""

# How long an answer may take is no part of what is asked.
_ASKED: Final = tuple(
    field.name for field in fields(Request) if field.name not in ("messages", "output", "deadline")
)


def asked(request: Request, reach: Reach) -> list[Any]:
    """What a call asks, and whom, as JSON that is the same for equal calls.

    A list is what a tuple is, ``1.0`` is ``1``, the order of names in an object is none, and
    what was not given is not there. The order of messages, tools and stops stays.
    """
    given = {
        name: plain(value)
        for name in _ASKED
        if (value := getattr(request, name)) is not None and value != ()
    }
    sources = [[each.backend, each.side, each.model, each.marks] for each in reach.sources]
    messages = [_message(message) for message in request.messages]
    return [messages, given, _form(request.output), reach.rule, sources]


def digest(asked: object) -> str:
    """The SHA-256 of JSON, in hexadecimal digits.

    Raises:
        TypeError: it is no JSON.
        ValueError: it holds itself.
    """
    written = json.dumps([FORMAT, asked], sort_keys=True, separators=(",", ":"))
    return sha256(written.encode()).hexdigest()


def plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """JSON with one spelling for equal values.

    Raises:
        TypeError: an object has a name that is no text or number.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {_name(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def _name(name: object) -> str:
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise TypeError(f"{name!r} is no name in JSON")
    return str(name)


def _message(message: Message) -> list[Any]:
    content = message.content
    calls = [[call.id, call.name, call.arguments] for call in message.tool_calls]
    return [
        message.role,
        content if isinstance(content, str) else plain(content),
        message.name,
        calls,
        message.tool_call_id,
    ]


def _form(output: Output | None) -> list[Any] | None:
    if output is None:
        return None
    return [output.name, output.form, plain(output.schema), output.pattern]
