"""Policies by name: which side comes first, and which is never asked."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from aideon_core.errors import ConfigError
from aideon_core.policy.fallback import fallback
from aideon_core.routing import decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_core.policy.steps import Plan
    from aideon_core.routing import Candidate
    from aideon_core.types import Request, Side


class Policy(Protocol):
    """A rule for choosing; ``plan`` starts it for one request."""

    @property
    def name(self) -> str:
        """What ``route.policy`` says."""
        ...

    def plan(self, request: Request, candidates: Sequence[Candidate], *, stream: bool) -> Plan:
        """Begin to answer ``request``; with ``stream`` the answer is emitted in pieces."""
        ...


@dataclass(frozen=True, slots=True)
class Prefer:
    """Ask the sides in order, the next one when one cannot answer; other sides never.

    While another side is left, a failure moves on to it at once. Only the last one is asked
    again, up to ``max_retries`` times, after a failure that may pass.
    """

    name: str
    sides: tuple[Side, ...]
    max_retries: int = 2

    def plan(self, request: Request, candidates: Sequence[Candidate], *, stream: bool) -> Plan:
        """Decide once, then fall back along the order decided."""
        decision = decide(request, candidates, policy=self.name, sides=self.sides)
        return fallback(decision, request, stream=stream, max_retries=self.max_retries)


POLICIES = {
    policy.name: policy
    for policy in (
        Prefer("local-first", ("local", "cloud")),
        Prefer("cloud-first", ("cloud", "local")),
        Prefer("local-only", ("local",)),
        Prefer("cloud-only", ("cloud",)),
    )
}


def named(policy: str | Policy) -> Policy:
    """The policy of that name, or the one given.

    Raises:
        ConfigError: no policy goes by that name.
    """
    if not isinstance(policy, str):
        if not hasattr(policy, "plan"):
            raise ConfigError(f"policy= is {policy!r}.", hint=f"Policies: {', '.join(POLICIES)}.")
        return policy
    if policy not in POLICIES:
        near = difflib.get_close_matches(policy, POLICIES, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Policies: {', '.join(POLICIES)}."
        raise ConfigError(f"There is no policy {policy!r}.", hint=hint)
    return POLICIES[policy]
