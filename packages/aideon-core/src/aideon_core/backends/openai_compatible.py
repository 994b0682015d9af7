"""Any server that speaks OpenAI's chat format, over HTTP."""

from __future__ import annotations

import asyncio
import copy
from contextlib import closing, contextmanager
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from aideon_core import prices, telemetry
from aideon_core.backends import hosts, wire
from aideon_core.backends.call_guard import CallGuard
from aideon_core.backends.given import Given
from aideon_core.backends.sender import FIRST_REFUSAL, Sender
from aideon_core.config import Config
from aideon_core.deadline import Deadline
from aideon_core.errors import ConfigError, ConnectFailed, Offline
from aideon_core.keys import KeyRing, hidden
from aideon_core.types import Chunk, Completion, ModelFacts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from contextlib import AbstractContextManager

    from aideon_core import transport
    from aideon_core.backends.hosts import Host
    from aideon_core.backends.openai_embedder import OpenAICompatibleEmbedder
    from aideon_core.errors import AideonError
    from aideon_core.keys import Keys
    from aideon_core.routing import Ability
    from aideon_core.types import Json, Request, Side

T = TypeVar("T", Completion, Chunk)

_LIST_SECONDS = 20.0
_LONGEST_TIMEOUT = 86_400.0
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class OpenAICompatibleBackend:
    """Answers from a server that speaks OpenAI's chat format.

    Args:
        model: the model id, as the server names it.
        host: a name such as ``"groq"`` or ``"ollama"``, or a Host of your own.
        api_key: the key, several of them, or where they come from (see KeyRing.of); the
            host's environment variable when not given.
        base_url: the server, with or without ``/v1``; the host's own when not given.
        timeout: the longest wait for the next byte, in seconds; two minutes when not given.
        client: a ``Together``, ``OpenAI`` or httpx client of yours to send with: its address,
            its key and its settings are used, and it stays yours to close.
        async_client: the same for awaiting calls, when ``client`` is for blocking ones.
        config: settings to use instead of the environment's.

    Raises:
        ConfigError: the model has no name, there is no such host, the key or the address
            cannot be one, or a client comes with settings it would not follow.
    """

    side: Side = "cloud"

    def __init__(  # noqa: PLR0913 - keyword-only, all but one optional
        self,
        model: str,
        *,
        host: str | Host,
        api_key: Keys | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        client: Any | None = None,  # noqa: ANN401 - of one of three libraries
        async_client: Any | None = None,  # noqa: ANN401
        config: Config | None = None,
    ) -> None:
        # Wrapped at once, and named at once: a traceback from here shows both.
        api_key = hidden(api_key)
        self.model, self._where = model, ""
        self._host = hosts.named(host) if isinstance(host, str) else host
        config = config or Config.load()
        _checked_model(model)
        _check_timeout(timeout)
        self.name = self._host.name
        self.abilities: frozenset[Ability] = self._host.abilities
        self._offline = config.offline
        self._given = given = Given.of(client, async_client)
        given.check(api_key=api_key, base_url=base_url, timeout=timeout)
        self._root = hosts.root(base_url or given.base_url or self._host.base_url)
        self._where = hosts.shown(self._root)
        self._ring = None if given.has_key else self._keys(api_key)
        self._timeout = timeout
        url = f"{self._root}/v1/chat/completions"
        self._sender = Sender(lambda: given.channel(url, timeout), self._ring, self._host, model)
        # Known of the model's family, or learned from the first corrupt stream.
        self._holds_calls = wire.streams_corrupt_calls(model)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, base_url={self._where!r})"

    @property
    def facts(self) -> ModelFacts:
        """Nothing: such a server does not tell."""
        return ModelFacts()

    def of_model(self, model: str) -> Self:
        """Another model of the same server, on the same keys, connections and settings.

        Args:
            model: its id, as the server names it.

        Raises:
            ConfigError: the model has no name.
        """
        twin = copy.copy(self)
        twin.__dict__.update(
            model=_checked_model(model),
            _sender=self._sender.of_model(model),
            _holds_calls=wire.streams_corrupt_calls(model),
        )
        return twin

    def unavailable(self) -> AideonError | None:
        """Offline when the cloud is switched off, MissingKey when there is no key."""
        if self._offline and not self._is_here():
            return Offline(
                "The cloud is switched off.",
                hint="Unset AIDEON_OFFLINE to allow it.",
                backend=self.name,
                model=self.model,
            )
        missing = self._ring.unavailable() if self._ring else None
        if missing is not None:
            missing.backend, missing.model = self.name, self.model
        return missing

    def complete(self, request: Request) -> Completion:
        """Answer in one piece; one POST for each key that has to be tried."""
        with self._normalized():
            deadline = Deadline(request.deadline)
            response = self._sender.send(self._body(request, stream=False), deadline)
            return self._completion(response.read(), request)

    async def acomplete(self, request: Request) -> Completion:
        """Answer in one piece; see ``complete``."""
        await self._priceable()
        with self._normalized():
            deadline = Deadline(request.deadline)
            response = await self._sender.asend(self._body(request, stream=False), deadline)
            return self._completion(await response.aread(), request)

    def stream(self, request: Request) -> _Stream:
        """Start an answer; returns once the server has accepted the request."""
        with self._normalized():
            deadline = Deadline(request.deadline)
            response = self._sender.send(self._body(request, stream=True), deadline)
        return _Stream(response, self._read(response, request, deadline))

    async def astream(self, request: Request) -> _AsyncStream:
        """Start an answer; returns once the server has accepted the request."""
        await self._priceable()
        with self._normalized():
            deadline = Deadline(request.deadline)
            response = await self._sender.asend(self._body(request, stream=True), deadline)
        return _AsyncStream(response, self._aread(response, request, deadline))

    def models(self) -> Sequence[Json]:
        """The models the server lists, a row each, as it lists them; one GET.

        Raises:
            ConfigError: this backend sends with an SDK's client, which can list them itself.
            AideonError: the list cannot be had.
        """
        if (reason := self.unavailable()) is not None:
            raise reason
        with self._normalized():
            deadline = Deadline(_LIST_SECONDS)
            with closing(self._given.http(f"{self._root}/v1/models")) as http:
                key = self._ring.lease(deadline.left()) if self._ring else None
                response = http.get(key, deadline)
                body = response.read()
            if response.status >= FIRST_REFUSAL:
                raise self._sender.failure(response, body)
            return wire.rows_of(wire.parsed(body, "The list of models"))

    def embedder(self, model: str | None = None) -> OpenAICompatibleEmbedder:
        """An embedding model of the same server, on the same keys and settings.

        Args:
            model: its id, as the server names it; this backend's own when not given.
        """
        from aideon_core.backends.openai_embedder import OpenAICompatibleEmbedder

        model = model or self.model
        url = f"{self._root}/v1/embeddings"
        channel = partial(self._given.channel, url, self._timeout)
        return OpenAICompatibleEmbedder(
            model,
            host=self._host,
            where=self._where,
            sender=Sender(channel, self._ring, self._host, model),
            unavailable=self.unavailable,
            masked=self._masked,
        )

    def close(self) -> None:
        """Close the blocking connections."""
        self._sender.close()

    async def aclose(self) -> None:
        """Close the connections of the running loop, and the blocking ones."""
        await self._sender.aclose()

    def _keys(self, api_key: Keys | None) -> KeyRing | None:
        variable = self._host.key_variable
        if api_key is None and variable is None:
            return None
        return KeyRing.of(api_key or f"env:{variable}", name=self._host.title)

    def _is_here(self) -> bool:
        return self._host.key_variable is None and urlsplit(self._root).hostname in _LOOPBACK

    def _body(self, request: Request, *, stream: bool) -> Json:
        if (reason := self.unavailable()) is not None:
            raise reason
        return wire.chat_body(request, self.model, stream=stream, dialect=self._host.dialect)

    def _normalized(self) -> AbstractContextManager[None]:
        from aideon_core import transport

        return transport.normalized(
            self._where, backend=self.name, model=self.model, masked=self._masked
        )

    def _masked(self, text: str) -> str:
        return self._ring.masked(text) if self._ring else self._given.masked(text)

    def _completion(self, content: bytes, request: Request) -> Completion:
        body = wire.parsed(content, f"The answer of {self._where}")
        completion = wire.completion_of(body, model=self.model, request=request)
        self._report(completion.extra)
        model = completion.model or self.model
        cost = self._cost(model, completion)
        return self._told(replace(completion, model=model, cost=cost))

    def _told(self, answer: T) -> T:
        telemetry.tell(
            "answered",
            host=self.name,
            path="/v1/chat/completions",
            model=answer.model,
            usage=answer.usage,
            cost=answer.cost,
        )
        return answer

    def _cost(self, model: str, answer: Completion | Chunk) -> Decimal | None:
        if self._host.prices is None:
            return Decimal(0)
        return prices.cost(self._host.prices, model, answer.usage)

    def _priced(self, chunk: Chunk) -> Chunk:
        if chunk.extra:
            self._report(chunk.extra)
        if chunk.usage is None:
            return chunk
        return replace(chunk, cost=self._cost(chunk.model or self.model, chunk))

    def _report(self, extra: Json) -> None:
        """Tell, once for each, of what this version has no name for: the host has moved on."""
        for field in extra:
            telemetry.tell_once("wire.unknown", host=self.name, field=field)

    async def _priceable(self) -> None:
        # In a thread, because the event loop has other callers who should not wait for it.
        if self._host.prices and not prices.loaded():
            await asyncio.to_thread(prices.load)

    def _read(
        self, response: transport.Response, request: Request, deadline: Deadline
    ) -> Iterator[Chunk]:
        reader = wire.AnswersReader(self.model, request)
        guard = CallGuard(request, holds=self._holds_calls)
        cut: Exception | None = None
        with self._normalized(), self._learning(guard):
            try:
                for event in response.events():
                    for chunk in reader.read(event.data, event.event):
                        yield from guard.passed(self._priced(chunk))
            except Exception as error:  # noqa: BLE001 - raised below
                cut = error
            # What the reader held back had come, however the stream ended.
            for last in reader.close():
                yield from guard.passed(self._priced(last))
            if guard.asks_again and cut is None:
                self._check_end(reader, guard, cut)
                again = self.complete(replace(request, deadline=deadline.left()))
                yield from guard.mended(again)
            else:
                yield from guard.sound
                self._check_end(reader, guard, cut)

    async def _aread(
        self, response: transport.Response, request: Request, deadline: Deadline
    ) -> AsyncIterator[Chunk]:
        reader = wire.AnswersReader(self.model, request)
        guard = CallGuard(request, holds=self._holds_calls)
        cut: Exception | None = None
        with self._normalized(), self._learning(guard):
            try:
                async for event in response.aevents():
                    for chunk in reader.read(event.data, event.event):
                        for passed in guard.passed(self._priced(chunk)):
                            yield passed
            except Exception as error:  # noqa: BLE001 - raised below
                cut = error
            for last in reader.close():
                for passed in guard.passed(self._priced(last)):
                    yield passed
            if guard.asks_again and cut is None:
                self._check_end(reader, guard, cut)
                again = await self.acomplete(replace(request, deadline=deadline.left()))
                for chunk in guard.mended(again):
                    yield chunk
            else:
                for chunk in guard.sound:
                    yield chunk
                self._check_end(reader, guard, cut)

    @contextmanager
    def _learning(self, guard: CallGuard) -> Iterator[None]:
        try:
            yield
        finally:
            self._holds_calls = self._holds_calls or guard.saw_corrupt_calls

    def _check_end(
        self, reader: wire.AnswersReader, guard: CallGuard, cut: Exception | None
    ) -> None:
        if guard.counted is not None:
            self._told(guard.counted)
        if cut is not None:
            raise cut
        if not reader.finished:
            raise ConnectFailed(f"{self._where} ended the stream before the answer was whole.")


class _Stream:
    """A response and the chunks read from it; closing stops the server's work."""

    def __init__(self, response: transport.Response, chunks: Iterator[Chunk]) -> None:
        self._response = response
        self._chunks = chunks

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        return next(self._chunks)

    def close(self) -> None:
        self._response.close()


class _AsyncStream:
    """The awaiting twin of _Stream."""

    def __init__(self, response: transport.Response, chunks: AsyncIterator[Chunk]) -> None:
        self._response = response
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        await self._response.aclose()


def _checked_model(model: str) -> str:
    if not model:
        raise ConfigError("The cloud model has no name.", hint="Try 'openai/gpt-oss-20b'.")
    return model


def _check_timeout(timeout: object) -> None:
    sound = isinstance(timeout, int | float) and 0 < timeout <= _LONGEST_TIMEOUT
    if timeout is not None and not sound:
        raise ConfigError(f"timeout is {timeout!r} and has to be seconds above 0.")
