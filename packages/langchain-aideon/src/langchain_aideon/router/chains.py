"""A whole chain as one of the legs of a router: ``ChainLeg``, and it for one input."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args

from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable

from aideon_core import Message
from aideon_core.errors import ConfigError
from aideon_core.routing import Ability, Candidate
from aideon_core.types import Chunk, Completion
from langchain_aideon.messages import to_messages
from langchain_aideon.router.answers import Unsaid
from langchain_aideon.router.asking import sealed
from langchain_aideon.router.failures import classified, switched_off

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractContextManager

    from langchain_core.runnables import RunnableConfig

    from aideon_core.types import Request, Side

# What a chain can do is its own affair; but none goes on from where another broke off.
_EVERYTHING: Final[frozenset[Ability]] = frozenset(get_args(Ability)) - {"prefix"}
_END: Final = object()


@dataclass(frozen=True, slots=True)
class Given(Completion):
    """The answer of a chain."""

    output: Any = None


@dataclass(frozen=True, slots=True)
class Piece(Chunk):
    """A piece of the answer of a chain."""

    output: Any = None


@dataclass(frozen=True, slots=True)
class ChainLeg:
    """A Runnable, and where it runs."""

    name: str
    side: Side
    chain: Runnable[Any, Any]

    def candidate(self, *, offline: bool) -> Candidate:
        """It as routing sees it."""
        title = self.chain.get_name()
        barred = switched_off(self.name, title) if offline and self.side == "cloud" else None
        return Candidate(self.name, self.side, title, _EVERYTHING, barred)


@dataclass(frozen=True, slots=True)
class Asked:
    """A chain as it is asked for one input; a plan drives it as it drives a backend.

    Attributes:
        leg: the chain.
        given: its input.
        config: its run's.
        kwargs: what it is invoked with besides.
        also: exceptions that move on to the next chain, whatever they are.
    """

    leg: ChainLeg
    given: Any
    config: RunnableConfig
    kwargs: dict[str, Any]
    also: tuple[type[Exception], ...]

    def complete(self, _request: Request) -> Given:
        """Run it to its end."""
        with self._classified():
            output = self.leg.chain.invoke(self.given, self.config, **self.kwargs)
        return Given(finish_reason="stop", output=output)

    async def acomplete(self, _request: Request) -> Given:
        """Run it to its end without blocking the event loop."""
        with self._classified():
            output = await self.leg.chain.ainvoke(self.given, self.config, **self.kwargs)
        return Given(finish_reason="stop", output=output)

    def stream(self, _request: Request) -> Iterator[Chunk]:
        """Run it in pieces."""
        pieces = self.leg.chain.stream(self.given, self.config, **self.kwargs)
        try:
            while True:
                with self._classified():
                    piece = next(pieces, _END)
                if piece is _END:
                    return
                yield Piece(Unsaid(), output=piece)
        finally:
            if hasattr(pieces, "close"):
                pieces.close()

    async def astream(self, _request: Request) -> AsyncIterator[Chunk]:
        """Run it in pieces without blocking the event loop; await this, then iterate."""
        return self._apieces()

    async def _apieces(self) -> AsyncIterator[Chunk]:
        pieces = self.leg.chain.astream(self.given, self.config, **self.kwargs)
        try:
            while True:
                with self._classified():
                    piece = await anext(pieces, _END)
                if piece is _END:
                    return
                yield Piece(Unsaid(), output=piece)
        finally:
            if hasattr(pieces, "aclose"):
                await pieces.aclose()

    def _classified(self) -> AbstractContextManager[None]:
        return classified(self.leg.name, self.leg.chain.get_name(), self.also)


def legs(chains: object, side: Side) -> list[ChainLeg]:
    """The legs of one side: ``"local"``, ``"local:2"`` and so on.

    Raises:
        ConfigError: one of them is no Runnable.
    """
    each = list(chains) if isinstance(chains, list | tuple) else [chains]
    found: list[ChainLeg] = []
    for number, chain in enumerate((one for one in each if one is not None), 1):
        if not isinstance(chain, Runnable):
            raise ConfigError(
                f"{side}= has {chain!r}, which is no Runnable.",
                hint="Put a function into a RunnableLambda.",
            )
        found.append(ChainLeg(side if number == 1 else f"{side}:{number}", side, chain))
    return found


def turns(given: object) -> tuple[Message, ...]:
    """An input as a conversation, for policies that look at what is asked."""
    if isinstance(given, PromptValue):
        given = given.to_messages()
    if isinstance(given, list) and given and all(isinstance(one, BaseMessage) for one in given):
        return tuple(to_messages(sealed(given)))
    if isinstance(given, str):
        return (Message("user", given),)
    return (Message("user", json.dumps(given, ensure_ascii=False, default=str, skipkeys=True)),)
