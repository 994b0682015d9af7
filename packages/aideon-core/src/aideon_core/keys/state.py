"""How the keys of a ring stand: immutable values, and the rules that make the next ones.

Nothing here reads a clock; every rule that needs the time takes ``now``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from aideon_core.keys.key import Key

QUARANTINE: Final = 60.0
"""Seconds until a refused key is tried again while others work."""

PACED: Final = 30.0
"""Seconds for which a key that met its limit is lent no faster than the limit allows."""

LONGEST_PAUSE: Final = 86_400.0
"""A header in the wrong unit must not lock a key out for good."""


@dataclass(frozen=True, slots=True)
class KeyState:
    """How one key stands.

    Attributes:
        paused_until: nobody uses the key before.
        interval: seconds between two uses while the key is paced, so that all who waited for
            the end of a pause do not come at once.
        paced_until: the end of that.
        refused_until: the end of its quarantine; other keys come first until then.
        probed: it was lent since it was refused, to see whether it works again.
    """

    paused_until: float = -inf
    interval: float = 0.0
    paced_until: float = -inf
    refused_until: float = -inf
    probed: bool = False

    def live(self, now: float) -> bool:
        """Whether the key is out of quarantine, or due for a probe."""
        return self.refused_until <= now

    def ready(self, now: float) -> bool:
        """Whether no pause holds the key back."""
        return self.paused_until <= now

    def leased(self, now: float) -> KeyState:
        """A key that is paced, or in quarantine, is not lent again until its next turn."""
        state = self
        if self.interval and now < self.paced_until:
            state = replace(state, paused_until=now + self.interval)
        if self.refused_until > -inf:
            state = replace(state.refused(now), probed=True)
        return state

    def refused(self, now: float) -> KeyState:
        """Into quarantine, from now on."""
        return replace(self, refused_until=now + QUARANTINE, probed=False)

    def answered(self) -> KeyState:
        """Out of quarantine, unless the call began before the key was refused."""
        return replace(self, refused_until=-inf, probed=False) if self.probed else self

    def paused(self, seconds: float, now: float, interval: float = 0.0) -> KeyState:
        """Paused for at least that long, then paced; a longer pause that already runs stays."""
        if not seconds > 0:  # a number that is none included
            return self
        until = now + min(seconds, LONGEST_PAUSE)
        paced = max(until, now) + PACED if interval > 0 else self.paced_until
        return replace(
            self,
            paused_until=max(self.paused_until, until),
            interval=min(interval, LONGEST_PAUSE) if interval > 0 else self.interval,
            paced_until=paced,
        )


@dataclass(frozen=True, slots=True)
class RingState:
    """How all keys stand.

    Attributes:
        keys: the state of each key, the least recently used first.
    """

    keys: Mapping[Key, KeyState] = field(default_factory=dict)

    def given(self, keys: Iterable[Key]) -> RingState:
        """The sources give these keys now.

        New keys come first. A key that stays keeps its pause and its quarantine: calls that it
        was refused to are on their way to a new one.
        """
        wanted = dict.fromkeys(keys)
        if wanted.keys() == self.keys.keys():
            return self
        new = {key: KeyState() for key in wanted if key not in self.keys}
        return RingState(new | {key: state for key, state in self.keys.items() if key in wanted})

    def choice(self, now: float) -> Key | None:
        """The key to use now, None when there is none or all have to wait."""
        return next((key for key in self._usable(now) if self.keys[key].ready(now)), None)

    def wait(self, now: float) -> float:
        """Seconds until the first key may be used, when all have to wait."""
        return min(self.keys[key].paused_until for key in self._usable(now)) - now

    def another(self, key: Key, now: float) -> bool:
        """Whether a key other than this one is live and ready."""
        return any(
            state.live(now) and state.ready(now)
            for other, state in self.keys.items()
            if other != key
        )

    def leased(self, key: Key, now: float) -> RingState:
        """The key was lent: it is the most recently used now."""
        states = dict(self.keys)
        states[key] = states.pop(key).leased(now)
        return RingState(states)

    def refused(self, key: Key, now: float) -> RingState:
        """The key was refused; one that is gone already changes nothing."""
        return self._with(key, lambda state: state.refused(now))

    def answered(self, key: Key) -> RingState:
        """The key works."""
        return self._with(key, KeyState.answered)

    def paused(self, key: Key, seconds: float, now: float, interval: float = 0.0) -> RingState:
        """The key has to wait that long, and to keep that distance after."""
        return self._with(key, lambda state: state.paused(seconds, now, interval))

    def _usable(self, now: float) -> Sequence[Key]:
        # Where every key was refused, they are tried all the same: one may work again.
        return [key for key, state in self.keys.items() if state.live(now)] or list(self.keys)

    def _with(self, key: Key, change: Callable[[KeyState], KeyState]) -> RingState:
        if key not in self.keys:
            return self
        return RingState({**self.keys, key: change(self.keys[key])})
