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


class CoolingDown(errors.CoolingDown, exceptions.ModelRateLimitError):
    """Nothing was sent, because every key is waiting out a limit it was told of."""


class QueueFull(errors.QueueFull, exceptions.ModelRateLimitError):
    """Too many requests wait for the local model, or too long for this one's deadline."""


class ServerError(errors.ServerError, exceptions.ModelAPIError):
    """The backend failed, or answered with something that cannot be read."""


class ConnectFailed(errors.ConnectFailed, exceptions.ModelConnectionError):
    """The host could not be reached, or the connection broke."""


class TimedOut(errors.TimedOut, exceptions.ModelTimeoutError):
    """The backend did not answer in time."""


class StreamInterrupted(errors.StreamInterrupted, exceptions.ModelConnectionError):
    """A stream broke after part of the answer had been delivered; ``partial`` holds it."""


class InvalidOutput(errors.InvalidOutput, exceptions.ModelAPIError):
    """The answer cannot be read as the ``output_type``."""


class LoadFailed(errors.LoadFailed, exceptions.ModelAPIError):
    """llama.cpp could not load the local model."""


class NoChatTemplate(errors.NoChatTemplate, exceptions.ModelInvalidRequestError):
    """The GGUF file carries no chat template."""


class Unsupported(errors.Unsupported, exceptions.ModelInvalidRequestError):
    """No model that may answer can do what the request needs."""


class Excluded(errors.Excluded, exceptions.ModelError):
    """The policy never uses the side that could answer."""


class NotPulled(errors.NotPulled, exceptions.ModelNotFoundError):
    """The local model is known but its file is not on this machine."""


class Offline(errors.Offline, exceptions.ModelConnectionError):
    """The network is switched off by ``AIDEON_OFFLINE``."""


class AllBackendsFailed(errors.AllBackendsFailed, exceptions.ModelError):
    """Every backend was ruled out or failed; ``exceptions`` holds one cause for each."""


_BOTH: Final[dict[type[errors.AideonError], type[errors.AideonError]]] = {
    kind.__bases__[0]: kind
    for kind in (
        MissingKey,
        AuthError,
        BadRequest,
        ContextTooLong,
        NotFound,
        RateLimited,
        CoolingDown,
        QueueFull,
        ServerError,
        ConnectFailed,
        TimedOut,
        StreamInterrupted,
        InvalidOutput,
        LoadFailed,
        NoChatTemplate,
        Unsupported,
        Excluded,
        NotPulled,
        Offline,
        AllBackendsFailed,
    )
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
