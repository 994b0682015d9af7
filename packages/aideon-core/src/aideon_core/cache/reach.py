"""Who may answer a call: what an answer kept for it must have come from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from aideon_core.backends.base import candidate
from aideon_core.backends.llama_cpp import LlamaCppBackend
from aideon_core.policy import Prefer
from aideon_core.routing import decide

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aideon_core.backends.base import Backend
    from aideon_core.policy import Policy
    from aideon_core.types import Considered, Request, Side

_BOTH: tuple[Side, ...] = ("local", "cloud")
# How Python shows what it can tell only by where it lies, which the next one may do too.
_ADDRESS: Final = " at 0x"


@dataclass(frozen=True, slots=True)
class Source:
    """A backend that may answer; ``marks`` tell it from others of its name and model."""

    backend: str
    side: Side
    model: str
    marks: str


@dataclass(frozen=True, slots=True)
class Reach:
    """Who may answer, the preferred first, whether they can be asked right now or not.

    Attributes:
        policy: the policy's name.
        rule: how it chooses, where that is more than an order of sides.
        sources: who may answer.
        considered: all backends, with why the others may not.
    """

    policy: str
    rule: str
    sources: tuple[Source, ...]
    considered: tuple[Considered, ...]

    def has(self, backend: str, side: str, model: str) -> bool:
        """Whether an answer from there may be this call's."""
        return any((s.backend, s.side, s.model) == (backend, side, model) for s in self.sources)


def reach_of(policy: Policy, request: Request, backends: Mapping[str, Backend]) -> Reach | None:
    """Who may answer ``request`` by ``policy``; None where nobody can tell.

    A policy that is no Prefer keeps to itself whom it asks, so its answers are for policies
    just like it. Of a dataclass, the fields tell which those are, unless one holds a function
    or the like.
    """
    sides, rule = _BOTH, ""
    if type(policy) is Prefer:
        sides = policy.sides
    elif "__dataclass_fields__" in vars(type(policy)):
        told = [(field.name, getattr(policy, field.name)) for field in fields(policy)]  # type: ignore[arg-type]
        rule = f"{type(policy).__module__}.{type(policy).__qualname__} {policy.name} {told}"
        if _ADDRESS in rule:
            return None
    else:
        return None
    candidates = [candidate(name, backend) for name, backend in backends.items()]
    decision = decide(request, candidates, policy=policy.name, sides=sides)
    return Reach(
        policy=policy.name,
        rule=rule,
        sources=tuple(
            Source(each.name, each.side, each.model, _marks(backends[each.name]))
            for each in decision.order
        ),
        considered=decision.considered,
    )


def _marks(backend: Backend) -> str:
    if isinstance(backend, LlamaCppBackend):
        try:
            file = backend.path.stat()
        except OSError:
            return ""
        # A short context cuts answers off, and another template asks something else.
        settings = f"{backend.facts.context_tokens} {backend._chat_template!r}"  # noqa: SLF001 - a friend
        return f"{file.st_size} {file.st_mtime_ns} {settings}"
    # Ours show their address, and no key. What Python shows of others is where they lie in memory.
    return "" if type(backend).__repr__ is object.__repr__ else repr(backend)
