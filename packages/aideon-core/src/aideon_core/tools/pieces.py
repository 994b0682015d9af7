"""Text that arrives in pieces, read as if it were whole."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from aideon_core.types import ToolCall, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TypeVar

    T = TypeVar("T")
    Reading: TypeAlias = Generator[None, None, T]
    """Reads on when there is more text; what it yields says only that there is none yet."""

Event: TypeAlias = str | ToolCallDelta | ToolCall
"""Text to show, a piece of a call, or a call that is now whole."""

_SPACES: Final = re.compile(r"\s*")


@dataclass(slots=True)
class Opened:
    """A call whose JSON arguments have begun.

    Attributes:
        id: of the call.
        name: of its function.
        closing: what has to follow the arguments for the object that describes the call to end.
        at: where in the text the arguments begin, in characters.
        written: the arguments so far, as JSON.
        shown: whether pieces of the call were given out, so that it cannot be text any more.
    """

    id: str
    name: str
    closing: str
    at: int
    written: list[str] = field(default_factory=list)
    shown: bool = False


class Pieces:
    """The text so far, what of it is shown and the calls found in it.

    What is read is shown at once while ``shows`` is set, and kept until ``show`` or
    ``found`` otherwise. Space between calls is dropped, and so is the space from a call to the
    text before it, and to the beginning and the end; all other text is shown as it came.

    Args:
        new_id: gives ids to calls that come without. With it, calls also come as deltas, those
            with JSON arguments while they are written; without it, whole calls come alone.

    Attributes:
        shows: whether what is read is certain to be no part of a call.
        closed: no more text will come.
        begins_line: nothing but space came since the line began, or since the last call.
        opened: the call whose arguments are being read.
        started: where the text of the current or the last call begins, in characters: its tag
            or fence with it, or for another call in there, the end of the one before.
    """

    def __init__(self, new_id: Callable[[], str] | None = None) -> None:
        self.shows = True
        self.closed = False
        self.begins_line = True
        self.opened: Opened | None = None
        self.started = 0
        self._new_id, self._index = new_id, 0
        self._text, self._at, self._before = "", 0, 0
        self._from = 0
        self._kept: list[str] = []
        self._space: list[str] = []
        self._after_call = self._begun = False
        self._events: list[Event] = []

    def add(self, text: str) -> None:
        """Take the next piece."""
        self._before += self._at
        self._text, self._at = self._text[self._at :] + text, 0

    def events(self) -> list[Event]:
        """What was shown and found since the last time."""
        if self.closed and not self._after_call:
            self._events += self._space
        events, self._events = self._events, []
        return events

    @property
    def offset(self) -> int:
        """How many characters were read."""
        return self._before + self._at

    @property
    def waiting(self) -> int:
        """How many characters came and were not read yet."""
        return len(self._text) - self._at

    def mark(self) -> int:
        """A place that ``since`` and ``back`` understand until something is shown or found."""
        return len(self._kept)

    def since(self, mark: int) -> str:
        """What was read since the mark."""
        return "".join(self._kept[mark:])

    def back(self, mark: int) -> None:
        """Read what came after the mark once more; for what is short."""
        again = self.since(mark)
        self._before = self.offset - len(again)
        self._text, self._at = again + self._text[self._at :], 0
        del self._kept[mark:]

    def show(self) -> None:
        """What was kept is no call."""
        kept, self._kept, self.shows, self.opened = self._kept, [], True, None
        for text in kept:
            self._show(text)

    def keep(self) -> None:
        """What comes now may be a call."""
        self.shows, self._from = False, self.offset

    def found(self, *calls: ToolCall) -> None:
        """What was kept is these calls, or belongs to the last ones."""
        for call in calls:
            self.started = self._from
            if self._new_id is None:
                self._events.append(call)
                continue
            whole = ToolCall(call.id or self._new_id(), call.name, call.arguments)
            self._delta(whole.id, whole.name, whole.arguments)
            self._events.append(whole)
            self._index += 1
        self._drop()
        self._from = self.offset

    def opens(self, name: str, call_id: str, closing: str) -> None:
        """What comes now are the arguments of a call, in JSON."""
        self.started = self._from
        self.opened = Opened(call_id, name, closing, self.offset)

    def argues(self, written: str) -> None:
        """The arguments go on with this."""
        opened = self.opened
        assert opened is not None
        opened.written.append(written)
        if self._new_id is None:
            return
        if opened.shown:
            self._delta("", "", written)
        elif written.strip() not in ("", "{"):
            # A brace alone may yet be an ellipsis in prose: {"arguments": {...}}.
            opened.shown, opened.id = True, opened.id or self._new_id()
            self._index += 1
            self._delta(opened.id, opened.name, "".join(opened.written))
            self._drop()

    def closes(self) -> None:
        """The arguments are over, and the call is whole."""
        opened, self.opened = self.opened, None
        assert opened is not None
        call = ToolCall(opened.id, opened.name, "".join(opened.written))
        if opened.shown:
            self._events.append(call)
            self.found()
        else:
            self.found(call)

    def peek(self) -> Reading[str]:
        """The next character, empty at the end."""
        while self._at == len(self._text) and not self.closed:
            yield
        return self._text[self._at : self._at + 1]

    def run(self, pattern: re.Pattern[str]) -> Reading[str]:
        """Read on as far as the pattern goes, which has to match any part of what it matches."""
        read: list[str] = []
        while (yield from self.peek()):
            read.append(self.part(pattern))
            if self._at < len(self._text):
                break
        return "".join(read)

    def part(self, pattern: re.Pattern[str]) -> str:
        """Read what is there already of a ``run``."""
        match = pattern.match(self._text, self._at)
        assert match is not None
        return self._take(match.end())

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

    def _delta(self, call_id: str, name: str, arguments: str) -> None:
        index = self._index - 1 if self.opened else self._index
        self._events.append(ToolCallDelta(index, call_id, name, arguments))

    def _drop(self) -> None:
        self._kept, self._space = [], []
        self.begins_line = self._after_call = True

    def _take(self, end: int) -> str:
        text, self._at = self._text[self._at : end], end
        if self.shows:
            self._show(text)
        elif self.opened is None or not self.opened.shown:
            self._kept.append(text)
        else:
            self._see(text)
        return text

    def _see(self, text: str) -> None:
        line = text[text.rfind("\n") + 1 :]
        self.begins_line = (self.begins_line or "\n" in text) and not line.strip()

    def _show(self, text: str) -> None:
        self._see(text)
        end = len(text.rstrip())
        if end:
            begin = end - len(text[:end].lstrip())
            self._space.append(text[:begin])
            if self._begun or not self._after_call:
                self._events += self._space
            self._events.append(text[begin:end])
            self._space, self._after_call, self._begun = [], False, True
        self._space.append(text[end:])
