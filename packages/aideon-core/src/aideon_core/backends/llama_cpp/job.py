"""A request on its way to the thread that owns the model, and back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from aideon_core.types import Chunk, Request

Piece: TypeAlias = "Chunk | BaseException | None"
"""A chunk of an answer; None, or the exception that ended it, comes last."""

Sink: TypeAlias = Callable[[Piece], None]


@dataclass(slots=True, eq=False)
class Job:
    """A request on its way to the worker. ``cancel()`` may be called from any thread.

    Attributes:
        answers: how many of the answers it asked for are still being written.
        written: the tokens written so far.
        cached: how many tokens of the prompt were not read again.
        warnings: what the caller should know about the answers.
        began_at: when the model began with it, in seconds of the monotonic clock.
        beside: how many were answered at once then.
    """

    request: Request
    chat_template: str | None
    sink: Sink
    # Keeps the engine alive until the answer is given, whoever lets go of it meanwhile.
    engine: object
    answers: int = 0
    written: int = 0
    cached: int = 0
    warnings: list[str] = field(default_factory=list)
    began_at: float | None = None
    beside: int = 1
    _over: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Stop within a token; nothing more reaches the sink than what is under way."""
        self._over.set()

    def wanted(self) -> bool:
        """Whether anybody still waits for the answer."""
        return not self._over.is_set()

    def end(self, error: BaseException | None) -> None:
        """Tell that it is over, and why; the first time counts."""
        if self.wanted():
            self._over.set()
            self.sink(error)
