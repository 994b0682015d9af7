"""What LangChain's models say, as Aideon's answers: pure functions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import (
    InputTokenDetails,
    OutputTokenDetails,
    UsageMetadata,
    add_ai_message_chunks,
)

from aideon_core import Chunk, ToolCall, Usage
from aideon_core.errors import ConfigError
from aideon_core.types import ToolCallDelta
from langchain_aideon.messages.carried import CarriedChunk, CarriedCompletion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aideon_core.types import FinishReason

_RUN_IDS: Final = ("lc_run-", "run-", "lc_")
_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "completed": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "incomplete": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
}
_INNER: Final = "leg_route"
_ENDS: Final = ("finish_reason", "stop_reason", "done_reason", "status")
# What a reader of one piece needs, and what joins to itself and not to a repetition.
_OF_EVERY_PIECE: Final = frozenset({"model_provider", "output_version"})


class Unsaid(str):
    """No text, of a piece that says something else: a plan passes on what has some."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class HeardCompletion(CarriedCompletion):
    """A model's own answer, whose message follows what the core makes of it.

    An answer that is asked for twice has the usage of both, and one that is JSON among other
    words is left with the JSON.
    """

    def __post_init__(self) -> None:
        """Bring the message up to the answer, where they differ."""
        message, update = self.original, dict[str, Any]()
        if message is None:
            return
        if self.usage is not None and self.usage != _usage(message.usage_metadata):
            update["usage_metadata"] = _counted(self.usage)
        if self.text != str(message.text):
            update["content"] = self.text
        if update:
            object.__setattr__(self, "original", message.model_copy(update=update))


def completion_of(message: object, model: str) -> HeardCompletion:
    """A whole answer.

    Args:
        message: what the model gave.
        model: what answered, where the message does not say.

    Raises:
        ConfigError: it is no message of a model.
    """
    if not isinstance(message, AIMessage):
        raise _no_message(message, model)
    metadata = message.response_metadata
    invalid = message.invalid_tool_calls
    calls = (
        *((each["id"], each["name"], _json(each["args"])) for each in message.tool_calls),
        *((each["id"], each["name"], each["args"]) for each in invalid),
    )
    return HeardCompletion(
        text=str(message.text),
        reasoning=_reasoning(message),
        tool_calls=tuple(ToolCall(id or "", name or "", args or "") for id, name, args in calls),  # noqa: A001
        finish_reason=_finish(metadata, called=bool(calls)),
        usage=_usage(message.usage_metadata),
        cost=_cost(metadata),
        model=_model(metadata) or model,
        id=_own_id(message.id),
        original=message.model_copy(
            update={"id": _own_id(message.id), "response_metadata": _nested(metadata)}
        ),
    )


class Reader:
    """Reads one stream.

    Args:
        model: what answers, where the stream does not say.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._id: str | None = None
        self._numbers: dict[object, int] = {}
        self._facts: list[AIMessageChunk] = []

    @property
    def has_ended(self) -> bool:
        """Whether the model has told why it ended."""
        return any(name in each.response_metadata for each in self._facts for name in _ENDS)

    def read(self, piece: object) -> CarriedChunk | None:
        """A piece of the answer, None where it says nothing of it.

        Raises:
            ConfigError: it is no message of a model.
        """
        chunk = self._chunk(piece)
        self._id = self._id or _own_id(chunk.id)
        metadata = chunk.response_metadata
        if metadata or chunk.usage_metadata:
            self._facts.append(
                AIMessageChunk(
                    content="", response_metadata=metadata, usage_metadata=chunk.usage_metadata
                )
            )
        if not (chunk.content or chunk.tool_call_chunks or chunk.additional_kwargs):
            return None
        kept = {name: value for name, value in metadata.items() if name in _OF_EVERY_PIECE}
        original = chunk.model_copy(
            update={
                "id": self._id,
                "response_metadata": kept,
                "usage_metadata": None,
                "chunk_position": None,
            }
        )
        text, reasoning = str(chunk.text), _reasoning(chunk)
        calls = tuple(self._deltas(chunk))
        if not (text or reasoning or calls):
            text = Unsaid()
        return CarriedChunk(text, reasoning, calls, original=original)

    def end(self) -> Chunk:
        """The last chunk, with the facts about the whole answer."""
        facts = add_ai_message_chunks(AIMessageChunk(content=""), *self._facts)
        metadata = facts.response_metadata
        finish = _finish(metadata, called=bool(self._numbers))
        model = _model(metadata) or self._model
        told = {"model_name": model, "finish_reason": finish, **_nested(metadata)}
        extra: dict[str, Any] = {"response_metadata": told}
        if facts.usage_metadata is not None:
            extra["usage_metadata"] = facts.usage_metadata
        return Chunk(
            finish_reason=finish,
            usage=_usage(facts.usage_metadata),
            cost=_cost(metadata),
            model=model,
            id=self._id,
            extra=extra,
        )

    def _chunk(self, piece: object) -> AIMessageChunk:
        if isinstance(piece, AIMessageChunk):
            return piece
        # A model that does not stream gives its answer in one piece.
        if isinstance(piece, AIMessage):
            return AIMessageChunk(**piece.model_dump(exclude={"type"}))
        raise _no_message(piece, self._model)

    def _deltas(self, chunk: AIMessageChunk) -> Iterator[ToolCallDelta]:
        for each in chunk.tool_call_chunks:
            # Calls without a number are whole, each one of its own.
            key = object() if each["index"] is None else each["index"]
            number = self._numbers.setdefault(key, len(self._numbers))
            yield ToolCallDelta(number, each["id"] or "", each["name"] or "", each["args"] or "")


def _no_message(given: object, model: str) -> ConfigError:
    return ConfigError(
        f"{model!r} gave a {type(given).__name__}, not a message of a model.",
        hint="Give the chat model alone; chains that end in something else have a RunnableRouter.",
    )


def _reasoning(message: AIMessage) -> str:
    told = message.additional_kwargs.get("reasoning_content")
    parts = [told] if isinstance(told, str) else []
    for block in message.content if isinstance(message.content, list) else ():
        if isinstance(block, dict) and block.get("type") in ("reasoning", "thinking"):
            thought = block.get("reasoning") or block.get("thinking")
            parts += [thought] if isinstance(thought, str) else []
    return "".join(parts)


def _finish(metadata: Mapping[str, Any], *, called: bool) -> FinishReason:
    for name in _ENDS:
        if (reason := _REASONS.get(str(metadata.get(name)).lower())) is not None:
            return "tool_calls" if called and reason == "stop" else reason
    return "tool_calls" if called else "stop"


def _nested(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata, with the route of a model that is a router itself by another name."""
    return {_INNER if name == "route" else name: value for name, value in metadata.items()}


def _cost(metadata: Mapping[str, Any]) -> Decimal | None:
    """What such a model has been billed; others do not tell."""
    told = metadata.get("cost") if "route" in metadata else None
    return Decimal(told) if isinstance(told, str) else None


def _usage(counted: UsageMetadata | None) -> Usage | None:
    if counted is None:
        return None
    cached = counted.get("input_token_details", {}).get("cache_read") or 0
    reasoning = counted.get("output_token_details", {}).get("reasoning") or 0
    return Usage(counted["input_tokens"], counted["output_tokens"], cached, reasoning)


def _counted(usage: Usage) -> UsageMetadata:
    return UsageMetadata(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        input_token_details=InputTokenDetails(cache_read=usage.cached_tokens),
        output_token_details=OutputTokenDetails(reasoning=usage.reasoning_tokens),
    )


def _model(metadata: Mapping[str, Any]) -> str | None:
    names = (metadata.get("model_name"), metadata.get("model"))
    return next((name for name in names if isinstance(name, str) and name), None)


def _own_id(given: str | None) -> str | None:
    """The provider's id; LangChain's own names a run that nobody hears of."""
    return None if given is None or given.startswith(_RUN_IDS) else given


def _json(arguments: object) -> str:
    return json.dumps(arguments, ensure_ascii=False, default=str)
