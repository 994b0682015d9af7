"""How long an answer may take."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aideon_core.errors import TimedOut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Deadline:
    """A moment after which an answer is too late.

    Args:
        seconds: from now on; None for no end.
    """

    __slots__ = ("_ends", "seconds")

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._ends = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Seconds until then, None for no end.

        Raises:
            TimedOut: it has passed.
        """
        if self._ends is None:
            return None
        if (left := self._ends - time.monotonic()) <= 0:
            raise self.passed()
        return left

    def passed(self) -> TimedOut:
        """The error that says so."""
        return TimedOut(
            f"The answer was not there within the deadline of {self.seconds:g} s.",
            hint="Raise deadline=, or allow a faster backend to answer.",
        )

    @asynccontextmanager
    async def enforced(self) -> AsyncIterator[None]:
        """Cancel what is awaited inside when the moment comes, and raise TimedOut."""
        if self._ends is None:
            yield
            return
        try:
            async with asyncio.timeout(self.left()):
                yield
        except TimeoutError as error:
            raise self.passed() from error
