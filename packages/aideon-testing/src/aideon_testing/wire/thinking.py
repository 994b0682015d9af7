"""Where an engine puts the thoughts of a model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aideon_core.types import Chunk, TokenLogprob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aideon_testing.dialects import Dialect

OPENING = "<think>\n"
_CLOSING = "\n</think>\n\n"


class Thinking:
    """Turns reasoning into text for the engines that know no other way, a chunk at a time."""

    def __init__(self, dialect: Dialect) -> None:
        self._style = dialect.reasoning
        self._began = False
        self._open = False

    def said(self, chunk: Chunk) -> Iterator[Chunk]:
        """What the engine makes of a chunk.

        A closing tag follows only when something else does: an answer that is cut while the
        model thinks never gets one.
        """
        if self._style == "field":
            yield chunk
        elif chunk.reasoning:
            if self._style == "inline" and not self._began:
                yield _tag(OPENING, chunk)
            self._began = self._open = True
            yield replace(chunk, text=chunk.reasoning, reasoning="")
        else:
            if self._open and (chunk.text or chunk.tool_calls):
                self._open = False
                yield _tag(_CLOSING, chunk)
            yield chunk


def _tag(text: str, beside: Chunk) -> Chunk:
    """A tag, with the logprobs of a sure thing where the chunk beside it has any."""
    alternatives = ((text, 0.0),) if any(token.top for token in beside.logprobs) else ()
    sure = TokenLogprob(text, 0.0, alternatives)
    return Chunk(text=text, logprobs=(sure,) if beside.logprobs else ())
