"""The same scripted answers from a local model, from the cloud, or from both in turn."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, get_args

from langchain_core.messages import AIMessage

from aideon_core import AsyncClient, Client, Completion, TogetherBackend, ToolCall
from aideon_core.errors import QueueFull
from aideon_core.routing import Ability
from aideon_testing import FakeBackend, Reply
from langchain_aideon import ChatAideon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from aideon_core.errors import AideonError
    from aideon_core.types import Side
    from aideon_testing import LoopbackTogether

SIDES = ("local", "cloud", "hybrid")
CLOUD = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
_ABILITIES: frozenset[Ability] = frozenset(get_args(Ability))


def calls(name: str, arguments: str, call_id: str = "call_1") -> Completion:
    """An answer that calls one tool."""
    return Completion(tool_calls=(ToolCall(call_id, name, arguments),))


def local(*answers: Completion | AideonError, unable: Ability | None = None) -> FakeBackend:
    """A local model that can do everything, but for one thing, and says what it is told to."""
    able = _ABILITIES - {unable}
    return FakeBackend("local", side="local", answers=answers, abilities=able)


class Sides:
    """Chat models whose answers come from one side, or each from another.

    On the hybrid side the local model gives the first answer and is busy ever after, so that
    one conversation goes through both.

    Attributes:
        clients: those of the chat models made so far.
    """

    def __init__(self, side: str, together: LoopbackTogether) -> None:
        self.side = side
        self._together = together
        self.clients: list[Client] = []

    def chat(self, *answers: Completion, **fields: object) -> ChatAideon:
        """A chat model that gives these answers, in order."""
        here: tuple[Completion | AideonError, ...] = answers
        there: tuple[Completion, ...] = answers
        if self.side == "hybrid":
            here, there = (*answers[:1], QueueFull("Too many wait.")), answers[1:]
        if self.side != "local":
            self._together.script.reply(
                *(Reply(each.text, tool_calls=each.tool_calls) for each in there)
            )
        client = Client(
            local=None if self.side == "cloud" else local(*here),
            cloud=None if self.side == "local" else self._cloud(),
            policy="local-first",
            max_retries=0,
        )
        self.clients.append(client)
        return ChatAideon(client=client, **fields)

    def answered_by(self, number_of_answers: int) -> list[Side]:
        """Who gives which of that many answers."""
        if self.side == "hybrid":
            return ["local", *["cloud"] * (number_of_answers - 1)]
        return [self.side] * number_of_answers  # type: ignore[list-item]

    def last_turns(self) -> list[tuple[str, object]]:
        """Who said what in the prompt that was answered last."""
        asked = [each for each in self._together.requests if each.path.endswith("/completions")]
        if asked:
            return [(turn["role"], turn["content"]) for turn in asked[-1].body["messages"]]
        backend = self.clients[-1].backends["local"]
        return [(turn.role, turn.content) for turn in backend.requests[-1].messages]

    async def close(self) -> None:
        """Close every connection."""
        for client in self.clients:
            await AsyncClient.sharing(client).close()

    def _cloud(self) -> TogetherBackend:
        return TogetherBackend(CLOUD, api_key="loopback", base_url=self._together.base_url)


@asynccontextmanager
async def opened(side: str, together: LoopbackTogether) -> AsyncIterator[Sides]:
    """Chat models of one side, whose connections are closed in the end."""
    sides = Sides(side, together)
    try:
        yield sides
    finally:
        await sides.close()


def routed(messages: Iterable[object]) -> list[Side]:
    """Which side each answer among the messages came from."""
    answers = [message for message in messages if isinstance(message, AIMessage)]
    return [answer.response_metadata["route"]["side"] for answer in answers]
