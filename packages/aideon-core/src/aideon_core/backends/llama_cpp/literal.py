"""Text that spells a control token stays text, whoever wrote it.

A prompt is one string of template and messages, and its control tokens end turns and begin
others. A message that spells one must not do that, so where it does, the prompt is rendered
with a mark in its place, and the mark tells the tokenizer to read the spelling as text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    Marked: TypeAlias = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a prompt; in a ``literal`` one nothing is a control token."""

    text: str
    literal: bool = False


class Marks:
    """Puts marks where control tokens are spelt, and takes them out again.

    Args:
        control: the texts of the model's control tokens.
        turns: the messages as the template gets them: JSON values.
    """

    def __init__(self, control: Collection[str], turns: Sequence[Any]) -> None:
        texts = list(_texts(turns))
        self._spelt = sorted(
            {token for token in control if any(token in text for text in texts)},
            key=len,
            reverse=True,
        )
        # Nobody writes this by chance; whoever does on purpose gets another number.
        number = 0
        while any(f"\ue000{number}." in text for text in texts):
            number += 1
        self._begin = f"\ue000{number}."
        self._find = re.compile("|".join(map(re.escape, self._spelt)))
        self._marks = re.compile(rf"{re.escape(self._begin)}(\d+)\ue001")

    def put(self, turn: Any) -> Any:  # noqa: ANN401 - any JSON value
        """A message with every spelling replaced by its mark."""
        if not self._spelt:
            return turn
        if isinstance(turn, str):
            return self._find.sub(self._mark, turn)
        if isinstance(turn, list):
            return [self.put(each) for each in turn]
        if isinstance(turn, dict):
            return {name: self.put(value) for name, value in turn.items()}
        return turn

    def _mark(self, found: re.Match[str]) -> str:
        return f"{self._begin}{self._spelt.index(found[0])}\ue001"

    def parts(self, prompt: str) -> tuple[Part, ...]:
        """The rendered prompt, with the spellings as literal parts."""
        if not self._spelt:
            return (Part(prompt),)
        pieces = self._marks.split(prompt)
        return tuple(
            Part(self._spelt[int(piece)], literal=True) if at % 2 else Part(piece)
            for at, piece in enumerate(pieces)
            if piece
        )


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            waiting.extend(each.values())
        elif isinstance(each, list | tuple):
            waiting.extend(each)
