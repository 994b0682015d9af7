"""What a child process must not go on using: its parent's sockets, locks and threads."""

from __future__ import annotations

import os
from typing import Final, Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Something that can begin anew in a child process."""

    def forked(self) -> None:
        """Let go of what the parent still uses, without closing it."""
        ...


_live: Final[WeakSet[Forkable]] = WeakSet()


def forget_with(thing: Forkable) -> None:
    """Have ``thing.forked()`` called in every child this process is forked into."""
    _live.add(thing)


def _begin_anew() -> None:
    for thing in list(_live):
        thing.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
