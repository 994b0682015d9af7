"""How a plan ends: the route it took, and the error where it took it nowhere."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aideon_core.errors import (
    AideonError,
    AllBackendsFailed,
    ConfigError,
    Excluded,
    InvalidOutput,
    StreamInterrupted,
)
from aideon_core.types import Attempt, Completion, Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_core.routing import Candidate, Decision


def route(
    decision: Decision, attempts: Sequence[Attempt], answered: Candidate | None = None
) -> Route:
    """Tell who was considered, who was asked and who answered, if anybody did."""
    return Route(
        policy=decision.policy,
        reason=_reason(decision, attempts, answered),
        considered=decision.considered,
        attempts=tuple(attempts),
        backend=answered.name if answered else None,
        side=answered.side if answered else None,
        model=answered.model if answered else None,
    )


def _reason(decision: Decision, attempts: Sequence[Attempt], answered: Candidate | None) -> str:
    failed = {a.backend: type(a.error).__name__ for a in attempts if a.error is not None}
    ruled_out = {c.backend: type(c.ruled_out).__name__ for c in decision.considered if c.ruled_out}
    causes = [f"{name} failed ({error})" for name, error in failed.items()]
    causes += [f"{name} was ruled out ({error})" for name, error in ruled_out.items()]
    why = ", ".join(causes)
    if answered is None:
        return why or "no backend is configured"
    if any(attempt.characters for attempt in attempts):
        return f"{answered.name} went on with the answer: {why}"
    if failed.keys() - {answered.name}:
        return f"fell back to {answered.name}: {why}"
    if failed:
        return f"{answered.name} answered when asked again: {why}"
    before = decision.sides[: decision.sides.index(answered.side)]
    if any(seen.ruled_out and seen.side in before for seen in decision.considered):
        return f"{answered.name} is the one eligible: {why}"
    return f"{answered.name} comes first and answered"


def broken_off(
    error: AideonError, delivered: Completion, attempts: Sequence[Attempt], route: Route
) -> AideonError:
    """The error that ends a stream of which something was delivered."""
    partial = replace(delivered, route=route)
    attempt = next(each for each in reversed(attempts) if each.error is error)
    if isinstance(error, InvalidOutput):
        error.completion, error.route = partial, route
        return error
    interrupted = StreamInterrupted(
        f"The stream from {attempt.backend} ({attempt.model}) broke after part of "
        f"the answer was delivered: {error.message}",
        hint="What was delivered is in .partial; ask again for a whole answer.",
        backend=attempt.backend,
        model=attempt.model,
    )
    interrupted.partial, interrupted.route = partial, route
    interrupted.__cause__ = error
    return interrupted


def nobody(decision: Decision, attempts: Sequence[Attempt]) -> AideonError:
    """The error where no backend answered: the one cause, or all of them."""
    # One cause for each backend, its last: retries failed before it.
    failed = {a.backend: a.error for a in attempts if a.error is not None}
    causes = list(failed.values())
    if causes and not causes[-1].falls_back:
        causes = causes[-1:]
    else:
        ruled_out = [c.ruled_out for c in decision.considered if c.ruled_out is not None]
        causes += [error for error in ruled_out if not isinstance(error, Excluded)]
        causes = causes or ruled_out
    if len(causes) == 1:
        error = causes[0]
    elif causes:
        lines = "".join(f"\n  - {cause}" for cause in causes)
        error = AllBackendsFailed(f"No backend could answer:{lines}", causes)
    else:
        error = ConfigError(
            "There is no backend to ask.", hint="Give the client local=, cloud=, or both."
        )
    error.route = route(decision, attempts)
    return error
