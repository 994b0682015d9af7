"""``Cache``: a store, and the rules by which it is used."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from math import inf
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from zlib import crc32

from aideon_core import forks, telemetry
from aideon_core.cache.flights import Flights
from aideon_core.cache.key import digest
from aideon_core.cache.sqlite import SqliteStore
from aideon_core.cache.store import MemoryStore, Store, StoreFailed
from aideon_core.config import Config
from aideon_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

FILE: Final = "cache.sqlite"
MEMORY: Final = ":memory:"
_MAX_MB: Final = 256.0
_MB: Final = 1_000_000
# A store that failed is left alone for so long: each try may wait for a lock.
_LEFT_ALONE: Final = 5.0
_TENANT_DIGITS: Final = 32
_CHECKSUM_BYTES: Final = 4
_THREADS: Final = 2


class Cache:
    """Keeps answers, and gives them to equal calls.

    A store that fails costs no answer: the call goes on without it, and the event
    ``cache.failed`` tells why.

    Args:
        path: the file, or ``":memory:"`` for this process's memory; ``cache.sqlite`` in the
            home of the settings when not given.
        ttl: how many seconds an answer is served for; None for no limit.
        max_mb: what the answers may take together, in megabytes; those used longest ago go.
        tenant: whose answers these are. Others on the same store never see them.
        store: where they lie instead of ``path``, by the Store protocol.
        clock: tells the time in seconds, for tests.

    Raises:
        ConfigError: a number is none that makes sense, or the path cannot be a file.
    """

    def __init__(
        self,
        path: str | PathLike[str] | None = None,
        *,
        ttl: float | None = None,
        max_mb: float | None = None,
        tenant: str = "",
        store: Store | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if ttl is not None:
            _check("ttl", ttl, "seconds")
        if max_mb is not None:
            _check("max_mb", max_mb, "megabytes")
        if not isinstance(tenant, str):
            raise ConfigError(f"tenant is {tenant!r}.", hint="It takes a text.")
        if store is not None and (path, max_mb) != (None, None):
            raise ConfigError(
                "store= says where the answers lie and how many there may be.",
                hint="Leave path and max_mb= out, or store=.",
            )
        self.ttl, self.tenant = ttl, tenant
        max_bytes = int((_MAX_MB if max_mb is None else max_mb) * _MB)
        self._store = store or _store_at(path, max_bytes, clock)
        self._clock = clock
        self._space = digest(tenant)[:_TENANT_DIGITS]
        self._alone_until = -inf
        self.flights = Flights(self.claim)
        self.forked()
        forks.forget_with(self)

    @classmethod
    def of(cls, given: Cache | str | PathLike[str] | bool, config: Config) -> Cache | None:  # noqa: FBT001
        """The cache that a client's ``cache=`` stands for."""
        if given is False:
            return None
        if given is True:
            return cls(config.home / FILE)
        if isinstance(given, Cache):
            return given
        return cls(given)

    def __repr__(self) -> str:
        return f"Cache({self._store!r}, ttl={self.ttl}, tenant={self.tenant!r})"

    def __deepcopy__(self, memo: object) -> Cache:
        # It stands for a file, and for calls under way.
        return self

    def forked(self) -> None:
        """The parent's threads are not here."""
        # Of its own: the loop's threads may all be waiting for what these bring.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="aideon-cache")

    @property
    def shared(self) -> bool:
        """Whether other processes use its store, so that it may have to be waited for."""
        return self._store.shared

    @property
    def now(self) -> float:
        """The time by the cache's clock, in seconds."""
        return self._clock()

    def key(self, kind: str, asked: object) -> str:
        """The key of a value: the tenant's, of a kind, for what was asked.

        Args:
            kind: a word for values that are cleared together.
            asked: JSON that is the same for equal questions.

        Raises:
            TypeError: it is no JSON.
            ValueError: it holds itself.
        """
        return f"{self._space}-{kind}-{digest([self.tenant, kind, asked])}"

    def get(self, key: str) -> bytes | None:
        """The value, None where there is none, it was damaged, or the store fails."""
        if (row := self._tried(lambda store: store.get(key), None)) is None:
            return None
        value = row[_CHECKSUM_BYTES:]
        if _checksum(value) == row[:_CHECKSUM_BYTES]:
            return value
        self.drop(key)
        return None

    def put(self, key: str, value: bytes) -> None:
        """Keep a value for ``ttl``."""
        row = _checksum(value) + value
        self._tried(lambda store: store.put(key, row, self.ttl), None)

    def drop(self, key: str) -> None:
        """Forget a value, such as one that cannot be read."""
        self._tried(lambda store: store.drop(key), None)

    def claim(self, key: str, owner: str, seconds: float) -> bool:
        """Say that ``owner`` will bring the value; True too where the store fails."""
        return self._tried(lambda store: store.claim(key, owner, seconds), otherwise=True)

    def release(self, key: str, owner: str) -> None:
        """End a claim."""
        self._tried(lambda store: store.release(key, owner), None)

    def clear(self, kind: str | None = None) -> None:
        """Forget the tenant's answers, those of one kind or all.

        Raises:
            ConfigError: the store cannot be used, so they are there still.
        """
        try:
            self._store.clear(f"{self._space}-" if kind is None else f"{self._space}-{kind}-")
        except StoreFailed as error:
            raise ConfigError(
                f"{self._store!r} was not cleared: {error}.",
                hint="Delete the file, or try again when nobody holds it.",
            ) from error

    def close(self) -> None:
        """Let go of the file; it is opened again when it is needed."""
        try:
            self._store.close()
        except StoreFailed as error:
            self._failed(error)

    async def aclose(self) -> None:
        """Let go of the file without blocking the event loop."""
        await self.off_loop(self.close)

    async def off_loop(self, do: Callable[[], T]) -> T:
        """Use the cache where a lock that has to be waited for holds up no event loop."""
        if not self.shared:
            return do()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, copy_context().run, do)

    def _tried(self, do: Callable[[Store], T], otherwise: T) -> T:
        if time.monotonic() < self._alone_until:
            return otherwise
        try:
            return do(self._store)
        except StoreFailed as error:
            self._failed(error)
            return otherwise

    def _failed(self, error: StoreFailed) -> None:
        self._alone_until = time.monotonic() + _LEFT_ALONE
        telemetry.tell_once("cache.failed", store=repr(self._store), reason=str(error))


def _is_path(path: object) -> bool:
    said = fspath(path) if isinstance(path, str | PathLike) else None
    return isinstance(said, str) and bool(said) and "\0" not in said


def _checksum(value: bytes) -> bytes:
    return crc32(value).to_bytes(_CHECKSUM_BYTES)


def _check(name: str, given: object, unit: str) -> None:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < inf:
        raise ConfigError(f"{name} is {given!r}.", hint=f"It takes a number of {unit} above 0.")


def _store_at(
    path: str | PathLike[str] | None, max_bytes: int, clock: Callable[[], float]
) -> Store:
    if path == MEMORY:
        return MemoryStore(max_bytes=max_bytes, clock=clock)
    if path is not None and not _is_path(path):
        raise ConfigError(f"The path of the cache is {path!r}.", hint="It takes that of a file.")
    # Absolute: it is opened again after the process may have changed its folder.
    file = (Config.load().home / FILE if path is None else Path(path).expanduser()).absolute()
    above = next((each for each in file.parents if each.exists()), file.parent)
    if file.is_dir() or not above.is_dir():
        wrong = file if file.is_dir() else above
        what = "a folder" if file.is_dir() else "no folder"
        raise ConfigError(
            f"The cache cannot be the file {str(file)!r}: {str(wrong)!r} is {what}.",
            hint="Give the path of a file, new or a cache already.",
        )
    return SqliteStore(file, max_bytes=max_bytes, clock=clock)
