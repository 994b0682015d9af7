"""Policies as generators: they yield what to do next and receive what happened.

A plan never awaits, sleeps, reads a clock or rolls dice; ``drive`` does that for it. So a
test of a policy is a conversation: send it outcomes, look at the steps it asks for.
"""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias, TypeVar

from aideon_core import endings, rounds
from aideon_core.errors import AideonError, ConfigError, CoolingDown, InvalidOutput
from aideon_core.routing import Candidate, Decision, decide
from aideon_core.types import Attempt, Chunk, Completion, Request, Side

if TYPE_CHECKING:
    from aideon_core.backends.base import AsyncChunkStream, ChunkStream
    from aideon_core.embeddings import EmbeddingRequest

T = TypeVar("T")
Asked = TypeVar("Asked", Request, "EmbeddingRequest")


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


class Policy(Protocol):
    """A rule for choosing; ``plan`` starts it for one request."""

    @property
    def name(self) -> str:
        """What ``route.policy`` says."""
        ...

    def plan(self, request: Request, candidates: Sequence[Candidate], *, stream: bool) -> Plan:
        """Begin to answer ``request``; with ``stream`` the answer is emitted in pieces."""
        ...


@dataclass(frozen=True, slots=True)
class Prefer:
    """Ask the sides in order, the next one when one cannot answer; other sides never.

    While another side is left, a failure moves on to it at once. Only the last one is asked
    again, up to ``max_retries`` times, after a failure that may pass.
    """

    name: str
    sides: tuple[Side, ...]
    max_retries: int = 2

    def plan(self, request: Request, candidates: Sequence[Candidate], *, stream: bool) -> Plan:
        """Decide once, then fall back along the order decided."""
        decision = decide(request, candidates, policy=self.name, sides=self.sides)
        return fallback(decision, request, stream=stream, max_retries=self.max_retries)


POLICIES = {
    policy.name: policy
    for policy in (
        Prefer("local-first", ("local", "cloud")),
        Prefer("cloud-first", ("cloud", "local")),
        Prefer("local-only", ("local",)),
        Prefer("cloud-only", ("cloud",)),
    )
}


def named(policy: str | Policy) -> Policy:
    """The policy of that name, or the one given.

    Raises:
        ConfigError: no policy goes by that name.
    """
    if not isinstance(policy, str):
        if not hasattr(policy, "plan"):
            raise ConfigError(f"policy= is {policy!r}.", hint=f"Policies: {', '.join(POLICIES)}.")
        return policy
    if policy not in POLICIES:
        near = difflib.get_close_matches(policy, POLICIES, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Policies: {', '.join(POLICIES)}."
        raise ConfigError(f"There is no policy {policy!r}.", hint=hint)
    return POLICIES[policy]


@dataclass(slots=True)
class _Answer:
    """How one attempt ended: with a completion, or with an error after what was delivered."""

    attempt: Attempt
    completion: Completion
    error: AideonError | None = None
    delivered: bool = False


@dataclass(frozen=True, slots=True)
class _Turn:
    """A candidate and what it is asked; ``wrong`` is its answer that this is to repair."""

    candidate: Candidate
    request: Request
    wrong: Completion | None = None

    def read(self, answer: _Answer) -> _Answer:
        if answer.error is not None:
            return answer
        try:
            completion = rounds.with_earlier(answer.completion, self.wrong)
            return replace(answer, completion=rounds.read(self.request, completion))
        except InvalidOutput as error:
            error.backend, error.model = self.candidate.name, self.candidate.model
            return replace(answer, attempt=replace(answer.attempt, error=error), error=error)

    def repair(self, error: AideonError) -> _Turn | None:
        if self.wrong is not None or not isinstance(error, InvalidOutput):
            return None
        request = rounds.repair(self.request, error)
        return None if request is None else _Turn(self.candidate, request, error.completion)


def fallback(decision: Decision, request: Request, *, stream: bool, max_retries: int = 0) -> Plan:
    """Ask each candidate in turn until one answers, and the last one again if that may help.

    A stream falls back, or is tried again, only while nothing of it was delivered. The
    request's deadline bounds all of it, waits included; without one, waits are bounded alone.

    An answer that cannot be read as the request's output is asked for once more where it came
    from, as long as nothing of it was delivered.

    Raises:
        InvalidOutput: an answer was delivered and cannot be read.
        StreamInterrupted: a stream broke after part of it was delivered.
        AllBackendsFailed: nobody could answer; a lone cause is raised as itself.
    """
    ask = _stream if stream else _call
    attempts: list[Attempt] = []
    patience = Patience(request.deadline, max_retries)
    turns = deque(
        _Turn(candidate, rounds.first_asked(request, candidate.abilities))
        for candidate in decision.order
    )
    while turns:
        turn = turns.popleft()
        answer = turn.read((yield from ask(turn.candidate, patience.limited(turn.request))))
        attempts.append(answer.attempt)
        patience.spend(answer.attempt.seconds)
        if answer.error is None:
            route = endings.route(decision, attempts, turn.candidate)
            completion = replace(answer.completion, route=route)
            if stream:
                yield Emit(_last_chunk(completion))
            return completion
        if answer.delivered:
            raise endings.broken_off(
                answer.error, answer.completion, answer.attempt, endings.route(decision, attempts)
            )
        if not answer.error.falls_back or patience.is_over:
            break
        if (repair := turn.repair(answer.error)) is not None:
            turns.appendleft(repair)
        elif (wait := patience.wait(answer.error, others=bool(turns))) is not None:
            patience.spend((yield wait).seconds)
            turns.appendleft(turn)
    raise endings.nobody(decision, attempts)


_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.5, 10.0
_LONGEST_WAITING = 60.0
_BRIEFLY = 0.25


@dataclass(slots=True)
class Patience:
    """How long one plan goes on: what the deadline leaves, and how often it asks again."""

    deadline: float | None
    retries: int
    spent: float = 0.0
    waited: float = 0.0
    retried: int = 0

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and self.spent >= self.deadline

    def spend(self, seconds: float) -> None:
        """Count the time a step took."""
        self.spent += seconds

    def renew(self) -> None:
        """Begin the retries and the waits anew, because something was answered."""
        self.retried, self.waited = 0, 0.0

    def limited(self, request: Asked) -> Asked:
        """The request with what is left of the deadline."""
        if self.deadline is None:
            return request
        return replace(request, deadline=self.deadline - self.spent)

    def wait(self, error: AideonError, *, others: bool) -> Sleep | None:
        """The wait before the same backend is asked again, None when that would not help.

        Args:
            error: what it failed with.
            others: whether another backend is left, which is asked instead unless a key is
                free again in no time.
        """
        # A request that was never sent is no try.
        held_back = isinstance(error, CoolingDown)
        asked = error.retry_after
        if others and not (held_back and asked is not None and asked <= _BRIEFLY):
            return None
        if not error.retryable or (not held_back and self.retried == self.retries):
            return None
        backoff = min(_FIRST_BACKOFF * 2**self.retried, _LONGEST_BACKOFF)
        wait = Sleep(asked or 0.0, _BRIEFLY if held_back else backoff)
        # Whoever is told to come back much later should decide what to do until then.
        if self.waited + wait.seconds > _LONGEST_WAITING:
            return None
        longest = wait.seconds + wait.spread
        if self.deadline is not None and self.spent + longest >= self.deadline:
            return None
        self.waited += wait.seconds
        self.retried += not held_back
        return wait


def _call(candidate: Candidate, request: Request) -> Generator[Step, Outcome, _Answer]:
    outcome = yield Call(candidate.name, request)
    if isinstance(outcome, Failed):
        attempt = _attempt(candidate, outcome.seconds, error=outcome.error)
        return _Answer(attempt, Completion(), outcome.error)
    assert isinstance(outcome.value, Completion)
    return _Answer(_attempt(candidate, outcome.seconds), outcome.value)


def _stream(candidate: Candidate, request: Request) -> Generator[Step, Outcome, _Answer]:
    chunks: list[Chunk] = []
    first: float | None = None
    outcome = yield Open(candidate.name, request)
    seconds = outcome.seconds
    if isinstance(outcome, Ok):
        stream = outcome.value
        pull = Pull(stream)  # type: ignore[arg-type]
        while True:
            outcome = yield pull
            seconds += outcome.seconds
            if isinstance(outcome, Failed) or outcome.value is None:
                break
            chunk = outcome.value
            assert isinstance(chunk, Chunk)
            chunks.append(chunk)
            if _says(chunk):
                first = seconds if first is None else first
                yield Emit(_piece(chunk))
        yield Close(stream)  # type: ignore[arg-type]
    completion = Completion.from_chunks(chunks)
    # A connection lost after the finish reason took nothing of the answer with it.
    whole = all(each.finish_reason for each in (completion, *completion.alternatives))
    error = outcome.error if isinstance(outcome, Failed) and not whole else None
    attempt = _attempt(candidate, seconds, first=first, error=error)
    return _Answer(attempt, completion, error, delivered=first is not None)


def _says(chunk: Chunk) -> bool:
    """Whether there is more to a chunk than what belongs on the last one."""
    # A token may be half a character: then its logprob comes before any text does.
    said = chunk.text or chunk.reasoning or chunk.tool_calls or chunk.logprobs
    return bool(said or chunk.index)


def _piece(chunk: Chunk) -> Chunk:
    """The chunk without what belongs on the last one, which is of the first answer."""
    facts = chunk.model or chunk.id or chunk.finish_reason or chunk.usage or chunk.warnings
    if chunk.index or not facts:
        return chunk
    return Chunk(chunk.text, chunk.reasoning, chunk.tool_calls, logprobs=chunk.logprobs)


def _attempt(
    candidate: Candidate,
    seconds: float,
    *,
    first: float | None = None,
    error: AideonError | None = None,
) -> Attempt:
    return Attempt(
        backend=candidate.name,
        side=candidate.side,
        model=candidate.model,
        seconds=seconds,
        first_token_seconds=first,
        error=error,
    )


def _last_chunk(completion: Completion) -> Chunk:
    return Chunk(
        finish_reason=completion.finish_reason,
        usage=completion.usage,
        cost=completion.cost,
        model=completion.model,
        id=completion.id,
        warnings=completion.warnings,
        extra=completion.extra,
        route=completion.route,
    )
