"""Values in a model's text, JSON and Python literals alike, read as JSON."""

from __future__ import annotations

import json
import math
import re
import sys
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from aideon_core.tools.pieces import Pieces
from aideon_core.types import ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aideon_core.tools.pieces import Reading
    from aideon_core.types import Json

    Write: TypeAlias = Callable[[str], object]
    """Takes the next piece of a value as JSON."""

Wanted: TypeAlias = Literal["value", "item", "key", "colon", "comma"]
"""What comes next in a value; an item or a key may be missing."""

_WORD: Final = re.compile(r"[\w.+-]*")
_NUMBER: Final = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_WORDS: Final = {"True": "true", "False": "false", "None": "null"}
_WORDS.update({word: word for word in ("true", "false", "null")})
_IN_STRING: Final = {'"': re.compile(r'[^"\\]*'), "'": re.compile(r"[^'\\]*")}
# Half a character can be escaped, and nothing else.
_UNSAFE: Final = re.compile('[\x00-\x1f"\ud800-\udfff]')
_NO_SPACE: Final = re.compile(r"[^ \t\r\n]")
_HEX: Final = re.compile(r"[0-9a-fA-F]")
_HEX_DIGITS: Final = {"x": 2, "u": 4, "U": 8}
_MARKS: Final = {"comma": ",", "colon": ":"}
_CLOSERS: Final = {"{": "}", "[": "]", "(": ")"}
_IN_JSON: Final = {"(": "[", ")": "]"}
_NAMESPACE: Final = re.compile(r"(functions?|tools?|default_api)[.:]")
# No call has a use for more, and the parsers recurse.
_DEEPEST: Final = 60


def value(
    text: Pieces, write: Write, *, inside: Sequence[str] = (), wanted: Wanted = "value"
) -> Reading[bool]:
    """Read on to the end of a value, and tell whether it has one.

    JSON and Python's literals are understood, and mixtures: quotes of both kinds, trailing
    commas, line breaks in strings, backslashes that escape nothing.

    Args:
        text: what to read.
        write: takes the value, piece by piece, as JSON.
        inside: the closing brackets of a value that was begun before.
        wanted: what comes next in it.
    """
    reader = _Value(text, write, inside, wanted)
    while (yield from reader.token()):
        if reader.ended:
            return True
    return False


class _Value:
    """Where in a value its reading is."""

    def __init__(self, text: Pieces, write: Write, inside: Sequence[str], wanted: Wanted) -> None:
        self._text, self._write, self._wanted = text, write, wanted
        self._closers = list(inside)
        # Where Python's brackets hold one item so far: (1) is no list, and (1,) is.
        self._single: set[int] = set()
        self._comma = ""

    @property
    def ended(self) -> bool:
        return self._wanted == "comma" and not self._closers

    def token(self) -> Reading[bool]:
        """Read what comes next, and tell whether it may come there."""
        space = _NO_SPACE.sub(" ", (yield from self._text.spaces()))
        first = yield from self._text.peek()
        if self._wanted in ("item", "key", "comma") and first in self._closers[-1:]:
            return self._close(space)
        if self._wanted in _MARKS:
            return (yield from self._mark(space))
        if self._comma or space:
            self._write(self._comma + space)
            self._comma = ""
        if self._wanted != "key":
            return (yield from self._begin(first))
        self._wanted = "colon"
        return (yield from string(self._text, self._write))

    def _close(self, space: str) -> bool:
        if self._wanted == "comma" and len(self._closers) in self._single:
            return False
        self._text.skip()
        closer = self._closers.pop()
        self._write(space + _IN_JSON.get(closer, closer))
        self._wanted, self._comma = "comma", ""
        return True

    def _mark(self, space: str) -> Reading[bool]:
        mark = yield from self._text.literal(_MARKS[self._wanted])
        if mark == ",":
            # It is written once something follows it.
            self._comma = space + mark
            self._single.discard(len(self._closers))
            self._wanted = _first_in(self._closers[-1])
        elif mark:
            self._write(space + mark)
            self._wanted = "value"
        return bool(mark)

    def _begin(self, first: str) -> Reading[bool]:
        """Read a string or another scalar, or what opens a container."""
        if first in _CLOSERS:
            self._text.skip()
            self._write(_IN_JSON.get(first, first))
            self._closers.append(_CLOSERS[first])
            self._single.discard(len(self._closers))
            if first == "(":
                self._single.add(len(self._closers))
            self._wanted = _first_in(self._closers[-1])
            return len(self._closers) <= _DEEPEST
        self._wanted = "comma"
        if first in _IN_STRING:
            return (yield from string(self._text, self._write))
        word = yield from self._text.run(_WORD)
        scalar = _WORDS.get(word) or _number(word)
        self._write(scalar or word)
        return bool(scalar)


def _first_in(closer: str) -> Wanted:
    return "key" if closer == "}" else "item"


def _number(word: str) -> str:
    """The number in JSON, empty if it is none or none that JSON can say."""
    if not _NUMBER.fullmatch(word):
        return ""
    word = word.removeprefix("+")
    try:
        number = json.loads(word)
    except ValueError:
        # Python's .5 and 5. are numbers too, its 007 is none.
        number = float(word) if "." in word else math.inf
        word = json.dumps(number)
    return word if isinstance(number, int) or math.isfinite(number) else ""


def string(text: Pieces, write: Write) -> Reading[bool]:
    """Read on to the end of a string, and tell whether it is one that ends."""
    quote = yield from text.peek()
    if quote not in _IN_STRING:
        return False
    text.skip()
    write('"')
    while first := (yield from text.peek()):
        if first == "\\":
            text.skip()
            write((yield from _escape(text)))
        elif first == quote:
            text.skip()
            write('"')
            return True
        else:
            write(_UNSAFE.sub(_escaped, text.part(_IN_STRING[quote])))
    return False


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def _escape(text: Pieces) -> Reading[str]:
    """Read what follows a backslash; one that escapes nothing stands for itself."""
    first = yield from text.peek()
    if first and first in '"\\/bfnrt':
        text.skip()
        return "\\" + first
    if first in ("'", "\n"):
        # Python's quote, and its line break that is none.
        text.skip()
        return first.strip()
    if first not in _HEX_DIGITS:
        return "\\\\" if first else ""
    text.skip()
    digits = ""
    while len(digits) < _HEX_DIGITS[first] and _HEX.match((yield from text.peek())):
        digits += yield from text.peek()
        text.skip()
    if len(digits) < _HEX_DIGITS[first] or int(digits, 16) > sys.maxunicode:
        return "\\\\" + first + digits
    return json.dumps(chr(int(digits, 16)))[1:-1] if first == "U" else f"\\u{digits:0>4}"


def read_value(text: Pieces) -> Reading[str | None]:
    """Read a value; gives it as JSON, None if there is none."""
    parts: list[str] = []
    return "".join(parts) if (yield from value(text, parts.append)) else None


def read_string(text: Pieces) -> Reading[str | None]:
    """Read a string; gives what it says, None if there is none."""
    parts: list[str] = []
    if not (yield from string(text, parts.append)):
        return None
    said: str = json.loads("".join(parts))
    return said


def as_json(written: str) -> str | None:
    """The value that this text is, as JSON; None if it is none, or more than one."""
    text = Pieces()
    text.add(written.strip())
    text.closed = True
    try:
        next(read_value(text))
    except StopIteration as end:
        read: str | None = end.value
        return read if text.offset == len(written.strip()) else None
    return None


def unquoted(written: str, schema: Json) -> Any:  # noqa: ANN401 - JSON
    """A parameter written as bare text, of the type that its schema says.

    Without a schema, what looks like JSON is JSON.
    """
    word = written.strip()
    types = _types(schema)
    if "string" in types and not ("null" in types and word in ("null", "None")):
        return written
    try:
        if word in _WORDS or word.startswith(("[", "{")):
            return json.loads(as_json(word) or "")
        return json.loads(word, strict=False, parse_constant=_refused)
    except (ValueError, RecursionError):
        return written


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _types(schema: Json) -> set[object]:
    types: set[object] = set()
    for each in (schema, *(schema.get("anyOf") or ())):
        said = each.get("type")
        types.update(said if isinstance(said, list) else [said])
    return types


def named(written: str, names: Mapping[str, Json]) -> str | None:
    """The function that a model means by a name, also by one with a namespace before it."""
    if written in names:
        return written
    short = _NAMESPACE.sub("", written.strip(), count=1)
    return short if short in names else None


def call(name: str, arguments: Mapping[str, object]) -> ToolCall:
    """A call with arguments that were read one by one."""
    written = json.dumps(arguments, ensure_ascii=False)
    try:
        written.encode()
    except UnicodeEncodeError:
        # Half a character can be escaped, and nothing else.
        written = json.dumps(arguments)
    return ToolCall("", name, written)
