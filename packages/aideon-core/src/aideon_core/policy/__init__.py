"""Policies as generators: they yield what to do next and receive what happened.

A plan never awaits, sleeps, reads a clock or rolls dice; ``drive`` does that for it. So a
test of a policy is a conversation: send it outcomes, look at the steps it asks for.
"""

from aideon_core.policy.fallback import fallback
from aideon_core.policy.patience import Patience
from aideon_core.policy.prefer import POLICIES, Policy, Prefer, named
from aideon_core.policy.steps import (
    Call,
    Close,
    Embed,
    Emit,
    Failed,
    Ok,
    Open,
    Outcome,
    Plan,
    Pull,
    Sleep,
    Step,
)

__all__ = [
    "POLICIES",
    "Call",
    "Close",
    "Embed",
    "Emit",
    "Failed",
    "Ok",
    "Open",
    "Outcome",
    "Patience",
    "Plan",
    "Policy",
    "Prefer",
    "Pull",
    "Sleep",
    "Step",
    "fallback",
    "named",
]
