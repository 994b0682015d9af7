"""Equal calls at the same time: one of them asks, and the others wait for what it brings."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from aideon_core import forks

if TYPE_CHECKING:
    from collections.abc import Callable

LEASE: Final = 3.0
"""Seconds after which other processes no longer wait for one that died."""

_BEATS: Final = 3
_LONGEST_REST: Final = 1.0

Place = tuple[int, object]


class Flight:
    """A call that is being asked, which equal ones wait for.

    Attributes:
        brought: what it brought, None while it is under way and where it brought nothing.
        failed: whether it was asked and brought nothing, so that others would hardly do better.
    """

    def __init__(self, key: str, place: Place) -> None:
        self.key = key
        self.brought: bytes | None = None
        self.failed = False
        self._place = place
        self._rests_since: float | None = None
        self._landed = threading.Event()
        self._wakes: set[Callable[[], object]] = set()

    @property
    def has_landed(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self._landed.is_set()

    def land(self) -> None:
        """Wake all who wait."""
        self._landed.set()
        for wake in tuple(self._wakes):
            # Where a loop is closed nobody waits any more.
            with suppress(RuntimeError):
                wake()

    def rest(self) -> None:
        """What came is with the reader of the stream, who may never ask for more."""
        self._rests_since = time.monotonic()

    def go_on(self, place: Place) -> None:
        """The reader asked for more."""
        self._place, self._rests_since = place, None

    @property
    def is_idle(self) -> bool:
        """Whether its reader left it alone for longer than others should wait."""
        since = self._rests_since
        return since is not None and time.monotonic() - since > _LONGEST_REST

    def would_wait_for(self, place: Place) -> bool:
        """Whether it cannot go on while somebody at ``place`` waits for it."""
        (thread, task), (its_thread, its_task) = place, self._place
        return thread == its_thread and (task is None or its_task is None or task is its_task)

    def wait(self, seconds: float) -> None:
        """Block until it has landed, or for so long."""
        self._landed.wait(seconds)

    async def await_(self, seconds: float) -> None:
        """Await until it has landed, or for so long."""
        woken = asyncio.Event()
        wake = partial(asyncio.get_running_loop().call_soon_threadsafe, woken.set)
        self._wakes.add(wake)
        try:
            # Looked at after that: it may have landed in between.
            if not self.has_landed:
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), seconds)
        finally:
            self._wakes.discard(wake)


class Flights:
    """The flights of one cache in this process.

    Args:
        claim: renews the claim of a flight: key, owner and seconds.

    Attributes:
        owner: whose all their claims are, so that one takes over another's at once.
    """

    def __init__(self, claim: Callable[[str, str, float], object]) -> None:
        self._claim = claim
        self._begin()
        forks.forget_with(self)

    def forked(self) -> None:
        """What the parent asks for is not asked for here."""
        self._begin()

    def _begin(self) -> None:
        self.owner = secrets.token_hex(8)
        self._flying: dict[str, Flight] = {}
        self._claimed: set[Flight] = set()
        self._lock = threading.Condition()
        self._beating = False

    def join(self, key: str, place: Place) -> tuple[Flight, bool]:
        """The flight of that key, and whether it is the caller's own to lead."""
        with self._lock:
            flight = self._flying.get(key)
            if flight is not None and not flight.is_idle:
                return flight, False
            self._flying[key] = flight = Flight(key, place)
            return flight, True

    def end(self, flight: Flight) -> None:
        """It brought what it could, or it is over without; whoever waits sees to that."""
        with self._lock:
            if self._flying.get(flight.key) is flight:
                del self._flying[flight.key]
            self._claimed.discard(flight)
            flight.land()

    def keep_claimed(self, flight: Flight) -> bool:
        """Renew its claim until it ends, but not while it is idle; False where it ended."""
        with self._lock:
            if flight.has_landed:
                return False
            self._claimed.add(flight)
            if not self._beating:
                self._beating = True
                threading.Thread(target=self._beat, name="aideon-cache", daemon=True).start()
            return True

    def _beat(self) -> None:
        while True:
            with self._lock:
                if not self._claimed:
                    self._beating = False
                    return
                self._lock.wait(LEASE / _BEATS)
                claimed = [flight for flight in self._claimed if not flight.is_idle]
            for flight in claimed:
                self._claim(flight.key, self.owner, LEASE)
