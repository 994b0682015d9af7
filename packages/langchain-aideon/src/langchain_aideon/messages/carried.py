"""Our values with LangChain's own behind them, for models that are LangChain's on both ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aideon_core import Chunk, Completion, Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

    from aideon_core.types import Json


@dataclass(frozen=True, slots=True)
class CarriedMessage(Message):
    """A turn that was a LangChain message, or a part of one.

    Where one LangChain message becomes several turns, each has it as its ``original``: the
    first stands for it, the others are ``derived`` and say the rest, such as the pictures of a
    tool message, for which the tool's role has no place. ``said`` is the turn's content as it
    was put into ours.
    """

    original: BaseMessage | None = None
    said: str | tuple[Json, ...] = ""
    derived: bool = False

    @property
    def whole(self) -> BaseMessage | None:
        """The LangChain message, None where the turn says something else by now.

        Only ``restored`` can tell whether the turns derived from it still say the same.
        """
        return self.original if self.content == self.said else None


@dataclass(frozen=True, slots=True)
class CarriedChunk(Chunk):
    """A piece of an answer that a LangChain model gave."""

    original: AIMessageChunk | None = None


@dataclass(frozen=True, slots=True)
class CarriedCompletion(Completion):
    """A whole answer that a LangChain model gave."""

    original: AIMessage | None = None


def restored(turns: Sequence[Message]) -> list[BaseMessage | Message]:
    """A conversation for a LangChain model: its own messages wherever they still say it all.

    A LangChain message that became several turns comes back once, in the place of the first;
    where any of its turns says something else by now, all of them come back as they are. So
    nothing is lost and nothing is said twice.
    """
    changed = {
        id(turn.original)
        for turn in turns
        if isinstance(turn, CarriedMessage) and turn.whole is None
    }
    found: list[BaseMessage | Message] = []
    begun: set[int] = set()
    for turn in turns:
        if not isinstance(turn, CarriedMessage) or turn.original is None:
            found.append(turn)
            continue
        key = id(turn.original)
        if not turn.derived and key not in changed:
            begun.add(key)
            found.append(turn.original)
        elif not turn.derived or key not in begun:
            found.append(turn)
    return found
