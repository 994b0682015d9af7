"""Answers that take their time."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from aideon_testing.faults.breaks import counted
from aideon_testing.faults.streams import on_wire

if TYPE_CHECKING:
    from aideon_testing.connection import HttpRequest, HttpResponse, Parts
    from aideon_testing.faults.breaks import Extent
    from aideon_testing.interception import Proceed
    from aideon_testing.wire import Stamp

_TICK = 0.01


@dataclass(frozen=True, slots=True)
class Latency:
    """A wait before the request is looked at.

    Attributes:
        seconds: how long at least.
        jitter: how much longer at most; how much is drawn anew for each response.
        seed: what the draw depends on, besides the number of the response.
    """

    seconds: float
    jitter: float = 0.0
    seed: int = 0

    async def intercept(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        """Wait, then answer as usual."""
        drawn = Random(f"{self.seed} {stamp.id}").uniform(0, self.jitter)  # noqa: S311 - no secret
        await asyncio.sleep(self.seconds + drawn)
        return await proceed(request, stamp)


@dataclass(frozen=True, slots=True)
class Stall:
    """An answer that stops coming.

    Attributes:
        at: how many bytes are sent before; an answer that is shorter stalls at its end.
        of: whether ``at`` counts in the body or in the whole response: 0 of the response
            stalls before the headers.
        seconds: how long until the rest follows; ``None`` waits until the client is gone.
    """

    at: int = 0
    of: Extent = "body"
    seconds: float | None = None

    async def intercept(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        """Answer as usual, with the pause in it."""
        return counted(await proceed(request, stamp), self.of, self._stall)

    async def _stall(self, parts: Parts) -> Parts:
        left, paused = self.at, False
        async with aclosing(parts):
            async for part in parts:
                if not paused and len(part) >= left:
                    yield part[:left]
                    await self._pause()
                    paused = True
                    yield part[left:]
                else:
                    yield part
                    left -= len(part)
        if not paused:
            await self._pause()

    async def _pause(self) -> None:
        if self.seconds is None:
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(self.seconds)


@dataclass(frozen=True, slots=True)
class Drip:
    """A response that comes slowly, headers and all.

    Attributes:
        bytes_per_second: how fast.
    """

    bytes_per_second: float

    def __post_init__(self) -> None:
        """Refuse a response that never comes.

        Raises:
            ValueError: the rate is not above zero.
        """
        if not self.bytes_per_second > 0:
            raise ValueError("bytes_per_second must be above 0; what never comes is a Stall.")

    async def intercept(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        """Answer as usual, but slowly."""
        return on_wire(await proceed(request, stamp), self._drip)

    async def _drip(self, parts: Parts) -> Parts:
        size = max(int(self.bytes_per_second * _TICK), 1)
        async with aclosing(parts):
            async for part in parts:
                for start in range(0, len(part), size):
                    drop = part[start : start + size]
                    await asyncio.sleep(len(drop) / self.bytes_per_second)
                    yield drop
