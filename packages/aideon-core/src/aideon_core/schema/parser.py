"""JSON that arrives in pieces: what is there so far, and where it stops being JSON."""

from __future__ import annotations

import re
from typing import Any, Final

DEEPEST: Final = 200
"""How many containers may be open at once; what checks a value later goes no deeper."""

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_RUN: Final = re.compile(r'[^"\\\x00-\x1f]*')
_NUMBER_RUN: Final = re.compile(r"[-+.0-9eE]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD_RUN: Final = re.compile(r"[a-z]*")
_WORDS: Final = {"true": True, "false": False, "null": None}
_HEX: Final = re.compile(r"[0-9a-fA-F]{4}")
_ESCAPES: Final = dict(zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True))
_UNICODE_ESCAPE: Final = 6
_HIGH, _LOW = range(0xD800, 0xDC00), range(0xDC00, 0xE000)

STARTS: Final = '{["-0123456789tfn'
"""The characters a JSON value can begin with."""

# What may come next, as the characters that begin it, and its name.
_FIRST_ITEM: Final = STARTS + "]"
_FIRST_KEY: Final = '"}'
_KEY: Final = '"'
_COLON: Final = ":"
_AFTER_ITEM: Final = ",]"
_AFTER_PROPERTY: Final = ",}"
_NAMES: Final = {
    STARTS: "a value",
    _FIRST_ITEM: "a value or ']'",
    _FIRST_KEY: "a property name in double quotes or '}'",
    _KEY: "a property name in double quotes",
    _COLON: "':'",
    _AFTER_ITEM: "',' or ']'",
    _AFTER_PROPERTY: "',' or '}'",
}


class JsonParser:
    """Reads one JSON value from text that comes in pieces, cut anywhere.

    Each character is looked at once. No input makes it recurse.

    Attributes:
        is_whole: the value has ended.
        error: what was expected where the text stopped being JSON, and what was there.
        rejected: the number or word that was none, as far as it was written.
    """

    def __init__(self) -> None:
        self.is_whole = False
        self.error: str | None = None
        self.rejected = ""
        self._root: Any = None
        self._open: list[Any] = []
        self._keys: list[str | None] = []
        self._next = STARTS
        self._reading = ""
        self._parts: list[str] = []
        self._held = ""
        self._high = ""

    @property
    def value(self) -> Any:  # noqa: ANN401 - JSON
        """What has arrived: containers that still grow, and the string being written so far.

        None before anything can be shown. Numbers and words show once they are complete.
        """
        if self._reading == "string":
            self._parts = ["".join(self._parts)]
            self._set_last(self._parts[0])
        return self._root

    @property
    def has_begun(self) -> bool:
        """Whether more than the opening of the outermost container was read."""
        fresh = self._next in (_FIRST_ITEM, _FIRST_KEY) and self._reading != "key"
        return bool(self._root) or len(self._open) != 1 or not fresh

    @property
    def path(self) -> tuple[str | int, ...]:
        """Where in the value the text has come to."""
        keys = iter(self._keys)
        steps = (
            next(keys) if isinstance(each, dict) else len(each) - 1 if each else None
            for each in self._open
        )
        return tuple(step for step in steps if step is not None)

    def feed(self, text: str, at: int = 0) -> int:
        """Read on from ``text[at:]``.

        Returns:
            Where the value ended or the text stopped being JSON, else the end of the text.
        """
        moved = at - len(self._held)
        if self._held:
            text, at, self._held = self._held + text[at:], 0, ""
        else:
            moved = 0
        while at < len(text) and not self.is_whole and self.error is None:
            if self._reading in ("string", "key"):
                at = self._in_string(text, at)
            elif self._reading:
                at = self._in_scalar(text, at)
            else:
                at = self._between(text, at)
        return at + moved

    def end(self) -> None:
        """Nothing follows: a number that stands alone is complete now."""
        if not self._open and self._reading in ("number", "word"):
            self._scalar_done()

    def _between(self, text: str, at: int) -> int:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr] # it always matches
        if at == len(text):
            return at
        char = text[at]
        if char not in self._next:
            return self._fail(_NAMES[self._next], text, at)
        if char in "{[":
            if len(self._open) == DEEPEST:
                return self._fail(f"nothing nested deeper than {DEEPEST} levels", text, at)
            self._add([] if char == "[" else {}, opens=True)
        elif char in "]}":
            self._close()
        elif char in ",:":
            self._next = STARTS
            if char == "," and isinstance(self._open[-1], dict):
                self._next, self._keys[-1] = _KEY, None
        elif char == '"':
            if self._next in (_KEY, _FIRST_KEY):
                self._reading = "key"
            else:
                self._add("")
                self._reading = "string"
        else:
            self._reading = "number" if char in "-0123456789" else "word"
            return at
        return at + 1

    def _in_string(self, text: str, at: int) -> int:
        end = _RUN.match(text, at).end()  # type: ignore[union-attr] # it always matches
        if end > at:
            self._write(text[at:end])
        if end == len(text):
            return end
        if text[end] == '"':
            self._string_done()
            return end + 1
        if text[end] != "\\":
            return self._fail("no line break or control character inside a string", text, end)
        return self._escape(text, end)

    def _escape(self, text: str, at: int) -> int:
        kind = text[at + 1 : at + 2]
        if kind in _ESCAPES and kind:
            self._write(_ESCAPES[kind])
            return at + 2
        digits = text[at + 2 : at + _UNICODE_ESCAPE]
        if kind == "u" and _HEX.fullmatch(digits):
            self._write_unit(int(digits, 16))
            return at + _UNICODE_ESCAPE
        if not kind or (kind == "u" and _HEX.fullmatch(digits.ljust(4, "0"))):
            self._held = text[at:]
            return len(text)
        return self._fail("an escape sequence", text, at)

    def _write(self, piece: str) -> None:
        self._parts.append(self._high + piece)
        self._high = ""

    def _write_unit(self, unit: int) -> None:
        """Add one UTF-16 unit: half of a pair waits for the other half."""
        if self._high and unit in _LOW:
            high, self._high = ord(self._high), ""
            self._write(chr(0x10000 + ((high - _HIGH[0]) << 10) + unit - _LOW[0]))
        elif unit in _HIGH:
            if self._high:
                self._write("")
            self._high = chr(unit)
        else:
            self._write(chr(unit))

    def _string_done(self) -> None:
        self._write("")
        text, self._parts = "".join(self._parts), []
        read, self._reading = self._reading, ""
        if read == "key":
            self._keys[-1] = text
            self._next = _COLON
        else:
            self._set_last(text)
            self._value_done()

    def _in_scalar(self, text: str, at: int) -> int:
        run = _NUMBER_RUN if self._reading == "number" else _WORD_RUN
        end = run.match(text, at).end()  # type: ignore[union-attr] # it always matches
        self._parts.append(text[at:end])
        if self._reading == "word":
            word = self._parts[0] = "".join(self._parts)
            del self._parts[1:]
            if not any(known.startswith(word) for known in _WORDS):
                return self._fail("true, false or null", text, at)
        if end < len(text):
            self._scalar_done(text, at)
        return at if self.error else end

    def _scalar_done(self, text: str = "", at: int = 0) -> None:
        written, self._parts = "".join(self._parts), []
        number = _NUMBER.fullmatch(written)
        if written not in _WORDS and number is None:
            kind = "a number" if self._reading == "number" else "true, false or null"
            self.rejected = written
            self._fail(kind, text, at)
            return
        self._reading = ""
        try:
            value = _number(written, number) if number else _WORDS[written]
        except ValueError:
            self._fail("a whole number with fewer digits", text, at)
            return
        self._add(value)
        self._value_done()

    def _add(self, value: Any, *, opens: bool = False) -> None:  # noqa: ANN401 - JSON
        if not self._open:
            self._root = value
        elif isinstance(self._open[-1], list):
            self._open[-1].append(value)
        else:
            self._open[-1][self._keys[-1]] = value
        if opens:
            self._open.append(value)
            if isinstance(value, dict):
                self._keys.append(None)
            self._next = _FIRST_ITEM if isinstance(value, list) else _FIRST_KEY

    def _set_last(self, value: str) -> None:
        if not self._open:
            self._root = value
        elif isinstance(self._open[-1], list):
            self._open[-1][-1] = value
        else:
            self._open[-1][self._keys[-1]] = value

    def _close(self) -> None:
        if isinstance(self._open.pop(), dict):
            self._keys.pop()
        self._value_done()

    def _value_done(self) -> None:
        self.is_whole = not self._open
        if self._open:
            self._next = _AFTER_ITEM if isinstance(self._open[-1], list) else _AFTER_PROPERTY

    def _fail(self, expected: str, text: str, at: int) -> int:
        found = repr(text[at : at + 12]) if at < len(text) else "the end"
        self.error = f"expected {expected}, found {found}"
        return at


def _number(written: str, match: re.Match[str]) -> int | float:
    return float(written) if match[1] or match[2] else int(written)
