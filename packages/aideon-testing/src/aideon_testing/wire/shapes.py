"""What whole answers and frames have in common: keys in a dialect's order, counts, logprobs."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aideon_core.types import Chunk, FinishReason, TokenLogprob, ToolCall, Usage
    from aideon_testing.dialects import CallLayout, Dialect

_VOCABULARY = 128000


def picked(layout: str, values: Mapping[str, object]) -> dict[str, object]:
    """The values a layout names, in its order; see ``aideon_testing.dialects``."""
    chosen: dict[str, object] = {}
    for key in layout.split():
        name = key.removesuffix("?")
        value = values.get(name)
        if name == key or value:
            chosen[name] = value
    return chosen


def call_shape(layout: CallLayout, call: ToolCall, index: int) -> dict[str, object]:
    """A tool call; what is empty in it is ``null``, its arguments aside."""
    function = {"name": call.name or None, "arguments": call.arguments}
    values = {
        "id": call.id or None,
        "index": index,
        "type": "function",
        "function": picked(layout.function, function),
    }
    return picked(layout.call, values)


def usage_shape(layout: str, usage: Usage) -> dict[str, object]:
    """The token counts."""
    cached = usage.cached_tokens
    values = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "cached_tokens": cached,
        "prompt_tokens_details": {"cached_tokens": cached} if cached else None,
        "reasoning_tokens": usage.reasoning_tokens,
    }
    return picked(layout, values)


def usage_sum(usages: Sequence[Usage]) -> Usage | None:
    """The counts of several choices, which share one prompt."""
    if not usages:
        return None
    return replace(
        usages[0],
        output_tokens=sum(usage.output_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
    )


def warnings_shape(warnings: Iterable[str]) -> list[dict[str, str]]:
    """Warnings, each said once."""
    return [{"message": warning} for warning in dict.fromkeys(warnings)]


def told(dialect: Dialect, chunk: Chunk) -> tuple[TokenLogprob, ...]:
    """The logprobs of a chunk that the engine tells."""
    return chunk.logprobs if chunk.text or dialect.logprobs_of == "all" else ()


def lists_shape(
    layout: str, tokens: Sequence[TokenLogprob], token_ids: Sequence[None], top: Sequence[object]
) -> dict[str, object]:
    """Logprobs as parallel lists."""
    values = {
        "tokens": [each.token for each in tokens],
        "token_logprobs": [each.logprob for each in tokens],
        "token_ids": list(token_ids),
        "top_logprobs": list(top),
    }
    return picked(layout, values)


def finish_word(dialect: Dialect, reason: FinishReason | None, *, cut: bool) -> str | None:
    """The finish reason in the engine's words."""
    return dialect.natural_finish if reason == "stop" and not cut else reason


def seed_number(dialect: Dialect, asked: object, response_id: str) -> object:
    """The seed as the engine tells it: the one asked for, or a big one of its own."""
    if asked is not None or not dialect.seeds:
        return asked if dialect.seeds else None
    return made_up_seed(response_id)


def made_up_seed(response_id: str) -> int:
    """The big seed of an answer for which none was asked, the same every time."""
    number = int.from_bytes(sha256(response_id.encode()).digest()[:8])
    # A JavaScript server in between rounds what a float cannot hold.
    return int(Decimal(repr(float(number))))


def token_number(text: str) -> int:
    """A token's number in the vocabulary, the same every time."""
    return int.from_bytes(sha256(text.encode("utf-8", "replace")).digest()[:4]) % _VOCABULARY
