"""``Client`` and ``AsyncClient``: build a request, choose a policy, drive it."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias, Unpack

from aideon_core import request as requests
from aideon_core.backends.base import Backend
from aideon_core.backends.llama_cpp import LlamaCppBackend
from aideon_core.backends.together import TogetherBackend, cloud_backend
from aideon_core.config import Config
from aideon_core.drive import Stop, adrive, drive
from aideon_core.errors import ConfigError
from aideon_core.keys import hidden
from aideon_core.policy import Plan, Policy, Prefer, named
from aideon_core.routing import Candidate
from aideon_core.streams import AsyncStream, Stream
from aideon_core.types import Chunk, Completion

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from together import AsyncTogether, Together

    from aideon_core.backends.embedders import EmbeddingTarget
    from aideon_core.embeddings import Embeddings, EmbedParams
    from aideon_core.keys import Keys
    from aideon_core.request import ChatParams, Messages
    from aideon_core.tools.running import Loop, OnError, ToolRun
    from aideon_core.types import Request


class _Unset:
    def __repr__(self) -> str:
        return "the configured default"


UNSET: Final = _Unset()
Target: TypeAlias = str | PathLike[str] | Backend | None
"""A model's name or path, a ready backend, or None for none."""


class _Base:
    """What both clients share: everything but the driving."""

    def __init__(  # noqa: PLR0913 - keyword-only, all optional
        self,
        *,
        local: Target | _Unset = UNSET,
        cloud: Target | _Unset = UNSET,
        policy: str | Policy | _Unset = UNSET,
        embedding: EmbeddingTarget | _Unset | None = UNSET,
        api_key: Keys | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        config: Config | None = None,
    ) -> None:
        from aideon_core.backends.embedders import DEFAULT, space_of

        api_key = hidden(api_key)
        # Named at once: a traceback from here shows the client.
        self.backends: dict[str, Backend] = {}
        self.policy = named("local-first")
        config = config or Config.load()
        local = config.local if isinstance(local, _Unset) else local
        cloud = config.cloud if isinstance(cloud, _Unset) else cloud
        self.policy = named(config.policy if isinstance(policy, _Unset) else policy)
        if max_retries is not None:
            self.policy = _retrying(self.policy, max_retries)
        if not (local is None or isinstance(local, str | PathLike | Backend)):
            raise ConfigError(f"local= is {local!r}.", hint="It takes a name, a path or a backend.")
        if not (cloud is None or isinstance(cloud, str | PathLike | Backend)):
            raise ConfigError(f"cloud= is {cloud!r}.", hint="It takes a name or a backend.")
        if isinstance(local, str | PathLike):
            local = LlamaCppBackend(local, config=config)
        if isinstance(cloud, PathLike):
            raise ConfigError(f"cloud= is the path {cloud!s}.", hint="A model file goes to local=.")
        if isinstance(cloud, str):
            cloud = cloud_backend(
                cloud, api_key=api_key, base_url=base_url, timeout=timeout, config=config
            )
        elif cloud is not None and (api_key, base_url, timeout) != (None, None, None):
            raise ConfigError(
                f"api_key=, base_url= and timeout= do not reach {cloud!r}.",
                hint="Give them to the backend itself, or name the cloud model instead.",
            )
        self.backends = {backend.name: backend for backend in (local, cloud) if backend is not None}
        self.space = space_of(
            DEFAULT if isinstance(embedding, _Unset) else embedding,
            cloud=cloud,
            api_key=api_key,
            base_url=base_url,
            timeout=timeout,
            config=config,
        )
        if not self.backends and not self.space.embedders:
            raise ConfigError("There is no backend to ask.", hint="Give local=, cloud=, or both.")
        if None not in (local, cloud) and len(self.backends) == 1:
            raise ConfigError(f"local= and cloud= are both named {local.name!r}.")  # type: ignore[union-attr]

    @classmethod
    def sharing(cls, other: Client | AsyncClient) -> Self:
        """A client with the other's backends and policy: its blocking or awaiting twin."""
        twin = cls.__new__(cls)
        twin.policy, twin.backends, twin.space = other.policy, other.backends, other.space
        return twin

    def words(self, given: Mapping[str, object] = MappingProxyType({})) -> dict[str, str | None]:
        """The words that describe this client, for an object that takes it or them.

        Args:
            given: what the object was given; a word that says something else is refused.

        Raises:
            ConfigError: ``given`` contradicts the client.
        """
        models = {backend.side: backend.model for backend in self.backends.values()}
        said = {
            "local": models.get("local"),
            "cloud": models.get("cloud"),
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

    def _together(self) -> TogetherBackend:
        for backend in self.backends.values():
            if isinstance(backend, TogetherBackend):
                return backend
        raise ConfigError(
            "This client has no Together backend.", hint="Give it a Together model as cloud=."
        )

    def _loop(
        self, messages: Messages, params: ChatParams, max_rounds: int, on_error: OnError
    ) -> Loop:
        from aideon_core.tools.running import Loop

        requests.build(messages, **params)
        # What an output_type adds to the messages is added to every round anew.
        turns = requests.build(messages).messages
        return Loop(turns, params, max_rounds=max_rounds, on_error=on_error)

    def _plan(self, request: Request, *, stream: bool) -> Plan:
        candidates = [
            Candidate(b.name, b.side, b.model, b.abilities, b.unavailable())
            for b in self.backends.values()
        ]
        return self.policy.plan(request, candidates, stream=stream)


def _retrying(policy: Policy, max_retries: int) -> Policy:
    if not isinstance(policy, Prefer):
        raise ConfigError(
            f"max_retries= does not reach {policy!r}.", hint="Give it to the policy itself."
        )
    if max_retries not in range(100):
        raise ConfigError(f"max_retries is {max_retries!r} and has to be a number from 0 to 99.")
    return replace(policy, max_retries=max_retries)


class Client(_Base):
    """Answers from a local model when it can and from the cloud when it must.

    Args:
        local: a catalogue id, the path of a ``.gguf`` file, a backend, or None for no local
            side.
        cloud: a Together model id, ``"host:model"`` for another host such as
            ``"ollama:llama3.2"``, a backend, or None for no cloud side.
        policy: ``"local-first"``, ``"cloud-first"``, ``"local-only"``, ``"cloud-only"``, or
            a Policy value.
        embedding: the model that ``embed`` uses: the path of a ``.gguf`` file, a Together id,
            ``"host:model"``, an EmbeddingModel where one model is in both places, or an
            embedder. Where the cloud is Together's, it is one of Together's unless given.
        api_key: the cloud's key, several of them, or where they come from (see KeyRing.of);
            ``TOGETHER_API_KEY``, or the host's own variable, when not given.
        base_url: the cloud's address; ``TOGETHER_BASE_URL`` when not given.
        timeout: the longest wait for the cloud's next byte, in seconds.
        max_retries: how often the last side left is asked again after a failure that may
            pass; 2 when not given.
        config: settings to use instead of the environment's.

    Raises:
        ConfigError: a model, policy or setting that does not exist.
    """

    def chat(self, messages: Messages, **params: Unpack[ChatParams]) -> Completion:
        """Answer a prompt or a conversation.

        Args:
            messages: a prompt, or Message values or OpenAI-style dicts.
            **params: OpenAI's parameters; see ChatParams. With ``output_type`` the answer is
                read as that type, into the completion's ``value``.

        Raises:
            BadRequest: the arguments are wrong; nothing was sent.
            InvalidOutput: the answer is not of the ``output_type``, even when asked again.
            AideonError: nobody could answer; ``error.route`` tells why.
        """
        request = requests.build(messages, **params)
        *_, last = drive(self._plan(request, stream=False), self.backends)
        assert isinstance(last, Completion)
        return last

    def stream(self, messages: Messages, **params: Unpack[ChatParams]) -> Stream:
        """Answer in pieces, as they come; arguments and errors as for ``chat``.

        An error before the first piece falls back as in ``chat``; one after it raises
        StreamInterrupted from the iteration. A whole answer that is not of the
        ``output_type`` raises InvalidOutput from it: what was shown cannot be taken back, so
        it is not asked for again.
        """
        request = requests.build(messages, **params)
        stop = Stop()
        items = drive(self._plan(request, stream=True), self.backends, stop)
        return Stream(items, stop, request)

    def run_tools(
        self,
        messages: Messages,
        *,
        max_rounds: int = 8,
        on_error: OnError = "tell",
        **params: Unpack[ChatParams],
    ) -> ToolRun:
        """Answer with the help of tools: ask, run the calls, tell the results, ask again.

        The calls of one round run at the same time, each in a thread. Wrong arguments and
        unknown names are told to the model, which may mend them.

        Args:
            messages: a prompt, or Message values or OpenAI-style dicts.
            max_rounds: how often the model is asked at most.
            on_error: who hears of a tool's exception: ``"tell"`` the model, or ``"raise"``.
            **params: the parameters of ``chat``; ``tools`` holds functions and Tool values. A
                ``tool_choice`` that forces a call holds for the first round; ``deadline``
                bounds all rounds together, and cuts no tool short.

        Raises:
            ConfigError: something in ``tools`` cannot be called.
            ToolLoopExceeded: the rounds were over before there was an answer.
            AideonError: as for ``chat``.
        """
        loop = self._loop(messages, params, max_rounds, on_error)
        while calls := loop.take(self.chat(loop.messages, **loop.params())):
            loop.answer(calls, loop.run(calls))
        return loop.result()

    def embed(self, texts: str | Sequence[str], **params: Unpack[EmbedParams]) -> Embeddings:
        """Put texts among their likes: a vector for each, all by one model.

        Args:
            texts: one or several, none of them empty.
            **params: see EmbedParams.

        Raises:
            BadRequest: the arguments are wrong; nothing was sent.
            ContextTooLong: a text does not fit; names it.
            ConfigError: the client has no embedding model.
            AideonError: nobody could answer; ``error.route`` tells why.
        """
        *_, last = drive(self.space.plan(self.policy, texts, **params), self.space.embedders)
        assert not isinstance(last, Chunk)
        return last

    def close(self) -> None:
        """Let go of connections and models."""
        for backend in self.backends.values():
            backend.close()
        self.space.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(_Base):
    """The awaiting twin of Client: the same arguments, methods and errors."""

    async def chat(self, messages: Messages, **params: Unpack[ChatParams]) -> Completion:
        """Answer a prompt or a conversation; see Client.chat."""
        plan = self._plan(requests.build(messages, **params), stream=False)
        *_, last = [item async for item in adrive(plan, self.backends)]
        assert isinstance(last, Completion)
        return last

    def stream(self, messages: Messages, **params: Unpack[ChatParams]) -> AsyncStream:
        """Answer in pieces, as they come; iterate with ``async for``. See Client.stream."""
        request = requests.build(messages, **params)
        stop = Stop()
        items = adrive(self._plan(request, stream=True), self.backends, stop)
        return AsyncStream(items, stop, request)

    async def run_tools(
        self,
        messages: Messages,
        *,
        max_rounds: int = 8,
        on_error: OnError = "tell",
        **params: Unpack[ChatParams],
    ) -> ToolRun:
        """Answer with the help of tools; see Client.run_tools.

        Async tools are awaited, others run in threads. Cancelling this cancels the tools;
        a thread runs on to its end all the same.
        """
        loop = self._loop(messages, params, max_rounds, on_error)
        while calls := loop.take(await self.chat(loop.messages, **loop.params())):
            loop.answer(calls, await loop.arun(calls))
        return loop.result()

    async def embed(self, texts: str | Sequence[str], **params: Unpack[EmbedParams]) -> Embeddings:
        """Put texts among their likes; see Client.embed."""
        plan = self.space.plan(self.policy, texts, **params)
        *_, last = [item async for item in adrive(plan, self.space.embedders)]
        assert not isinstance(last, Chunk)
        return last

    async def close(self) -> None:
        """Let go of connections and models."""
        for backend in self.backends.values():
            await backend.aclose()
        await self.space.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
