"""Our values with LangChain's own behind them, for models that are LangChain's on both ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aideon_core import Chunk, Completion, Message

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

    from aideon_core.types import Json


@dataclass(frozen=True, slots=True)
class CarriedMessage(Message):
    """A turn that was a LangChain message; ``said`` is its content as it was put into ours."""

    original: BaseMessage | None = None
    said: str | tuple[Json, ...] = ""

    @property
    def whole(self) -> BaseMessage | None:
        """The LangChain message, None where the turn says something else by now."""
        return self.original if self.content == self.said else None


@dataclass(frozen=True, slots=True)
class CarriedChunk(Chunk):
    """A piece of an answer that a LangChain model gave."""

    original: AIMessageChunk | None = None


@dataclass(frozen=True, slots=True)
class CarriedCompletion(Completion):
    """A whole answer that a LangChain model gave."""

    original: AIMessage | None = None
