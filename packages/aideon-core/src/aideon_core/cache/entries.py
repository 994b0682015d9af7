"""What is kept of an answer, and the answer that is made of it again."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from aideon_core import rounds
from aideon_core.errors import InvalidOutput
from aideon_core.types import Completion, Route, TokenLogprob, ToolCall, Usage

if TYPE_CHECKING:
    from aideon_core.cache.reach import Reach
    from aideon_core.types import Request, Side

_WHOLE: Final = frozenset({"stop", "length", "tool_calls"})
_FREE: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer, who gave it, and when (seconds since 1970)."""

    completion: Completion
    backend: str
    side: Side
    model: str
    at: float

    @classmethod
    def of(cls, request: Request, completion: Completion, at: float) -> Entry | None:
        """The entry for an answer; None for one that is not worth keeping.

        Worth keeping is what is whole and says something. What was cut off by ``max_tokens``
        is whole: it would be cut off there again.
        """
        route, answers = completion.route, (completion, *completion.alternatives)
        if route is None or route.backend is None or route.side is None or route.model is None:
            return None
        if len(answers) < (request.n or 1) or _has_a_seam(route):
            return None
        if not all(each.finish_reason in _WHOLE and _says(each) for each in answers):
            return None
        if request.output is not None and request.prefix and _was_mended(route):
            # The mended answer does not go on from the prefix, and nothing of it tells so.
            return None
        bare = replace(
            completion,
            route=None,
            value=None,
            alternatives=tuple(replace(each, value=None) for each in completion.alternatives),
        )
        return cls(bare, route.backend, route.side, route.model, at)

    def encoded(self) -> bytes | None:
        """The entry as bytes; None where it would not come back equal."""
        kept = [_kept(self.completion), self.backend, self.side, self.model, self.at]
        try:
            written = json.dumps(kept, separators=(",", ":")).encode()
        except (TypeError, ValueError, RecursionError):
            return None
        return written if Entry.decoded(written) == self else None

    @classmethod
    def decoded(cls, written: bytes) -> Entry | None:
        """The entry that was written; None where the bytes are no entry."""
        try:
            answer, backend, side, model, at = json.loads(written)
            _when(at)
            return cls(_completion(answer), backend, side, model, at)
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            OSError,
            TypeError,
            ValueError,
            RecursionError,
        ):
            return None

    def answer(self, request: Request, reach: Reach) -> Completion | None:
        """The entry as the answer to a call; None where the call's type does not take it."""
        try:
            answer = _valued(request, self.completion)
        except InvalidOutput:
            return None
        then = _when(self.at)
        route = Route(
            policy=reach.policy,
            reason=f"from the cache, first given by {self.backend} ({self.model}) at {then}",
            considered=reach.considered,
            backend=self.backend,
            side=self.side,
            model=self.model,
        )
        return replace(answer, cost=_FREE, route=route)


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(" ", "seconds")


def _says(answer: Completion) -> bool:
    return bool(answer.text or answer.tool_calls)


def _has_a_seam(route: Route) -> bool:
    # It is of two models, and only one of them is known to the rules of who may answer.
    return any(attempt.characters for attempt in route.attempts)


def _was_mended(route: Route) -> bool:
    return any(isinstance(attempt.error, InvalidOutput) for attempt in route.attempts)


def _valued(request: Request, completion: Completion) -> Completion:
    if request.output is None:
        return completion
    # What reading it the first time had to say is among its warnings already.
    read = rounds.read(replace(request, n=None), replace(completion, warnings=()))
    return replace(read, warnings=completion.warnings)


def _kept(answer: Completion) -> dict[str, Any]:
    usage = answer.usage
    facts: dict[str, Any] = {
        "text": answer.text,
        "reasoning": answer.reasoning,
        "tool_calls": [[call.id, call.name, call.arguments] for call in answer.tool_calls],
        "finish_reason": answer.finish_reason,
        "usage": usage
        and [
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_tokens,
            usage.reasoning_tokens,
        ],
        "cost": None if answer.cost is None else str(answer.cost),
        "model": answer.model,
        "id": answer.id,
        "logprobs": [[each.token, each.logprob, each.top] for each in answer.logprobs],
        "warnings": answer.warnings,
        "extra": answer.extra,
        "alternatives": [_kept(each) for each in answer.alternatives],
    }
    return {name: value for name, value in facts.items() if value not in (None, [], (), {})}


def _completion(kept: dict[str, Any]) -> Completion:
    usage, cost = kept.get("usage"), kept.get("cost")
    return Completion(
        text=kept.get("text", ""),
        reasoning=kept.get("reasoning", ""),
        tool_calls=tuple(ToolCall(*call) for call in kept.get("tool_calls", ())),
        finish_reason=kept.get("finish_reason"),
        usage=None if usage is None else Usage(*usage),
        cost=None if cost is None else Decimal(cost),
        model=kept.get("model"),
        id=kept.get("id"),
        logprobs=tuple(
            TokenLogprob(token, logprob, tuple((other, its) for other, its in top))
            for token, logprob, top in kept.get("logprobs", ())
        ),
        warnings=tuple(kept.get("warnings", ())),
        extra=kept.get("extra", {}),
        alternatives=tuple(map(_completion, kept.get("alternatives", ()))),
    )
