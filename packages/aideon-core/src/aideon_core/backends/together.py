"""Together AI over HTTP."""

from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from aideon_core import prices
from aideon_core.backends import wire
from aideon_core.config import Config, Secret
from aideon_core.errors import (
    AideonError,
    AuthError,
    BackendError,
    BadRequest,
    ConfigError,
    ConnectFailed,
    ContextTooLong,
    MissingKey,
    NotFound,
    Offline,
    RateLimited,
    ServerError,
    TimedOut,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from contextlib import AbstractContextManager

    from aideon_core import transport
    from aideon_core.routing import Ability
    from aideon_core.types import Chunk, Completion, Request, Side

_NAME: Final = "together"
_BY_STATUS: Mapping[int, type[BackendError]] = {
    401: AuthError,
    402: AuthError,
    403: AuthError,
    404: NotFound,
    408: TimedOut,
    429: RateLimited,
    504: TimedOut,
    524: TimedOut,
}
_HINTS: Mapping[type[BackendError], str] = {
    AuthError: "Check TOGETHER_API_KEY and the account it belongs to.",
    RateLimited: "Ask again later, or allow another backend to answer.",
    ServerError: "It may pass: ask again later, or allow another backend to answer.",
    ContextTooLong: "Shorten the messages, lower max_tokens, or use a model with a larger context.",
}
_FIRST_REFUSAL, _FIRST_SERVER_ERROR = 400, 500
_OVER_CONTEXT = re.compile(r"tokens.* must be <= \d+|maximum context length", re.IGNORECASE)


class TogetherBackend:
    """Answers from Together AI, or from any server that speaks its wire format.

    Args:
        model: the model id, such as ``"openai/gpt-oss-20b"``; case matters.
        api_key: the key; ``TOGETHER_API_KEY`` when not given.
        base_url: the server, with or without ``/v1``; ``TOGETHER_BASE_URL`` when not given.
        timeout: the longest wait for the next byte, in seconds; two minutes when not given.
        config: settings to use instead of the environment's.

    Raises:
        ConfigError: the model has no name, or the key or the address cannot be one.
    """

    name: str = _NAME
    side: Side = "cloud"
    abilities: frozenset[Ability] = frozenset({"tools", "json", "media"})

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        config: Config | None = None,
    ) -> None:
        config = config or Config.load()
        if not model:
            raise ConfigError("The cloud model has no name.", hint="Try 'openai/gpt-oss-20b'.")
        _check_timeout(timeout)
        self.model = model
        configured = config.together_api_key
        given = api_key or (configured.reveal() if configured else None)
        self._key = _key(given) if given else None
        self._offline = config.offline
        self._root = _root(base_url or config.together_base_url)
        self._where = _shown(self._root)
        self._url = f"{self._root}/v1/chat/completions"
        self._timeout = timeout
        # Threads that ask at once share one pool of connections.
        self._opening = threading.Lock()
        self._client: transport.Client | None = None
        # An async client belongs to the event loop it first ran on, and notebooks and
        # asyncio.run() come with one loop after the other.
        self._async_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, transport.AsyncClient] = (
            WeakKeyDictionary()
        )

    def __repr__(self) -> str:
        return f"TogetherBackend({self.model!r}, base_url={self._where!r})"

    def unavailable(self) -> AideonError | None:
        """Offline when the cloud is switched off, MissingKey when there is no key."""
        if self._offline:
            return Offline(
                "The cloud is switched off.",
                hint="Unset AIDEON_OFFLINE to allow it.",
                backend=self.name,
                model=self.model,
            )
        if self._key is None:
            return MissingKey(
                "There is no key for Together AI.",
                hint="Set TOGETHER_API_KEY or pass api_key=.",
                backend=self.name,
                model=self.model,
            )
        return None

    def complete(self, request: Request) -> Completion:
        """Answer in one piece; one POST."""
        with self._normalized():
            response = self._http().send(self._http_request(request, self._http(), stream=False))
            return self._completion(response)

    async def acomplete(self, request: Request) -> Completion:
        """Answer in one piece; one POST, awaited."""
        await _prices_loaded()
        with self._normalized():
            client = self._async_http()
            response = await client.send(self._http_request(request, client, stream=False))
            return self._completion(response)

    def stream(self, request: Request) -> _Stream:
        """Start an answer; returns once the server has accepted the request."""
        with self._normalized():
            client = self._http()
            response = client.send(self._http_request(request, client, stream=True), stream=True)
            if not response.is_success:
                response.read()
                raise self._error(response)
        return _Stream(response, self._read(response))

    async def astream(self, request: Request) -> _AsyncStream:
        """Start an answer; returns once the server has accepted the request."""
        await _prices_loaded()
        with self._normalized():
            client = self._async_http()
            response = await client.send(
                self._http_request(request, client, stream=True), stream=True
            )
            if not response.is_success:
                await response.aread()
                raise self._error(response)
        return _AsyncStream(response, self._aread(response))

    def close(self) -> None:
        """Close the blocking connections."""
        with self._opening:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close the connections of the running loop, and the blocking ones."""
        with self._opening:
            client = self._async_clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()
        self.close()

    def _http(self) -> transport.Client:
        from aideon_core import transport

        with self._opening:
            if self._client is None:
                self._client = transport.Client(
                    timeout=transport.timeout(self._timeout), limits=transport.LIMITS
                )
            return self._client

    def _async_http(self) -> transport.AsyncClient:
        from aideon_core import transport

        loop = asyncio.get_running_loop()
        with self._opening:
            if loop not in self._async_clients:
                # Connections refer to their loop, so a loop that is over does not go by itself.
                for over in [each for each in self._async_clients if each.is_closed()]:
                    del self._async_clients[over]
                self._async_clients[loop] = transport.AsyncClient(
                    timeout=transport.timeout(self._timeout), limits=transport.LIMITS
                )
            return self._async_clients[loop]

    def _http_request(
        self,
        request: Request,
        client: transport.Client | transport.AsyncClient,
        *,
        stream: bool,
    ) -> transport.Request:
        if (reason := self.unavailable()) is not None or self._key is None:
            raise reason or AssertionError
        return client.build_request(
            "POST",
            self._url,
            json=wire.chat_body(request, self.model, stream=stream),
            headers={"Authorization": f"Bearer {self._key.reveal()}"},
        )

    def _normalized(self) -> AbstractContextManager[None]:
        from aideon_core import transport

        return transport.normalized(self._where, backend=self.name, model=self.model)

    def _completion(self, response: transport.Response) -> Completion:
        if not response.is_success:
            raise self._error(response)
        try:
            body = response.json()
        except (ValueError, RecursionError) as error:
            excerpt = response.text[:200]
            raise ServerError(f"{self._where} answered with no JSON: {excerpt!r}") from error
        completion = wire.completion_of(body)
        model = completion.model or self.model
        return replace(completion, model=model, cost=prices.cost(_NAME, model, completion.usage))

    def _priced(self, chunk: Chunk) -> Chunk:
        if chunk.usage is None:
            return chunk
        return replace(chunk, cost=prices.cost(_NAME, chunk.model or self.model, chunk.usage))

    def _read(self, response: transport.Response) -> Iterator[Chunk]:
        from aideon_core import transport

        reader = wire.FrameReader()
        with self._normalized():
            for event in transport.EventSource(response):
                if (chunk := reader.read(event.data)) is not None:
                    yield self._priced(chunk)
            if not reader.finished:
                raise self._cut_off()

    async def _aread(self, response: transport.Response) -> AsyncIterator[Chunk]:
        from aideon_core import transport

        reader = wire.FrameReader()
        with self._normalized():
            async for event in transport.EventSource(response):
                if (chunk := reader.read(event.data)) is not None:
                    yield self._priced(chunk)
            if not reader.finished:
                raise self._cut_off()

    def _cut_off(self) -> ConnectFailed:
        return ConnectFailed(
            f"{self._where} ended the stream before the answer was whole.",
            backend=self.name,
            model=self.model,
        )

    def _error(self, response: transport.Response) -> BackendError:
        try:
            body = response.json()
        except (ValueError, RecursionError):
            body = response.text[:200]
        status = response.status_code
        fields = body.get("error") if isinstance(body, dict) else None
        facts = fields if isinstance(fields, dict) else {}
        text = wire.error_text(body) or f"no reason given (status {status})"
        kind = self._kind(status, text, facts.get("code"))
        # Together sends the header on good answers too; only here does it mean "wait".
        retry_after = _seconds(response.headers.get("retry-after"))
        hint = _HINTS.get(kind, "")
        if kind is RateLimited and retry_after:
            hint = f"Ask again in {retry_after:g} s, or allow another backend to answer."
        if kind is NotFound and (near := prices.nearest(_NAME, self.model)):
            hint = f"Nearest known models: {', '.join(near)}."
        return kind(
            f"Together answered {status}: {text}",
            hint=hint,
            backend=self.name,
            model=self.model,
            status_code=status,
            code=facts.get("code"),
            param=facts.get("param"),
            request_id=response.headers.get("x-request-id"),
            retry_after=retry_after,
        )

    @staticmethod
    def _kind(status: int, text: str, code: object) -> type[BackendError]:
        # A model that exists but is not serverless is a 400 with the code of an unknown one.
        if code == "model_not_available":
            return NotFound
        if status in (400, 403) and _OVER_CONTEXT.search(text):
            return ContextTooLong
        # A redirect comes from a wrong address or a page to sign in, not from the service.
        refused = _FIRST_REFUSAL <= status < _FIRST_SERVER_ERROR
        return _BY_STATUS.get(status, BadRequest if refused else ServerError)


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


async def _prices_loaded() -> None:
    # In a thread, because the event loop has other callers who should not wait for it.
    if not prices.loaded():
        await asyncio.to_thread(prices.load)


def _check_timeout(timeout: object) -> None:
    if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
        raise ConfigError(f"timeout is {timeout!r} and has to be seconds above 0.")


def _key(key: object) -> Secret:
    # A key read from a file often ends in a line break.
    stripped = key.strip() if isinstance(key, str) else ""
    if not stripped or not stripped.isascii() or not stripped.isprintable():
        raise ConfigError(
            "The key for Together is not one: it has to be text of plain printable characters.",
            hint="Copy it again; it is not repeated here.",
        )
    return Secret(stripped)


def _root(base_url: str) -> str:
    root = base_url.strip().rstrip("/").removesuffix("/chat/completions").removesuffix("/v1")
    parts = urlsplit(root)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(
            f"{_shown(base_url)!r} is no address of a server.",
            hint="It begins with https:// or http://, such as https://api.together.ai.",
        )
    return root


def _shown(url: str) -> str:
    """The address without what may be secret in it: user and password."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _seconds(retry_after: str | None) -> float | None:
    try:
        return max(0.0, float(retry_after or ""))
    except ValueError:
        return None
