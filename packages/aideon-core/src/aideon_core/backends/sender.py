"""Sends a request with one key after the other, until one is not refused or limited."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aideon_core import prices
from aideon_core.backends import wire
from aideon_core.errors import AuthError, CoolingDown, NotFound, RateLimited

if TYPE_CHECKING:
    from aideon_core import transport
    from aideon_core.backends.given import Channel
    from aideon_core.backends.hosts import Host
    from aideon_core.deadline import Deadline
    from aideon_core.errors import BackendError
    from aideon_core.keys import Key, KeyRing
    from aideon_core.types import Json

_FIRST_REFUSAL: Final = 300
# A source that makes up a new key each time must not keep one call busy for ever.
_MOST_KEYS: Final = 16
_UNTOLD_PAUSE: Final = 1.0
_BRIEFLY: Final = 1.0
_SHORTEST_KEY: Final = 8


class Sender:
    """A channel with the keys to use on it.

    Args:
        channel: the way to the server.
        ring: the keys; None where the channel brings its own, or none is asked for.
        host: who answers, for messages.
        model: what is asked for, for messages.

    Attributes:
        channel: as given.
    """

    def __init__(self, channel: Channel, ring: KeyRing | None, host: Host, model: str) -> None:
        self.channel = channel
        self._ring = ring
        self._host = host
        self._model = model

    def send(self, body: Json, deadline: Deadline) -> transport.Response:
        """Post a body.

        Returns:
            A response whose status is good, with its body still to be read.

        Raises:
            BackendError: the server refuses, and no other key changes that.
            CoolingDown: nothing was sent, because every key waits out a limit.
            MissingKey: there is no key.
        """
        tries = _Tries(deadline)
        while True:
            try:
                key = self._ring.lease() if self._ring else None
            except CoolingDown as error:
                time.sleep(tries.pause(error))
                continue
            tries.begin(key)
            response = self.channel.post(body, key, deadline)
            if response.status < _FIRST_REFUSAL:
                self._answered(key, response)
                return response
            failure = tries.failure = self._failure(response, response.read(), key)
            if not self._another_may_do(key, failure):
                raise failure
            if self._ring and key and isinstance(failure, AuthError):
                self._ring.refused(key)

    async def asend(self, body: Json, deadline: Deadline) -> transport.Response:
        """Post a body; see ``send``."""
        tries = _Tries(deadline)
        while True:
            try:
                key = await self._ring.alease() if self._ring else None
            except CoolingDown as error:
                await asyncio.sleep(tries.pause(error))
                continue
            tries.begin(key)
            response = await self.channel.apost(body, key, deadline)
            if response.status < _FIRST_REFUSAL:
                self._answered(key, response)
                return response
            failure = tries.failure = self._failure(response, await response.aread(), key)
            if not self._another_may_do(key, failure):
                raise failure
            if self._ring and key and isinstance(failure, AuthError):
                await self._ring.arefused(key)

    def _answered(self, key: Key | None, response: transport.Response) -> None:
        if self._ring is None or key is None:
            return
        self._ring.answered(key)
        if pause := wire.pause_of(response.headers):
            self._ring.paused(key, pause)

    def _another_may_do(self, key: Key | None, failure: BackendError) -> bool:
        """Whether a refusal is about the key, which is told to wait if it has to."""
        if self._ring is None or key is None:
            return False
        if isinstance(failure, RateLimited):
            told = failure.retry_after
            self._ring.paused(key, _UNTOLD_PAUSE if told is None else told)
        return isinstance(failure, AuthError | RateLimited)

    def _failure(self, response: transport.Response, body: bytes, key: Key | None) -> BackendError:
        failure = wire.failure_of(
            response.status,
            response.headers,
            body if key is None else _without(key, body),
            backend=self._host.name,
            model=self._model,
            where=self._host.title,
        )
        if isinstance(failure, AuthError) and self._host.key_variable:
            failure.hint = f"Check {self._host.key_variable} and the account it belongs to."
        if isinstance(failure, NotFound) and self._host.prices:
            near = prices.nearest(self._host.prices, self._model)
            if near and self._model not in near:
                failure.hint = f"Nearest known models: {', '.join(near)}."
        return failure


@dataclass(slots=True)
class _Tries:
    """The keys one request was sent with, and what came of it."""

    deadline: Deadline
    keys: list[Key | None] = field(default_factory=list)
    failure: BackendError | None = None

    def begin(self, key: Key | None) -> None:
        """Take note of a try; raises what came of the others when there is no key left to try."""
        if self.failure is not None and (key in self.keys or len(self.keys) == _MOST_KEYS):
            raise self.failure
        self.keys.append(key)

    def pause(self, error: CoolingDown) -> float:
        """Seconds to wait for a key, where that is sooner than asking somebody else.

        Raises:
            BackendError: what came of the other keys, or that all of them wait for longer.
        """
        wait, left = error.retry_after or 0.0, self.deadline.left()
        if self.failure is not None or wait > _BRIEFLY or (left is not None and wait >= left):
            raise self.failure or error from None
        return wait


def _without(key: Key, body: bytes) -> bytes:
    """The body with the key made unreadable: some servers repeat the one they refuse."""
    if len(key.reveal()) < _SHORTEST_KEY:  # it may be a word of the message
        return body
    return body.replace(key.reveal().encode(), b"***")
