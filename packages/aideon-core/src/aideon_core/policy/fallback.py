"""Ask one candidate after the other until there is an answer."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aideon_core import endings, rounds
from aideon_core.errors import AideonError, InvalidOutput
from aideon_core.policy import seams
from aideon_core.policy.patience import Patience
from aideon_core.policy.steps import Call, Close, Emit, Failed, Ok, Open, Pull
from aideon_core.types import Attempt, Chunk, Completion, Request

if TYPE_CHECKING:
    from collections.abc import Generator

    from aideon_core.policy.steps import Outcome, Plan, Step
    from aideon_core.routing import Candidate, Decision


@dataclass(slots=True)
class _Answer:
    """How one attempt ended: with a completion, or with an error after what was delivered."""

    attempt: Attempt
    completion: Completion
    error: AideonError | None = None
    delivered: bool = False


@dataclass(frozen=True, slots=True)
class _Turn:
    """A candidate and what it is asked.

    ``wrong`` is its answer that this is to repair, ``begun`` how an answer broke off that this
    is to go on with.
    """

    candidate: Candidate
    request: Request
    wrong: Completion | None = None
    begun: _Answer | None = None

    def read(self, answer: _Answer) -> _Answer:
        if answer.error is None:
            try:
                completion = rounds.with_earlier(answer.completion, self.wrong)
                completion = rounds.read(self.request, completion)
                return replace(answer, completion=self._joined(completion))
            except InvalidOutput as invalid:
                invalid.backend, invalid.model = self.candidate.name, self.candidate.model
                attempt = replace(answer.attempt, error=invalid)
                answer = replace(answer, attempt=attempt, error=invalid)
        if self.begun is None:
            return answer
        # What broke the answer off is the news, unless what went on with it broke off too.
        news = answer.error if answer.delivered else self.begun.error
        return _Answer(answer.attempt, self._joined(answer.completion), news, delivered=True)

    def _joined(self, completion: Completion) -> Completion:
        if self.begun is None:
            return completion
        return seams.joined(self.begun.completion, completion)

    def repair(self, error: AideonError) -> _Turn | None:
        if self.wrong is not None or not isinstance(error, InvalidOutput):
            return None
        request = rounds.repair(self.request, error)
        return None if request is None else _Turn(self.candidate, request, error.completion)


def fallback(decision: Decision, request: Request, *, stream: bool, max_retries: int = 0) -> Plan:
    """Ask each candidate in turn until one answers, and the last one again if that may help.

    A stream that breaks after part of it was delivered is gone on with by a candidate that can
    go on from a given beginning. The request's deadline bounds all of it, waits included;
    without one, waits are bounded alone.

    An answer that cannot be read as the request's output is asked for once more where it came
    from, as long as nothing of it was delivered.

    Raises:
        InvalidOutput: an answer was delivered and cannot be read.
        StreamInterrupted: a stream broke after part of it was delivered, and nobody could go on.
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
        answer = turn.read((yield from ask(turn, patience)))
        attempts.append(answer.attempt)
        patience.spend(answer.attempt.seconds)
        if answer.error is None:
            route = endings.route(decision, attempts, turn.candidate)
            completion = replace(answer.completion, route=route)
            if turn.begun is not None:
                completion = seams.told(completion, attempts)
            if stream:
                yield Emit(_last_chunk(completion))
            return completion
        if answer.delivered:
            turns = _onward(request, answer, turns)
            if not turns or patience.is_over:
                raise endings.broken_off(
                    answer.error, answer.completion, attempts, endings.route(decision, attempts)
                )
        elif not answer.error.falls_back or patience.is_over:
            break
        elif (repair := turn.repair(answer.error)) is not None:
            turns.appendleft(repair)
        elif (wait := patience.wait(answer.error, others=bool(turns))) is not None:
            patience.spend((yield wait).seconds)
            turns.appendleft(turn)
    raise endings.nobody(decision, attempts)


def _onward(request: Request, answer: _Answer, turns: deque[_Turn]) -> deque[_Turn]:
    """The candidates that can go on with an answer that broke off, and what they are asked."""
    if isinstance(answer.error, InvalidOutput):
        return deque()
    onward: deque[_Turn] = deque()
    for candidate in [turn.candidate for turn in turns if "prefix" in turn.candidate.abilities]:
        first = rounds.first_asked(request, candidate.abilities)
        if (rest := seams.rest_of(first, answer.completion)) is not None:
            onward.append(_Turn(candidate, rest, begun=answer))
    return onward


def _call(turn: _Turn, patience: Patience) -> Generator[Step, Outcome, _Answer]:
    candidate = turn.candidate
    outcome = yield Call(candidate.name, patience.limited(turn.request))
    if isinstance(outcome, Failed):
        attempt = _attempt(candidate, outcome.seconds, error=outcome.error)
        return _Answer(attempt, Completion(), outcome.error)
    assert isinstance(outcome.value, Completion)
    return _Answer(_attempt(candidate, outcome.seconds), outcome.value)


def _stream(turn: _Turn, patience: Patience) -> Generator[Step, Outcome, _Answer]:
    candidate, chunks = turn.candidate, list[Chunk]()
    first: float | None = None
    # The caller has seen what was thought before the answer began.
    thinks = turn.begun is None or not turn.begun.completion.reasoning
    outcome = yield Open(candidate.name, patience.limited(turn.request))
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
            if chunk.reasoning and not thinks:
                chunk = replace(chunk, reasoning="")
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
    if error is not None:
        attempt = replace(attempt, characters=len(completion.text))
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
