"""What every backend offers; whatever wraps a backend offers the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from aideon_core.routing import Candidate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aideon_core.embeddings import EmbeddingRequest, Embeddings
    from aideon_core.errors import AideonError
    from aideon_core.routing import Ability
    from aideon_core.types import Chunk, Completion, ModelFacts, Request, Side


class ChunkStream(Protocol):
    """An open stream of chunks."""

    def __iter__(self) -> Iterator[Chunk]: ...

    def __next__(self) -> Chunk: ...

    def close(self) -> None:
        """Stop the answer at its source; may be called twice."""
        ...


class AsyncChunkStream(Protocol):
    """The awaiting twin of ChunkStream."""

    def __aiter__(self) -> AsyncIterator[Chunk]: ...

    async def __anext__(self) -> Chunk: ...

    async def aclose(self) -> None:
        """Stop the answer at its source; may be called twice."""
        ...


@runtime_checkable
class Backend(Protocol):
    """Something that can answer a request.

    Every method raises errors of the tree in ``errors`` and nothing else, programmer errors
    aside.
    """

    @property
    def name(self) -> str:
        """Unique within a client."""
        ...

    @property
    def side(self) -> Side:
        """Where the answer is computed."""
        ...

    @property
    def model(self) -> str:
        """What it answers with."""
        ...

    @property
    def abilities(self) -> frozenset[Ability]:
        """What it can do beyond plain text."""
        ...

    @property
    def facts(self) -> ModelFacts:
        """What is known of the model; cheap, and loads nothing."""
        ...

    def unavailable(self) -> AideonError | None:
        """Why this backend cannot be asked right now; cheap, and sends nothing."""
        ...

    def complete(self, request: Request) -> Completion:
        """Answer in one piece."""
        ...

    def stream(self, request: Request) -> ChunkStream:
        """Start an answer; the last chunk carries finish reason, usage and cost."""
        ...

    async def acomplete(self, request: Request) -> Completion:
        """Answer in one piece without blocking the event loop."""
        ...

    async def astream(self, request: Request) -> AsyncChunkStream:
        """Start an answer without blocking the event loop."""
        ...

    def close(self) -> None:
        """Let go of connections and memory; the backend may be used again."""
        ...

    async def aclose(self) -> None:
        """Let go of what belongs to the running event loop, and of the rest."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Something that can embed texts; its errors are those of a Backend."""

    @property
    def name(self) -> str:
        """Unique within a client."""
        ...

    @property
    def side(self) -> Side:
        """Where the vectors are computed."""
        ...

    @property
    def model(self) -> str:
        """What it embeds with."""
        ...

    def unavailable(self) -> AideonError | None:
        """Why this embedder cannot be asked right now; cheap, and sends nothing."""
        ...

    def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Embed the texts: a vector of length 1 for each, in their order."""
        ...

    async def aembed(self, request: EmbeddingRequest) -> Embeddings:
        """Embed the texts without blocking the event loop."""
        ...

    def close(self) -> None:
        """Let go of connections and memory; the embedder may be used again."""
        ...

    async def aclose(self) -> None:
        """Let go of what belongs to the running event loop, and of the rest."""
        ...


_MEDIA: Final[frozenset[Ability]] = frozenset({"media"})


def candidate(name: str, backend: Backend, unavailable: AideonError | None = None) -> Candidate:
    """A backend as routing sees it, under its name in a client."""
    abilities = backend.abilities
    # Asked to look at a picture all the same, some models refuse and others make one up.
    if backend.facts.media is False:
        abilities -= _MEDIA
    return Candidate(name, backend.side, backend.model, abilities, unavailable)
