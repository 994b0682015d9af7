"""Who said what when: the times of a transcript, spread evenly over its letters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORD: Final = re.compile(r"\S+")
_ENDS_SENTENCE: Final = (".", "!", "?")


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said, and how long it took.

    Attributes:
        text: what was said.
        seconds: how long the sound lasts.
        speakers: how many speak, a sentence each in turn; 0 does not tell them apart.
    """

    text: str
    seconds: float
    speakers: int = 0

    def segments(self) -> list[dict[str, object]]:
        """The sentences."""
        return [
            {"id": number, **self._times(sentence), "text": _joined(sentence)}
            for number, sentence in enumerate(self._sentences())
        ]

    def words(self) -> list[dict[str, object]]:
        """The words; with their speakers where those are told apart."""
        return [word for _, words in self._spoken() for word in words]

    def speaker_segments(self) -> list[dict[str, object]]:
        """The sentences with their speakers and their words; somebody must speak."""
        return [
            {
                "id": number,
                "speaker_id": _speaker(number, self.speakers),
                **self._times(sentence),
                "text": _joined(sentence),
                "words": words,
            }
            for number, (sentence, words) in enumerate(self._spoken())
        ]

    def _spoken(self) -> Iterator[tuple[list[re.Match[str]], list[dict[str, object]]]]:
        for number, sentence in enumerate(self._sentences()):
            speaker = {"speaker_id": _speaker(number, self.speakers)} if self.speakers else {}
            words = [{"word": word[0], **self._times([word]), **speaker} for word in sentence]
            yield sentence, words

    def _sentences(self) -> Iterator[list[re.Match[str]]]:
        sentence: list[re.Match[str]] = []
        for word in _WORD.finditer(self.text):
            sentence.append(word)
            if word[0].endswith(_ENDS_SENTENCE):
                yield sentence
                sentence = []
        if sentence:
            yield sentence

    def _times(self, words: list[re.Match[str]]) -> dict[str, object]:
        pace = self.seconds / len(self.text)
        start, end = words[0].start() * pace, words[-1].end() * pace
        return {"start": round(start, 3), "end": round(end, 3)}


def _joined(words: list[re.Match[str]]) -> str:
    return words[0].string[words[0].start() : words[-1].end()]


def _speaker(number: int, speakers: int) -> str:
    return f"SPEAKER_{number % speakers:02}"
