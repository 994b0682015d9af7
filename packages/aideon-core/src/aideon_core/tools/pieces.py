"""Text that arrives in pieces, read as if it were whole."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TypeVar

    from aideon_core.types import ToolCall

    T = TypeVar("T")
    Reading: TypeAlias = Generator[None, None, T]
    """Reads on when there is more text; what it yields says only that there is none yet."""

_SPACES: Final = re.compile(r"\s*")


class Pieces:
    """The text so far, what of it is shown and the calls found in it.

    What is read is shown at once while ``shows`` is set, and kept until ``show`` or
    ``found`` otherwise. Space between calls is dropped, and so is the space from a call to the
    text before it, and to the beginning and the end; all other text is shown as it came.

    Attributes:
        shows: whether what is read is certain to be no part of a call.
        closed: no more text will come.
        begins_line: nothing but space came since the line began, or since the last call.
    """

    def __init__(self) -> None:
        self.shows = True
        self.closed = False
        self.begins_line = True
        self._text, self._at = "", 0
        self._kept: list[str] = []
        self._space: list[str] = []
        self._after_call = self._begun = False
        self._shown: list[str] = []
        self._calls: list[ToolCall] = []

    def add(self, text: str) -> None:
        """Take the next piece."""
        self._text, self._at = self._text[self._at :] + text, 0

    def results(self) -> tuple[str, tuple[ToolCall, ...]]:
        """What was shown and found since the last time."""
        if self.closed and not self._after_call:
            self._shown += self._space
        results = "".join(self._shown), tuple(self._calls)
        self._shown, self._calls = [], []
        return results

    def mark(self) -> int:
        """A place that ``since`` and ``back`` understand until something is shown or found."""
        return len(self._kept)

    def since(self, mark: int) -> str:
        """What was read since the mark."""
        return "".join(self._kept[mark:])

    def back(self, mark: int) -> None:
        """Read what came after the mark once more; for what is short."""
        self._text, self._at = self.since(mark) + self._text[self._at :], 0
        del self._kept[mark:]

    def show(self) -> None:
        """What was kept is no call."""
        kept, self._kept, self.shows = self._kept, [], True
        for text in kept:
            self._show(text)

    def keep(self) -> None:
        """What comes now may be a call."""
        self.shows = False

    def found(self, *calls: ToolCall) -> None:
        """What was kept is these calls, or belongs to the last ones."""
        self._kept, self._space = [], []
        self._calls += calls
        self.begins_line = self._after_call = True

    def peek(self) -> Reading[str]:
        """The next character, empty at the end."""
        while self._at == len(self._text) and not self.closed:
            yield
        return self._text[self._at : self._at + 1]

    def run(self, pattern: re.Pattern[str]) -> Reading[str]:
        """Read on as far as the pattern goes, which has to match any part of what it matches."""
        read: list[str] = []
        while (yield from self.peek()):
            match = pattern.match(self._text, self._at)
            assert match is not None
            read.append(self._take(match.end()))
            if self._at < len(self._text):
                break
        return "".join(read)

    def spaces(self) -> Reading[str]:
        """Read on to what is no space."""
        return (yield from self.run(_SPACES))

    def literal(self, *options: str) -> Reading[str]:
        """Read one of these texts, none of which begins another; empty if none is there."""
        longest = max(map(len, options))
        while True:
            rest = self._text[self._at : self._at + longest]
            for option in options:
                if rest.startswith(option):
                    self._take(self._at + len(option))
                    return option
            if self.closed or not any(option.startswith(rest) for option in options):
                return ""
            yield

    def skip(self) -> None:
        """Read the character that ``peek`` saw."""
        self._take(self._at + 1)

    def _take(self, end: int) -> str:
        text, self._at = self._text[self._at : end], end
        if self.shows:
            self._show(text)
        else:
            self._kept.append(text)
        return text

    def _show(self, text: str) -> None:
        line = text[text.rfind("\n") + 1 :]
        self.begins_line = (self.begins_line or "\n" in text) and not line.strip()
        end = len(text.rstrip())
        if end:
            if self._begun or not self._after_call:
                self._shown += self._space
            self._shown.append(text[:end])
            self._space, self._after_call, self._begun = [], False, True
        self._space.append(text[end:])
