"""The values that pass between a caller, a policy and a backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from decimal import Decimal

    from aideon_core.errors import AideonError
    from aideon_core.schema import Output

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]
Side: TypeAlias = Literal["local", "cloud"]
Json: TypeAlias = Mapping[str, Any]
"""A JSON object as OpenAI's API defines it, such as a tool or a content part."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function the model asks to be called; ``arguments`` is the JSON text it wrote."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of the tool call at ``index``; ``arguments`` continues the text before it."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    ``content`` is text, or OpenAI content parts such as ``{"type": "image_url", ...}``.
    """

    role: Role
    content: str | tuple[Json, ...] = ""
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The text of the turn, without images and other parts."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part["text"] for part in self.content if part.get("type") == "text")


@dataclass(frozen=True, slots=True)
class Request:
    """What to answer, and how; ``None`` leaves a parameter to the backend's default.

    ``deadline`` is how many seconds are left for the whole answer. ``output`` is the form that
    the answer is read as; what asks for it is in ``messages`` and ``response_format`` already.
    ``logit_bias`` maps token ids to what is added to their logits, ``n`` is how many answers
    to give, ``prefix`` the text of the assistant that the answer goes on from.
    """

    messages: tuple[Message, ...]
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None
    n: int | None = None
    prefix: str | None = None
    tools: tuple[Json, ...] = ()
    tool_choice: str | Json | None = None
    parallel_tool_calls: bool | None = None
    response_format: Json | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    deadline: float | None = None
    output: Output | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written.

    ``input_tokens`` includes the cached ones, ``output_tokens`` the reasoning.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model; ``None`` stands for what is not.

    ``context_tokens`` is how many tokens prompt and answer may have together,
    ``output_tokens`` how many the answer alone. ``media`` tells whether it reads images,
    ``reasoning`` whether it thinks before it answers.
    """

    context_tokens: int | None = None
    output_tokens: int | None = None
    media: bool | None = None
    reasoning: bool | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely one token of the answer was: natural logarithms of probabilities.

    ``top`` holds the likeliest tokens at that place with theirs, the likeliest first.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Considered:
    """A backend that was looked at, and why it was ruled out, if it was."""

    backend: str
    side: Side
    model: str
    ruled_out: AideonError | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call to one backend.

    ``seconds`` is the whole call, ``first_token_seconds`` the wait for the first piece of
    a streamed answer (``None`` when nothing came, or the call was not streamed). Where a stream
    broke, ``characters`` is how much of its text the caller has: the place of the seam, if
    another one went on with it.
    """

    backend: str
    side: Side
    model: str
    seconds: float
    first_token_seconds: float | None = None
    error: AideonError | None = None
    characters: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """The choice made for one request: who was considered, who was asked, who answered.

    ``backend``, ``side`` and ``model`` name the one that answered, ``None`` when none did.
    """

    policy: str
    reason: str
    considered: tuple[Considered, ...]
    attempts: tuple[Attempt, ...] = ()
    backend: str | None = None
    side: Side | None = None
    model: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """The choice as plain JSON, for metadata of other libraries."""
        return {
            "side": self.side,
            "backend": self.backend,
            "model": self.model,
            "policy": self.policy,
            "reason": self.reason,
            "explain": self.explain(),
        }

    def explain(self) -> str:
        """Tell the choice in plain text, a line for each backend and each attempt."""
        answered = f"{self.side}: {self.model}" if self.backend else "nobody"
        lines = [f"{answered} answered under policy {self.policy!r}: {self.reason}", "considered:"]
        for seen in self.considered:
            verdict = f"ruled out. {seen.ruled_out}" if seen.ruled_out else "eligible"
            lines.append(f"  {seen.backend} ({seen.model}): {verdict}")
        lines.append("attempts:")
        for number, attempt in enumerate(self.attempts, 1):
            first = attempt.first_token_seconds
            wait = f", first token after {first:.2f} s" if first is not None else ""
            outcome = (
                f"{type(attempt.error).__name__}, {attempt.error.message}"
                if attempt.error
                else "answered"
            )
            if attempt.characters:
                outcome += f" It broke off after character {attempt.characters}."
            lines.append(
                f"  {number}. {attempt.backend} ({attempt.model}): "
                f"{outcome} ({attempt.seconds:.2f} s{wait})"
            )
        if not self.attempts:
            lines.append("  none")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a streamed answer; the last one carries the facts about the whole.

    ``text``, ``reasoning``, ``tool_calls`` and ``logprobs`` continue what came before.
    ``finish_reason``, ``usage``, ``cost`` (US dollars), ``warnings``, ``extra`` and ``route``
    arrive once, on the last chunk. Where a request asks for ``n`` answers, ``index`` tells
    which of them a chunk continues, from 0 on; each of the others brings its own
    ``finish_reason`` as it ends, and the last chunk is of the first.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    cost: Decimal | None = None
    model: str | None = None
    id: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    warnings: tuple[str, ...] = ()
    extra: Json = field(default_factory=dict, hash=False)
    route: Route | None = None
    index: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer.

    ``cost`` is what the provider bills for it in US dollars: 0 for a local answer, ``None``
    when the price or the usage is unknown. ``model`` is the one that really answered.
    ``warnings`` are the provider's own words about parameters it did not follow, ``extra``
    what it sent that this version has no name for. ``value`` is what the text stands for where
    the request gave an ``output_type``, ``None`` where it gave none or the model calls tools.

    Where a request asks for ``n`` answers this is the first, and ``alternatives`` are the
    others: what they say, how each ended, and its ``value``, ``None`` also where it cannot be
    read. ``usage``, ``cost``, ``model``, ``id``, ``warnings`` and ``route`` are of all
    together and are told here alone.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    cost: Decimal | None = None
    model: str | None = None
    id: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    warnings: tuple[str, ...] = ()
    extra: Json = field(default_factory=dict, hash=False)
    route: Route | None = None
    value: Any = field(default=None, hash=False)
    alternatives: tuple[Completion, ...] = ()

    @classmethod
    def from_chunks(cls, chunks: Iterable[Chunk]) -> Completion:
        """Join a stream into the answer it was: the same fields, whole."""
        first, others = _Fold(), dict[int, _Fold]()
        for chunk in chunks:
            fold = others.setdefault(chunk.index, _Fold()) if chunk.index else first
            fold.add(chunk)
        answer = first.completion()
        if not others:
            return answer
        return replace(
            answer, alternatives=tuple(fold.completion() for _, fold in sorted(others.items()))
        )


@dataclass(slots=True)
class _Fold:
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, list[ToolCallDelta]] = field(default_factory=dict)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, chunk: Chunk) -> None:
        self.text.append(chunk.text)
        self.reasoning.append(chunk.reasoning)
        for delta in chunk.tool_calls:
            self.calls.setdefault(delta.index, []).append(delta)
        self.logprobs.extend(chunk.logprobs)
        self.warnings.extend(chunk.warnings)
        self.extra.update(chunk.extra)
        for name in ("usage", "cost", "model", "id", "route"):
            if (value := getattr(chunk, name)) is not None:
                self.facts[name] = value
        # Some engines send a second, different finish reason; the first one is the true one.
        if chunk.finish_reason is not None:
            self.facts.setdefault("finish_reason", chunk.finish_reason)

    def completion(self) -> Completion:
        return Completion(
            text="".join(self.text),
            reasoning="".join(self.reasoning),
            tool_calls=tuple(_join(deltas) for _, deltas in sorted(self.calls.items())),
            logprobs=tuple(self.logprobs),
            warnings=tuple(self.warnings),
            extra=self.extra,
            **self.facts,
        )


def _join(deltas: Sequence[ToolCallDelta]) -> ToolCall:
    return ToolCall(
        id=next((delta.id for delta in deltas if delta.id), ""),
        name=next((delta.name for delta in deltas if delta.name), ""),
        arguments="".join(delta.arguments for delta in deltas),
    )
