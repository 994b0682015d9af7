"""A rate limit for the cloud alone: what is answered on this machine never waits for it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aideon_core import AsyncClient, Client
from aideon_core.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from langchain_core.rate_limiters import BaseRateLimiter

    from aideon_core.backends.base import AsyncChunkStream, Backend, ChunkStream
    from aideon_core.errors import AideonError
    from aideon_core.routing import Ability
    from aideon_core.types import Completion, ModelFacts, Request, Side

_LOOKS_AGAIN_SECONDS: Final = 0.05


class LimitedBackend:
    """A backend that asks a rate limiter before each of its calls; all else is the backend's.

    Args:
        backend: who answers.
        limiter: whom to ask first. A wait ends with TimedOut when the request's deadline does.
    """

    def __init__(self, backend: Backend, limiter: BaseRateLimiter) -> None:
        self._backend = backend
        self._limiter = limiter

    def __repr__(self) -> str:
        return f"LimitedBackend({self._backend!r})"

    @property
    def name(self) -> str:
        """The backend's."""
        return self._backend.name

    @property
    def side(self) -> Side:
        """The backend's."""
        return self._backend.side

    @property
    def model(self) -> str:
        """The backend's."""
        return self._backend.model

    @property
    def abilities(self) -> frozenset[Ability]:
        """The backend's."""
        return self._backend.abilities

    @property
    def facts(self) -> ModelFacts:
        """The backend's."""
        return self._backend.facts

    def unavailable(self) -> AideonError | None:
        """Why the backend cannot be asked; a limit is waited for instead."""
        return self._backend.unavailable()

    def complete(self, request: Request) -> Completion:
        """Wait, then answer in one piece."""
        return self._backend.complete(self._admitted(request))

    def stream(self, request: Request) -> ChunkStream:
        """Wait, then start an answer."""
        return self._backend.stream(self._admitted(request))

    async def acomplete(self, request: Request) -> Completion:
        """Wait, then answer in one piece, without blocking the event loop."""
        return await self._backend.acomplete(await self._aadmitted(request))

    async def astream(self, request: Request) -> AsyncChunkStream:
        """Wait, then start an answer, without blocking the event loop."""
        return await self._backend.astream(await self._aadmitted(request))

    def close(self) -> None:
        """Close the backend."""
        self._backend.close()

    async def aclose(self) -> None:
        """Close the backend."""
        await self._backend.aclose()

    def _admitted(self, request: Request) -> Request:
        deadline = Deadline(request.deadline)
        # A limiter that blocks knows nothing of deadlines.
        if request.deadline is None:
            self._limiter.acquire(blocking=True)
        while request.deadline is not None and not self._limiter.acquire(blocking=False):
            time.sleep(min(_LOOKS_AGAIN_SECONDS, deadline.left() or 0.0))
        return replace(request, deadline=deadline.left())

    async def _aadmitted(self, request: Request) -> Request:
        deadline = Deadline(request.deadline)
        async with deadline.enforced():
            await self._limiter.aacquire(blocking=True)
        return replace(request, deadline=deadline.left())


class LimitedClient(Client):
    """A client that asks its cloud only as often as a rate limiter allows."""

    _limiter: BaseRateLimiter
    _unlimited: Client

    @classmethod
    def of(cls, client: Client, limiter: BaseRateLimiter) -> Self:
        """The same client, limited."""
        twin = cls.sharing(client)
        # Whoever closes the client once nobody has it waits for this one too.
        twin._unlimited = client  # noqa: SLF001 - of this class
        twin._limiter = limiter  # noqa: SLF001 - of this class
        return twin

    def _asked(self, model: str | None) -> Mapping[str, Backend]:
        return _limited(super()._asked(model), self._limiter)


class LimitedAsyncClient(AsyncClient):
    """The awaiting twin of LimitedClient, made by sharing it."""

    _limiter: BaseRateLimiter

    def _asked(self, model: str | None) -> Mapping[str, Backend]:
        return _limited(super()._asked(model), self._limiter)


def _limited(backends: Mapping[str, Backend], limiter: BaseRateLimiter) -> dict[str, Backend]:
    return {
        name: LimitedBackend(each, limiter) if each.side == "cloud" else each
        for name, each in backends.items()
    }
