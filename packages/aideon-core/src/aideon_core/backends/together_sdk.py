"""The official ``together`` SDK on the keys, the address and the accounting of a backend.

Chat, embeddings and the like are this package's own; images, audio, files, batches and
fine-tuning are left to the SDK, which knows them all.
"""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from typing import TYPE_CHECKING, Final

import httpx
import together

from aideon_core.backends import wire
from aideon_core.backends.sender import FIRST_REFUSAL, MOST_KEYS, note_answer, note_failure
from aideon_core.errors import AuthError, CoolingDown

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator

    from aideon_core.keys import Key, KeyRing
    from aideon_core.types import Json

    Account = Callable[[str, Json], None]

_STAND_IN: Final = "filled-in-by-the-key-ring"
_LONGEST_WAIT: Final = 60.0
_LAST_FRAMES: Final = 16384
_ANY_HEADER: Final = 47


def blocking(ring: KeyRing, base_url: str, account: Account) -> together.Together:
    """A ``Together`` client.

    Args:
        ring: where its keys come from, call by call.
        base_url: the server, without ``/v1``.
        account: is told the path and the body of every answer that reports usage.
    """

    def hook(response: httpx.Response) -> None:
        _watch(response, account)
        if _is_json(response):
            response.read()
            _tell(response, account)

    http = together.DefaultHttpxClient(auth=_RingAuth(ring), event_hooks={"response": [hook]})
    return together.Together(api_key=_STAND_IN, base_url=base_url, http_client=http)


def awaiting(ring: KeyRing, base_url: str, account: Account) -> together.AsyncTogether:
    """An ``AsyncTogether`` client; see ``blocking``."""

    async def hook(response: httpx.Response) -> None:
        _watch(response, account)
        if _is_json(response):
            await response.aread()
            _tell(response, account)

    http = together.DefaultAsyncHttpxClient(auth=_RingAuth(ring), event_hooks={"response": [hook]})
    return together.AsyncTogether(api_key=_STAND_IN, base_url=base_url, http_client=http)


class _RingAuth(httpx.Auth):
    """Puts a live key into each request, and the next one when it is refused."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request with one key after the other until one is not refused."""
        if not _wants_key(request):
            yield request
            return
        tried: list[Key] = []
        while len(tried) < MOST_KEYS and (key := self._lease()) not in tried:
            tried.append(key)
            response = yield _authorized(request, key)
            if response.status_code < FIRST_REFUSAL:
                note_answer(self._ring, key, response.headers)
                return
            response.read()
            if not self._refuses(key, response):
                return
            self._ring.refused(key)

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send the request with one key after the other; see ``sync_auth_flow``."""
        if not _wants_key(request):
            yield request
            return
        tried: list[Key] = []
        while len(tried) < MOST_KEYS and (key := await self._alease()) not in tried:
            tried.append(key)
            response = yield _authorized(request, key)
            if response.status_code < FIRST_REFUSAL:
                note_answer(self._ring, key, response.headers)
                return
            await response.aread()
            if not self._refuses(key, response):
                return
            await self._ring.arefused(key)

    def _lease(self) -> Key:
        while True:
            try:
                return self._ring.lease()
            except CoolingDown as error:
                time.sleep(_wait(error))

    async def _alease(self) -> Key:
        while True:
            try:
                return await self._ring.alease()
            except CoolingDown as error:
                await asyncio.sleep(_wait(error))

    def _refuses(self, key: Key, response: httpx.Response) -> bool:
        failure = wire.failure_of(
            response.status_code,
            response.headers,
            response.content,
            backend="together",
            model=None,
            where="Together AI",
        )
        note_failure(self._ring, key, failure, response.headers)
        return isinstance(failure, AuthError)


def _wants_key(request: httpx.Request) -> bool:
    # An upload goes to a signed address of somebody else, who must not see the key.
    return bool(request.headers.get("authorization") == f"Bearer {_STAND_IN}")


def _authorized(request: httpx.Request, key: Key) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {key.reveal()}"
    # What the tail of a stream can be read in.
    request.headers["Accept-Encoding"] = "gzip, deflate"
    return request


def _wait(error: CoolingDown) -> float:
    """Seconds to wait for a key, as long as the SDK itself would wait."""
    if error.retry_after is None or error.retry_after > _LONGEST_WAIT:
        raise error
    return error.retry_after


def _watch(response: httpx.Response, account: Account) -> None:
    """Have the usage that an answer reports told to ``account``, once its body was read."""
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        tap: type[_Tap | _AsyncTap] = (
            _AsyncTap if isinstance(response.stream, httpx.AsyncByteStream) else _Tap
        )
        response.stream = tap(response.stream, _Tail(response, account))  # type: ignore[arg-type]


def _is_json(response: httpx.Response) -> bool:
    return bool(response.headers.get("content-type", "").startswith("application/json"))


def _tell(response: httpx.Response, account: Account) -> None:
    try:
        body = response.json()
    except ValueError:
        return  # the SDK says so itself, and nothing is billed for it
    if isinstance(body, dict) and wire.usage_of(body.get("usage")):
        account(response.request.url.path, body)


class _Tail:
    """The last frames of a stream, where the usage is."""

    def __init__(self, response: httpx.Response, account: Account) -> None:
        self._path, self._account = response.request.url.path, account
        packed = response.headers.get("content-encoding", "") in ("gzip", "deflate")
        self._unpack = zlib.decompressobj(_ANY_HEADER).decompress if packed else bytes
        self._bytes = b""

    def add(self, part: bytes) -> None:
        self._bytes = (self._bytes + self._unpack(part))[-_LAST_FRAMES:]

    def end(self) -> None:
        for line in reversed(self._bytes.splitlines()):
            frame = _frame(line)
            if wire.usage_of(frame.get("usage")):
                self._account(self._path, frame)
                return


def _frame(line: bytes) -> Json:
    try:
        frame = json.loads(line.removeprefix(b"data:"))
    except ValueError:
        return {}
    return frame if isinstance(frame, dict) else {}


class _Tap(httpx.SyncByteStream):
    """Passes a stream on and looks at its end."""

    def __init__(self, stream: httpx.SyncByteStream, tail: _Tail) -> None:
        self._stream, self._tail = stream, tail

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            self._tail.add(part)
            yield part

    def close(self) -> None:
        self._stream.close()
        self._tail.end()


class _AsyncTap(httpx.AsyncByteStream):
    """The awaiting twin of _Tap."""

    def __init__(self, stream: httpx.AsyncByteStream, tail: _Tail) -> None:
        self._stream, self._tail = stream, tail

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            self._tail.add(part)
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
        self._tail.end()
