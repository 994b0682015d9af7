"""Anybody's chat model as a backend: ``ChatModelLeg``."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, TypeVar

from langchain_core.runnables import Runnable

from aideon_core import prices
from aideon_core.backends.base import Backend
from aideon_core.config import Config
from aideon_core.deadline import Deadline
from aideon_core.errors import ConfigError, ConnectFailed
from aideon_core.types import Chunk, Completion
from langchain_aideon.router import asking, capabilities, runs
from langchain_aideon.router.answers import Reader, completion_of
from langchain_aideon.router.failures import classified, switched_off

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from contextlib import AbstractContextManager

    from langchain_core.messages import BaseMessage

    from aideon_core.errors import AideonError
    from aideon_core.routing import Ability
    from aideon_core.types import ModelFacts, Request, Side

T = TypeVar("T")
Answer = TypeVar("Answer", Completion, Chunk)
_END: Final = object()


class ChatModelLeg:
    """A chat model of any library, with all it is wrapped in, as a backend of a client.

    It is sent the caller's own messages and gives its own answers. It is asked as a part of
    the run that asks: handlers of that run hear of nothing twice, those that the model was
    made with hear of it as ever, and so do its cache and its rate limiter.

    A ``deadline`` ends an awaited call where it is. A blocking call cannot be ended: it is
    left to itself in a thread, and its answer, when it comes, is thrown away. So is closing:
    a stream that waits for a piece in another thread or task ends at that piece.

    Args:
        model: a chat model, or a Runnable around one that gives messages.
        side: where it computes.
        name: unique among the legs; the provider's when not given.
        abilities: what it can do besides what its class and its profile tell.
        facts: what is known of it, instead of what its profile tells.
        prices: the provider's id in the genai-prices data, instead of what its class and its
            address tell; a local model costs nothing.

    Raises:
        ConfigError: it is no Runnable, or is said to go on from a beginning.
    """

    def __init__(
        self,
        model: Runnable[Any, Any],
        *,
        side: Side,
        name: str | None = None,
        abilities: Iterable[Ability] = (),
        facts: ModelFacts | None = None,
        prices: str | None = None,
    ) -> None:
        if not isinstance(model, Runnable):
            raise ConfigError(
                f"{model!r} is no chat model.",
                hint="Give a LangChain chat model, or a Runnable around one.",
            )
        provider, self.model = capabilities.names(model)
        self.runnable = model
        self.side: Side = side
        self.name = name or provider
        self.abilities = capabilities.abilities(model, side) | capabilities.declared(abilities)
        self.facts = facts or capabilities.facts(model)
        self._prices = prices or capabilities.price_list(model)
        self._tells_its_end = capabilities.speaks_openai(capabilities.wrapped(model)[0])
        self._offline = side == "cloud" and Config.load().offline
        self._besides: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, side={self.side!r}, name={self.name!r})"

    @property
    def identity(self) -> str:
        """What tells its answers from those of a leg with other settings, for caches."""
        return f"{self.side}:{capabilities.identity(self.runnable)}:{sorted(self._besides.items())}"

    def called(self, name: str) -> ChatModelLeg:
        """The same leg by another name."""
        return self._with(name=name)

    def asked_besides(self, params: Mapping[str, Any]) -> ChatModelLeg:
        """The same leg, asked with parameters of its own library in every call."""
        return self._with(_besides=params)

    def unavailable(self) -> AideonError | None:
        """Offline when the cloud is switched off."""
        return switched_off(self.name, self.model) if self._offline else None

    def complete(self, request: Request) -> Completion:
        """Answer in one piece."""
        with self._classified():
            model, messages, params = self._call(request)
            ask = partial(model.invoke, messages, runs.unheard(), **params)
            return self._priced(
                completion_of(self._done(Deadline(request.deadline), ask), self.model)
            )

    async def acomplete(self, request: Request) -> Completion:
        """Answer in one piece without blocking the event loop."""
        await self._priceable()
        with self._classified():
            model, messages, params = self._call(request)
            ask = partial(model.ainvoke, messages, runs.unheard(), **params)
            message = await self._awaited(Deadline(request.deadline), ask)
            return self._priced(completion_of(message, self.model))

    def stream(self, request: Request) -> _Stream:
        """Start an answer; it is asked for with the first piece."""
        with self._classified():
            model, messages, params = self._call(request)
            pieces = model.stream(messages, runs.unheard(), **params)
        return _Stream(self, pieces, Deadline(request.deadline))

    async def astream(self, request: Request) -> _AsyncStream:
        """Start an answer; it is asked for with the first piece."""
        await self._priceable()
        with self._classified():
            model, messages, params = self._call(request)
            pieces = model.astream(messages, runs.unheard(), **params)
        return _AsyncStream(self, pieces, Deadline(request.deadline))

    def close(self) -> None:
        """Nothing: the model's connections are its owner's."""

    async def aclose(self) -> None:
        """Nothing: the model's connections are its owner's."""

    def _with(self, **changes: object) -> ChatModelLeg:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(vars(self) | changes)
        return twin

    def _classified(self) -> AbstractContextManager[None]:
        return classified(self.name, self.model)

    def _call(
        self, request: Request
    ) -> tuple[Runnable[Any, Any], list[BaseMessage], dict[str, Any]]:
        model = asking.with_tools(self.runnable, request)
        messages = asking.messages(request, media="media" in self.abilities)
        return model, messages, {**asking.parameters(request), **self._besides}

    def _done(self, deadline: Deadline, call: Callable[[], T]) -> T:
        with self._classified():
            return runs.done(call, deadline, f"aideon-{self.name}")

    async def _awaited(self, deadline: Deadline, call: Callable[[], Awaitable[T]]) -> T:
        # Inside, or a timeout of the model's own would pass for the deadline.
        with self._classified():
            async with deadline.enforced():
                with self._classified(), runs.one_run():
                    return await call()

    def _ended(self, reader: Reader) -> Chunk:
        if self._tells_its_end and not reader.has_ended:
            raise ConnectFailed(
                f"{self.name} ended the stream before the answer was whole.",
                backend=self.name,
                model=self.model,
            )
        return self._priced(reader.end())

    def _priced(self, answer: Answer) -> Answer:
        if answer.cost is not None:
            return answer
        if self.side == "local":
            return replace(answer, cost=Decimal(0))
        if self._prices is None or answer.model is None:
            return answer
        return replace(answer, cost=prices.cost(self._prices, answer.model, answer.usage))

    async def _priceable(self) -> None:
        # In a thread, because the event loop has other callers who should not wait for it.
        if self._prices is not None and self.side == "cloud" and not prices.loaded():
            await asyncio.to_thread(prices.load)


def of_sides(local: Sequence[Any], cloud: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Both sides with their chat models as legs, each by a name of its own.

    Raises:
        ConfigError: something is no model, or a leg is on the wrong side.
    """
    taken: set[str] = set()
    here = [_of(target, "local", taken) for target in local]
    return here, [_of(target, "cloud", taken) for target in cloud]


def _of(target: object, side: Side, taken: set[str]) -> Any:  # noqa: ANN401 - as it was given
    """The leg of a chat model, by a name of its own; names and backends are the client's."""
    if isinstance(target, ChatModelLeg):
        leg = target
        if leg.side != side:
            raise ConfigError(
                f"{leg!r} is in {side}=.", hint=f"Give it in {leg.side}=, or say side={side!r}."
            )
    elif isinstance(target, Runnable):
        leg = ChatModelLeg(target, side=side)
    elif isinstance(target, str | PathLike | Backend):
        return target
    else:
        raise ConfigError(
            f"{side}= has {target!r}, which is no chat model.",
            hint="Give a LangChain chat model, or a Runnable around one.",
        )
    name, number = leg.name, 2
    if name in taken:
        name = f"{leg.name}:{leg.model}"
    while name in taken:
        name, number = f"{leg.name}:{leg.model}#{number}", number + 1
    taken.add(name)
    return leg if name == leg.name else leg.called(name)


class _Stream:
    """The pieces of an answer as chunks; see ChatModelLeg for how it is closed."""

    def __init__(self, leg: ChatModelLeg, pieces: Iterator[object], deadline: Deadline) -> None:
        self._leg, self._pieces, self._deadline = leg, pieces, deadline
        self._reader: Reader | None = Reader(leg.model)

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        while (reader := self._reader) is not None:
            piece = self._leg._done(self._deadline, partial(next, self._pieces, _END))  # noqa: SLF001
            if piece is _END:
                self._reader = None
                return self._leg._ended(reader)  # noqa: SLF001
            if (chunk := reader.read(piece)) is not None:
                return chunk
        raise StopIteration

    def close(self) -> None:
        self._reader = None
        # It may run in another thread, where it ends at its next piece.
        with suppress(ValueError):
            if hasattr(self._pieces, "close"):
                self._pieces.close()


class _AsyncStream:
    """The awaiting twin of _Stream."""

    def __init__(
        self, leg: ChatModelLeg, pieces: AsyncIterator[object], deadline: Deadline
    ) -> None:
        self._leg, self._pieces, self._deadline = leg, pieces, deadline
        self._reader: Reader | None = Reader(leg.model)

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        while (reader := self._reader) is not None:
            pull = partial(anext, self._pieces, _END)
            piece = await self._leg._awaited(self._deadline, pull)  # noqa: SLF001
            if piece is _END:
                self._reader = None
                return self._leg._ended(reader)  # noqa: SLF001
            if (chunk := reader.read(piece)) is not None:
                return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._reader = None
        # It may run in another task, where it ends at its next piece.
        with suppress(RuntimeError):
            if hasattr(self._pieces, "aclose"):
                await self._pieces.aclose()
