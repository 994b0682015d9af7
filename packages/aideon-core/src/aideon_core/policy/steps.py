"""The steps a plan asks for, and what it hears of them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from aideon_core.types import Chunk, Completion, Request

if TYPE_CHECKING:
    from aideon_core.backends.base import AsyncChunkStream, ChunkStream
    from aideon_core.embeddings import EmbeddingRequest
    from aideon_core.errors import AideonError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """Ask a backend for a whole answer. Outcome: Ok(Completion) or Failed."""

    backend: str
    request: Request


@dataclass(frozen=True, slots=True)
class Embed:
    """Ask an embedder for vectors. Outcome: Ok(Embeddings) or Failed."""

    backend: str
    request: EmbeddingRequest


@dataclass(frozen=True, slots=True)
class Open:
    """Start a stream. Outcome: Ok(handle) or Failed; the handle goes into Pull and Close."""

    backend: str
    request: Request


@dataclass(frozen=True, slots=True)
class Pull:
    """Wait for the next piece of a stream. Outcome: Ok(Chunk), Ok(None) at its end, or Failed."""

    stream: ChunkStream | AsyncChunkStream


@dataclass(frozen=True, slots=True)
class Close:
    """Stop a stream at its source. Outcome: Ok(None). What a plan leaves open is closed for it."""

    stream: ChunkStream | AsyncChunkStream


@dataclass(frozen=True, slots=True)
class Emit:
    """Give a piece to the caller. Outcome: Ok(None)."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait ``seconds`` and a random part of ``spread``. Outcome: Ok(None).

    The random part keeps callers who failed together from coming back together.
    """

    seconds: float
    spread: float = 0.0


Step: TypeAlias = Call | Embed | Open | Pull | Close | Emit | Sleep


@dataclass(frozen=True, slots=True)
class Ok(Generic[T]):
    """The step was done; ``seconds`` is how long it took."""

    value: T
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """The step failed with an error of the tree; ``seconds`` is how long it took."""

    error: AideonError
    seconds: float = 0.0


Outcome: TypeAlias = Ok[object] | Failed
Plan: TypeAlias = Generator[Step, Outcome, Completion]
