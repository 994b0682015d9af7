"""Aideon's errors as LangChain's own, so that code that catches either catches these.

Each class is both: ``except ModelRateLimitError`` and ``except aideon_core.errors.RateLimited``
see the same object, with its ``route`` and its ``hint``.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from langchain_core import exceptions

from aideon_core import errors

if TYPE_CHECKING:
    from collections.abc import Iterator


class MissingKey(errors.MissingKey, exceptions.ModelAuthenticationError):
    """A backend needs a key and none was found."""


class AuthError(errors.AuthError, exceptions.ModelAuthenticationError):
    """The key was refused."""


class BadRequest(errors.BadRequest, exceptions.ModelInvalidRequestError):
    """The request was refused as it stands."""


class ContextTooLong(errors.ContextTooLong, exceptions.ContextOverflowError):
    """The prompt does not fit into the model's context."""


class NotFound(errors.NotFound, exceptions.ModelNotFoundError):
    """The backend does not serve that model."""


class RateLimited(errors.RateLimited, exceptions.ModelRateLimitError):
    """The backend asks for fewer requests."""


class ServerError(errors.ServerError, exceptions.ModelAPIError):
    """The backend failed, or answered with something that cannot be read."""


class ConnectFailed(errors.ConnectFailed, exceptions.ModelConnectionError):
    """The host could not be reached, or the connection broke."""


class TimedOut(errors.TimedOut, exceptions.ModelTimeoutError):
    """The backend did not answer in time."""


class AllBackendsFailed(errors.AllBackendsFailed, exceptions.ModelError):
    """Every backend was ruled out or failed; ``exceptions`` holds one cause for each."""


_BOTH: Final[dict[type[errors.AideonError], type[errors.AideonError]]] = {
    errors.MissingKey: MissingKey,
    errors.AuthError: AuthError,
    errors.BadRequest: BadRequest,
    errors.ContextTooLong: ContextTooLong,
    errors.NotFound: NotFound,
    errors.RateLimited: RateLimited,
    errors.ServerError: ServerError,
    errors.ConnectFailed: ConnectFailed,
    errors.TimedOut: TimedOut,
    errors.AllBackendsFailed: AllBackendsFailed,
}


@contextmanager
def translated() -> Iterator[None]:
    """Raise Aideon's errors as LangChain's too, where LangChain has a match."""
    try:
        yield
    except errors.AideonError as error:
        kind = _BOTH.get(type(error))
        if kind is None:
            raise
        both = kind(*error.args)
        both.__dict__.update(error.__dict__)
        raise both from error
