"""Together AI."""

from __future__ import annotations

import threading
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self, cast

from aideon_core import prices, telemetry
from aideon_core.backends import hosts, wire
from aideon_core.backends.openai_compatible import OpenAICompatibleBackend
from aideon_core.config import Config
from aideon_core.errors import ConfigError, MissingDependency
from aideon_core.keys import hidden
from aideon_core.per_loop import PerLoop
from aideon_core.types import ModelFacts

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import together

    from aideon_core.keys import KeyRing, Keys
    from aideon_core.types import Json

    Account = Callable[[str, Json], None]


class TogetherBackend(OpenAICompatibleBackend):
    """Answers from Together AI, or from any server that speaks its wire format.

    Args:
        model: the model id, such as ``"openai/gpt-oss-20b"``; case matters.
        api_key: the key, several of them, or where they come from (see KeyRing.of);
            ``TOGETHER_API_KEY`` when not given.
        base_url: the server, with or without ``/v1``; ``TOGETHER_BASE_URL`` when not given.
        timeout: the longest wait for the next byte, in seconds; two minutes when not given.
        client: a ``Together``, ``OpenAI`` or httpx client of yours to send with: its address,
            its key and its settings are used, and it stays yours to close.
        async_client: the same for awaiting calls, when ``client`` is for blocking ones.
        config: settings to use instead of the environment's.

    Raises:
        ConfigError: the model has no name, or the key or the address cannot be one.
    """

    def __init__(
        self,
        model: str,
        *,
        api_key: Keys | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        client: Any | None = None,  # noqa: ANN401 - of one of three libraries
        async_client: Any | None = None,  # noqa: ANN401
        config: Config | None = None,
    ) -> None:
        api_key = hidden(api_key)
        config = config or Config.load()
        super().__init__(
            model,
            host=replace(hosts.HOSTS["together"], base_url=config.together_base_url),
            api_key=api_key if api_key is not None else config.together_api_key,
            base_url=base_url,
            timeout=timeout,
            client=client,
            async_client=async_client,
            config=config,
        )

        # The official SDK's clients, made when they are first asked for.
        self._sdk: together.Together | None = None
        self._async_sdks = PerLoop(lambda: self._made().awaiting(*self._shared()))
        self._making = threading.Lock()

    @property
    def facts(self) -> ModelFacts:
        """What the catalogue knows of the model."""
        from aideon_core.catalog.hosted import TOGETHER

        return TOGETHER.get(self.model, ModelFacts())

    def of_model(self, model: str) -> Self:
        """Another model of the same account; see OpenAICompatibleBackend.of_model."""
        twin = super().of_model(model)
        # What one closes the other may be using.
        twin.__dict__.update(
            _sdk=None,
            _async_sdks=PerLoop(lambda: twin._made().awaiting(*twin._shared())),  # noqa: SLF001
            _making=threading.Lock(),
        )
        return twin

    def sdk(self) -> together.Together:
        """The official SDK's client, on the same keys, address and accounting.

        It is one and the same until the backend is closed. A ``Together`` client the backend
        was given is returned as it is.

        Raises:
            MissingDependency: the ``together`` extra is not installed.
            MissingKey: there is no key.
            Offline: the cloud is switched off.
        """
        if self._given.is_together(given := self._given.client):
            return cast("together.Together", given)
        with self._making:
            self._sdk = self._sdk or self._made().blocking(*self._shared())
            return self._sdk

    def async_sdk(self) -> together.AsyncTogether:
        """The official SDK's awaiting client for the running event loop; see ``sdk``."""
        if self._given.is_together(given := self._given.async_client):
            return cast("together.AsyncTogether", given)
        return self._async_sdks.get()

    def close(self) -> None:
        """Close the blocking connections."""
        with self._making:
            made, self._sdk = self._sdk, None
        if made is not None:
            made.close()
        super().close()

    async def aclose(self) -> None:
        """Close the connections of the running loop, and the blocking ones."""
        if (made := self._async_sdks.pop()) is not None:
            await made.close()
        await super().aclose()

    @staticmethod
    def _made() -> ModuleType:
        if find_spec("together") is None:
            raise MissingDependency(
                "The together SDK is not installed.", hint="pip install 'aideon-core[together]'"
            )
        from aideon_core.backends import together_sdk

        return together_sdk

    def _shared(self) -> tuple[KeyRing, str, Account]:
        if (reason := self.unavailable()) is not None:
            raise reason
        if self._ring is None:
            raise ConfigError(
                "This backend sends with a client of yours, and the SDK cannot share its key.",
                hint="Make the SDK's client yourself, or give the backend api_key=.",
            )
        return self._ring, self._root, self._account

    def _account(self, path: str, body: Json) -> None:
        model = str(body.get("model") or "")
        usage = wire.usage_of(body.get("usage"))
        cost = prices.cost("together", model, usage)
        telemetry.tell("answered", host=self.name, path=path, model=model, usage=usage, cost=cost)


def cloud_backend(
    spec: str,
    *,
    api_key: Keys | None = None,
    base_url: str | None = None,
    timeout: float | None = None,
    config: Config | None = None,
) -> OpenAICompatibleBackend:
    """The backend for what ``cloud=`` says: a Together model, or ``"host:model"``.

    Args:
        spec: the model, with its host unless that is Together.
        api_key: see OpenAICompatibleBackend, as for the rest.
        base_url: the server's address.
        timeout: the longest wait for the next byte, in seconds.
        config: settings to use instead of the environment's.

    Raises:
        ConfigError: there is no such host, or a setting cannot be one.
    """
    host, model = hosts.split(spec)
    if host.name == "together":
        return TogetherBackend(
            model, api_key=api_key, base_url=base_url, timeout=timeout, config=config
        )
    return OpenAICompatibleBackend(
        model, host=host, api_key=api_key, base_url=base_url, timeout=timeout, config=config
    )
