"""How long a plan goes on, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from aideon_core.errors import AideonError, CoolingDown
from aideon_core.policy.steps import Sleep
from aideon_core.types import Request

if TYPE_CHECKING:
    from aideon_core.embeddings import EmbeddingRequest

Asked = TypeVar("Asked", Request, "EmbeddingRequest")

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.5, 10.0
_LONGEST_WAITING = 60.0
_BRIEFLY = 0.25


@dataclass(slots=True)
class Patience:
    """How long one plan goes on: what the deadline leaves, and how often it asks again."""

    deadline: float | None
    retries: int
    spent: float = 0.0
    waited: float = 0.0
    retried: int = 0

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and self.spent >= self.deadline

    def spend(self, seconds: float) -> None:
        """Count the time a step took."""
        self.spent += seconds

    def renew(self) -> None:
        """Begin the retries and the waits anew, because something was answered."""
        self.retried, self.waited = 0, 0.0

    def limited(self, request: Asked) -> Asked:
        """The request with what is left of the deadline."""
        if self.deadline is None:
            return request
        return replace(request, deadline=self.deadline - self.spent)

    def wait(self, error: AideonError, *, others: bool) -> Sleep | None:
        """The wait before the same backend is asked again, None when that would not help.

        Args:
            error: what it failed with.
            others: whether another backend is left, which is asked instead unless a key is
                free again in no time.
        """
        # A request that was never sent is no try.
        held_back = isinstance(error, CoolingDown)
        asked = error.retry_after
        if others and not (held_back and asked is not None and asked <= _BRIEFLY):
            return None
        if not error.retryable or (not held_back and self.retried == self.retries):
            return None
        backoff = min(_FIRST_BACKOFF * 2**self.retried, _LONGEST_BACKOFF)
        wait = Sleep(asked or 0.0, _BRIEFLY if held_back else backoff)
        # Whoever is told to come back much later should decide what to do until then.
        if self.waited + wait.seconds > _LONGEST_WAITING:
            return None
        longest = wait.seconds + wait.spread
        if self.deadline is not None and self.spent + longest >= self.deadline:
            return None
        self.waited += wait.seconds
        self.retried += not held_back
        return wait
