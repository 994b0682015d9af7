"""A kept answer as the stream it may have been."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from aideon_core.types import Chunk, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aideon_core.types import Completion

_WORD: Final = re.compile(r"\s*\S+|\s+$")


def chunks(answer: Completion) -> Iterator[Chunk]:
    """The answer in pieces that fold to it; the last one carries the facts.

    Text comes word by word, or token by token where the tokens are known.
    """
    for index, alternative in enumerate(answer.alternatives, 1):
        yield from _said(alternative, index)
        yield _last(alternative, index)
    yield from _said(answer, 0)
    yield _last(answer, 0)


def _said(answer: Completion, index: int) -> Iterator[Chunk]:
    for piece in _WORD.findall(answer.reasoning):
        yield Chunk(reasoning=piece, index=index)
    logprobs = answer.logprobs
    if logprobs and "".join(each.token for each in logprobs) == answer.text:
        for each in logprobs:
            yield Chunk(each.token, logprobs=(each,), index=index)
    else:
        for piece in _WORD.findall(answer.text):
            yield Chunk(piece, index=index)
        if logprobs:
            yield Chunk(logprobs=logprobs, index=index)
    for number, call in enumerate(answer.tool_calls):
        yield Chunk(tool_calls=(ToolCallDelta(number, call.id, call.name),), index=index)
        for piece in _WORD.findall(call.arguments):
            yield Chunk(tool_calls=(ToolCallDelta(number, arguments=piece),), index=index)


def _last(answer: Completion, index: int) -> Chunk:
    return Chunk(
        finish_reason=answer.finish_reason,
        usage=answer.usage,
        cost=answer.cost,
        model=answer.model,
        id=answer.id,
        warnings=answer.warnings,
        extra=answer.extra,
        route=answer.route,
        index=index,
    )
