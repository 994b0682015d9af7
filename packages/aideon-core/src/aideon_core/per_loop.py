"""Things that belong to the event loop they were made on, as asyncio's connections do."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One thing for each event loop; notebooks and asyncio.run() come with one after the other.

    Args:
        make: makes one, on the loop that needs it.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._making = threading.Lock()
        self._made: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._made)

    def get(self) -> T:
        """The running loop's own, made when it is first needed.

        Raises:
            RuntimeError: no event loop is running.
        """
        loop = asyncio.get_running_loop()
        with self._making:
            if loop not in self._made:
                # Connections refer to their loop, so a loop that is over does not go by itself.
                for over in [each for each in self._made if each.is_closed()]:
                    del self._made[over]
                self._made[loop] = self._make()
            return self._made[loop]

    def pop(self) -> T | None:
        """Give up the running loop's own, if there is one."""
        with self._making:
            return self._made.pop(asyncio.get_running_loop(), None)
