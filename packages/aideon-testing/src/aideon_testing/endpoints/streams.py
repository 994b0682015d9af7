"""What streamed answers have in common, one for each choice of a request."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING

from aideon_core.types import Chunk
from aideon_testing.faults import BrokenOff, Failure

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

_logger = logging.getLogger(__name__)


async def begin(answers: Sequence[AsyncGenerator[Chunk, None]]) -> list[Chunk]:
    """The first chunk of each answer: the status line can only be sent once all have begun.

    Raises:
        Failure: to be sent in the place of a stream; the answers are closed.
    """
    async with AsyncExitStack() as unless_all_begin:
        for answer in answers:
            await unless_all_begin.enter_async_context(aclosing(answer))
        first = [await anext(answer, Chunk()) for answer in answers]
        unless_all_begin.pop_all()
    return first


async def by_turns(
    answers: Sequence[AsyncGenerator[Chunk, None]],
) -> AsyncIterator[tuple[int, Chunk]]:
    """Each answer's next chunk in turn with the answer's number, until none has any.

    Raises:
        Failure: an answer ends in one.
        BrokenOff: an answer breaks off, or fails in any other way.
    """
    left = dict(enumerate(answers))
    while left:
        for index, answer in list(left.items()):
            try:
                chunk = await anext(answer)
            except StopAsyncIteration:
                del left[index]
                continue
            except (BrokenOff, Failure):
                raise
            except Exception as error:
                # The status is sent; all that is left to do is to break off.
                _logger.exception("The answerer failed in the middle of a stream")
                raise BrokenOff from error
            yield index, chunk
