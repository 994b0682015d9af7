"""HTTP/1.1 on one connection: h11 says what the bytes mean, asyncio moves them."""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, TypeAlias

import h11

from aideon_testing.faults import BrokenOff

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from aideon_core.types import Json

    Respond: TypeAlias = Callable[["HttpRequest"], Awaitable["HttpResponse"]]

_READ_BYTES = 65536


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
        except ValueError:
            return None
        return value if isinstance(value, dict) else None


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response to send; without a content-length it is sent chunked.

    A ``body`` that raises BrokenOff closes the connection where it stands.
    """

    status: int
    headers: Mapping[str, str]
    body: AsyncGenerator[bytes, None]


async def serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, respond: Respond
) -> None:
    """Answer one request after the other until either side closes the connection."""
    exchange = _Exchange(reader, writer)
    try:
        while (request := await exchange.receive()) is not None:
            await exchange.send(await respond(request))
            if not exchange.next():
                break
        writer.close()
        await writer.wait_closed()
    except BrokenOff:
        # Closing sends what is written so far, then ends the connection in the middle.
        writer.close()
        await writer.wait_closed()
    except (OSError, h11.RemoteProtocolError):
        pass
    finally:
        writer.transport.abort()


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
            await self._write(h11.InformationalResponse(status_code=100, headers=[]))
        self._http.receive_data(await self._reader.read(_READ_BYTES))

    async def send(self, response: HttpResponse) -> None:
        async with aclosing(response.body) as parts:
            headers = {"date": formatdate(usegmt=True), "server": "aideon-testing"}
            headers |= response.headers
            await self._write(
                h11.Response(status_code=response.status, headers=list(headers.items()))
            )
            async for part in parts:
                await self._write(h11.Data(data=part))
            await self._write(h11.EndOfMessage())

    def next(self) -> bool:
        """Prepare for another request; False when the connection is to be closed."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _write(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()


def _request(head: h11.Request, content: bytes) -> HttpRequest:
    path, _, query = head.target.decode("latin-1").partition("?")
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    return HttpRequest(head.method.decode("ascii"), path, query, headers, content)
