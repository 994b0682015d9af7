"""Calls that JSON objects describe: ``{"name": ..., "arguments": {...}}`` and its like."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from aideon_core.tools.values import as_json, named, read_string, read_value, value
from aideon_core.types import ToolCall

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aideon_core.tools.pieces import Pieces, Reading
    from aideon_core.tools.values import Wanted
    from aideon_core.types import Json

# Small models of Llama's family write the name under "function".
_NAMES: Final = frozenset({"name", "function", "tool", "tool_name", "function_name"})
_ARGUMENTS: Final = frozenset({"arguments", "parameters", "args"})
_WRAPPERS: Final = frozenset({"tool_calls", "tool_call", "function_calls", "function_call"})
_KEYS: Final = _NAMES | _ARGUMENTS | _WRAPPERS | {"type", "id", "index"}


def read_arguments(
    text: Pieces, name: str, *, call_id: str = "", closing: str = ""
) -> Reading[bool]:
    """Read the object that a call's arguments are; with its end the call is whole.

    Args:
        text: what to read.
        name: of the function.
        call_id: what the model wrote for an id.
        closing: what has to follow for the object that describes the call to end.

    Returns:
        Whether there was such an object.
    """
    if (yield from text.peek()) != "{":
        return False
    text.opens(name, call_id, closing)
    if not (yield from value(text, text.argues)):
        return False
    text.closes()
    return True


def read_described(text: Pieces, names: Mapping[str, Json], *, strict: bool) -> Reading[bool]:
    """Read the calls that an object describes, or a list of objects.

    A call counts from the end of its arguments on, whatever becomes of the brackets around
    it. The text is shown from the point on where it can be no call.

    Args:
        text: what to read, ``{`` or ``[`` first.
        names: the functions there are.
        strict: whether what describes anything beside a call is none, and what has no
            arguments is none either.

    Returns:
        Whether all of it was calls.
    """
    if (yield from text.peek()) == "[":
        return (yield from _list(text, names, (), strict))
    return (yield from _Described(text, names, strict=strict).read(()))


def _list(
    text: Pieces,
    names: Mapping[str, Json],
    inside: Sequence[str],
    strict: bool,  # noqa: FBT001
) -> Reading[bool]:
    text.skip()
    closers = (*inside, "]")
    some = False
    while True:
        yield from text.spaces()
        first = yield from text.peek()
        if some and first == "]":
            text.skip()
            text.found()
            return True
        if first != "{":
            return (yield from _no_call(text, closers, "item"))
        if not (yield from _Described(text, names, strict=strict).read(closers)):
            return False
        some = True
        yield from text.spaces()
        if not (yield from text.literal(",")) and (yield from text.peek()) != "]":
            return True


def _no_call(text: Pieces, inside: Sequence[str], wanted: Wanted) -> Reading[bool]:
    """Read on to the end of the whole value, so that no line in it passes for a call."""
    text.show()
    yield from value(text, _ignored, inside=inside, wanted=wanted)
    return False


def _ignored(_: str) -> None:
    pass


class _Described:
    """What is known of the call that an object describes."""

    def __init__(self, text: Pieces, names: Mapping[str, Json], *, strict: bool) -> None:
        self._text, self._names, self._strict = text, names, strict
        self._name: str | None = None
        self._id = ""
        self._arguments: str | None = None
        self._whole = False

    def read(self, inside: Sequence[str]) -> Reading[bool]:
        """Read the object; tells whether it was a call."""
        text = self._text
        if not (yield from self._fields((*inside, "}"), closing="}")):
            return self._whole
        if not self._whole:
            if self._name is None or (self._strict and self._arguments is None):
                text.show()
                return False
            text.found(ToolCall(self._id, self._name, self._arguments or "{}"))
        return True

    def _fields(self, inside: Sequence[str], *, closing: str) -> Reading[bool]:
        """Read to the end of an object; tells whether it has one."""
        text = self._text
        text.skip()
        while True:
            yield from text.spaces()
            if (yield from self._ends()):
                return True
            key = yield from read_string(text)
            if self._strict and not self._whole and key is not None and key not in _KEYS:
                return (yield from _no_call(text, inside, "colon"))
            yield from text.spaces()
            if key is None or not (yield from text.literal(":")):
                return False
            yield from text.spaces()
            if not (yield from self._field(key, inside, closing)):
                return False
            yield from text.spaces()
            if not (yield from text.literal(",")):
                return (yield from self._ends())

    def _ends(self) -> Reading[bool]:
        ended = bool((yield from self._text.literal("}")))
        if ended and self._whole:
            self._text.found()
        return ended

    def _field(self, key: str, inside: Sequence[str], closing: str) -> Reading[bool]:
        text = self._text
        if self._whole:
            return (yield from value(text, _ignored))
        if key not in _KEYS and not self._strict and self._name is None:
            # Some write the arguments under the function's name.
            self._name = named(key, self._names)
            key = key if self._name is None else "arguments"
        if key in _ARGUMENTS and self._arguments is None:
            return (yield from self._given(inside, closing))
        if key in _NAMES:
            return (yield from self._called(key, inside, closing))
        if key in _WRAPPERS and len(inside) == 1 and self._name is None:
            return (yield from self._wrapped(inside))
        if key == "id" and (yield from text.peek()) in ("'", '"'):
            self._id = (yield from read_string(text)) or ""
            return True
        return (yield from value(text, _ignored))

    def _called(self, key: str, inside: Sequence[str], closing: str) -> Reading[bool]:
        text = self._text
        if key == "function" and closing == "}" and (yield from text.peek()) == "{":
            return (yield from self._fields((*inside, "}"), closing="}}"))
        name = yield from read_string(text)
        self._name = None if name is None else named(name, self._names)
        if self._name is not None:
            return True
        return (yield from _no_call(text, inside, "value" if name is None else "comma"))

    def _given(self, inside: Sequence[str], closing: str) -> Reading[bool]:
        text = self._text
        if self._name is not None and (yield from text.peek()) == "{":
            self._whole = yield from read_arguments(
                text, self._name, call_id=self._id, closing=closing
            )
            return self._whole
        written = yield from read_value(text)
        if written is None:
            return False
        self._arguments = _object(written)
        return self._arguments is not None or (yield from _no_call(text, inside, "comma"))

    def _wrapped(self, inside: Sequence[str]) -> Reading[bool]:
        text, names, strict = self._text, self._names, self._strict
        first = yield from text.peek()
        if first == "[":
            self._whole = yield from _list(text, names, inside, strict)
        elif first == "{":
            self._whole = yield from _Described(text, names, strict=strict).read(inside)
        else:
            return (yield from _no_call(text, inside, "value"))
        return self._whole


def _object(written: str) -> str | None:
    """Arguments as JSON: an object, the text of one, or nothing."""
    if written.startswith('"'):
        inner = json.loads(written).strip()
        written = as_json(inner) or "" if inner else "null"
    return "{}" if written == "null" else written if written.startswith("{") else None
