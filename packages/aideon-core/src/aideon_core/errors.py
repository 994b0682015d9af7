"""The error tree.

AideonError
├── ConfigError             wrong before any call was made
│   ├── UnknownModel        no such model; names the nearest ones
│   ├── MissingKey          the cloud was needed and no key was found
│   ├── MissingDependency   an optional package is not installed
│   └── NotGguf             the file is not a GGUF model
├── PullFailed              a model could not be fetched, by any transport
├── Ineligible              a backend was ruled out before anything was sent
│   ├── Excluded            the policy never uses that side
│   ├── NotPulled           the local model is known but not on this machine
│   ├── Offline             the network is switched off by AIDEON_OFFLINE
│   └── Unsupported         the backend cannot do what the request needs
├── BackendError            a backend was asked, or about to be, and did not answer
│   ├── BadRequest          the request itself is wrong; found by us or by the backend
│   │   └── ContextTooLong  the prompt does not fit into the model's context
│   ├── AuthError           the key was refused
│   ├── NotFound            the backend has no such model
│   ├── RateLimited         too many requests; see retry_after
│   │   └── CoolingDown     not sent: every key is waiting out such a limit
│   ├── ServerError         the backend failed, or sent what cannot be read
│   ├── ConnectFailed       the host was not reached, or the connection broke
│   ├── TimedOut            no answer in time
│   ├── InvalidOutput       the answer does not have the form that output_type asks for
│   ├── LoadFailed          llama.cpp could not load the local model
│   ├── QueueFull           too many requests wait for the local model
│   └── NoChatTemplate      the GGUF carries no chat template
├── BadArguments            what a model wrote does not fit the parameters of a tool
├── ToolLoopExceeded        a model still called tools when its rounds were over
├── StreamInterrupted       a stream broke after part of it was delivered
└── AllBackendsFailed       every backend was ruled out or failed, one cause each
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from aideon_core.tools.running import ToolRun
    from aideon_core.types import Completion, Route


class AideonError(Exception):
    """The root of every error this package raises on purpose.

    Attributes:
        retryable: the same backend may answer the same request a little later; a server's own
            word on it comes before what its class says.
        falls_back: another backend may answer where this one did not.
        hint: what to do next, in one sentence.
        backend: the name of the backend that was asked, if one was.
        model: the model that was asked for, if one was.
        status_code: the HTTP status, if there was one.
        code: the backend's own error code, such as ``"model_not_available"``.
        type: the backend's own kind of error, such as ``"model_rate_limit"``.
        param: the request parameter the backend complained about.
        request_id: the id to quote to the backend's support.
        retry_after: seconds the backend asked to wait.
        route: every backend considered and tried, once a policy has ended.
    """

    retryable: bool = False
    falls_back: ClassVar[bool] = False

    def __init__(  # noqa: PLR0913 - one keyword per fact, all optional
        self,
        message: str = "",
        *,
        hint: str = "",
        backend: str | None = None,
        model: str | None = None,
        status_code: int | None = None,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 - the wire's own word
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.backend = backend
        self.model = model
        self.status_code = status_code
        self.code = code
        self.type = type
        self.param = param
        self.request_id = request_id
        self.retry_after = retry_after
        self.route: Route | None = None

    @property
    def message(self) -> str:
        """What went wrong and where, without the hint."""
        return str(self.args[0]) if self.args else ""

    def mask(self, masked: Callable[[str], str]) -> None:
        """Make what must not be seen unreadable, wherever the error may show it."""
        self.args = tuple(masked(arg) if isinstance(arg, str) else arg for arg in self.args)
        for name in ("hint", "code", "param", "type", "request_id"):
            if isinstance(value := getattr(self, name), str):
                setattr(self, name, masked(value))

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(AideonError, ValueError):
    """Something is wrong before any backend was asked."""


class UnknownModel(ConfigError):
    """No model goes by that name."""


class MissingKey(ConfigError):
    """A backend needs a key and none was found."""


class MissingDependency(ConfigError):
    """An optional package is needed and not installed."""


class NotGguf(ConfigError):
    """The file exists but is not a GGUF model."""


class PullFailed(AideonError):
    """A model could not be fetched."""


class Ineligible(AideonError):
    """A backend was ruled out before anything was sent to it."""

    falls_back = True


class Excluded(Ineligible):
    """The policy never uses that side."""


class NotPulled(Ineligible):
    """The local model is known but its file is not on this machine."""


class Offline(Ineligible):
    """The network is switched off by ``AIDEON_OFFLINE``."""


class Unsupported(Ineligible):
    """The backend cannot do what the request needs."""


class BackendError(AideonError):
    """A backend was asked, or about to be, and did not answer."""

    falls_back = True


class BadRequest(BackendError):
    """The request is wrong as it stands; asking elsewhere would hide the mistake."""

    falls_back = False


class ContextTooLong(BadRequest):
    """The prompt does not fit into the model's context; a larger one may take it."""

    falls_back = True


class AuthError(BackendError):
    """The key was refused."""


class NotFound(BackendError):
    """The backend does not serve that model."""


class RateLimited(BackendError):
    """The backend asks for fewer requests."""

    retryable = True


class CoolingDown(RateLimited):
    """Nothing was sent, because every key is waiting out a limit it was told of."""


class ServerError(BackendError):
    """The backend failed, or answered with something that cannot be read."""

    retryable = True


class ConnectFailed(BackendError):
    """The host could not be reached, or the connection broke."""

    retryable = True


class TimedOut(BackendError):
    """The backend did not answer in time."""

    retryable = True


class InvalidOutput(BackendError):
    """The backend answered, and its answer cannot be read as the ``output_type``.

    Attributes:
        completion: the answer as it came, with usage and cost.
    """

    completion: Completion | None = None


class LoadFailed(BackendError):
    """llama.cpp could not load the local model."""


class QueueFull(BackendError):
    """Too many requests wait for the local model, or too long for this one's deadline."""

    retryable = True


class NoChatTemplate(BackendError):
    """The GGUF file carries no chat template, so messages cannot be turned into a prompt."""


class BadArguments(AideonError, ValueError):
    """The arguments that a model wrote do not fit the parameters of a tool."""


class ToolLoopExceeded(AideonError):
    """The model still called tools in the last round it had; those calls were not run.

    Attributes:
        run: everything that was said and done, the calls included.
    """

    run: ToolRun | None = None


class StreamInterrupted(AideonError):
    """A stream broke after part of the answer had been delivered.

    Attributes:
        partial: what was delivered before the break.
    """

    partial: Completion | None = None


class AllBackendsFailed(AideonError, ExceptionGroup[AideonError]):
    """Every backend was ruled out or failed; ``exceptions`` holds one cause for each."""

    def __new__(cls, message: str, errors: Sequence[AideonError]) -> Self:
        """An exception group takes its members when it is made."""
        return super().__new__(cls, message, errors)

    def __init__(self, message: str, errors: Sequence[AideonError]) -> None:
        super().__init__(message)
        self.args = (message, list(errors))

    def derive(self, errors: Sequence[AideonError], /) -> AllBackendsFailed:  # type: ignore[override]
        """Keep the type when ``except*`` takes some of the causes out."""
        return AllBackendsFailed(self.message, errors)
