"""The models in memory, and who leaves it when another one needs the room."""

from __future__ import annotations

import threading
from typing import Final, Protocol

from aideon_core.errors import LoadFailed

_LOOKS_AGAIN_SECONDS: Final = 0.5


class Resident(Protocol):
    """Something that keeps a model in memory."""

    @property
    def idle_since(self) -> float | None:
        """When it had nothing to do any more, by the monotonic clock; None while it has."""
        ...

    def leave(self) -> None:
        """Give the memory back soon, unless something came to do meanwhile."""
        ...


class Residents:
    """Keeps the models of a process within a limit. Safe across threads."""

    def __init__(self) -> None:
        self._sizes: dict[Resident, int] = {}
        self._changed = threading.Condition()

    def enter(self, resident: Resident, size: int, limit: int | None) -> None:
        """Make room for a model, and count it; waits for others that are busy.

        Args:
            resident: who loads it.
            size: what it takes, in bytes.
            limit: what all may take together, in bytes; None for no limit.

        Raises:
            LoadFailed: it takes more than the limit all by itself.
        """
        if limit is not None and size > limit:
            raise LoadFailed(
                f"The model takes {size / 1e9:.2f} GB, and {limit / 1e9:.2f} GB are allowed.",
                hint="Raise local_memory_gb, or use a smaller model or context.",
            )
        with self._changed:
            while limit is not None and sum(self._sizes.values()) + size > limit:
                idle = [each for each in self._sizes if each.idle_since is not None]
                if idle:
                    min(idle, key=lambda each: each.idle_since or 0.0).leave()
                self._changed.wait(_LOOKS_AGAIN_SECONDS)
            self._sizes[resident] = size

    def left(self, resident: Resident) -> None:
        """Its model is no longer in memory."""
        with self._changed:
            self._sizes.pop(resident, None)
            self._changed.notify_all()

    def forked(self) -> None:
        """Begin anew in a child process; another thread may have held the lock."""
        self._sizes, self._changed = {}, threading.Condition()
