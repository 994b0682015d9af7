"""The facts about an answer as plain JSON, by the names CrewAI reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aideon_core import Completion


def usage_of(answer: Completion) -> dict[str, Any] | None:
    """The tokens an answer took, its cost and its route; None when the tokens are unknown.

    CrewAI adds up the counts and hands the rest on to its event listeners.
    """
    if answer.usage is None:
        return None
    return {
        "prompt_tokens": answer.usage.input_tokens,
        "completion_tokens": answer.usage.output_tokens,
        "total_tokens": answer.usage.total_tokens,
        "cached_prompt_tokens": answer.usage.cached_tokens,
        "reasoning_tokens": answer.usage.reasoning_tokens,
        "model": answer.model,
        "cost": None if answer.cost is None else format(answer.cost, "f"),
        "route": None if answer.route is None else answer.route.as_dict(),
    }
