"""Seams: where an answer that broke off in the middle is carried on by another model.

The caller has seen the beginning and it cannot be taken back, so the rest is asked for as what
follows it, word for word and under the same form.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aideon_core import routing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_core.types import Attempt, Completion, Request


def rest_of(request: Request, delivered: Completion) -> Request | None:
    """The request for the rest of an answer, None where it cannot be joined to its beginning.

    Args:
        request: what the answer was asked for with.
        delivered: what the caller has of it.
    """
    # Another model writes calls in its own way, and nothing tells which answer of several a
    # beginning belongs to.
    if delivered.tool_calls or (request.n or 1) > 1 or not _is_whole(delivered.text):
        return None
    most = request.max_tokens
    # Thoughts count too, but one who begins anew needs room for its own.
    if most is not None and delivered.text:
        most = max(1, most - routing.estimated(delivered.reasoning + delivered.text))
    prefix = (request.prefix or "") + delivered.text
    return replace(request, prefix=prefix or None, max_tokens=most)


def _is_whole(text: str) -> bool:
    """Whether it has whole characters alone: some servers send an emoji in two halves."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def joined(before: Completion, rest: Completion) -> Completion:
    """The answer as the caller has it: its beginning, and the rest.

    Usage is that of the rest. What the beginning cost is not known, because a stream that
    breaks tells no usage; so the cost of the whole is not known either.
    """
    return replace(
        rest,
        text=before.text + rest.text,
        reasoning=before.reasoning + rest.reasoning,
        logprobs=before.logprobs + rest.logprobs,
        warnings=before.warnings + rest.warnings,
        cost=None,
    )


def told(completion: Completion, attempts: Sequence[Attempt]) -> Completion:
    """The completion with a warning of where its seams are."""
    *broken, last = attempts
    at, parts = 0, []
    for attempt in broken:
        if attempt.characters:
            at += attempt.characters
            parts.append(f"{attempt.model!r} up to character {at}")
    seam = (
        f"The answer is by {', '.join(parts)}, where it broke off, and by {last.model!r} "
        "from there on."
        if parts
        else f"The answer is by {last.model!r}; thoughts of another model came before it, "
        "where that broke off."
    )
    seam += " Usage is of the last part alone."
    return replace(completion, warnings=(*completion.warnings, seam))
