"""Text that spells a control token stays text, whoever wrote it.

A prompt is one string of template and messages, and its control tokens end turns and begin
others. A message that spells one must not do that, so where it does, the prompt is rendered
with a mark in its place, and the mark tells the tokenizer to read the spelling as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a prompt; in a ``literal`` one nothing is a control token."""

    text: str
    literal: bool = False


class Marks:
    """Puts marks where control tokens are spelt, and takes them out again.

    Args:
        control: the texts of the model's control tokens.
        said: all that messages and tools say: JSON values.
    """

    def __init__(self, control: Collection[str], said: Iterable[Any]) -> None:
        texts = list(_texts(said))
        spelt = {token for token in control if token and any(token in text for text in texts)}
        self._spelt = _longest_first(spelt)
        # Nobody writes this by chance; whoever does on purpose gets another number.
        number = 0
        while any(f"\ue000{number}." in text for text in texts):
            number += 1
        self._begin = f"\ue000{number}."
        self._find = _any_of(self._spelt)
        # A template may have its JSON escaped.
        self._marks = re.compile(rf"(?:\ue000|\\ue000){number}\.(\d+)(?:\ue001|\\ue001)")

    def put(self, said: Any) -> Any:  # noqa: ANN401 - any JSON value
        """What is said, with every spelling replaced by its mark."""
        if not self._spelt:
            return said
        if isinstance(said, str):
            return self.put_text(said)
        if isinstance(said, list | tuple):
            return [self.put(each) for each in said]
        if isinstance(said, Mapping):
            return {self.put(name): self.put(value) for name, value in said.items()}
        return said

    def put_text(self, text: str) -> str:
        """A text, with every spelling replaced by its mark."""
        return self._find.sub(self._mark, text) if self._spelt else text

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


def parts_of(text: str, control: Collection[str]) -> tuple[Part, ...]:
    """A text that no template wrote, with the spellings of ``control`` as literal parts."""
    tokens = _longest_first(token for token in control if token and token in text)
    pieces = re.split(f"({_any_of(tokens).pattern})", text) if tokens else [text]
    return tuple(Part(piece, literal=bool(at % 2)) for at, piece in enumerate(pieces) if piece)


def _longest_first(tokens: Iterable[str]) -> list[str]:
    return sorted(tokens, key=lambda token: (-len(token), token))


def _any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, tokens)))


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, Mapping):
            waiting.extend(each)
            waiting.extend(each.values())
        elif isinstance(each, list | tuple):
            waiting.extend(each)
