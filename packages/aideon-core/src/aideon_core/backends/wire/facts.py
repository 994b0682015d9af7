"""The facts beside an answer: tokens, the reason it ended, warnings, fields without a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aideon_core.backends.wire.values import count, mapping, text
from aideon_core.types import FinishReason, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

_FINISH: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "model_length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def _names(line: str) -> frozenset[str]:
    return frozenset(line.split())


# Every field seen, whether it is read or says nothing to a caller.
BODY: Final = _names(
    "id object created model choices usage warnings prompt metadata error x_groq service_tier"
    " system_fingerprint kv_transfer_params prompt_token_ids"
)
CHOICE: Final = _names(
    "index message delta role text tool_calls logprobs top_logprobs finish_reason seed error"
    " stop_reason matched_stop token_ids usage"
)
MESSAGE: Final = _names(
    "role content reasoning reasoning_content reasoning_details tool_calls function_call token_id"
)
_USAGE: Final = _names(
    "prompt_tokens completion_tokens total_tokens cached_tokens reasoning_tokens cache_hit_rate"
    " prompt_tokens_details completion_tokens_details prompt_cache_hit_tokens"
    " prompt_cache_miss_tokens"
)
_MOST_EXTRAS: Final = 32
_MOST_NODES: Final = 1000
_DEEPEST: Final = 16


def finish_of(reason: object, extras: Extras) -> FinishReason | None:
    """The reason an answer ended in our words; one never seen before is kept beside it."""
    if not reason:
        return None
    if isinstance(reason, str) and reason in _FINISH:
        return _FINISH[reason]
    extras.keep("finish_reason", reason)
    return "stop"


def usage_in(body: Mapping[str, Any], choice: Mapping[str, Any]) -> object:
    """The token counts, wherever an engine puts them."""
    usage = body.get("usage") or choice.get("usage")
    return usage or ("x_groq" in body and mapping(body["x_groq"]).get("usage"))


def usage_of(usage: object) -> Usage | None:
    """Token counts in any of the shapes engines send; None where they send none."""
    counts = mapping(usage)
    prompt = count(counts.get("prompt_tokens"))
    if prompt is None:
        return None
    read, written = (
        mapping(counts.get(f"{kind}_tokens_details")) for kind in ("prompt", "completion")
    )
    return Usage(
        input_tokens=prompt,
        output_tokens=count(counts.get("completion_tokens")) or 0,
        cached_tokens=count(counts.get("cached_tokens"))
        or count(read.get("cached_tokens"))
        or count(counts.get("prompt_cache_hit_tokens"))
        or 0,
        reasoning_tokens=count(counts.get("reasoning_tokens"))
        or count(written.get("reasoning_tokens"))
        or 0,
    )


def warnings_of(warnings: object) -> tuple[str, ...]:
    """The provider's words about parameters it did not follow."""
    if not isinstance(warnings, list):
        warnings = [warnings]
    found = (text(mapping(each).get("message")) or text(each) for each in warnings)
    return tuple(each for each in found if each)


class Extras:
    """Collects the fields of an answer that have no name here, by their path."""

    def __init__(self) -> None:
        self._found: dict[str, list[Any]] = {}

    def note(
        self,
        body: Mapping[str, Any],
        choice: Mapping[str, Any],
        message: Mapping[str, Any],
        usage: object,
    ) -> None:
        """Keep the unknown fields at every level of a body or a frame."""
        self._note("", body, BODY)
        self._note("choice.", choice, CHOICE)
        self._note("message.", message, MESSAGE)
        self._note("usage.", mapping(usage), _USAGE)

    def _note(self, path: str, fields: Mapping[str, Any], known: frozenset[str]) -> None:
        if fields.keys() <= known:
            return
        for name, value in fields.items():
            if name not in known and value not in (None, "", [], {}):
                self.keep(f"{path}{name}", value)

    def keep(self, path: str, value: object) -> None:
        """Keep the first value at a path; text in a message goes on from frame to frame."""
        if path not in self._found and len(self._found) < _MOST_EXTRAS and _is_small(value):
            self._found[path] = [value]
        elif path.startswith("message.") and isinstance(value, str) and path in self._found:
            self._found[path].append(value)

    def taken(self) -> dict[str, Any]:
        """What was kept; nothing is left afterwards."""
        found, self._found = self._found, {}
        return {
            path: "".join(values) if all(isinstance(each, str) for each in values) else values[0]
            for path, values in found.items()
        }


def _is_small(value: object) -> bool:
    """Whether a value can be copied and shown: not too deep, not of too many parts."""
    level, nodes = [value], 0
    for _ in range(_DEEPEST):
        nodes += len(level)
        if not level or nodes > _MOST_NODES:
            break
        level = [part for each in level for part in _parts(each)]
    return not level


def _parts(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
