"""Aideon's errors in the words CrewAI listens for."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from aideon_core.errors import AideonError, AllBackendsFailed, ContextTooLong, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aideon_core import Completion


@contextmanager
def worded() -> Iterator[None]:
    """Say "maximum context length" where that is the trouble.

    CrewAI knows such errors by that phrase alone; it then shortens the conversation and asks
    again. The error as it was is the cause.
    """
    try:
        yield
    except AideonError as error:
        if not _over_context(error):
            raise
        reworded = ContextTooLong(f"The prompt exceeds the maximum context length: {error.message}")
        reworded.__dict__.update(error.__dict__)
        raise reworded from error


def _over_context(error: AideonError) -> bool:
    # One side with a shorter prompt is enough for an answer, whatever ails the other.
    if isinstance(error, AllBackendsFailed):
        return error.subgroup(ContextTooLong) is not None
    return isinstance(error, ContextTooLong)


def empty_answer(answer: Completion) -> ServerError:
    """What to raise for an answer without text, which CrewAI cannot use."""
    error = ServerError(
        f"{answer.model!r} answered with no text (finish reason: {answer.finish_reason}).",
        hint="Raise max_tokens, or check that no stop word begins the answer.",
        model=answer.model,
    )
    error.route = answer.route
    return error
