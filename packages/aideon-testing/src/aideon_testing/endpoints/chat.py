"""``POST /v1/chat/completions``."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from aideon_testing import responses, wire
from aideon_testing.answers import one_choice, prompt_texts
from aideon_testing.endpoints import chat_request
from aideon_testing.endpoints.bodies import unserved
from aideon_testing.endpoints.streams import begin, by_turns
from aideon_testing.engines import TODAY, dialect_of
from aideon_testing.faults import BrokenOff, Failure
from aideon_testing.routes import Route
from aideon_testing.wire.stream import StreamWriter
from aideon_testing.wire.thinking import Thinking
from aideon_testing.wire.whole import BodyWriter

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Collection,
        Iterable,
        Mapping,
        Sequence,
    )

    from aideon_core.types import Chunk, Json
    from aideon_testing.answers import Answerer
    from aideon_testing.connection import HttpRequest, HttpResponse
    from aideon_testing.dialects import Dialect
    from aideon_testing.routes import Call
    from aideon_testing.wire import Stamp


class Chat:
    """Chat completions, whole and streamed.

    Args:
        answers: says what is answered.
        models: the ids served.
        dialects: what models speak that do not speak what they spoke when last seen.
    """

    def __init__(
        self,
        answers: Answerer,
        models: Collection[str],
        dialects: Mapping[str, Dialect] = MappingProxyType({}),
    ) -> None:
        self._answers = answers
        self._models = models
        self._dialects = dialects

    def routes(self) -> Sequence[Route]:
        """The routes of this endpoint."""
        return (Route("POST", "/v1/chat/completions", self._create, stamped=self._stamped),)

    def _stamped(self, request: HttpRequest, stamp: Stamp) -> Stamp:
        model = (request.body or {}).get("model")
        dialect = self._spoken_by(model) if isinstance(model, str) else TODAY
        return replace(stamp, rate=dialect.rate, dynamic=dialect.dynamic_limits)

    async def _create(self, call: Call) -> HttpResponse:
        body = call.json()
        dialect = self._dialect(body)
        chat_request.check(body, dialect)
        stamp = replace(call.stamp, model=body["model"])
        if dialect.short_ids:
            stamp = replace(stamp, id=stamp.id.rpartition("-")[2])
        said = [self._said(one_choice(body, at), dialect) for at in range(body.get("n") or 1)]
        if body.get("stream"):
            # The status line can only be sent once it is known that there is an answer.
            first = await begin(said)
            response = responses.streamed(stamp, _frames(stamp, dialect, body, first, said))
        else:
            response = await _whole(stamp, dialect, body, said)
        if call.request.headers.get("x-together-debug") != "1":
            return response
        return replace(response, headers=dict(response.headers) | wire.debug_headers(stamp))

    def _dialect(self, body: Json) -> Dialect:
        model = body.get("model")
        if not isinstance(model, str):
            raise Failure.missing("model")
        dialect = self._spoken_by(model)
        # A model that is served needs no endpoint, unless its dialect was given to say so.
        if model not in self._models or (model in self._dialects and not dialect.serverless):
            raise unserved(model, dialect)
        return dialect

    def _spoken_by(self, model: str) -> Dialect:
        return self._dialects.get(model) or dialect_of(model)

    async def _said(self, body: Json, dialect: Dialect) -> AsyncGenerator[Chunk, None]:
        """One choice, as the engine has it said."""
        thinking = Thinking(dialect)
        warnings = chat_request.warnings(body, dialect)
        async with aclosing(self._answers.answer(body)) as chunks:
            async for chunk in chunks:
                warned = (*chunk.warnings, *warnings) if chunk.finish_reason else chunk.warnings
                for each in thinking.said(replace(chunk, warnings=warned)):
                    yield each


async def _whole(
    stamp: Stamp, dialect: Dialect, body: Json, said: Sequence[AsyncGenerator[Chunk, None]]
) -> HttpResponse:
    choices: list[list[Chunk]] = [[] for _ in said]
    broken = False
    for choice, chunks in zip(choices, said, strict=True):
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    choice.append(chunk)
        except BrokenOff:
            broken = True
    layout = (dialect.tools_body if _is_raw(dialect, body) else None) or dialect.body
    writer = BodyWriter(stamp, dialect, layout, seed=body.get("seed"))
    answer = writer.write(choices, prompt=_echo(body))
    content = wire.pretty(answer) if layout.indented else wire.compact(answer)
    headers = wire.api_headers(stamp, content) | wire.call_headers(stamp, ended=time.time())
    return responses.whole(200, headers, content, broken=broken)


async def _frames(
    stamp: Stamp,
    dialect: Dialect,
    body: Json,
    first: Iterable[Chunk],
    said: Sequence[AsyncGenerator[Chunk, None]],
) -> AsyncGenerator[bytes, None]:
    layout = (dialect.tools_stream if _is_raw(dialect, body) else None) or dialect.stream
    writer = StreamWriter(stamp, dialect, layout, choices=len(said), seed=body.get("seed"))
    async with AsyncExitStack() as until_sent:
        for chunks in said:
            await until_sent.enter_async_context(aclosing(chunks))
        for index, chunk in enumerate(first):
            for frame in writer.say(chunk, index):
                yield frame
        try:
            async for index, chunk in by_turns(said):
                for frame in writer.say(chunk, index):
                    yield frame
            left = [*writer.end()]
        except Failure:
            left = [*writer.end(), writer.failure()]
        for frame in left:
            yield frame
    yield wire.DONE


def _is_raw(dialect: Dialect, body: Json) -> bool:
    """Whether the request gets the answers that an engine's own tool handling gives."""
    forbidden = body.get("tool_choice") == "none"
    return bool(body.get("tools")) and (forbidden or dialect.raw_tools == "given")


def _echo(body: Json) -> list[dict[str, object]]:
    text = "\n".join(prompt_texts(body))
    return [{"text": text, "logprobs": None}] if body.get("echo") else []
