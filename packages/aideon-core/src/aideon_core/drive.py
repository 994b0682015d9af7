"""Perform a plan's steps: ``drive`` blocks, ``adrive`` awaits.

The only logic in the package that is written twice; a test holds the two together.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, TypeVar, cast

from aideon_core.errors import AideonError
from aideon_core.policy import Call, Close, Embed, Emit, Failed, Ok, Open, Pull, Sleep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator, Mapping

    from aideon_core.backends.base import AsyncChunkStream, ChunkStream
    from aideon_core.policy import Outcome, Step
    from aideon_core.types import Chunk

Answer = TypeVar("Answer")

_DONE: Ok[object] = Ok(None)


class Stop:
    """Lets another thread or task end a drive that is waiting."""

    def __init__(self) -> None:
        self.opened: list[Any] = []
        self.asked = False

    def ask(self) -> tuple[Any, ...]:
        """End the drive after the step under way; what is returned has to be closed for that."""
        self.asked = True
        return tuple(self.opened)


def drive(
    plan: Generator[Step, Outcome, Answer], backends: Mapping[str, Any], stop: Stop | None = None
) -> Iterator[Chunk | Answer]:
    """Yield the chunks a plan emits, then the answer it ends with.

    Args:
        plan: a fresh plan.
        backends: what the names in the plan's steps stand for, backends or embedders.
        stop: ends it from outside, without an answer.

    Raises:
        AideonError: whatever the plan raises. Errors outside the tree are bugs and pass
            through untouched.
    """
    stop = stop or Stop()
    outcome: Outcome | None = None
    try:
        while True:
            if stop.asked:
                return
            # Only this line may end the plan: a wider try would swallow a stray StopIteration.
            try:
                step = next(plan) if outcome is None else plan.send(outcome)
            except StopIteration as done:
                final: Answer = done.value
                break
            if isinstance(step, Emit):
                yield step.chunk
                outcome = _DONE
            else:
                outcome = _perform(step, backends, stop.opened)
    finally:
        plan.close()
        for stream in stop.opened:
            stream.close()
    yield final


def _perform(step: Step, backends: Mapping[str, Any], opened: list[ChunkStream]) -> Outcome:
    started = time.perf_counter()
    value: object = None
    try:
        match step:
            case Pull():
                value = next(cast("ChunkStream", step.stream), None)
            case Call():
                value = backends[step.backend].complete(step.request)
            case Open():
                value = stream = backends[step.backend].stream(step.request)
                opened.append(stream)
            case Close():
                cast("ChunkStream", step.stream).close()
            case Embed():
                value = backends[step.backend].embed(step.request)
            case Sleep():
                time.sleep(_duration(step))
            case _:
                raise TypeError(f"a plan asked for {step!r}, which is not a step")
    except AideonError as error:
        return Failed(error, time.perf_counter() - started)
    return Ok(value, time.perf_counter() - started)


async def adrive(
    plan: Generator[Step, Outcome, Answer], backends: Mapping[str, Any], stop: Stop | None = None
) -> AsyncIterator[Chunk | Answer]:
    """Yield the chunks a plan emits, then the answer it ends with; ``drive``, awaiting."""
    stop = stop or Stop()
    outcome: Outcome | None = None
    try:
        while True:
            if stop.asked:
                return
            try:
                step = next(plan) if outcome is None else plan.send(outcome)
            except StopIteration as done:
                final: Answer = done.value
                break
            if isinstance(step, Emit):
                yield step.chunk
                outcome = _DONE
            else:
                outcome = await _aperform(step, backends, stop.opened)
    finally:
        plan.close()
        for stream in stop.opened:
            await stream.aclose()
    yield final


async def _aperform(
    step: Step, backends: Mapping[str, Any], opened: list[AsyncChunkStream]
) -> Outcome:
    started = time.perf_counter()
    value: object = None
    try:
        match step:
            case Pull():
                value = await anext(cast("AsyncChunkStream", step.stream), None)
            case Call():
                value = await backends[step.backend].acomplete(step.request)
            case Open():
                value = stream = await backends[step.backend].astream(step.request)
                opened.append(stream)
            case Close():
                await cast("AsyncChunkStream", step.stream).aclose()
            case Embed():
                value = await backends[step.backend].aembed(step.request)
            case Sleep():
                await asyncio.sleep(_duration(step))
            case _:
                raise TypeError(f"a plan asked for {step!r}, which is not a step")
    except AideonError as error:
        return Failed(error, time.perf_counter() - started)
    return Ok(value, time.perf_counter() - started)


def _duration(step: Sleep) -> float:
    return step.seconds + random.uniform(0, step.spread)  # noqa: S311 - spreads load, no secret
