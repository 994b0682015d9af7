"""``Client`` and ``AsyncClient``: build a request, choose a policy, drive it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Unpack

from aideon_core import request as requests
from aideon_core.client_base import ClientBase
from aideon_core.drive import Stop, adrive, drive
from aideon_core.streams import AsyncStream, Stream
from aideon_core.types import Chunk, Completion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from aideon_core.backends.base import Backend
    from aideon_core.client_base import CacheUse
    from aideon_core.embeddings import Embeddings, EmbedParams
    from aideon_core.policy import Policy
    from aideon_core.request import ChatParams, Messages
    from aideon_core.tools.running import OnError, ToolRun
    from aideon_core.types import Request


class Client(ClientBase):
    """Answers from a local model when it can and from the cloud when it must.

    Args:
        local: a catalogue id, the path of a ``.gguf`` file, a backend, or None for no local
            side. A list of them is several models, asked in that order.
        cloud: a Together model id, ``"host:model"`` for another host such as
            ``"ollama:llama3.2"``, a backend, or None for no cloud side; or a list.
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
        cache: where answers are kept for equal calls: the path of a file, ``":memory:"``,
            True for a file in the settings' home, or a Cache. None keeps nothing.
        config: settings to use instead of the environment's.

    Raises:
        ConfigError: a model, policy or setting that does not exist.
    """

    def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        policy: str | Policy | None = None,
        cache: CacheUse = None,
        **params: Unpack[ChatParams],
    ) -> Completion:
        """Answer a prompt or a conversation.

        Args:
            messages: a prompt, or Message values or OpenAI-style dicts.
            model: the one model that this call may go to, of the client or another: a
                catalogue id, the path of a ``.gguf`` file, or a model of the client's cloud.
            policy: the rule for this call instead of the client's.
            cache: False goes past the client's cache, ``"refresh"`` asks anew and keeps the
                new answer.
            **params: OpenAI's parameters; see ChatParams. With ``output_type`` the answer is
                read as that type, into the completion's ``value``.

        Raises:
            BadRequest: the arguments are wrong; nothing was sent.
            InvalidOutput: the answer is not of the ``output_type``, even when asked again.
            AideonError: nobody could answer; ``error.route`` tells why.
        """
        request = requests.build(messages, **params)
        *_, last = self._items(request, self._asked(model), policy, cache)
        assert isinstance(last, Completion)
        return last

    def stream(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        policy: str | Policy | None = None,
        cache: CacheUse = None,
        **params: Unpack[ChatParams],
    ) -> Stream:
        """Answer in pieces, as they come; arguments and errors as for ``chat``.

        An error before the first piece falls back as in ``chat``. After one, a model that can
        go on from a given beginning writes the rest; where there is none, the iteration raises
        StreamInterrupted with what was given. A whole answer that is not of the
        ``output_type`` raises InvalidOutput from it: what was shown cannot be taken back, so
        it is not asked for again.
        """
        request, stop = requests.build(messages, **params), Stop()
        items = self._items(request, self._asked(model), policy, cache, stop)
        return Stream(items, stop, request)

    def run_tools(
        self,
        messages: Messages,
        *,
        max_rounds: int = 8,
        on_error: OnError = "tell",
        model: str | None = None,
        policy: str | Policy | None = None,
        cache: CacheUse = None,
        **params: Unpack[ChatParams],
    ) -> ToolRun:
        """Answer with the help of tools: ask, run the calls, tell the results, ask again.

        The calls of one round run at the same time, each in a thread. Wrong arguments and
        unknown names are told to the model, which may mend them.

        Args:
            messages: a prompt, or Message values or OpenAI-style dicts.
            max_rounds: how often the model is asked at most.
            on_error: who hears of a tool's exception: ``"tell"`` the model, or ``"raise"``.
            model: the one model that is asked; see ``chat``.
            policy: the rule for these calls instead of the client's.
            cache: how they use the client's cache; see ``chat``.
            **params: the parameters of ``chat``; ``tools`` holds functions and Tool values. A
                ``tool_choice`` that forces a call holds for the first round; ``deadline``
                bounds all rounds together, and cuts no tool short.

        Raises:
            ConfigError: something in ``tools`` cannot be called.
            ToolLoopExceeded: the rounds were over before there was an answer.
            AideonError: as for ``chat``.
        """
        loop = self._loop(messages, params, max_rounds, on_error)
        ask = partial(self.chat, model=model, policy=policy, cache=cache)
        while calls := loop.take(ask(loop.messages, **loop.params())):
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
        for backend in self._opened():
            backend.close()
        self.space.close()
        if self.cache is not None:
            self.cache.close()

    def _items(
        self,
        request: Request,
        backends: Mapping[str, Backend],
        policy: str | Policy | None,
        cache: CacheUse,
        stop: Stop | None = None,
    ) -> Iterator[Chunk | Completion]:
        """What comes of a call, from the cache or by its plan; with ``stop`` in pieces."""
        stream = stop is not None

        def ask(request: Request) -> Iterator[Chunk | Completion]:
            return drive(self._plan(request, backends, policy, stream=stream), backends, stop)

        question = self._question(request, backends, policy, cache, stream=stream)
        if question is None:
            return ask(request)
        from aideon_core.cache.serving import served

        return served(question, ask, stop or Stop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(ClientBase):
    """The awaiting twin of Client: the same arguments, methods and errors."""

    async def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        policy: str | Policy | None = None,
        cache: CacheUse = None,
        **params: Unpack[ChatParams],
    ) -> Completion:
        """Answer a prompt or a conversation; see Client.chat."""
        request = requests.build(messages, **params)
        items = self._items(request, self._asked(model), policy, cache)
        *_, last = [item async for item in items]
        assert isinstance(last, Completion)
        return last

    def stream(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        policy: str | Policy | None = None,
        cache: CacheUse = None,
        **params: Unpack[ChatParams],
    ) -> AsyncStream:
        """Answer in pieces, as they come; iterate with ``async for``. See Client.stream."""
        request, stop = requests.build(messages, **params), Stop()
        items = self._items(request, self._asked(model), policy, cache, stop)
        return AsyncStream(items, stop, request)

    async def run_tools(
        self,
        messages: Messages,
        *,
        max_rounds: int = 8,
        on_error: OnError = "tell",
        model: str | None = None,
        policy: str | Policy | None = None,
        cache: CacheUse = None,
        **params: Unpack[ChatParams],
    ) -> ToolRun:
        """Answer with the help of tools; see Client.run_tools.

        Async tools are awaited, others run in threads. Cancelling this cancels the tools;
        a thread runs on to its end all the same.
        """
        loop = self._loop(messages, params, max_rounds, on_error)
        ask = partial(self.chat, model=model, policy=policy, cache=cache)
        while calls := loop.take(await ask(loop.messages, **loop.params())):
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
        for backend in self._opened():
            await backend.aclose()
        await self.space.aclose()
        if self.cache is not None:
            await self.cache.aclose()

    def _items(
        self,
        request: Request,
        backends: Mapping[str, Backend],
        policy: str | Policy | None,
        cache: CacheUse,
        stop: Stop | None = None,
    ) -> AsyncIterator[Chunk | Completion]:
        """What comes of a call, from the cache or by its plan; with ``stop`` in pieces."""
        stream = stop is not None

        def ask(request: Request) -> AsyncIterator[Chunk | Completion]:
            return adrive(self._plan(request, backends, policy, stream=stream), backends, stop)

        question = self._question(request, backends, policy, cache, stream=stream)
        if question is None:
            return ask(request)
        from aideon_core.cache.serving import aserved

        return aserved(question, ask, stop or Stop())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
