"""A backend that answers from memory, for tests of clients and policies."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aideon_core.errors import AideonError, ConnectFailed
from aideon_core.types import Chunk, Completion, ModelFacts, ToolCallDelta
from aideon_testing.script import pieces

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator, Sequence

    from aideon_core.routing import Ability
    from aideon_core.types import FinishReason, Request, Side

_ALL: frozenset[Ability] = frozenset(
    {"tools", "json", "media", "top_k", "min_p", "repetition_penalty", "logit_bias", "n"}
)


@dataclass(frozen=True, slots=True)
class Cut:
    """An answer whose connection breaks once ``after`` chunks have been delivered."""

    completion: Completion
    after: int


class FakeBackend:
    """An in-memory backend; its streams and its whole answers say the same.

    Args:
        name: unique within a client.
        side: where it pretends to run.
        model: what it answers with, unless a completion names another.
        answers: given in order, the last one again and again; errors are raised.
        abilities: what it says it can do beyond plain text.
        unavailable: why it cannot be asked, if it cannot.
        facts: what it says is known of its model.

    Attributes:
        requests: every request it was asked, in order.
        closed: whether ``close`` or ``aclose`` was called.
    """

    def __init__(
        self,
        name: str,
        *,
        side: Side,
        model: str = "fake",
        answers: Sequence[Completion | Cut | AideonError] = (Completion(text="Hello."),),
        abilities: frozenset[Ability] = _ALL,
        unavailable: AideonError | None = None,
        facts: ModelFacts = ModelFacts(),  # noqa: B008 - frozen
    ) -> None:
        if not answers:
            raise ValueError("A FakeBackend needs at least one answer.")
        self.name = name
        self.side = side
        self.model = model
        self.abilities = abilities
        self.facts = facts
        self.requests: list[Request] = []
        self.closed = False
        self._answers = tuple(answers)
        self._unavailable = unavailable

    def unavailable(self) -> AideonError | None:
        """Why this backend cannot be asked, as it was told."""
        return self._unavailable

    def complete(self, request: Request) -> Completion:
        """Give the next answer whole; a cut one raises ConnectFailed."""
        answer = self._next(request)
        if isinstance(answer, Cut):
            raise self._broken()
        return answer

    def stream(self, request: Request) -> Generator[Chunk, None, None]:
        """Give the next answer word by word; an error is raised here, a break on the way."""
        return self._chunks(self._next(request))

    async def acomplete(self, request: Request) -> Completion:
        """Give the next answer whole."""
        return self.complete(request)

    async def astream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Give the next answer word by word; await this, then iterate."""
        return _awaiting(self.stream(request))

    def close(self) -> None:
        """Note that it was closed; it still answers."""
        self.closed = True

    async def aclose(self) -> None:
        """Note that it was closed; it still answers."""
        self.close()

    def _next(self, request: Request) -> Completion | Cut:
        answer = self._answers[min(len(self.requests), len(self._answers) - 1)]
        self.requests.append(request)
        if isinstance(answer, AideonError):
            raise answer
        if isinstance(answer, Cut):
            return replace(answer, completion=self._filled(answer.completion))
        return self._filled(answer)

    def _filled(self, completion: Completion) -> Completion:
        return replace(
            completion,
            model=completion.model or self.model,
            finish_reason=_ended(completion),
            alternatives=tuple(
                replace(each, finish_reason=_ended(each)) for each in completion.alternatives
            ),
        )

    def _chunks(self, answer: Completion | Cut) -> Generator[Chunk, None, None]:
        whole = answer.completion if isinstance(answer, Cut) else answer
        for delivered, chunk in enumerate(_split(whole)):
            if isinstance(answer, Cut) and delivered == answer.after:
                raise self._broken()
            yield chunk

    def _broken(self) -> ConnectFailed:
        return ConnectFailed(
            f"{self.name} broke off the answer.", backend=self.name, model=self.model
        )


def _ended(answer: Completion) -> FinishReason:
    return answer.finish_reason or ("tool_calls" if answer.tool_calls else "stop")


def _split(whole: Completion) -> Iterator[Chunk]:
    spoken = [_said(whole, 0), *map(_others_chunks, whole.alternatives, itertools.count(1))]
    # Several answers come mixed, as from a server that makes them at once.
    for at_once in itertools.zip_longest(*spoken):
        yield from (chunk for chunk in at_once if chunk is not None)
    yield Chunk(
        finish_reason=whole.finish_reason,
        usage=whole.usage,
        cost=whole.cost,
        model=whole.model,
        id=whole.id,
        route=whole.route,
    )


def _said(answer: Completion, index: int) -> Iterator[Chunk]:
    yield from (Chunk(reasoning=piece, index=index) for piece in pieces(answer.reasoning))
    yield from (Chunk(text=piece, index=index) for piece in pieces(answer.text))
    for number, call in enumerate(answer.tool_calls):
        delta = ToolCallDelta(number, call.id, call.name, call.arguments)
        yield Chunk(tool_calls=(delta,), index=index)


def _others_chunks(answer: Completion, index: int) -> Iterator[Chunk]:
    yield from _said(answer, index)
    yield Chunk(finish_reason=answer.finish_reason, index=index)


async def _awaiting(chunks: Generator[Chunk, None, None]) -> AsyncGenerator[Chunk, None]:
    try:
        for chunk in chunks:
            yield chunk
    finally:
        chunks.close()
