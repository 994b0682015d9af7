"""HTTP: the one module that knows the HTTP library, and its errors."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import httpx2

from aideon_core import forks
from aideon_core.errors import (
    AideonError,
    BadRequest,
    ConfigError,
    ConnectFailed,
    ServerError,
    TimedOut,
)
from aideon_core.per_loop import PerLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from aideon_core.deadline import Deadline
    from aideon_core.keys import Key
    from aideon_core.types import Json

Client = httpx2.Client
AsyncClient = httpx2.AsyncClient
RawResponse = httpx2.Response
Event = httpx2.ServerSentEvent
Waits: TypeAlias = tuple[float | None, float | None, float | None, float | None]
"""Seconds to connect, to read, to write, and to wait for a free connection."""

# Reading waits long: a reasoning model can think for a minute before its first byte.
# A free connection is waited for without limit: many calls at once are no error of the host.
TIMEOUT = httpx2.Timeout(connect=5.0, read=120.0, write=30.0, pool=None)
LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)
# No answer of a model comes near it; a body without end must not fill the memory.
_LARGEST_BODY: Final = 64 * 1024 * 1024


def timeout(seconds: float | None) -> httpx2.Timeout:
    """The longest wait for the next byte in seconds; the default when not given."""
    if seconds is None:
        return TIMEOUT
    return httpx2.Timeout(seconds, connect=min(seconds, 5.0), pool=None)


def _waits(client: Client | AsyncClient, deadline: Deadline) -> Waits:
    """The client's own waits, none of them longer than what is left."""
    waits = client.timeout
    if (left := deadline.left()) is None:
        return waits.connect, waits.read, waits.write, waits.pool
    connect, read, write = (
        min(wait or left, left) for wait in (waits.connect, waits.read, waits.write)
    )
    return connect, read, write, left


class Response:
    """An answer of a server while it comes in.

    Args:
        raw: of the HTTP library, or of one like it, with its body still unread.
        deadline: when reading it has to be over.

    Attributes:
        status: the HTTP status.
        headers: by name, whatever the case.
    """

    __slots__ = ("_deadline", "_raw", "_waiting", "headers", "status")

    def __init__(self, raw: RawResponse, deadline: Deadline) -> None:
        self._raw = raw
        self._deadline = deadline
        self._waiting = False
        self.status: int = raw.status_code
        self.headers: Mapping[str, str] = raw.headers

    def read(self) -> bytes:
        """The whole body.

        Raises:
            TimedOut: the deadline passed before its end.
            ServerError: it is larger than any answer.
        """
        body = bytearray()
        try:
            for part in self._raw.iter_bytes():
                self._grow(body, part)
        finally:
            self._raw.close()
        return bytes(body)

    async def aread(self) -> bytes:
        """The whole body; see ``read``."""
        body = bytearray()
        try:
            async with self._deadline.enforced():
                async for part in self._raw.aiter_bytes():
                    self._grow(body, part)
        finally:
            await self._raw.aclose()
        return bytes(body)

    def events(self) -> Iterator[Event]:
        """Server-sent events, one by one; errors as for ``read``."""
        events = iter(httpx2.EventSource(self._raw))
        while True:
            self._waiting = True
            try:
                event = next(events, None)
            finally:
                self._waiting = False
            if event is None:
                return
            self._deadline.left()
            yield event

    async def aevents(self) -> AsyncIterator[Event]:
        """Server-sent events, one by one; errors as for ``read``."""
        events = aiter(httpx2.EventSource(self._raw))
        while True:
            async with self._deadline.enforced():
                event = await anext(events, None)
            if event is None:
                return
            yield event

    def close(self) -> None:
        """Stop the answer at its source; may be called twice, and from another thread."""
        if self._waiting and (network := self._raw.extensions.get("network_stream")):
            # Only the thread that waits may close; a socket shut down wakes it.
            with suppress(OSError):
                network.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            return
        self._raw.close()

    async def aclose(self) -> None:
        """Stop the answer at its source; may be called twice."""
        await self._raw.aclose()

    def _grow(self, body: bytearray, part: bytes) -> None:
        self._deadline.left()
        body += part
        if len(body) > _LARGEST_BODY:
            raise ServerError(
                f"{self._raw.url.host} sent more than {_LARGEST_BODY >> 20} MiB for one answer.",
                hint="Check that the address is the API's own.",
            )


# Kept in a child process, because to collect them would close what the parent uses.
_parents: Final[list[Client | None]] = []

C = TypeVar("C", Client, AsyncClient)


def _made(kind: type[C], waits: httpx2.Timeout) -> C:
    """A client by the settings of the environment, which can be wrong in many ways."""
    try:
        return kind(timeout=waits, limits=LIMITS)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"No connection can be made with the environment's settings: {error}.",
            hint="Check SSL_CERT_FILE, SSL_CERT_DIR, HTTP_PROXY, HTTPS_PROXY and ALL_PROXY.",
        ) from error


class Http:
    """Connections to one address: a pool that all threads share, and one for each event loop.

    Args:
        url: where requests are posted.
        seconds: the longest wait for the next byte; the default when not given.
        client: use this one of the caller's for blocking calls; it stays the caller's to close.
        async_client: the same for awaiting calls.
    """

    def __init__(
        self,
        url: str,
        seconds: float | None = None,
        *,
        client: Client | None = None,
        async_client: AsyncClient | None = None,
    ) -> None:
        self._timeout = timeout(seconds)
        self._given = client, async_client
        # Read once: to take an address apart costs as much as to write the body.
        self._url = url if client or async_client else httpx2.URL(url)
        # Threads that ask at once share one pool of connections.
        self._opening = threading.Lock()
        self._client: Client | None = None
        forks.forget_with(self)
        self._async_clients = PerLoop(lambda: _made(AsyncClient, self._timeout))

    def post(self, body: Json, key: Key | None, deadline: Deadline) -> Response:
        """Send a JSON body; returns once the status and the headers are there."""
        client = self._blocking()
        request = self._request(client, body, key, deadline)
        return Response(client.send(request, stream=True), deadline)

    async def apost(self, body: Json, key: Key | None, deadline: Deadline) -> Response:
        """Send a JSON body; see ``post``."""
        client = self._awaiting()
        request = self._request(client, body, key, deadline)
        async with deadline.enforced():
            return Response(await client.send(request, stream=True), deadline)

    def get(self, key: Key | None, deadline: Deadline) -> Response:
        """Fetch what is at the address; returns once the status and the headers are there."""
        client = self._blocking()
        waits = _waits(client, deadline)
        request = client.build_request("GET", self._url, headers=_authorization(key), timeout=waits)
        return Response(client.send(request, stream=True), deadline)

    def forked(self) -> None:
        """In a child process: connections are the parent's, and two must not share one."""
        self._opening = threading.Lock()
        _parents.append(self._client)
        self._client = None

    def close(self) -> None:
        """Close the blocking connections; they open again when they are needed."""
        with self._opening:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close the connections of the running loop, and the blocking ones."""
        if (client := self._async_clients.pop()) is not None:
            await client.aclose()
        self.close()

    def _request(
        self, client: Client | AsyncClient, body: Json, key: Key | None, deadline: Deadline
    ) -> httpx2.Request:
        try:
            return client.build_request(
                "POST",
                self._url,
                json=body,
                headers=_authorization(key),
                timeout=_waits(client, deadline),
            )
        except (TypeError, ValueError) as error:
            raise BadRequest(
                f"The request cannot be written as JSON: {error}.",
                hint="Look for what is no JSON in tools, tool calls or response_format.",
            ) from error

    def _blocking(self) -> Client:
        if self._given != (None, None):
            if self._given[0] is None:
                raise other_kind("client", "blocking")
            return self._given[0]
        with self._opening:
            if self._client is None:
                self._client = _made(Client, self._timeout)
            return self._client

    def _awaiting(self) -> AsyncClient:
        if self._given != (None, None):
            if self._given[1] is None:
                raise other_kind("async_client", "awaiting")
            return self._given[1]
        return self._async_clients.get()


def _authorization(key: Key | None) -> Mapping[str, str]:
    # Never in a variable of a frame that sends: a traceback may show it.
    return {"Authorization": f"Bearer {key.reveal()}"} if key is not None else {}


def other_kind(argument: str, kind: str) -> ConfigError:
    """The error of a call that needs the kind of client that was not given."""
    return ConfigError(
        f"This backend was given a client of the other kind, and a {kind} call needs its own.",
        hint=f"Give {argument}= as well.",
    )


# By name, because a client that a caller gives may be httpx's: httpx2 has the same names.
_MAPPED: Mapping[str, tuple[type[AideonError], str]] = {
    "ConnectTimeout": (TimedOut, "could not be reached in time"),
    "TimeoutException": (TimedOut, "did not answer in time"),
    "UnsupportedProtocol": (ConfigError, "is not an http:// or https:// address"),
    "InvalidURL": (ConfigError, "is not a valid address"),
    "ConnectError": (ConnectFailed, "could not be reached"),
    "NetworkError": (ConnectFailed, "broke the connection"),
    "RemoteProtocolError": (ConnectFailed, "broke off the answer"),
    "ProxyError": (ConnectFailed, "could not be reached through the proxy"),
    "SSEError": (ServerError, "did not send a readable event stream"),
    "DecodingError": (ServerError, "sent a body that cannot be decoded"),
    "TooManyRedirects": (ServerError, "redirects without end"),
    "CookieConflict": (ServerError, "sent cookies that contradict each other"),
    "StreamError": (ConnectFailed, "had its answer closed while it was read"),
    "TransportError": (ConnectFailed, "could not be talked to"),
    "RequestError": (ConnectFailed, "could not be talked to"),
    "HTTPError": (ServerError, "did not answer as it should"),
}
_LIBRARIES = frozenset({"httpx", "httpx2"})
_HINTS: Mapping[type[AideonError], str] = {
    ConnectFailed: "Check the network and the address, or allow another backend to answer.",
    TimedOut: "Raise timeout=, or allow another backend to answer.",
    ServerError: "Check that the address is the API's own.",
}


@contextmanager
def normalized(
    where: str,
    *,
    backend: str | None = None,
    model: str | None = None,
    masked: Callable[[str], str] = str,
) -> Iterator[None]:
    """Turn the HTTP library's exceptions into ours; programmer errors pass untouched.

    Errors of ours that pass through are told which backend and model they are about.

    Args:
        where: the address asked, for the message.
        backend: the backend that was asked, for the error's attribute.
        model: the model that was asked for, for the error's attribute.
        masked: makes the keys in a text unreadable.
    """
    try:
        yield
    except AideonError as error:
        error.backend = error.backend or backend
        error.model = error.model or model
        error.mask(masked)
        raise
    except Exception as error:
        theirs = [k for k in type(error).__mro__ if k.__module__.partition(".")[0] in _LIBRARIES]
        names = [kind.__name__ for kind in theirs if kind.__name__ in _MAPPED]
        if not names:
            raise
        if theirs[0].__name__ == "LocalProtocolError":
            # Its text repeats the header at fault, and that may be the key.
            raise ConfigError(
                f"{where} could not be sent the request: a header of it is not valid.",
                hint="Check that the key has no line break or other stray character.",
                backend=backend,
                model=model,
            ) from None
        ours, what = _MAPPED[names[0]]
        detail = f": {masked(str(error)).rstrip('.')}" if str(error) else ""
        hint = _HINTS.get(ours, "")
        raise ours(f"{where} {what}{detail}.", hint=hint, backend=backend, model=model) from error
