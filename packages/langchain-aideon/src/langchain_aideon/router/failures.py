"""What models and chains of other libraries raise, as errors of ours.

An exception is read by what it says: LangChain's own class, an HTTP status and body, or the
name of a class that many libraries share. No library is imported for it.

- A limit, a refused key, an unknown model, a failing server, no connection, no answer in time, a
  prompt too long, an answer that cannot be read: another model is asked.
- A refusal of the request as it stands (HTTP 400, 422): nobody else is asked, so that the
  mistake shows.
- A mistake in a program (TypeError, ValueError, KeyError, a missing file or package) passes as it
  is: asking elsewhere would hide it. So does what steers LangGraph, and every BaseException.
- Whatever else a library raises, and a RuntimeError of an engine: another model is asked.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from langchain_core import exceptions

from aideon_core.backends import wire
from aideon_core.errors import (
    AideonError,
    AllBackendsFailed,
    AuthError,
    BackendError,
    BadRequest,
    ConnectFailed,
    ContextTooLong,
    InvalidOutput,
    MissingKey,
    NotFound,
    Offline,
    RateLimited,
    ServerError,
    TimedOut,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BY_CLASS: Final[tuple[tuple[type[Exception], type[BackendError]], ...]] = (
    (exceptions.ContextOverflowError, ContextTooLong),
    (exceptions.ModelAuthenticationError, AuthError),
    (exceptions.ModelPermissionDeniedError, AuthError),
    (exceptions.ModelInvalidRequestError, BadRequest),
    (exceptions.ModelNotFoundError, NotFound),
    (exceptions.ModelRateLimitError, RateLimited),
    (exceptions.ModelAPIError, ServerError),
    (exceptions.ModelConnectionError, ConnectFailed),
    (exceptions.ModelTimeoutError, TimedOut),
    (exceptions.ModelError, BackendError),
    (exceptions.OutputParserException, InvalidOutput),
    (json.JSONDecodeError, ServerError),
)
# Of httpx, requests, aiohttp, urllib3 and the clients made with them, and Python's own.
_BY_NAME: Final[Mapping[str, type[BackendError]]] = {
    **dict.fromkeys(("APITimeoutError", "TimeoutException", "Timeout", "TimeoutError"), TimedOut),
    **dict.fromkeys(
        (
            "APIConnectionError",
            "TransportError",
            "ConnectionError",
            "ClientConnectionError",
            "ClientPayloadError",
            "ChunkedEncodingError",
            "ProtocolError",
            "SSLError",
            "gaierror",
        ),
        ConnectFailed,
    ),
    "APIError": ServerError,
    "UnicodeDecodeError": ServerError,
    "MemoryError": BackendError,
}
# Raised as ValueError, TypeError or KeyError, and yet about the answer or the prompt.
_BY_WORDS: Final[Mapping[str, type[BackendError]]] = {
    "exceed context window": ContextTooLong,
    "null value for `choices`": ServerError,
    "missing `choices`": ServerError,
    "No generation chunks were returned": ServerError,
    "No generations found in stream": ServerError,
}
_STEERING: Final = "GraphBubbleUp"
_MISTAKES: Final = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    NameError,
    ImportError,
    SyntaxError,
    NotImplementedError,
    RecursionError,
    OSError,
    StopIteration,
    StopAsyncIteration,
    Warning,
    ExceptionGroup,
)
_STATUSES: Final = range(300, 600)


@contextmanager
def classified(name: str, model: str, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Raise what is raised inside as an error of ours, with the original as its cause.

    Args:
        name: what was asked, for the message and the error's ``backend``.
        model: the model of it.
        also: exceptions after which another is to be asked too, whatever they are.

    Raises:
        AideonError: for whatever the module's rules do not let pass.
    """
    try:
        yield
    except AideonError as error:
        if isinstance(error, AllBackendsFailed | MissingKey):
            # It had its own legs to ask; ours are still to be asked.
            raise BackendError(error.message, hint=error.hint, backend=name, model=model) from error
        error.backend, error.model = error.backend or name, error.model or model
        raise
    except Exception as error:
        if (ours := read(error, name, model, also)) is None:
            raise
        raise ours from error


def switched_off(name: str, model: str) -> Offline:
    """Why nothing of the cloud is asked where ``AIDEON_OFFLINE`` is set."""
    return Offline(
        "The cloud is switched off.",
        hint="Unset AIDEON_OFFLINE to allow it.",
        backend=name,
        model=model,
    )


def read(
    error: Exception, name: str, model: str, also: tuple[type[Exception], ...] = ()
) -> AideonError | None:
    """The error of ours that another library's stands for, None where it has to pass.

    Args:
        error: what was raised.
        name: what was asked.
        model: the model of it.
        also: exceptions that stand for a failure, whatever they are.
    """
    names = [kind.__name__ for kind in type(error).__mro__]
    if _STEERING in names:
        return None
    if (status := _status(error)) is not None:
        return _refusal(error, status, name, model)
    if (kind := _kind(error, names, also)) is None:
        return None
    found = kind(
        f"{name} failed with {type(error).__name__}: {_told(error)}", backend=name, model=model
    )
    if isinstance(error, exceptions.ModelError):
        found.retryable = error.is_retryable
    return found


def _kind(
    error: Exception, names: list[str], also: tuple[type[Exception], ...]
) -> type[BackendError] | None:
    for theirs, ours in _BY_CLASS:
        if isinstance(error, theirs):
            return ours
    for known in names:
        if known in _BY_NAME:
            return _BY_NAME[known]
    if _error_body(error) is not None:
        return ServerError
    for words, ours in _BY_WORDS.items():
        if words in str(error):
            return ours
    return None if isinstance(error, _MISTAKES) and not isinstance(error, also) else BackendError


def _refusal(error: Exception, status: int, name: str, model: str) -> BackendError:
    body = getattr(error, "body", None)
    told = str(error) if body is None else json.dumps({"error": body}, default=str)
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    found = wire.failure_of(
        status, dict(headers), told.encode(), backend=name, model=model, where=name
    )
    if not isinstance(error, exceptions.ContextOverflowError):
        return found
    longer = ContextTooLong(found.message)
    longer.__dict__.update(vars(found) | {"hint": "Shorten the messages, or ask a larger model."})
    return longer


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    for value in (
        getattr(error, "status_code", None),
        getattr(response, "status_code", None),
        getattr(response, "status", None),
        getattr(error, "status", None),
        getattr(error, "code", None),
    ):
        if isinstance(value, int) and value in _STATUSES:
            return int(value)
    return None


def _error_body(error: Exception) -> object:
    """An error that a server put into a good answer: LangChain raises it as it is."""
    body = error.args[0] if isinstance(error, ValueError) and error.args else None
    return body if isinstance(body, dict) and wire.error_text(body) else None


def _told(error: Exception) -> str:
    return wire.error_text(_error_body(error)) or str(error) or "no reason given"
