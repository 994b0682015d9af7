"""Sends a request with one key after the other, until one is not refused or limited."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from aideon_core import prices
from aideon_core.backends import wire
from aideon_core.errors import AuthError, CoolingDown, NotFound, RateLimited
from aideon_core.keys import KeyState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aideon_core import transport
    from aideon_core.backends.given import Channel
    from aideon_core.backends.hosts import Host
    from aideon_core.deadline import Deadline
    from aideon_core.errors import BackendError
    from aideon_core.keys import Key, KeyRing
    from aideon_core.types import Json

FIRST_REFUSAL: Final = 300
MOST_KEYS: Final = 16
"""A source that makes up a new key each time must not keep one call busy for ever."""

# Where a limit was met and nothing said for how long.
_UNTOLD_PAUSE: Final = 1.0
_OF_THE_MODEL: Final = "model_rate_limit"


class Sender:
    """A channel with the keys to use on it.

    Args:
        open_channel: makes the way to the server, when it is first needed.
        ring: the keys; None where the channel brings its own, or none is asked for.
        host: who answers, for messages.
        model: what is asked for, for messages.
    """

    def __init__(
        self, open_channel: Callable[[], Channel], ring: KeyRing | None, host: Host, model: str
    ) -> None:
        self._open_channel = open_channel
        self._opened: Channel | None = None
        self._opening = threading.Lock()
        self._ring = ring
        self._host = host
        self._model = model
        # A limit may be the model's own; other models on the same keys are not held up by it.
        self._model_rests = KeyState()
        self._resting = threading.Lock()

    def of_model(self, model: str) -> Sender:
        """A sender of requests to another model: the same channel, the same keys."""
        return Sender(lambda: self.channel, self._ring, self._host, model)

    @property
    def channel(self) -> Channel:
        """The way to the server."""
        with self._opening:
            self._opened = self._opened or self._open_channel()
            return self._opened

    def close(self) -> None:
        """Let go of blocking connections, if there are any."""
        if self._opened is not None:
            self._opened.close()

    async def aclose(self) -> None:
        """Let go of the running loop's connections, and the blocking ones."""
        if self._opened is not None:
            await self._opened.aclose()

    def send(self, body: Json, deadline: Deadline) -> transport.Response:
        """Post a body with one key after the other, until one is not refused or limited.

        Returns:
            A response whose status is good, with its body still to be read.

        Raises:
            BackendError: the server refuses, and no other key changes that.
            CoolingDown: nothing was sent, because the model or every key waits out a limit.
            MissingKey: there is no key.
            TimedOut: the deadline passed.
        """
        self._take_turn()
        tried: list[Key | None] = []
        failure: BackendError | None = None
        while True:
            try:
                key = self._ring.lease(deadline.left()) if self._ring else None
            except CoolingDown as error:
                raise failure or error from None
            if failure is not None and (key in tried or len(tried) == MOST_KEYS):
                raise failure
            tried.append(key)
            response = self.channel.post(body, key, deadline)
            if response.status < FIRST_REFUSAL:
                if self._ring and key:
                    note_answer(self._ring, key, response.headers)
                return response
            failure = self.failure(response, response.read())
            if not self._another_may_do(key, failure, response):
                raise failure
            if self._ring and key and isinstance(failure, AuthError):
                self._ring.refused(key, deadline.left())

    async def asend(self, body: Json, deadline: Deadline) -> transport.Response:
        """Post a body with one key after the other; see ``send``."""
        self._take_turn()
        tried: list[Key | None] = []
        failure: BackendError | None = None
        while True:
            try:
                key = await self._ring.alease(deadline.left()) if self._ring else None
            except CoolingDown as error:
                raise failure or error from None
            if failure is not None and (key in tried or len(tried) == MOST_KEYS):
                raise failure
            tried.append(key)
            response = await self.channel.apost(body, key, deadline)
            if response.status < FIRST_REFUSAL:
                if self._ring and key:
                    note_answer(self._ring, key, response.headers)
                return response
            failure = self.failure(response, await response.aread())
            if not self._another_may_do(key, failure, response):
                raise failure
            if self._ring and key and isinstance(failure, AuthError):
                await self._ring.arefused(key, deadline.left())

    def failure(self, response: transport.Response, body: bytes) -> BackendError:
        """The error that a response without success stands for.

        Args:
            response: for its status and headers.
            body: what it held.
        """
        failure = wire.failure_of(
            response.status,
            response.headers,
            body,
            backend=self._host.name,
            model=self._model,
            where=self._host.title,
            now=time.time(),
        )
        if isinstance(failure, AuthError) and self._host.key_variable:
            failure.hint = f"Check {self._host.key_variable} and the account it belongs to."
        if isinstance(failure, NotFound) and self._host.prices:
            near = prices.nearest(self._host.prices, self._model)
            if near and self._model not in near:
                failure.hint = f"Nearest known models: {', '.join(near)}."
        return failure

    def _take_turn(self) -> None:
        with self._resting:
            now = time.monotonic()
            wait = self._model_rests.paused_until - now
            if wait <= 0:
                self._model_rests = self._model_rests.leased(now)
                return
        raise CoolingDown(
            f"{self._host.title} limits requests to {self._model!r} for now.",
            hint=f"Ask again in {wait:.3g} s, or allow another backend to answer.",
            retry_after=wait,
        )

    def _another_may_do(
        self, key: Key | None, failure: BackendError, response: transport.Response
    ) -> bool:
        """Whether a refusal is about the key; whoever met a limit is told to wait."""
        if isinstance(failure, RateLimited) and failure.type == _OF_THE_MODEL:
            wait, interval = _rest(failure, response.headers)
            with self._resting:
                now = time.monotonic()
                self._model_rests = self._model_rests.paused(wait, now, interval)
            return False
        if self._ring and key:
            note_failure(self._ring, key, failure, response.headers)
        return key is not None and isinstance(failure, AuthError | RateLimited)


def note_answer(ring: KeyRing, key: Key, headers: Mapping[str, str]) -> None:
    """Tell a ring that a key was taken, and whether it has to rest now."""
    ring.answered(key)
    if pause := wire.pause_of(headers):
        ring.paused(key, pause, interval=wire.interval_of(headers))


def note_failure(
    ring: KeyRing, key: Key, failure: BackendError, headers: Mapping[str, str]
) -> None:
    """Tell a ring of a limit that was met on a key; one of the model alone is none of it."""
    if isinstance(failure, RateLimited) and failure.type != _OF_THE_MODEL:
        wait, interval = _rest(failure, headers)
        ring.paused(key, wait, interval=interval)


def _rest(failure: BackendError, headers: Mapping[str, str]) -> tuple[float, float]:
    """Seconds to wait, and to keep between two requests after."""
    wait = _UNTOLD_PAUSE if failure.retry_after is None else failure.retry_after
    return wait, wire.interval_of(headers)
