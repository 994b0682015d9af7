"""What the server serves: a request in, a response out."""

from __future__ import annotations

import itertools
import logging
import re
import time
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from aideon_core.types import Chunk, Completion
from aideon_testing import wire
from aideon_testing.connection import HttpRequest, HttpResponse
from aideon_testing.faults import BrokenOff, Failure
from aideon_testing.models import is_chat, model_row

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from aideon_core.types import Json
    from aideon_testing.answers import Answerer
    from aideon_testing.wire import Stamp

_logger = logging.getLogger(__name__)
# The together SDK given a base URL that ends in /v1 asks for /v1/v1/...
_REPEATED_V1 = re.compile(r"^(?:/v1)+(?=/v1/)")
_ENDPOINTS = {"/v1/chat/completions": "POST", "/v1/models": "GET"}
# Refused before the rate limiter sees them, so they carry no limits.
_NO_LIMITS = {401, 404, 405}


class Service:
    """Together's endpoints, each a method that answers or raises Failure.

    Args:
        answers: says what chat requests are answered with.
        models: the ids to serve.
        api_key: the only key accepted; ``None`` accepts any that is not empty.

    Attributes:
        requests: every request that came, refused ones included, in order of arrival.
    """

    def __init__(self, answers: Answerer, models: Sequence[str], api_key: str | None) -> None:
        self.requests: list[HttpRequest] = []
        self._answers = answers
        self._models = tuple(models)
        self._api_key = api_key
        self._numbers = itertools.count()

    async def respond(self, request: HttpRequest) -> HttpResponse:
        """Answer a request; whatever goes wrong becomes an HTTP answer too."""
        self.requests.append(request)
        stamp = wire.Stamp(wire.response_id(next(self._numbers)), time.time())
        try:
            path = _endpoint(request)
            if path == "/v1/models":
                return self._list_models(request)
            return await self._chat(request, stamp)
        except Failure as failure:
            return _failure_response(stamp, failure)
        except BrokenOff:
            return _stream_response(stamp, _broken())
        except Exception:
            # An answerer is anybody's code; the client must not hang because it has a bug.
            _logger.exception("The answerer failed on %s %s", request.method, request.path)
            return _failure_response(stamp, Failure.server_error())

    def _admits(self, request: HttpRequest) -> bool:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        key = key.strip()
        return scheme.lower() == "bearer" and (key == self._api_key if self._api_key else bool(key))

    def _list_models(self, request: HttpRequest) -> HttpResponse:
        if not self._admits(request):
            raise Failure.unauthorized()
        content = wire.compact([model_row(model) for model in self._models])
        return _whole_response(200, wire.web_headers(), content)

    async def _chat(self, request: HttpRequest, stamp: Stamp) -> HttpResponse:
        if not self._admits(request):
            raise Failure.invalid_key()
        body = self._checked(request.body)
        stamp = replace(stamp, model=body["model"])
        answer = self._answers.answer(body)
        if not body.get("stream"):
            return await _completion_response(stamp, answer)
        # The status line can only be sent once it is known that there is an answer.
        first = await anext(answer, Chunk())
        return _stream_response(stamp, _frames(stamp, first, answer))

    def _checked(self, body: Json | None) -> Json:
        if body is None:
            raise Failure.invalid_input()
        model, messages = body.get("model"), body.get("messages")
        if not isinstance(model, str):
            raise Failure.missing("model")
        if model not in self._models:
            raise Failure.unknown_model(model)
        if messages == []:
            raise Failure.empty_prompt()
        if not _are_messages(messages) or not is_chat(model):
            raise Failure.invalid_input()
        return body


def _are_messages(messages: object) -> bool:
    return isinstance(messages, list) and all(
        isinstance(message, dict) and _is_content(message.get("content")) for message in messages
    )


def _is_content(content: object) -> bool:
    if isinstance(content, list):
        return all(isinstance(part, dict) for part in content)
    return isinstance(content, str | None)


def _endpoint(request: HttpRequest) -> str:
    path = _REPEATED_V1.sub("", request.path).rstrip("/")
    if path not in _ENDPOINTS:
        served = ", ".join(f"{method} {path}" for path, method in _ENDPOINTS.items())
        message = f"Nothing at {request.path}. This loopback server serves {served}."
        raise Failure.error(404, message)
    if request.method != (allowed := _ENDPOINTS[path]):
        message = f"{request.method} is not allowed on {path}; use {allowed}."
        raise Failure.error(405, message, headers={"allow": allowed})
    return path


async def _completion_response(stamp: Stamp, answer: AsyncGenerator[Chunk, None]) -> HttpResponse:
    chunks: list[Chunk] = []
    broken = False
    try:
        async with aclosing(answer):
            chunks.extend([chunk async for chunk in answer])
    except BrokenOff:
        broken = True
    content = wire.pretty(wire.completion_body(stamp, Completion.from_chunks(chunks)))
    headers = wire.api_headers(stamp, content) | wire.call_headers(stamp, ended=time.time())
    return _whole_response(200, headers, content, broken=broken)


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


def _stream_response(stamp: Stamp, body: AsyncGenerator[bytes, None]) -> HttpResponse:
    headers = wire.api_headers(stamp, None) | wire.call_headers(stamp)
    return HttpResponse(200, headers, body)


def _failure_response(stamp: Stamp, failure: Failure) -> HttpResponse:
    if isinstance(failure.body, str):
        content = failure.body.encode()
        headers = {"content-type": "text/plain; charset=UTF-8"}
    elif failure.body.get("id", "") is None:
        content = wire.pretty({**failure.body, "id": stamp.id})
        headers = wire.api_headers(stamp, content, limits=failure.status not in _NO_LIMITS)
    else:
        content = wire.compact(failure.body)
        headers = wire.web_headers() | {"content-type": wire.JSON_TYPE}
    return _whole_response(failure.status, headers | {**failure.headers}, content)


def _whole_response(
    status: int, headers: dict[str, str], content: bytes, *, broken: bool = False
) -> HttpResponse:
    length = {"content-length": str(len(content))}
    return HttpResponse(status, headers | length, _content(content, broken=broken))


async def _content(content: bytes, *, broken: bool) -> AsyncGenerator[bytes, None]:
    if broken:
        yield content[: len(content) // 2]
        raise BrokenOff
    yield content


async def _broken() -> AsyncGenerator[bytes, None]:
    raise BrokenOff
    yield b""  # an async generator has a yield
