"""The plan for embeddings: batches one by one, from one side or the other, never mixed."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias

from aideon_core import endings
from aideon_core.embeddings.values import Embeddings
from aideon_core.errors import AideonError, ContextTooLong, ServerError
from aideon_core.policy import Embed, Failed, Outcome, Patience, Step
from aideon_core.types import Attempt, Usage

if TYPE_CHECKING:
    from aideon_core.embeddings.values import EmbeddingRequest
    from aideon_core.routing import Candidate, Decision


Plan: TypeAlias = Generator[Step, Outcome, Embeddings]


def embedding(
    decision: Decision,
    request: EmbeddingRequest,
    *,
    model: str,
    dimension: int | None = None,
    max_retries: int = 0,
) -> Plan:
    """Ask each candidate in turn until one has embedded everything, the last one again.

    All vectors are from one candidate: the next one begins anew. Where one is asked again, it
    goes on with the batch that failed, and its retries begin anew with every batch it does.

    Args:
        decision: who may be asked, and in which order; all have the same model.
        request: what to embed.
        model: what the result calls the model.
        dimension: how many numbers its vectors have, if that is known.
        max_retries: how often a batch is asked for again.

    Raises:
        ContextTooLong: a text does not fit into the model's context, which is the same
            everywhere.
        AllBackendsFailed: nobody could answer; a lone cause is raised as itself.
    """
    attempts: list[Attempt] = []
    patience = Patience(request.deadline, max_retries)
    left = deque(_Work(each, deque(request.batches()), dimension) for each in decision.order)
    while left:
        work = left.popleft()
        attempts.append((yield from work.go_on(patience)))
        error = attempts[-1].error
        if error is None:
            route = endings.route(decision, attempts, work.candidate)
            return replace(joined(work.done), model=model, route=route)
        if isinstance(error, ContextTooLong) or not error.falls_back or patience.is_over:
            break
        if (wait := patience.wait(error, others=bool(left))) is not None:
            patience.spend((yield wait).seconds)
            left.appendleft(work)
    raise endings.nobody(decision, attempts)


@dataclass(slots=True)
class _Work:
    """What a candidate has embedded, and what it has left to do."""

    candidate: Candidate
    left: deque[EmbeddingRequest]
    dimension: int | None
    done: list[Embeddings] = field(default_factory=list)

    def go_on(self, patience: Patience) -> Generator[Embed, Outcome, Attempt]:
        seconds = 0.0
        error: AideonError | None = None
        while self.left and error is None:
            outcome = yield Embed(self.candidate.name, patience.limited(self.left[0]))
            seconds += outcome.seconds
            patience.spend(outcome.seconds)
            if isinstance(outcome, Failed):
                error = outcome.error
            else:
                assert isinstance(outcome.value, Embeddings)
                error = self._take(outcome.value)
                patience.renew()
        candidate = self.candidate
        return Attempt(candidate.name, candidate.side, candidate.model, seconds, error=error)

    def _take(self, found: Embeddings) -> AideonError | None:
        expected = self.dimension or found.dimension
        sizes = {len(vector) for vector in found}
        if sizes == {expected}:
            self.dimension = expected
            self.done.append(found)
            self.left.popleft()
            return None
        error = ServerError(
            f"{self.candidate.model!r} gave vectors of {', '.join(map(str, sorted(sizes)))} "
            f"numbers where {expected} were expected, so it is not the same model.",
            hint="Give embedding= one model.",
            backend=self.candidate.name,
            model=self.candidate.model,
        )
        error.retryable = False
        return error


def joined(parts: Sequence[Embeddings]) -> Embeddings:
    """All vectors in one; what is unknown of one part is unknown of the whole."""
    usages = [part.usage for part in parts if part.usage is not None]
    costs = [part.cost for part in parts if part.cost is not None]
    return Embeddings(
        tuple(vector for part in parts for vector in part),
        usage=sum(usages, Usage(0, 0)) if len(usages) == len(parts) else None,
        cost=sum(costs, Decimal(0)) if len(costs) == len(parts) else None,
    )
