"""Keeps tool calls that a server corrupted while streaming from reaching the caller.

Some engines stream a call twice and cut the second one off (seen of DeepSeek-V4-Pro), while
the same answer in one piece is sound.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aideon_core import rounds
from aideon_core.backends import wire
from aideon_core.errors import ServerError
from aideon_core.types import Chunk, Completion, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aideon_core.types import FinishReason, Request


class CallGuard:
    """Watches one stream.

    Args:
        request: what was asked; without tools everything passes.
        holds: keep everything from the first tool call on until the stream has ended, so
            that corrupt calls can be replaced; otherwise they end the stream with an error.

    Attributes:
        counted: the last chunk that counted tokens; some engines count on every frame.
    """

    def __init__(self, request: Request, *, holds: bool) -> None:
        self._watches = bool(request.tools)
        self._holds = holds
        self._calls: dict[int, list[Chunk]] = {}
        self._held: list[Chunk] = []
        self._corrupt: set[int] = set()
        self.counted: Chunk | None = None

    @property
    def saw_corrupt_calls(self) -> bool:
        """Whether a call in the stream was not whole."""
        return bool(self._corrupt)

    @property
    def asks_again(self) -> bool:
        """Whether the calls held back have to be replaced by those of a whole answer."""
        return self._holds and self.saw_corrupt_calls

    def passed(self, chunk: Chunk) -> Iterator[Chunk]:
        """The chunk, unless it is held back.

        Raises:
            ServerError: the answer is over and a call of it, already passed on, is not whole.
        """
        self.counted = chunk if chunk.usage is not None else self.counted
        if not self._watches:
            yield chunk
            return
        if chunk.tool_calls:
            piece = Chunk(tool_calls=chunk.tool_calls)
            self._calls.setdefault(chunk.index, []).append(piece)
        # An answer that ran into its limit is cut off rightly.
        if chunk.finish_reason in ("tool_calls", "stop"):
            self._check(chunk.index)
        if self._holds and self._calls:
            self._held.append(chunk)
        else:
            yield chunk

    @property
    def sound(self) -> list[Chunk]:
        """What was kept back and is not known to be corrupt."""
        return [] if self.saw_corrupt_calls else self._held

    def mended(self, again: Completion) -> Iterator[Chunk]:
        """What was held back, with the calls of a whole answer in place of the corrupt ones.

        Usage and cost are those of both answers, because both are billed.

        Raises:
            ServerError: the whole answer calls nothing, so it does not go on from what was shown.
        """
        whole = dict(enumerate((again, *again.alternatives)))
        if any(index not in whole or not whole[index].tool_calls for index in self._corrupt):
            raise ServerError(
                "The stream's tool calls were not whole, and a second answer had none.",
                hint="Ask again, without streaming.",
            )
        ends: dict[int, FinishReason | None] = {}
        # The facts about all the answers come with the end of the first.
        for index in sorted({chunk.index for chunk in self._held}, reverse=True):
            held = Completion.from_chunks(
                replace(chunk, index=0) for chunk in self._held if chunk.index == index
            )
            sound = whole[index] if index in self._corrupt else held
            calls = tuple(
                ToolCallDelta(number, call.id, call.name, call.arguments)
                for number, call in enumerate(sound.tool_calls)
            )
            ends[index] = sound.finish_reason
            end = sound.finish_reason if index else None
            yield Chunk(held.text, held.reasoning, calls, end, index=index)
        again = rounds.with_earlier(again, Completion.from_chunks(self._held))
        yield Chunk(
            finish_reason=ends.get(0),
            usage=again.usage,
            cost=again.cost,
            model=again.model,
            id=again.id,
            warnings=again.warnings,
            extra=again.extra,
        )

    def _check(self, index: int) -> None:
        answer = Completion.from_chunks(self._calls.get(index, ()))
        if wire.calls_are_whole(answer):
            return
        self._corrupt.add(index)
        if not self._holds:
            raise ServerError(
                "The stream ended with a tool call that is not whole: "
                f"{answer.tool_calls[-1].arguments[:200]!r}",
                hint="Ask again: from now on calls of this model are held back until they are.",
            )
