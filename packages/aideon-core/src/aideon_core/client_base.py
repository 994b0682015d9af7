"""What both clients share: whom they may ask, by which policy, and everything but the asking."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, Unpack

from aideon_core import request as requests
from aideon_core import routing
from aideon_core.backends import targets
from aideon_core.backends.base import candidate
from aideon_core.backends.llama_cpp import LlamaCppBackend
from aideon_core.backends.together import TogetherBackend
from aideon_core.config import Config
from aideon_core.errors import ConfigError
from aideon_core.keys import hidden
from aideon_core.policy import Plan, Policy, Prefer, named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike
    from typing import Self

    from together import AsyncTogether, Together

    from aideon_core.backends.base import Backend
    from aideon_core.backends.embedders import EmbeddingTarget
    from aideon_core.backends.targets import Target
    from aideon_core.cache import Cache
    from aideon_core.cache.serving import Question
    from aideon_core.keys import Keys
    from aideon_core.request import ChatParams, Messages
    from aideon_core.tools.running import Loop, OnError
    from aideon_core.types import Request


class _Unset:
    def __repr__(self) -> str:
        return "the configured default"


CacheUse: TypeAlias = Literal["refresh"] | bool | None

UNSET: Final = _Unset()
_MOST_OTHERS: Final = 32


class ClientBase:
    """Everything of a client but the driving.

    Attributes:
        backends: who may be asked, by name, in the order given: the local ones first.
        policy: the rule for choosing among them.
        space: what ``embed`` embeds with.
        cache: the answers given before, None where none are kept.
    """

    def __init__(  # noqa: PLR0913 - keyword-only, all optional
        self,
        *,
        local: Target | Sequence[Target] | _Unset | None = UNSET,
        cloud: Target | Sequence[Target] | _Unset | None = UNSET,
        policy: str | Policy | _Unset = UNSET,
        embedding: EmbeddingTarget | _Unset | None = UNSET,
        api_key: Keys | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        cache: Cache | str | PathLike[str] | bool | None = None,
        config: Config | None = None,
    ) -> None:
        from aideon_core.backends.embedders import DEFAULT, space_of

        api_key = hidden(api_key)
        # Named at once: a traceback from here shows the client.
        self.backends: dict[str, Backend] = {}
        self.policy = named("local-first")
        self.cache: Cache | None = None
        self._config = config = config or Config.load()
        # Backends of models that single calls asked for, by what they called them.
        self._others: dict[str, dict[str, Backend]] = {}
        self.policy = named(config.policy if isinstance(policy, _Unset) else policy)
        if max_retries is not None:
            self.policy = _retrying(self.policy, max_retries)
        local = config.local if isinstance(local, _Unset) else local
        cloud = config.cloud if isinstance(cloud, _Unset) else cloud
        here = targets.of_local(local, config)
        there = targets.of_cloud(
            cloud, api_key=api_key, base_url=base_url, timeout=timeout, config=config
        )
        self.backends = targets.by_name([*here, *there])
        self.space = space_of(
            DEFAULT if isinstance(embedding, _Unset) else embedding,
            cloud=there[0] if there else None,
            api_key=api_key,
            base_url=base_url,
            timeout=timeout,
            config=config,
        )
        if not self.backends and not self.space.embedders:
            raise ConfigError("There is no backend to ask.", hint="Give local=, cloud=, or both.")
        if cache is not None:
            from aideon_core.cache import Cache

            self.cache = Cache.of(cache, config)

    @classmethod
    def sharing(cls, other: ClientBase) -> Self:
        """A client with the other's backends and policy: its blocking or awaiting twin."""
        twin = cls.__new__(cls)
        twin.__dict__.update(other.__dict__)
        return twin

    def words(
        self, given: Mapping[str, object] = MappingProxyType({})
    ) -> dict[str, str | list[str] | None]:
        """The words that describe this client, for an object that takes it or them.

        Args:
            given: what the object was given; a word that says something else is refused.

        Raises:
            ConfigError: ``given`` contradicts the client.
        """
        said: dict[str, str | list[str] | None] = {
            "local": self._models("local"),
            "cloud": self._models("cloud"),
            "policy": self.policy.name,
            "api_key": None,
            "base_url": None,
            "timeout": None,
            "max_retries": None,
        }
        # Words that say the same are no conflict: copies are made from every field at once.
        both = sorted(word for word in said.keys() & given.keys() if given[word] != said[word])
        if both:
            raise ConfigError(
                f"client= already says what {', '.join(both)} would.",
                hint="Give one or the other.",
            )
        return said

    def __deepcopy__(self, memo: object) -> Self:
        # A client stands for connections and a loaded model; a copy of an agent shares them.
        return self

    def __repr__(self) -> str:
        backends = ", ".join(repr(backend) for backend in self.backends.values())
        return f"{type(self).__name__}({backends}, policy={self.policy.name!r})"

    @property
    def together(self) -> Together:
        """The official Together SDK on the same keys, address and accounting.

        For what this package leaves to it: images, audio, files, batches, fine-tuning.

        Raises:
            ConfigError: there is no Together backend, no key, or no ``together`` extra.
            Offline: the cloud is switched off.
        """
        return self._together().sdk()

    @property
    def together_async(self) -> AsyncTogether:
        """The official Together SDK, awaiting; see ``Client.together``."""
        return self._together().async_sdk()

    def count_tokens(self, messages: Messages, **params: Unpack[ChatParams]) -> int:
        """How many tokens a prompt has, without asking anybody.

        It is exact for the client's local model, where there is one and its file is here; for
        a cloud model, and for a prompt with pictures, it is an estimate.

        Args:
            messages: a prompt, or Message values or OpenAI-style dicts.
            **params: the parameters of ``chat``; tools are part of the prompt.

        Raises:
            BadRequest: the arguments are wrong, or the model's template refuses them.
            AideonError: the model's file cannot be read, or has no template.
        """
        request = requests.build(messages, **params)
        # What no local model reads goes to the cloud.
        local = None if "media" in routing.needs(request) else self._vocabulary()
        return routing.estimated_tokens(request) if local is None else local.count_tokens(request)

    def tokens(self, text: str) -> list[int] | None:
        """The tokens of a text by the local model's vocabulary; None where there is none."""
        local = self._vocabulary()
        return None if local is None else local.tokens(text)

    def _vocabulary(self) -> LlamaCppBackend | None:
        for backend in self.backends.values():
            if isinstance(backend, LlamaCppBackend) and backend.unavailable() is None:
                return backend
        return None

    def _together(self) -> TogetherBackend:
        for backend in self.backends.values():
            if isinstance(backend, TogetherBackend):
                return backend
        raise ConfigError(
            "This client has no Together backend.", hint="Give it a Together model as cloud=."
        )

    def _models(self, side: str) -> str | list[str] | None:
        models = [each.model for each in self.backends.values() if each.side == side]
        return models if len(models) > 1 else next(iter(models), None)

    def _loop(
        self, messages: Messages, params: ChatParams, max_rounds: int, on_error: OnError
    ) -> Loop:
        from aideon_core.tools.running import Loop

        requests.build(messages, **params)
        # What an output_type adds to the messages is added to every round anew.
        turns = requests.build(messages).messages
        return Loop(turns, params, max_rounds=max_rounds, on_error=on_error)

    def _opened(self) -> list[Backend]:
        """Everything there is to close."""
        others = [each for found in tuple(self._others.values()) for each in found.values()]
        return [*self.backends.values(), *others]

    def _asked(self, model: str | None) -> Mapping[str, Backend]:
        """Who may answer a call that asks for one model, or for none in particular."""
        if model is None:
            return self.backends
        if (found := self._others.get(targets.checked(model))) is None:
            found = targets.named(model, self.backends, self._config)
            if len(self._others) >= _MOST_OTHERS:
                self._others.pop(next(iter(self._others)), None)
            self._others[model] = found
        return found

    def _plan(
        self,
        request: Request,
        backends: Mapping[str, Backend],
        policy: str | Policy | None,
        *,
        stream: bool,
    ) -> Plan:
        candidates = [
            candidate(name, backend, backend.unavailable()) for name, backend in backends.items()
        ]
        return self._ruled(policy).plan(request, candidates, stream=stream)

    def _question(
        self,
        request: Request,
        backends: Mapping[str, Backend],
        policy: str | Policy | None,
        cache: CacheUse,
        *,
        stream: bool,
    ) -> Question | None:
        """The call as the cache sees it; None where it goes past the cache."""
        if not (cache is None or isinstance(cache, bool) or cache == "refresh"):
            raise ConfigError(
                f"cache= is {cache!r}.", hint="A call takes True, False, 'refresh' or None."
            )
        if cache and self.cache is None:
            raise ConfigError(
                f"cache= is {cache!r}, and this client keeps no answers.",
                hint="Give the client a cache=.",
            )
        if self.cache is None or cache is False:
            return None
        from aideon_core.cache.serving import question

        return question(
            cache=self.cache,
            policy=self._ruled(policy),
            request=request,
            backends=backends,
            stream=stream,
            refresh=cache == "refresh",
        )

    def _ruled(self, policy: str | Policy | None) -> Policy:
        if policy is None:
            return self.policy
        other = named(policy)
        # A name says which sides, and nothing of how patient to be.
        if isinstance(policy, str) and isinstance(self.policy, Prefer):
            return _retrying(other, self.policy.max_retries)
        return other


def _retrying(policy: Policy, max_retries: int) -> Policy:
    if not isinstance(policy, Prefer):
        raise ConfigError(
            f"max_retries= does not reach {policy!r}.", hint="Give it to the policy itself."
        )
    if max_retries not in range(100):
        raise ConfigError(f"max_retries is {max_retries!r} and has to be a number from 0 to 99.")
    return replace(policy, max_retries=max_retries)
