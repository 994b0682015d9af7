"""HTTP responses as Together's API dresses them: headers, lengths, and breaks where wanted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aideon_testing import wire
from aideon_testing.connection import HttpResponse
from aideon_testing.faults import BrokenOff

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from aideon_testing.faults import Failure
    from aideon_testing.wire import Stamp

# Refused before the rate limiter sees them, so they carry no limits.
_NO_LIMITS = {401, 404, 405}


def whole(
    status: int, headers: Mapping[str, str], content: bytes, *, broken: bool = False
) -> HttpResponse:
    """A response of known length; a ``broken`` one ends the connection half way."""
    length = {"content-length": str(len(content))}
    return HttpResponse(status, {**headers, **length}, _content(content, broken=broken))


def answered(
    stamp: Stamp, body: object, *, status: int = 200, broken: bool = False
) -> HttpResponse:
    """What an engine answered, as indented JSON."""
    content = wire.pretty(body)
    headers = wire.api_headers(stamp, content) | wire.call_headers(stamp, ended=time.time())
    return whole(status, headers, content, broken=broken)


def listed(body: object, *, status: int = 200) -> HttpResponse:
    """What the web application answers and not the API, as compact JSON."""
    content = wire.compact(body)
    return whole(status, wire.web_headers(content), content)


def streamed(stamp: Stamp, frames: AsyncGenerator[bytes, None]) -> HttpResponse:
    """Server-sent events, as they come."""
    return HttpResponse(200, wire.api_headers(stamp, None) | wire.call_headers(stamp), frames)


def failed(stamp: Stamp, failure: Failure) -> HttpResponse:
    """An error, in the form its body asks for; see Failure."""
    if isinstance(failure.body, str):
        content = failure.body.encode()
        headers = {"content-type": "text/plain; charset=UTF-8"}
    elif failure.body.get("id", "") is None:
        content = wire.pretty({**failure.body, "id": stamp.id})
        headers = wire.api_headers(stamp, content, limits=failure.status not in _NO_LIMITS)
        headers |= wire.call_headers(stamp, reached=failure.reached)
    else:
        content = wire.compact(failure.body)
        headers = wire.web_headers(content) | {"content-type": wire.JSON_TYPE}
    return whole(failure.status, headers | {**failure.headers}, content)


def broken(stamp: Stamp) -> HttpResponse:
    """A response that ends the connection after its headers."""
    return streamed(stamp, _broken())


async def _content(content: bytes, *, broken: bool) -> AsyncGenerator[bytes, None]:
    if broken:
        yield content[: len(content) // 2]
        raise BrokenOff
    yield content


async def _broken() -> AsyncGenerator[bytes, None]:
    raise BrokenOff
    yield b""  # an async generator has a yield
