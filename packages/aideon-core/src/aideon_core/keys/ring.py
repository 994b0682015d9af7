"""The ring: a locked shell around the keys' state, and the asking of the sources."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from aideon_core import forks
from aideon_core.errors import AideonError, ConfigError, CoolingDown, MissingKey, TimedOut
from aideon_core.keys import specs
from aideon_core.keys.key import Key, wrapped
from aideon_core.keys.sources import Environment
from aideon_core.keys.state import RingState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from aideon_core.config import Secret
    from aideon_core.keys.sources import Answer, Source

_PATIENCE: Final = 0.25
"""Seconds a call with a key in hand waits for newer ones."""

_AGAIN: Final = 1.0
"""Seconds until a source is asked again that failed, or gave the same refused key again."""


Keys: TypeAlias = (
    "str | Secret | Source | KeyRing | Callable[[], Answer] |"
    " Sequence[str | Secret | Source | Callable[[], Answer]]"
)
"""What ``api_key=`` takes; see KeyRing.of."""


@dataclass(slots=True)
class _Asked:
    """A source, and what it said last."""

    source: Source
    keys: tuple[Key, ...] = ()
    due: float = -inf
    error: Exception | None = None


class KeyRing:
    """The keys for one host: which there are, and which of them is used next.

    A call takes the key that was used least recently. A refused key is tried once a minute
    until it is taken; where no other key is left, it is tried all the same. A paused key is not
    used before its time. Threads and event loops share a ring.

    Sources that take time are asked in a thread. A call that has a key waits a quarter of a
    second for newer ones and then goes on with it; when a source fails, the keys it gave
    before stay.

    Args:
        *sources: where keys come from; all keys of all sources count.
        name: whose keys they are, for messages.
        hint: what to do when there is none; made from the sources when not given.
        clock: tells the time in seconds.
    """

    def __init__(
        self,
        *sources: Source,
        name: str = "Together AI",
        hint: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        variables = [each.name for each in sources if isinstance(each, Environment)]
        set_it = f"Set {variables[0]} or pass" if variables else "Pass"
        self.name = name
        self._hint = hint or f"{set_it} api_key=."
        self._clock = clock
        self._lock = threading.Lock()
        self._state = RingState()
        self._asked = [_Asked(source) for source in sources]
        self._due = -inf
        # The asking that runs now, and the one after it. Both are futures, because threads and
        # event loops alike can wait for one.
        self._running: Future[None] | None = None
        self._queued: Future[None] | None = None
        self._all_asked = -inf
        forks.forget_with(self)

    @classmethod
    def of(
        cls,
        key: Keys,
        *,
        name: str = "Together AI",
        hint: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> KeyRing:
        """The ring of what ``api_key=`` was given.

        Args:
            key: a key; a spec, one of ``"env:NAME"``, ``"file:/path"``,
                ``"keyring:service/user"`` and ``"vault:path#field"``; a source; a function that
                returns a key or several; several of these; or a ring, which is taken as it is.
            name: whose keys they are, for messages.
            hint: what to do when there is none.
            clock: tells the time in seconds.

        Raises:
            ConfigError: it is none of these, or text that cannot be a key.
        """
        if isinstance(key, KeyRing):
            return key
        things = wrapped(key)
        del key  # a traceback that prints local variables would show it
        return cls(*specs.sources(things), name=name, hint=hint, clock=clock)

    def forked(self) -> None:
        """In a child process: whoever was asking the sources stayed behind."""
        self._lock = threading.Lock()
        self._running = self._queued = None
        self._due = -inf

    def __repr__(self) -> str:
        sources = ", ".join(repr(asked.source) for asked in self._asked)
        return f"KeyRing({sources})"

    def __deepcopy__(self, memo: object) -> Self:
        # A copy of an agent shares the ring, or the copies would not know of each other's pauses.
        return self

    def __reduce__(self) -> str:
        raise TypeError("a KeyRing is not pickled: make one where it is needed")

    def lease(self, seconds: float | None = None) -> Key:
        """A key to use now.

        Args:
            seconds: the longest wait for the sources; None for as long as they take.

        Raises:
            MissingKey: no source gives any.
            CoolingDown: every key waits out a limit; ``retry_after`` is the shortest wait.
            TimedOut: the sources did not answer in time.
        """
        if (asking := self._ask_when_due()) is not None:
            futures.wait([asking], self._patience(seconds))
        return self._take()

    async def alease(self, seconds: float | None = None) -> Key:
        """A key to use now; awaits the sources. See ``lease``."""
        if (asking := self._ask_when_due()) is not None:
            await _done(asking, self._patience(seconds))
        return self._take()

    def refused(self, key: Key, seconds: float | None = None) -> bool:
        """The host refused the key: no call uses it for a while, and the sources are asked.

        Args:
            key: the key.
            seconds: the longest wait for the sources; None for as long as they take.

        Returns:
            Whether another key can be tried now. Keys may be refused one after the other
            without end when a source makes up new ones, so a caller has to stop somewhere.
        """
        if (asking := self._quarantine(key)) is not None:
            futures.wait([asking], seconds)
        return self._another(key)

    async def arefused(self, key: Key, seconds: float | None = None) -> bool:
        """The host refused the key; awaits the sources. See ``refused``."""
        if (asking := self._quarantine(key)) is not None:
            await _done(asking, seconds)
        return self._another(key)

    def paused(self, key: Key, seconds: float, *, interval: float = 0.0) -> None:
        """The host asked to wait: no call uses the key before, for a day at most.

        Args:
            key: the key.
            seconds: how long.
            interval: seconds to keep between two uses for a while after.
        """
        with self._lock:
            self._state = self._state.paused(key, seconds, self._clock(), interval)

    def answered(self, key: Key) -> None:
        """The host took the key: it is out of quarantine."""
        state = self._state.keys.get(key)
        if state is not None and state.refused_until > -inf:
            with self._lock:
                self._state = self._state.answered(key)

    def masked(self, text: str) -> str:
        """The text with every key of the ring made unreadable: some servers repeat them."""
        for key in self._state.keys:
            text = key.masked(text)
        return text

    def unavailable(self) -> AideonError | None:
        """MissingKey when there is certainly no key; asks nothing that takes time."""
        with self._lock:
            now = self._clock()
            self._ask_at_once(now)
            if self._state.keys or self._running is not None or self._is_due(now):
                return None
            return self._missing()

    def _take(self) -> Key:
        with self._lock:
            now = self._clock()
            key = self._state.choice(now)
            if key is not None:
                self._state = self._state.leased(key, now)
                return key
            if not self._state.keys and self._running is not None:
                raise TimedOut(
                    f"What gives the keys for {self.name} has not answered in time.",
                    hint="Raise deadline=, or look at what api_key= names.",
                )
            if not self._state.keys:
                raise self._missing()
            wait = self._state.wait(now)
        raise CoolingDown(
            f"Every key for {self.name} is waiting out a limit.",
            hint=f"Ask again in {wait:.3g} s, add a key, or allow another backend to answer.",
            retry_after=wait,
        )

    def _missing(self) -> MissingKey:
        errors = [asked.error for asked in self._asked if asked.error is not None]
        if not errors:
            return MissingKey(f"There is no key for {self.name}.", hint=self._hint)
        reasons = " ".join(map(_reason, errors))
        hint = errors[0].hint if isinstance(errors[0], AideonError) else ""
        missing = MissingKey(f"There is no key for {self.name}. {reasons}", hint=hint or self._hint)
        missing.__cause__ = errors[0]
        return missing

    def _another(self, key: Key) -> bool:
        with self._lock:
            return self._state.another(key, self._clock())

    def _patience(self, seconds: float | None) -> float | None:
        if not self._state.keys:
            return seconds
        return _PATIENCE if seconds is None else min(seconds, _PATIENCE)

    def _quarantine(self, key: Key) -> Future[None] | None:
        """Take note of a refusal; returns what has to be waited for, if anything."""
        with self._lock:
            now = self._clock()
            state = self._state.keys.get(key)
            if state is None:  # replaced already, so its refusal is no news
                return None
            self._state = self._state.refused(key, now)
            self._ask_at_once(now)
            if not any(asked.source.blocking for asked in self._asked):
                return None
            known = not state.live(now) and now < self._all_asked + _AGAIN
            asking = (self._queued or self._running) if known else self._ask_anew(now)
            # With another key in hand, nobody has to wait for this one's successor.
            return None if self._state.another(key, now) else asking

    def _ask_when_due(self) -> Future[None] | None:
        """Ask the sources whose answer is too old; returns what has to be waited for."""
        now = self._clock()
        if now < self._due:
            return None
        with self._lock:
            self._ask_at_once(now)
            if not self._is_due(now):
                return None
            if self._running is not None:
                return None if self._state.keys else self._running
            self._running = self._start(everything=False)
            return self._running

    def _is_due(self, now: float) -> bool:
        return any(asked.due <= now and asked.source.blocking for asked in self._asked)

    def _ask_at_once(self, now: float) -> None:
        for asked in self._asked:
            if asked.due <= now and not asked.source.blocking:
                self._note(asked, _answer(asked.source), now)

    def _ask_anew(self, now: float) -> Future[None]:
        # One that runs may have read a source before it changed, so it does not count.
        self._all_asked = now
        if self._running is None:
            self._running = self._start(everything=True)
            return self._running
        if self._queued is None:
            self._queued = _pending()
        return self._queued

    def _start(self, *, everything: bool) -> Future[None]:
        # A thread of its own: a loop's executor may be full, or shut down with its loop.
        thread = threading.Thread(
            target=self._ask, args=(everything,), name="aideon-keys", daemon=True
        )
        thread.start()
        return _pending()

    def _ask(self, everything: bool) -> None:  # noqa: FBT001 - a thread's argument
        while True:
            for asked in self._asked:
                if asked.source.blocking and (everything or asked.due <= self._clock()):
                    answer = _answer(asked.source)
                    with self._lock:
                        self._note(asked, answer, self._clock())
            with self._lock:
                done, self._running, self._queued = self._running, self._queued, None
                ends = self._running is None
            assert done is not None
            done.set_result(None)
            if ends:
                return
            everything = True

    def _note(self, asked: _Asked, answer: tuple[Key, ...] | Exception, now: float) -> None:
        ttl = asked.source.ttl
        if isinstance(answer, Exception):
            asked.error = answer
            asked.due = now + min(ttl, _AGAIN)
        else:
            asked.error = None
            asked.due = now + ttl
            if answer is not asked.keys:
                asked.keys = answer
                self._state = self._state.given(key for each in self._asked for key in each.keys)
        self._due = min(each.due for each in self._asked)


def _answer(source: Source) -> tuple[Key, ...] | Exception:
    try:
        keys = tuple(source.read())
    except BaseException as error:  # noqa: BLE001 - a source is anyone's code, and told when no key is left
        # Nobody else would see it in this thread, and all would wait for ever.
        return error if isinstance(error, Exception) else RuntimeError(type(error).__name__)
    if not all(isinstance(key, Key) for key in keys):
        return ConfigError(f"{source!r} gave something that is no Key.")
    return keys


def _reason(error: Exception) -> str:
    if isinstance(error, AideonError):
        return error.message
    # Its own text may repeat what it was about to give.
    return f"Asking for it failed with {type(error).__name__}."


def _pending() -> Future[None]:
    future: Future[None] = Future()
    # From here on nobody who waits for it can cancel it for the others.
    future.set_running_or_notify_cancel()
    return future


async def _done(future: Future[None], seconds: float | None = None) -> None:
    mirror = asyncio.wrap_future(future)
    try:
        await asyncio.wait([mirror], timeout=seconds)
    finally:
        mirror.cancel()


def hidden(given: Keys | None) -> Keys | None:
    """The same keys with nothing of them to see, for a frame that a traceback may show."""
    if given is None or isinstance(given, KeyRing):
        return given
    return cast("Keys", wrapped(given))
