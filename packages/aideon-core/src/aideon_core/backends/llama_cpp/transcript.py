"""What an answer says, as it is written: from the bytes of its tokens to chunks."""

from __future__ import annotations

import codecs
from dataclasses import replace
from typing import TYPE_CHECKING

from aideon_core.backends.llama_cpp.stops import StopFilter
from aideon_core.backends.wire.thinking import ThinkingSplitter
from aideon_core.types import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aideon_core.backends.llama_cpp.asking import Asked


class Transcript:
    """Reads the thought, the text and the calls out of one answer.

    Args:
        asked: what is answered.

    Attributes:
        calls: reads the tool calls, None where there can be none.
        spoken: how many characters were said outside of thoughts, the prefix included.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = StopFilter(asked.request.stop, asked.request.prefix or "")
        # A required form binds the model from its first token on, so that it cannot think,
        # unless the template has opened a thought already.
        thinks = asked.opens_thought or asked.grammar is None
        self._thinking = ThinkingSplitter(opened=asked.opens_thought) if thinks else None
        self.calls = asked.call_stream()
        self._pieces: list[str] = []
        self.spoken, self._held = 0, ""
        self._held = self._held_of(asked.request.prefix or "")

    @property
    def is_over(self) -> bool:
        """Whether a stop string came, or the one call that is allowed."""
        return self._stops.stopped or (self.calls is not None and self.calls.over)

    @property
    def thinks(self) -> bool:
        """Whether what comes next may be a thought."""
        return self._thinking is not None and self._thinking.inside

    @property
    def text(self) -> str:
        """What was said outside of thoughts, calls as the model writes them included."""
        return "".join(self._pieces)

    def feed(self, piece: bytes) -> list[Chunk]:
        """Take the bytes of the next token; gives what is certain now."""
        return list(self._chunks(self._stops.feed(self._decoder.decode(piece))))

    def finish(self) -> list[Chunk]:
        """Nothing follows; gives what was held back."""
        chunks: list[Chunk] = []
        if not self._stops.stopped:
            rest = self._stops.feed(self._decoder.decode(b"", final=True))
            chunks += self._chunks(rest + self._stops.flush())
        if self._thinking is not None:
            chunks += self._said(*self._thinking.rest())
        if self.calls is not None:
            chunks += [
                new for chunk in self.calls.finish() if (new := self._news(chunk)) is not None
            ]
        return chunks

    def back_to(self, spoken: int) -> None:
        """Forget what was said after the first characters, of which nothing was given yet."""
        text = self.text[:spoken]
        self.calls = self._asked.call_stream()
        self._pieces, self.spoken = [], 0
        self._speak(text)

    def _held_of(self, prefix: str) -> str:
        """Say the prefix, which the caller knows; gives what of it is held back."""
        self._speak(prefix)
        if not prefix or (twin := self._asked.call_stream()) is None:
            return ""
        twin.feed(prefix)
        return "".join(chunk.text for chunk in twin.finish())

    def _news(self, chunk: Chunk) -> Chunk | None:
        """What of a chunk the caller does not know from the prefix."""
        held, self._held = self._held, ""
        if not held or chunk.tool_calls:
            return chunk
        known = min(len(held), len(chunk.text))
        if held[:known] != chunk.text[:known]:
            return chunk
        self._held = held[known:]
        return replace(chunk, text=chunk.text[known:]) if known < len(chunk.text) else None

    def _chunks(self, text: str) -> Iterator[Chunk]:
        if text:
            said = self._thinking.split(text) if self._thinking is not None else (text, "")
            yield from self._said(*said)

    def _said(self, text: str, thought: str) -> Iterator[Chunk]:
        if thought:
            yield Chunk(reasoning=thought)
        if text:
            yield from self._speak(text)

    def _speak(self, text: str) -> list[Chunk]:
        self._pieces.append(text)
        self.spoken += len(text)
        if self.calls is None:
            return [Chunk(text=text)]
        return [new for chunk in self.calls.feed(text) if (new := self._news(chunk)) is not None]
