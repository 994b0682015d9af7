"""HTTP: the one module that knows the HTTP library, and its errors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx2

from aideon_core.errors import AideonError, ConfigError, ConnectFailed, ServerError, TimedOut

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Client = httpx2.Client
AsyncClient = httpx2.AsyncClient
Request = httpx2.Request
Response = httpx2.Response
EventSource = httpx2.EventSource

# Reading waits long: a reasoning model can think for a minute before its first byte.
# A free connection is waited for without limit: many calls at once are no error of the host.
TIMEOUT = httpx2.Timeout(connect=5.0, read=120.0, write=30.0, pool=None)
LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)


def timeout(seconds: float | None) -> httpx2.Timeout:
    """The longest wait for the next byte in seconds; the default when not given."""
    if seconds is None:
        return TIMEOUT
    return httpx2.Timeout(seconds, connect=min(seconds, 5.0), pool=None)


_MAPPED: tuple[tuple[type[Exception], type[AideonError], str], ...] = (
    (httpx2.ConnectTimeout, TimedOut, "could not be reached in time"),
    (httpx2.TimeoutException, TimedOut, "did not answer in time"),
    (httpx2.UnsupportedProtocol, ConfigError, "is not an http:// or https:// address"),
    (httpx2.InvalidURL, ConfigError, "is not a valid address"),
    (httpx2.ConnectError, ConnectFailed, "could not be reached"),
    (httpx2.NetworkError, ConnectFailed, "broke the connection"),
    (httpx2.RemoteProtocolError, ConnectFailed, "broke off the answer"),
    (httpx2.ProxyError, ConnectFailed, "could not be reached through the proxy"),
    (httpx2.SSEError, ServerError, "did not send a readable event stream"),
    (httpx2.DecodingError, ServerError, "sent a body that cannot be decoded"),
    (httpx2.TooManyRedirects, ServerError, "redirects without end"),
    (httpx2.TransportError, ConnectFailed, "could not be talked to"),
)


_HINTS: Mapping[type[AideonError], str] = {
    ConnectFailed: "Check the network and the address, or allow another backend to answer.",
    TimedOut: "Raise timeout=, or allow another backend to answer.",
    ServerError: "Check that the address is the API's own.",
}


@contextmanager
def normalized(
    where: str, *, backend: str | None = None, model: str | None = None
) -> Iterator[None]:
    """Turn the HTTP library's exceptions into ours; programmer errors pass untouched.

    Errors of ours that pass through are told which backend and model they are about.

    Args:
        where: the address asked, for the message.
        backend: the backend that was asked, for the error's attribute.
        model: the model that was asked for, for the error's attribute.
    """
    try:
        yield
    except AideonError as error:
        error.backend = error.backend or backend
        error.model = error.model or model
        raise
    except httpx2.LocalProtocolError:
        # Its text repeats the header at fault, and that may be the key.
        raise ConfigError(
            f"{where} could not be sent the request: a header of it is not valid.",
            hint="Check that the key has no line break or other stray character.",
            backend=backend,
            model=model,
        ) from None
    except (httpx2.TransportError, httpx2.RequestError, httpx2.InvalidURL) as error:
        ours, what = next(
            ((ours, what) for theirs, ours, what in _MAPPED if isinstance(error, theirs)),
            (ConnectFailed, "could not be talked to"),
        )
        detail = f": {str(error).rstrip('.')}" if str(error) else ""
        hint = _HINTS.get(ours, "")
        raise ours(f"{where} {what}{detail}.", hint=hint, backend=backend, model=model) from error
