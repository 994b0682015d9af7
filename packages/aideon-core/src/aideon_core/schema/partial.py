"""The JSON value in an answer: alone, in a fence, or with words around it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from aideon_core.schema.parser import STARTS, JsonParser

_CLOSE_THOUGHT: Final = "</think>"
_MARK: Final = re.compile(rf"[{{\[]|{_CLOSE_THOUGHT}")
_ASIDE: Final = re.compile(r"[\w .-]*")
_SPACE: Final = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class Found:
    """A JSON value in a text, and where it stands there."""

    value: Any
    start: int
    end: int


class _Place(Enum):
    START = auto()
    INSIDE = auto()
    WORDS = auto()
    ASIDE = auto()
    BROKEN = auto()


class Partial:
    """Finds the JSON value in text that comes in pieces; each character is looked at once.

    A value may stand alone, or be an object or a list with words around it, as in a fence.
    A few words in brackets are words; anything else that begins as JSON and is none makes
    the text unreadable, so that no part of it is taken for the whole. What comes before a
    ``</think>`` outside of the JSON was a thought and is forgotten.

    Attributes:
        found: the values that are complete.
        error: why the text cannot be read, and where.
    """

    def __init__(self) -> None:
        self.found: list[Found] = []
        self.error: str | None = None
        self._place = _Place.START
        self._parser = JsonParser()
        self._began = 0
        self._held = ""
        self._seen = 0
        self._stands_alone = False

    @property
    def value(self) -> Any:  # noqa: ANN401 - JSON
        """The value as far as it has come, None before it begins.

        It is one object that grows with the text: copy what you want to keep as it is.
        """
        return self._parser.value

    @property
    def open_path(self) -> tuple[str | int, ...] | None:
        """Where the object or list is that the text broke off in, None where none is open."""
        inside = self._place is _Place.INSIDE and not self._stands_alone
        return self._parser.path if inside else None

    def feed(self, text: str) -> None:
        """Read on."""
        before = self._seen - len(self._held)
        self._seen += len(text)
        text, self._held = self._held + text, ""
        at = 0
        while at < len(text):
            match self._place:
                case _Place.START:
                    at = self._begin(text, at, before)
                case _Place.INSIDE:
                    at = self._inside(text, at, before)
                case _Place.ASIDE:
                    at = self._aside(text, at)
                case _:
                    at = self._words(text, at, before)

    def end(self) -> None:
        """Nothing follows: a number that stands alone is complete now."""
        if self._place is _Place.INSIDE:
            self._parser.end()
            if self._parser.is_whole:
                self._note(self._seen)

    def _begin(self, text: str, at: int, before: int) -> int:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr] # it always matches
        if at < len(text):
            self._stands_alone = text[at] not in "{["
            self._began = before + at
            self._place = _Place.INSIDE if text[at] in STARTS else _Place.WORDS
        return at

    def _inside(self, text: str, at: int, before: int) -> int:
        at = self._parser.feed(text, at)
        if self._parser.is_whole:
            self._note(before + at)
        elif (error := self._parser.error) is not None:
            if self._stands_alone:
                self._parser, self._place = JsonParser(), _Place.WORDS
            elif self._parser.has_begun or not _ASIDE.fullmatch(self._parser.rejected):
                self._break(error, before + at)
            else:
                self._place = _Place.ASIDE
        return max(at, 0)

    def _note(self, end: int) -> None:
        self.found.append(Found(self._parser.value, self._began, end))
        self._place = _Place.WORDS

    def _aside(self, text: str, at: int) -> int:
        at = _ASIDE.match(text, at).end()  # type: ignore[union-attr] # it always matches
        if at < len(text):
            if text[at] in "]}":
                self._parser, self._place = JsonParser(), _Place.WORDS
                return at + 1
            self._break(str(self._parser.error), self._began)
        return at

    def _break(self, why: str, at: int) -> None:
        self.error = f"{why} at character {at + 1}"
        self._place = _Place.BROKEN

    def _words(self, text: str, at: int, before: int) -> int:
        if self._stands_alone and self.found:
            at = _SPACE.match(text, at).end()  # type: ignore[union-attr] # it always matches
            if at == len(text):
                return at
            # With words after it, a word or a number is one of them.
            self._forget()
        for mark in _MARK.finditer(text, at):
            if mark[0] == _CLOSE_THOUGHT:
                self._forget()
                self._place = _Place.START
                return mark.end()
            if self._place is _Place.WORDS:
                self._stands_alone = False
                self._parser, self._place = JsonParser(), _Place.INSIDE
                self._began = before + mark.start()
                return mark.start()
        tail = text.rfind("<", max(at, len(text) - len(_CLOSE_THOUGHT)))
        if tail >= 0 and _CLOSE_THOUGHT.startswith(text[tail:]):
            self._held = text[tail:]
        return len(text)

    def _forget(self) -> None:
        self.found, self.error, self._stands_alone = [], None, False
        self._parser = JsonParser()


def partial(text: str) -> Any:  # noqa: ANN401 - JSON
    """The JSON value in the beginning of an answer, as far as it has come.

    Strings show as far as they are written, numbers and words once something follows them.
    A text that grows is read by one Partial instead, so that nothing is read twice.

    Args:
        text: the beginning of an answer, cut anywhere.

    Returns:
        Plain JSON types, None when no value has begun.
    """
    reader = Partial()
    reader.feed(text)
    return reader.value
