"""One call through a cache: look, wait for an equal one, or ask and keep the answer.

What to do next is decided in one generator; ``served`` does it by blocking, ``aserved`` by
awaiting.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import aclosing, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from aideon_core import telemetry
from aideon_core.cache import replay
from aideon_core.cache.entries import Entry
from aideon_core.cache.flights import LEASE, Flight
from aideon_core.cache.key import asked
from aideon_core.cache.reach import reach_of
from aideon_core.deadline import Deadline
from aideon_core.errors import TimedOut
from aideon_core.types import Chunk, Completion, Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping

    from aideon_core.backends.base import Backend
    from aideon_core.cache.cache import Cache
    from aideon_core.cache.flights import Place
    from aideon_core.cache.reach import Reach
    from aideon_core.drive import Stop
    from aideon_core.policy import Policy
    from aideon_core.types import Request

    Item: TypeAlias = Chunk | Completion

KIND: Final = "chat"
# How often somebody who waits looks up: whether to go on waiting.
_LOOKS_UP: Final = 0.25
_FIRST_POLL: Final = 0.01
_LONGEST_WAIT: Final = 600.0
# After so many that failed, whoever still waits asks for itself: one after the other would
# make the last one wait for all of them.
_MOST_FAILED: Final = 2


@dataclass(frozen=True, slots=True)
class Do:
    """Use the store."""

    do: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for a flight, for so many seconds at most."""

    flight: Flight
    seconds: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so many seconds."""

    seconds: float


Step: TypeAlias = Do | Wait | Pause


class Question:
    """A call whose answer may be kept.

    Args:
        cache: where.
        key: what equal calls have in common.
        request: what is asked.
        reach: who may answer it.
        stream: whether the answer is wanted in pieces.
        refresh: whether it is to be asked for anew whatever is kept.
    """

    def __init__(
        self,
        *,
        cache: Cache,
        key: str,
        request: Request,
        reach: Reach,
        stream: bool,
        refresh: bool,
    ) -> None:
        self.cache = cache
        self.request = request
        self.stream = stream
        self._key = key
        self._reach = reach
        self._refresh = refresh
        self._deadline = Deadline(None)

    def seek(self, stop: Stop, place: Place) -> Generator[Step, Any, Completion | Turn | None]:
        """Find the answer, or the turn to ask for it; None when nobody wants it any more.

        Raises:
            TimedOut: the deadline passed while an equal call was waited for.
        """
        self._deadline = Deadline(self.request.deadline)
        failed = 0
        while not (self._refresh or failed == _MOST_FAILED or stop.asked):
            if (answer := (yield Do(self._look))) is not None:
                return answer  # type: ignore[no-any-return]
            flight, leads = self.cache.flights.join(self._key, place)
            if leads:
                return (yield from self._lead(flight, stop))
            if flight.would_wait_for(place):
                break
            while not (flight.has_landed or flight.is_idle or stop.asked):
                yield Wait(flight, min(_LOOKS_UP, self._seconds()))
            if flight.brought and (answer := self._read(flight.brought)) is not None:
                return answer
            failed += flight.failed
        return None if stop.asked else Turn(self.cache, self._key, self._left(), None)

    def items(self, answer: Completion) -> Iterator[Item]:
        """A kept answer as a plan would give it."""
        if self.stream:
            yield from replay.chunks(answer)
        yield answer

    def _lead(self, flight: Flight, stop: Stop) -> Generator[Step, Any, Completion | Turn | None]:
        turn = Turn(self.cache, self._key, self.request, flight)
        pause, ends = _FIRST_POLL, time.monotonic() + _LONGEST_WAIT
        try:
            while self.cache.shared and not (yield Do(turn.claim)):
                if (answer := (yield Do(self._look))) is not None or stop.asked:
                    yield Do(turn.end)
                    return answer  # type: ignore[no-any-return]
                if time.monotonic() > ends:
                    break
                yield Pause(min(pause, self._seconds()))
                pause = min(pause * 2, _LOOKS_UP)
            # An equal call may have ended between the look and the claim.
            if (answer := (yield Do(self._look))) is not None:
                yield Do(turn.end)
                return answer  # type: ignore[no-any-return]
            turn.request = self._left()
        except BaseException:
            # Its claim, if there is one already, is not renewed and lapses by itself.
            self.cache.flights.end(flight)
            raise
        return turn

    def _look(self) -> Completion | None:
        if (written := self.cache.get(self._key)) is None:
            return None
        if (answer := self._read(written)) is None:
            self.cache.drop(self._key)
        return answer

    def _read(self, written: bytes) -> Completion | None:
        entry, ttl = Entry.decoded(written), self.cache.ttl
        # One from the future was kept before the clock was set back.
        if entry is None or (ttl is not None and abs(self.cache.now - entry.at) >= ttl):
            return None
        if not self._reach.has(entry.backend, entry.side, entry.model):
            return None
        answer = entry.answer(self.request, self._reach)
        if answer is not None:
            telemetry.tell(
                "cache.hit",
                backend=entry.backend,
                model=entry.model,
                saved=entry.completion.cost,
            )
        return answer

    def _left(self) -> Request:
        return replace(self.request, deadline=self._deadline_left())

    def _seconds(self) -> float:
        left = self._deadline_left()
        return _LONGEST_WAIT if left is None else left

    def _deadline_left(self) -> float | None:
        try:
            return self._deadline.left()
        except TimedOut as error:
            error.route = Route(
                policy=self._reach.policy,
                reason="an equal call was waited for, which was not answered in time",
                considered=self._reach.considered,
            )
            raise


class Turn:
    """Leave to ask, and the duty to keep the answer.

    Args:
        cache: where.
        key: by what key.
        request: what is left to ask, of the deadline for example.
        flight: who waits for it, None for nobody.
    """

    def __init__(self, cache: Cache, key: str, request: Request, flight: Flight | None) -> None:
        self.request = request
        self._cache = cache
        self._key = key
        self._flight = flight
        self._claimed = False

    def claim(self) -> bool:
        """Ask the other processes to wait."""
        assert self._flight is not None
        self._claimed = self._cache.claim(self._key, self._cache.flights.owner, LEASE)
        if self._claimed and not self._cache.flights.keep_claimed(self._flight):
            # Its task was cancelled while this thread waited for the store.
            self._cache.release(self._key, self._cache.flights.owner)
        return self._claimed

    def rest(self) -> None:
        """The reader has what came."""
        if self._flight is not None:
            self._flight.rest()

    def go_on(self, place: Place) -> None:
        """The reader wants more."""
        if self._flight is not None:
            self._flight.go_on(place)

    def keep(self, completion: Completion) -> None:
        """Keep the answer, and hand it to who waits."""
        entry = Entry.of(self.request, completion, self._cache.now)
        written = None if entry is None else entry.encoded()
        if written is None:
            self.fail()
            return
        self._cache.put(self._key, written)
        # What is put ends the claim.
        self._claimed = False
        if self._flight is not None:
            self._flight.brought = written

    def fail(self) -> None:
        """Nothing came that another could use."""
        if self._flight is not None:
            self._flight.failed = True

    def land(self) -> None:
        """Let the others of this process go on, with the answer or without; never waits."""
        if self._flight is not None:
            self._cache.flights.end(self._flight)

    def release(self) -> None:
        """Let the other processes go on, which without this do so when the claim lapses."""
        if self._claimed:
            self._cache.release(self._key, self._cache.flights.owner)

    def end(self) -> None:
        """Let all others go on."""
        self.land()
        self.release()


def question(
    *,
    cache: Cache,
    policy: Policy,
    request: Request,
    backends: Mapping[str, Backend],
    stream: bool,
    refresh: bool,
) -> Question | None:
    """The call as a cache sees it; None where no other can be told to equal it.

    So it is where nobody may answer it, where its policy does not tell who may, and where it
    holds what is no JSON.
    """
    reach = reach_of(policy, request, backends)
    if reach is None or not reach.sources:
        return None
    try:
        key = cache.key(KIND, asked(request, reach))
    except (TypeError, ValueError, RecursionError):
        # The backend will say what is wrong with it, or know what to make of it.
        return None
    return Question(
        cache=cache, key=key, request=request, reach=reach, stream=stream, refresh=refresh
    )


def served(
    question: Question, ask: Callable[[Request], Iterator[Item]], stop: Stop
) -> Iterator[Item]:
    """Yield the items of the answer, kept or asked for; ``ask`` makes those of a plan."""
    with closing(question.seek(stop, (threading.get_ident(), None))) as steps:
        found = _done(steps)
    if isinstance(found, Completion):
        yield from question.items(found)
    if not isinstance(found, Turn):
        return
    try:
        with closing(ask(found.request)) as items:  # type: ignore[type-var]
            for item in items:
                if isinstance(item, Completion):
                    found.keep(item)
                found.rest()
                yield item
                found.go_on((threading.get_ident(), None))
    except Exception:
        found.fail()
        raise
    finally:
        found.end()


def _done(steps: Generator[Step, Any, Completion | Turn | None]) -> Completion | Turn | None:
    outcome: object = None
    while True:
        try:
            step = steps.send(outcome)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        match step:
            case Do(do):
                outcome = do()
            case Wait(flight, seconds):
                flight.wait(seconds)
            case Pause(seconds):
                time.sleep(seconds)


async def aserved(
    question: Question, ask: Callable[[Request], AsyncIterator[Item]], stop: Stop
) -> AsyncIterator[Item]:
    """Yield the items of the answer; ``served``, awaiting."""
    with closing(question.seek(stop, (threading.get_ident(), asyncio.current_task()))) as steps:
        found = await _adone(steps, question)
    if isinstance(found, Completion):
        for item in question.items(found):
            yield item
    if not isinstance(found, Turn):
        return
    try:
        async with aclosing(ask(found.request)) as items:  # type: ignore[type-var]
            async for item in items:
                if isinstance(item, Completion):
                    await question.cache.off_loop(partial(found.keep, item))
                found.rest()
                yield item
                found.go_on((threading.get_ident(), asyncio.current_task()))
    except Exception:
        found.fail()
        raise
    finally:
        # At once: a task that is cancelled here once more still lets the others go on.
        found.land()
        await question.cache.off_loop(found.release)


async def _adone(
    steps: Generator[Step, Any, Completion | Turn | None], question: Question
) -> Completion | Turn | None:
    outcome: object = None
    while True:
        try:
            step = steps.send(outcome)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        match step:
            case Do(do):
                outcome = await question.cache.off_loop(do)
            case Wait(flight, seconds):
                await flight.await_(seconds)
            case Pause(seconds):
                await asyncio.sleep(seconds)
