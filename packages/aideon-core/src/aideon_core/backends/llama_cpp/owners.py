"""Threads that own a model: one for each set of options, and none beyond the interpreter's end."""

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar
from weakref import WeakSet, WeakValueDictionary

from aideon_core.forks import forget_with

if TYPE_CHECKING:
    from collections.abc import Callable

Key = TypeVar("Key")
Handle = TypeVar("Handle")

_EXIT_SECONDS: Final = 10.0


class Owner(Protocol):
    """What runs in a thread and has a model in memory."""

    def stop(self) -> None:
        """End soon; takes no lock, because a finalizer may call it in the middle of anything."""
        ...

    def join(self, timeout: float) -> None:
        """Wait for its end, so many seconds at most."""
        ...


class Shared(Generic[Key, Handle]):
    """The handles on owners: one model is in memory once, for as long as somebody holds it.

    In a child process that was forked off everything is loaded anew, because threads are not
    there, but for what is on a GPU: a child cannot use it, and has to be told.

    Args:
        make: makes a handle on a new owner.
        on_gpu: whether what these options load is on a GPU.
    """

    def __init__(self, make: Callable[[Key], Handle], on_gpu: Callable[[Key], bool]) -> None:
        self._make, self._on_gpu = make, on_gpu
        self._live: WeakValueDictionary[Key, Handle] = WeakValueDictionary()
        self._lock = threading.Lock()
        forget_with(self)

    def of(self, key: Key) -> Handle:
        """The handle for these options."""
        with self._lock:
            handle = self._live.get(key)
            if handle is None:
                handle = self._live[key] = self._make(key)
            return handle

    def live(self) -> tuple[Key, ...]:
        """What is in use now."""
        return tuple(self._live)

    def forked(self) -> None:
        """Begin anew in a child process; another thread may have held the lock."""
        kept = {key: handle for key, handle in self._live.items() if self._on_gpu(key)}
        self._live, self._lock = WeakValueDictionary(kept), threading.Lock()


_owners: WeakSet[Owner] = WeakSet()


def end_at_exit(owner: Owner) -> None:
    """Have an owner ended before the interpreter is: llama.cpp crashes under a running thread."""
    _owners.add(owner)


@atexit.register
def _end_all() -> None:
    for owner in list(_owners):
        owner.stop()
    for owner in list(_owners):
        owner.join(_EXIT_SECONDS)
