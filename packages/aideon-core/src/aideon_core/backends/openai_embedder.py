"""Vectors from a server that speaks OpenAI's format."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from aideon_core import prices, telemetry
from aideon_core.backends import wire
from aideon_core.backends.wire.embeddings import embeddings_body, embeddings_of
from aideon_core.deadline import Deadline
from aideon_core.errors import ContextTooLong

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aideon_core.backends.hosts import Host
    from aideon_core.backends.sender import Sender
    from aideon_core.embeddings import EmbeddingRequest, Embeddings
    from aideon_core.errors import AideonError
    from aideon_core.types import Json, Side

PATH = "/v1/embeddings"


class OpenAICompatibleEmbedder:
    """An embedding model on a server; ``OpenAICompatibleBackend.embedder`` makes one.

    Args:
        model: its id, as the server names it.
        host: the server.
        where: its address, for messages.
        sender: the way to its embeddings.
        unavailable: why the server cannot be asked right now, if it cannot.
        masked: makes the keys in a text unreadable.
    """

    side: Side = "cloud"

    def __init__(
        self,
        model: str,
        *,
        host: Host,
        where: str,
        sender: Sender,
        unavailable: Callable[[], AideonError | None],
        masked: Callable[[str], str],
    ) -> None:
        self.model = model
        self.name = host.name
        self._host = host
        self._where = where
        self._sender = sender
        self._unavailable = unavailable
        self._masked = masked

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, base_url={self._where!r})"

    def unavailable(self) -> AideonError | None:
        """Offline when the cloud is switched off, MissingKey when there is no key."""
        if (reason := self._unavailable()) is not None:
            reason.model = self.model
        return reason

    def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Embed texts; one POST for each key that has to be tried."""
        with self._normalized(request):
            response = self._sender.send(self._body(request), Deadline(request.deadline))
            return self._embeddings(response.read(), request)

    async def aembed(self, request: EmbeddingRequest) -> Embeddings:
        """Embed texts; see ``embed``."""
        if self._host.prices and not prices.loaded():
            # In a thread, because the event loop has other callers who should not wait for it.
            await asyncio.to_thread(prices.load)
        with self._normalized(request):
            response = await self._sender.asend(self._body(request), Deadline(request.deadline))
            return self._embeddings(await response.aread(), request)

    def close(self) -> None:
        """Close the blocking connections."""
        self._sender.close()

    async def aclose(self) -> None:
        """Close the connections of the running loop, and the blocking ones."""
        await self._sender.aclose()

    def _body(self, request: EmbeddingRequest) -> Json:
        if (reason := self.unavailable()) is not None:
            raise reason
        return embeddings_body(request.texts, self.model)

    @contextmanager
    def _normalized(self, request: EmbeddingRequest) -> Iterator[None]:
        from aideon_core import transport

        with transport.normalized(
            self._where, backend=self.name, model=self.model, masked=self._masked
        ):
            try:
                yield
            except ContextTooLong as error:
                first, last = request.first, request.first + len(request.texts) - 1
                which = f"Text {first}" if first == last else f"One of the texts {first} to {last}"
                error.args = (f"{which} is too long. {error.message}",)
                error.hint = (
                    "This server cuts nothing: shorten the text."
                    if request.truncate
                    else "Shorten the text, or embed its parts."
                )
                raise

    def _embeddings(self, content: bytes, request: EmbeddingRequest) -> Embeddings:
        body = wire.parsed(content, f"The answer of {self._where}")
        found = embeddings_of(body, texts=len(request.texts))
        cost: Decimal | None = Decimal(0)
        if self._host.prices is not None:
            cost = prices.cost(self._host.prices, self.model, found.usage)
        telemetry.tell(
            "answered", host=self.name, path=PATH, model=self.model, usage=found.usage, cost=cost
        )
        return replace(found, model=self.model, cost=cost)
