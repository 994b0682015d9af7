"""Which API keys are good, at this moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Keys:
    """The keys of a running server; may be changed at any time, from any thread.

    Args:
        accepted: the only keys accepted; ``None`` accepts any that is not revoked.
        asked: whether a request without a key is refused.
    """

    def __init__(self, accepted: Iterable[str] | None = None, *, asked: bool = True) -> None:
        self._asked = asked
        self._accepted = None if accepted is None else set(accepted)
        self._revoked: set[str] = set()
        self._spent: set[str] = set()

    def add(self, *keys: str) -> None:
        """Accept keys, revoked ones again; others are accepted as before."""
        self._revoked -= set(keys)
        if self._accepted is not None:
            self._accepted |= set(keys)

    def revoke(self, *keys: str) -> None:
        """Refuse keys with 401 from the next request on."""
        self._revoked |= set(keys)

    def exhaust(self, *keys: str) -> None:
        """Let keys run out of credit: their requests get 402."""
        self._spent |= set(keys)

    def refill(self, *keys: str) -> None:
        """Give keys their credit back."""
        self._spent -= set(keys)

    def accepts(self, key: str) -> bool:
        """Whether a key is good."""
        known = self._accepted is None or key in self._accepted
        return known and key not in self._revoked and (bool(key) or not self._asked)

    def has_credit(self, key: str) -> bool:
        """Whether a key can pay."""
        return key not in self._spent
