"""What the package tells of its own work: to the log, and to whoever listens."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

_logger = logging.getLogger("aideon_core")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        name: such as ``"wire.unknown"``.
        facts: what is known of it; never a prompt, an answer or a key.
    """

    name: str
    facts: Mapping[str, object]


Listener: TypeAlias = Callable[[Event], None]
_listeners: Final[list[list[Listener]]] = []
_told: Final[set[Hashable]] = set()
# A server that makes up field names must not fill the memory.
_MOST_TOLD: Final = 1000
_telling = threading.Lock()


def listen(listener: Listener) -> Callable[[], None]:
    """Have every event told to ``listener``, on the thread where it happens.

    Returns:
        A function that ends it.
    """
    held = [listener]
    _listeners.append(held)

    def end() -> None:
        held.clear()
        # By identity: the same function may listen twice, and each has an end of its own.
        _listeners[:] = [each for each in _listeners if each is not held]

    return end


def tell(name: str, **facts: object) -> None:
    """Tell of an event: to the log at level INFO, and to every listener."""
    _logger.info("%s %s", name, facts)
    event = Event(name, facts)
    for listener in [each for held in tuple(_listeners) for each in tuple(held)]:
        try:
            listener(event)
        except Exception:
            # An answer must not be lost because somebody who watches has a bug.
            _logger.exception("A listener failed on %s", name)


def tell_once(name: str, **facts: object) -> None:
    """Tell of an event unless one just like it was told before in this process."""
    key = name, tuple(sorted((fact, repr(value)) for fact, value in facts.items()))
    with _telling:
        if key in _told or len(_told) == _MOST_TOLD:
            return
        _told.add(key)
    tell(name, **facts)
