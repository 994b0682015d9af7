"""Where kept answers lie: what a store offers, and the one in this process's memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol

from aideon_core import forks

if TYPE_CHECKING:
    from collections.abc import Callable

ROW_BYTES: Final = 128
"""What a row takes beside its value, about."""


class StoreFailed(Exception):
    """A store cannot be used right now; the message tells why."""


class Store(Protocol):
    """Bytes by key, for a time. Every method may be called from any thread.

    Each may raise StoreFailed, which costs the caller nothing but the cache.

    Attributes:
        shared: whether others than this process use it. Then its calls may wait, and claims
            matter.
    """

    shared: bool

    def get(self, key: str) -> bytes | None:
        """The value, unless there is none or its time is over."""
        ...

    def put(self, key: str, value: bytes, seconds: float | None) -> None:
        """Keep a value for so long, None for good; it takes the place of another, and ends claims.

        The values used longest ago make room for it.
        """
        ...

    def drop(self, key: str) -> None:
        """Forget a value."""
        ...

    def clear(self, prefix: str) -> None:
        """Forget every value whose key begins so."""
        ...

    def claim(self, key: str, owner: str, seconds: float) -> bool:
        """Say that ``owner`` will bring the value; False while another owner's claim holds.

        It ends after ``seconds``, unless the owner claims again.
        """
        ...

    def release(self, key: str, owner: str) -> None:
        """End a claim; another owner's stays."""
        ...

    def close(self) -> None:
        """Let go of files and connections; the store may be used again."""
        ...


class MemoryStore:
    """A store in this process's memory.

    Args:
        max_bytes: what all values may take together.
        clock: tells the time in seconds.
    """

    shared = False

    def __init__(self, *, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._rows: OrderedDict[str, tuple[bytes, float | None]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        forks.forget_with(self)

    def __repr__(self) -> str:
        return f"MemoryStore(max_bytes={self._max_bytes})"

    def forked(self) -> None:
        """A thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """The value, unless there is none or its time is over."""
        with self._lock:
            if (row := self._rows.get(key)) is None:
                return None
            value, ends = row
            if ends is not None and ends <= self._clock():
                self._forget(key)
                return None
            self._rows.move_to_end(key)
            return value

    def put(self, key: str, value: bytes, seconds: float | None) -> None:
        """Keep a value; those used longest ago make room."""
        with self._lock:
            self._forget(key)
            if _size(value) > self._max_bytes:
                return
            self._rows[key] = value, None if seconds is None else self._clock() + seconds
            self._bytes += _size(value)
            while self._bytes > self._max_bytes:
                self._forget(next(iter(self._rows)))

    def drop(self, key: str) -> None:
        """Forget a value."""
        with self._lock:
            self._forget(key)

    def clear(self, prefix: str) -> None:
        """Forget every value whose key begins so."""
        with self._lock:
            for key in [key for key in self._rows if key.startswith(prefix)]:
                self._forget(key)

    def claim(self, key: str, owner: str, seconds: float) -> bool:  # noqa: ARG002
        """True: who shares this store waits for each other in the process."""
        return True

    def release(self, key: str, owner: str) -> None:
        """Nothing to end."""

    def close(self) -> None:
        """Nothing to let go of: the values stay as long as the store does."""

    def _forget(self, key: str) -> None:
        if (row := self._rows.pop(key, None)) is not None:
            self._bytes -= _size(row[0])


def _size(value: bytes) -> int:
    return len(value) + ROW_BYTES
