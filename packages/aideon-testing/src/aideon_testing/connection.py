"""HTTP/1.1 on one connection: h11 says what the bytes mean, asyncio moves them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import TYPE_CHECKING, TypeAlias

import h11

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from aideon_core.types import Json

    Respond: TypeAlias = Callable[["HttpRequest"], Awaitable["HttpResponse"]]

Headers: TypeAlias = Mapping[str, str] | Sequence[tuple[str, str]]
"""Names and values; a sequence of pairs may say a name twice."""

Parts: TypeAlias = AsyncGenerator[bytes, None]
Transform: TypeAlias = Callable[[Parts], Parts]
"""Changes bytes on their way out."""

_READ_BYTES = 65536
_LINGER_SECONDS = 1
_NO_BODY = {204, 304}
_logger = logging.getLogger(__name__)


class BrokenOff(Exception):
    """The TCP connection is closed with the answer unfinished."""


class ConnectionReset(BrokenOff):
    """The TCP connection is reset: the client learns that, and not that the answer ended."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it came.

    ``path`` is what was asked for, without the query; header names are in lower case.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> Json | None:
        """The JSON object sent, ``None`` when the content is anything else."""
        try:
            value = json.loads(self.content)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    @property
    def key(self) -> str:
        """The API key, empty when there is none."""
        scheme, _, key = self.headers.get("authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""


async def _as_they_are(parts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(parts):
        async for part in parts:
            yield part


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response to send; without a content-length it is sent chunked.

    A ``body`` that raises BrokenOff closes the connection where it stands.

    Attributes:
        status: the HTTP status.
        headers: sent as they are, besides ``date`` and ``server``.
        body: the content, part by part.
        wire: what becomes of the bytes of the whole response, status line and headers
            included, on their way out; the first part is all of the headers.
    """

    status: int
    headers: Headers
    body: AsyncGenerator[bytes, None]
    wire: Transform = _as_they_are

    @property
    def pairs(self) -> Sequence[tuple[str, str]]:
        """The headers one by one."""
        pairs = self.headers.items() if isinstance(self.headers, Mapping) else self.headers
        return tuple(pairs)

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever the case of its name."""
        return next((value for key, value in self.pairs if key.lower() == name.lower()), None)

    def with_headers(self, changes: Mapping[str, str | None]) -> HttpResponse:
        """The same with other headers; ``None`` takes one away."""
        changed = {name.lower() for name in changes}
        kept = [pair for pair in self.pairs if pair[0].lower() not in changed]
        new = [(name, value) for name, value in changes.items() if value is not None]
        return replace(self, headers=(*kept, *new))


async def serve(client: socket.socket, respond: Respond) -> None:
    """Answer one request after the other until either side closes the connection.

    A client that goes away cancels what is being done for it.
    """
    reader = asyncio.StreamReader()
    protocol = _Protocol(reader, asyncio.current_task())
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(lambda: protocol, sock=client)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    exchange = _Exchange(reader, writer)
    try:
        while (request := await exchange.receive()) is not None:
            await exchange.send(request, await respond(request))
            if not exchange.next():
                break
        await _close(writer)
    except ConnectionReset:
        linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    except BrokenOff:
        # Closing sends what is written so far, then ends the connection in the middle.
        await _close(writer)
    except h11.RemoteProtocolError as error:
        await exchange.refuse(error)
        await _close(writer)
    except OSError:
        pass
    except Exception:
        # The status is sent; all that is left is to break off.
        _logger.exception("A response failed while it was being sent")
    finally:
        transport.abort()


class _Protocol(asyncio.StreamReaderProtocol):
    """A stream that ends the task it belongs to when the client is gone."""

    def __init__(self, reader: asyncio.StreamReader, task: asyncio.Task[None] | None) -> None:
        super().__init__(reader)
        self._conversation = task

    def eof_received(self) -> bool:
        # A client that will send no more is taken for one that has gone, as servers do:
        # a stalled or long answer would otherwise go on for nobody.
        super().eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._conversation is not None:
            self._conversation.cancel()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


class _Exchange:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)

    async def receive(self) -> HttpRequest | None:
        head: h11.Request | None = None
        content = bytearray()
        while True:
            match self._http.next_event():
                case h11.NEED_DATA:
                    await self._read()
                case h11.Request() as event:
                    head = event
                case h11.Data() as event:
                    content += event.data
                case h11.EndOfMessage() if head is not None:
                    return _request(head, bytes(content))
                case _:
                    return None

    async def _read(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            await self._write(
                self._http.send(h11.InformationalResponse(status_code=100, headers=[]))
            )
        self._http.receive_data(await self._reader.read(_READ_BYTES))

    async def send(self, request: HttpRequest, response: HttpResponse) -> None:
        bare = request.method == "HEAD" or response.status in _NO_BODY
        async with aclosing(response.wire(self._bytes(response, bare=bare))) as parts:
            async for part in parts:
                await self._write(part)

    async def _bytes(self, response: HttpResponse, *, bare: bool) -> AsyncGenerator[bytes, None]:
        usual = {"date": formatdate(usegmt=True), "server": "aideon-testing"}
        added = [(name, usual[name]) for name in usual if response.header(name) is None]
        # Recorded headers may hold any text, and h11 takes only ASCII that is not bytes yet.
        headers = [(name.encode(), value.encode()) for name, value in (*added, *response.pairs)]
        head = h11.Response(status_code=response.status, headers=headers)
        async with aclosing(response.body) as parts:
            yield self._http.send(head) or b""
            async for part in parts:
                if not bare:
                    yield self._http.send(h11.Data(data=part)) or b""
            yield self._http.send(h11.EndOfMessage()) or b""

    async def refuse(self, error: h11.RemoteProtocolError) -> None:
        """Say why what came cannot be read, as far as there is anybody to hear it."""
        if self._reader.at_eof():
            return
        content = f"This is no HTTP request: {error}\n".encode()
        headers = {"connection": "close", "content-type": "text/plain; charset=UTF-8"}
        response = HttpResponse(error.error_status_hint, headers, _once(content))
        async with aclosing(self._bytes(response, bare=False)) as parts:
            async for part in parts:
                await self._write(part)
        # Closing with bytes unread would reset the connection and take the answer with it.
        self._writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self._reader.read(_READ_BYTES):
                    pass

    def next(self) -> bool:
        """Prepare for another request; False when the connection is to be closed."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _write(self, data: bytes | None) -> None:
        self._writer.write(data or b"")
        await self._writer.drain()


async def _once(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content


def _request(head: h11.Request, content: bytes) -> HttpRequest:
    path, _, query = head.target.decode("latin-1").partition("?")
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    return HttpRequest(head.method.decode("ascii"), path, query, headers, content)
