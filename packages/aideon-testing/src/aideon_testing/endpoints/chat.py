"""``POST /v1/chat/completions``."""

from __future__ import annotations

import logging
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from aideon_core.types import Chunk, Completion
from aideon_testing import responses, wire
from aideon_testing.faults import BrokenOff, Failure
from aideon_testing.models import is_chat
from aideon_testing.routes import Route

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence

    from aideon_core.types import Json
    from aideon_testing.answers import Answerer
    from aideon_testing.connection import HttpResponse
    from aideon_testing.routes import Call
    from aideon_testing.wire import Stamp

_logger = logging.getLogger(__name__)


class Chat:
    """Chat completions, whole and streamed.

    Args:
        answers: says what is answered.
        models: the ids served.
    """

    def __init__(self, answers: Answerer, models: Collection[str]) -> None:
        self._answers = answers
        self._models = models

    def routes(self) -> Sequence[Route]:
        """The routes of this endpoint."""
        return (Route("POST", "/v1/chat/completions", self._create),)

    async def _create(self, call: Call) -> HttpResponse:
        body = call.json()
        self.check(body)
        stamp = replace(call.stamp, model=body["model"])
        answer = self._answers.answer(body)
        if not body.get("stream"):
            return await _completed(stamp, answer)
        # The status line can only be sent once it is known that there is an answer.
        first = await anext(answer, Chunk())
        return responses.streamed(stamp, _frames(stamp, first, answer))

    def check(self, body: Json) -> None:
        """Refuse what the API refuses.

        Raises:
            Failure: 400 or 404, as the API has it.
        """
        model, messages = body.get("model"), body.get("messages")
        if not isinstance(model, str):
            raise Failure.missing("model")
        if model not in self._models:
            raise Failure.unknown_model(model)
        if messages == []:
            raise Failure.empty_prompt()
        if not _are_messages(messages) or not is_chat(model):
            raise Failure.invalid_input()


def _are_messages(messages: object) -> bool:
    return isinstance(messages, list) and all(
        isinstance(message, dict) and _is_content(message.get("content")) for message in messages
    )


def _is_content(content: object) -> bool:
    if isinstance(content, list):
        return all(isinstance(part, dict) for part in content)
    return isinstance(content, str | None)


async def _completed(stamp: Stamp, answer: AsyncGenerator[Chunk, None]) -> HttpResponse:
    chunks: list[Chunk] = []
    broken = False
    try:
        async with aclosing(answer):
            chunks.extend([chunk async for chunk in answer])
    except BrokenOff:
        broken = True
    body = wire.completion_body(stamp, Completion.from_chunks(chunks))
    return responses.answered(stamp, body, broken=broken)


async def _frames(
    stamp: Stamp, first: Chunk, rest: AsyncGenerator[Chunk, None]
) -> AsyncGenerator[bytes, None]:
    yield wire.opener(stamp)
    for frame in wire.frames(stamp, first):
        yield frame
    async with aclosing(rest):
        async for chunk in _unfailing(rest):
            for frame in wire.frames(stamp, chunk):
                yield frame
    yield wire.DONE


async def _unfailing(chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
    """Pass chunks on; once the status is sent, all that is left to do is to break off."""
    try:
        async for chunk in chunks:
            yield chunk
    except BrokenOff:
        raise
    except Exception as error:
        _logger.exception("The answerer failed in the middle of a stream")
        raise BrokenOff from error
