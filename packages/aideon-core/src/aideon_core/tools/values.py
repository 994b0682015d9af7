"""Values in a model's text: JSON and Python literals, and the calls that objects describe."""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import TYPE_CHECKING, Any, Final

from aideon_core.types import ToolCall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aideon_core.tools.pieces import Pieces, Reading
    from aideon_core.types import Json

_WORD: Final = re.compile(r"[\w.+-]*")
_SCALAR: Final = re.compile(
    r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|true|false|null|True|False|None"
)
_IN_STRING: Final = {'"': re.compile(r'[^"\\]*'), "'": re.compile(r"[^'\\]*")}
_MARKS: Final = {"comma": ",", "colon": ":"}
_CLOSERS: Final = {"{": "}", "[": "]", "(": ")"}
_CALL_KEYS: Final = {"name", "arguments", "parameters", "function", "type", "id", "index"}
_PYTHON: Final = {"True": True, "False": False, "None": None}
# No call has a use for more, and the parsers recurse.
_DEEPEST: Final = 60


def value(text: Pieces, *, bare: bool = False) -> Reading[bool]:
    """Read on to the end of a value, and tell whether it has one.

    With ``bare`` the text is shown from the point on where the value can be no call.
    """
    closers: list[str] = []
    wanted = "value"
    while True:
        yield from text.spaces()
        first = yield from text.peek()
        depth = len(closers)
        if closers and first == closers[-1] and wanted in ("item", "key", "comma"):
            text.skip()
            closers.pop()
            wanted = "comma"
        elif wanted in _MARKS:
            if not (yield from text.literal(_MARKS[wanted])):
                return False
            wanted = "value" if wanted == "colon" else "key" if closers[-1] == "}" else "item"
        elif wanted == "key":
            if not (yield from _key(text, first, bare and closers in (["}"], ["]", "}"]))):
                return False
            wanted = "colon"
        else:
            if bare and closers == ["]"] and first != "{":
                text.show()
            if not (yield from _begin(text, first, closers)):
                return False
            wanted = "comma" if len(closers) == depth else "key" if first == "{" else "item"
        if wanted == "comma" and not closers:
            return True


def _key(text: Pieces, first: str, of_call: bool) -> Reading[bool]:  # noqa: FBT001 - what key it is
    key = yield from _string(text, first)
    if of_call and key not in _CALL_KEYS:
        text.show()
    return key is not None


def _begin(text: Pieces, first: str, closers: list[str]) -> Reading[bool]:
    """Read a scalar, or what opens a container."""
    if first in _CLOSERS:
        text.skip()
        closers.append(_CLOSERS[first])
        return len(closers) <= _DEEPEST
    if first in _IN_STRING:
        return (yield from _string(text, first)) is not None
    return _SCALAR.fullmatch((yield from text.run(_WORD))) is not None


def _string(text: Pieces, quote: str) -> Reading[str | None]:
    if quote not in _IN_STRING:
        return None
    text.skip()
    read = ""
    while True:
        # Only keys are looked at, and no key of a call has an escape in it.
        read = yield from text.run(_IN_STRING[quote])
        end = yield from text.peek()
        if not end:
            return None
        text.skip()
        if end == quote:
            return read
        if not (yield from text.peek()):
            return None
        text.skip()


def parsed(written: str) -> Any:  # noqa: ANN401 - JSON
    """The value that ``value`` found.

    Raises:
        ValueError: neither JSON nor Python can read it.
    """
    try:
        return json.loads(written, strict=False, parse_constant=_refused)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():
            # Python warns of escapes it does not know; the model does not read that.
            warnings.simplefilter("ignore")
            return ast.literal_eval(written)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("neither JSON nor a Python literal") from error


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def unquoted(written: str, schema: Json) -> Any:  # noqa: ANN401 - JSON
    """A parameter written as bare text, of the type that its schema says.

    Without a schema, what looks like JSON is JSON.
    """
    types = _types(schema)
    if "string" in types and not ("null" in types and written.strip() in ("null", "None")):
        return written
    if (word := written.strip()) in _PYTHON:
        return _PYTHON[word]
    try:
        return json.loads(written, strict=False, parse_constant=_refused)
    except (ValueError, RecursionError):
        return written


def _types(schema: Json) -> set[object]:
    types: set[object] = set()
    for each in (schema, *(schema.get("anyOf") or ())):
        said = each.get("type")
        types.update(said if isinstance(said, list) else [said])
    return types


def calls(written: str, names: Mapping[str, Json], *, bare: bool) -> tuple[ToolCall, ...]:
    """The calls that an object, or every object of a list, describes; none unless all do."""
    try:
        read = parsed(written)
    except ValueError:
        return ()
    objects = read if isinstance(read, list) else [read]
    found = [_call(each, names, bare=bare) for each in objects]
    return tuple(each for each in found if each is not None) if all(found) else ()


def _call(data: object, names: Mapping[str, Json], *, bare: bool) -> ToolCall | None:
    if not isinstance(data, dict):
        return None
    inner = data.get("function")
    function = inner if isinstance(inner, dict) else data
    if bare and not data.keys() | function.keys() <= _CALL_KEYS:
        return None
    # Small models of Llama's family write the name there.
    name = inner if isinstance(inner, str) else function.get("name")
    given = next((key for key in ("arguments", "parameters") if key in function), None)
    if bare and given is None:
        return None
    call_id = data.get("id")
    return call(
        name, function.get(given), names, call_id=call_id if isinstance(call_id, str) else ""
    )


def call(
    name: object, arguments: object, names: Mapping[str, Json], *, call_id: str = ""
) -> ToolCall | None:
    """A call of that name with these arguments; none if the name or they are no such thing.

    Args:
        name: what the model wrote for a name.
        arguments: an object, the JSON text of one, or nothing.
        names: the functions there are.
        call_id: what the model wrote for an id.
    """
    if not isinstance(name, str) or name not in names:
        return None
    try:
        if isinstance(arguments, str):
            arguments = json.loads(arguments.strip() or "{}", strict=False)
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            return None
        return ToolCall(call_id, name, _written(arguments))
    except (ValueError, TypeError, RecursionError):
        return None


def _written(arguments: object) -> str:
    text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half a character can be escaped, and nothing else.
        return json.dumps(arguments)
    return text
