"""Clients that a caller brings along: who they are, what they know, how to send with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from aideon_core.backends import sdk
from aideon_core.config import Secret
from aideon_core.errors import ConfigError
from aideon_core.keys import Key

if TYPE_CHECKING:
    from aideon_core import transport
    from aideon_core.deadline import Deadline
    from aideon_core.types import Json


class Channel(Protocol):
    """How a request body gets to the server, and the response back."""

    def post(self, body: Json, key: Key | None, deadline: Deadline) -> transport.Response:
        """Send a body with a key, if it takes one; returns once the status is there."""
        ...

    async def apost(self, body: Json, key: Key | None, deadline: Deadline) -> transport.Response:
        """Send a body with a key, if it takes one; returns once the status is there."""
        ...

    def close(self) -> None:
        """Let go of blocking connections."""
        ...

    async def aclose(self) -> None:
        """Let go of the running loop's connections, and the blocking ones."""
        ...


@dataclass(frozen=True, slots=True)
class Given:
    """The clients a backend was given, if any: one for blocking calls, one for awaiting ones."""

    client: Any | None = None
    async_client: Any | None = None

    @classmethod
    def of(cls, client: Any | None, async_client: Any | None) -> Self:  # noqa: ANN401 - of any library
        """Sort out which is which.

        Raises:
            ConfigError: both are of one kind, or one is no client at all.
        """
        for each in (client, async_client):
            if each is not None and not (sdk.is_sdk(each) or hasattr(each, "build_request")):
                raise ConfigError(
                    f"client= is a {type(each).__name__}.",
                    hint="It takes a Together, OpenAI, httpx2 or httpx client.",
                )
        if client is not None and async_client is None and sdk.awaits(client):
            client, async_client = None, client
        kinds = [sdk.is_sdk(each) for each in (client, async_client) if each is not None]
        if (client is not None and sdk.awaits(client)) or len(set(kinds)) > 1:
            raise ConfigError(
                "client= and async_client= do not go together.",
                hint="Give a blocking and an awaiting client of the same library.",
            )
        if async_client is not None and not sdk.awaits(async_client):
            raise ConfigError("async_client= is a blocking client.", hint="Give it to client=.")
        return cls(client, async_client)

    @property
    def _one(self) -> Any | None:  # noqa: ANN401 - of any library
        return self.async_client if self.client is None else self.client

    @property
    def base_url(self) -> str:
        """The address the client has, empty when it has none."""
        return str(self._one.base_url) if self._one is not None else ""

    @property
    def has_key(self) -> bool:
        """Whether the client authorizes its requests itself."""
        one = self._one
        if one is None:
            return False
        return sdk.is_sdk(one) or one.auth is not None or "authorization" in one.headers

    @staticmethod
    def is_together(client: object) -> bool:
        """Whether it is a client of Together's SDK."""
        return sdk.library(client) == "together"

    def masked(self, text: str) -> str:
        """The text without the client's own key, where that can be known."""
        key = getattr(self._one, "api_key", None)
        return Key.checked(Secret(key), "client=").masked(text) if isinstance(key, str) else text

    def http(self, url: str) -> transport.Http:
        """Connections to one more address of the same server.

        Raises:
            ConfigError: the client is an SDK's, which takes no addresses.
        """
        from aideon_core import transport

        if self._one is not None and sdk.is_sdk(self._one):
            raise ConfigError(
                "This backend sends with an SDK's client.", hint="Ask that client itself."
            )
        return transport.Http(url, client=self.client, async_client=self.async_client)

    def check(self, **settings: object) -> None:
        """Refuse settings that the client would not follow.

        Raises:
            ConfigError: names them.
        """
        if self._one is None:
            return
        ours = {"timeout"} | ({"api_key"} if self.has_key else set())
        ours |= {"base_url"} if sdk.is_sdk(self._one) else set()
        if both := sorted(name for name in ours if settings.get(name) is not None):
            raise ConfigError(
                f"client= already has what {', '.join(both)} would say.",
                hint="Set it on the client.",
            )

    def channel(self, url: str, timeout: float | None) -> Channel:
        """The way to ``url``: by the clients given, or by connections of our own."""
        if self._one is not None and sdk.is_sdk(self._one):
            return sdk.SdkChannel(self.client, self.async_client)
        from aideon_core import transport

        return transport.Http(url, timeout, client=self.client, async_client=self.async_client)
