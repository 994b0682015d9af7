"""A store in one SQLite file, for any number of threads and processes of one machine."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aideon_core import forks
from aideon_core.cache.store import ROW_BYTES, StoreFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_OURS: Final = 0x41494443
_SCHEMA: Final = 1
_LONGEST_LOCK: Final = 1.0
_AT_ONCE: Final = 32
_MOST_USED: Final = 10_000

_TABLES: Final = """
CREATE TABLE entries (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, size INTEGER NOT NULL, used REAL NOT NULL,
    ends REAL
);
CREATE INDEX by_use ON entries (used);
CREATE INDEX by_end ON entries (ends) WHERE ends IS NOT NULL;
CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, ends REAL NOT NULL);
CREATE TABLE total (bytes INTEGER NOT NULL);
INSERT INTO total VALUES (0);
CREATE TRIGGER more AFTER INSERT ON entries BEGIN
    UPDATE total SET bytes = bytes + NEW.size;
END;
CREATE TRIGGER less AFTER DELETE ON entries BEGIN
    UPDATE total SET bytes = bytes - OLD.size;
END;
"""
_CLAIM: Final = """
INSERT INTO claims VALUES (:key, :owner, :ends)
ON CONFLICT (key) DO UPDATE SET owner = :owner, ends = :ends
WHERE claims.owner = :owner OR claims.ends <= :now OR claims.ends > :latest
"""

# SQLite's locks belong to the process: a child that closed these would end its parent's.
_inherited: Final[list[sqlite3.Connection]] = []


class SqliteStore:
    """A store in a file; it is made when it is first used, readable by its owner alone.

    Args:
        path: the file. Beside it lie its journal's, ``-wal`` and ``-shm``.
        max_bytes: what all values may take together.
        clock: tells the time in seconds; the same for all who use the file.
    """

    shared = True

    def __init__(
        self, path: Path, *, max_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._clock = clock
        # Who reads never waits for who writes; and threads that come and go leave none behind.
        self._reader, self._writer = _Connection(path), _Connection(path)
        self._used: dict[str, float] = {}
        forks.forget_with(self)

    def __repr__(self) -> str:
        return f"SqliteStore({str(self.path)!r})"

    def forked(self) -> None:
        """Connections are not for two processes."""
        for each in (self._reader, self._writer):
            each.forked()

    def get(self, key: str) -> bytes | None:
        """The value, unless there is none or its time is over."""
        now = self._clock()
        with self._reader.held() as db:
            # All rows of one: a statement that is not at its end would hold its snapshot.
            rows = db.execute(
                "SELECT value FROM entries WHERE key = ? AND (ends IS NULL OR ends > ?)",
                (key, now),
            ).fetchall()
        if not rows:
            return None
        # Written with the next value: only who makes room needs to know.
        if len(self._used) < _MOST_USED:
            self._used[key] = now
        value: bytes = rows[0][0]
        return value

    def put(self, key: str, value: bytes, seconds: float | None) -> None:
        """Keep a value; those used longest ago make room."""
        size, now = len(value) + ROW_BYTES, self._clock()
        ends = None if seconds is None else now + seconds
        with self._writer.transaction() as db:
            self._write_uses(db)
            db.execute("DELETE FROM claims WHERE key = ? OR ends <= ?", (key, now))
            db.execute("DELETE FROM entries WHERE key = ? OR ends <= ?", (key, now))
            if size <= self._max_bytes:
                db.execute(
                    "INSERT INTO entries VALUES (?, ?, ?, ?, ?)", (key, value, size, now, ends)
                )
            self._make_room(db)

    def drop(self, key: str) -> None:
        """Forget a value."""
        with self._writer.transaction() as db:
            db.execute("DELETE FROM entries WHERE key = ?", (key,))

    def clear(self, prefix: str) -> None:
        """Forget every value whose key begins so, and give the room back to the disk."""
        with self._writer.transaction() as db:
            db.execute("DELETE FROM entries WHERE substr(key, 1, ?) = ?", (len(prefix), prefix))
        with self._writer.held() as db:
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def claim(self, key: str, owner: str, seconds: float) -> bool:
        """Say that ``owner`` will bring the value; False while another's claim holds."""
        now = self._clock()
        # One that ends later was made before the clock was set back, and its owner may be dead.
        # Twice as long: another owner may have looked at the clock a little later.
        latest = now + 2 * seconds
        given = {"key": key, "owner": owner, "ends": now + seconds, "now": now, "latest": latest}
        with self._writer.held() as db:
            return db.execute(_CLAIM, given).rowcount == 1

    def release(self, key: str, owner: str) -> None:
        """End a claim; another owner's stays."""
        with self._writer.held() as db:
            db.execute("DELETE FROM claims WHERE key = ? AND owner = ?", (key, owner))

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        try:
            if self._used and self._writer.is_open:
                with self._writer.transaction() as db:
                    self._write_uses(db)
        finally:
            self._reader.close()
            self._writer.close()

    def _write_uses(self, db: sqlite3.Connection) -> None:
        used, self._used = self._used, {}
        db.executemany(
            "UPDATE entries SET used = ? WHERE key = ?", [(at, key) for key, at in used.items()]
        )

    def _make_room(self, db: sqlite3.Connection) -> None:
        while True:
            (excess,) = db.execute("SELECT bytes - ? FROM total", (self._max_bytes,)).fetchone()
            if excess <= 0:
                return
            oldest = "SELECT key, size FROM entries ORDER BY used LIMIT ?"
            rows = db.execute(oldest, (_AT_ONCE,)).fetchall()
            if not rows:
                # The sum was damaged, and would be above the limit for ever.
                db.execute("UPDATE total SET bytes = 0")
                return
            for key, size in rows:
                db.execute("DELETE FROM entries WHERE key = ?", (key,))
                excess -= size
                if excess <= 0:
                    break


class _Connection:
    """A connection that is opened when it is needed, and used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        return self._db is not None

    def forked(self) -> None:
        self._lock = threading.Lock()
        if self._db is not None:
            _inherited.append(self._db)
        self._db = None

    @contextmanager
    def held(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone.

        Raises:
            StoreFailed: for whatever SQLite or the disk objects to.
        """
        with self._lock:
            try:
                if self._db is None:
                    self._db = _opened(self._path)
                yield self._db
            except (sqlite3.Error, OSError) as error:
                # Whatever is wrong with it, the next one is another.
                self._drop()
                raise StoreFailed(f"{type(error).__name__}: {error}") from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The connection, for changes that are made together or not at all."""
        # At once: a transaction that begins by reading may find that it cannot write.
        with self.held() as db, _transaction(db, "BEGIN IMMEDIATE"):
            yield db

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()


@contextmanager
def _transaction(db: sqlite3.Connection, begin: str) -> Iterator[None]:
    db.execute(begin)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=_LONGEST_LOCK, isolation_level=None, check_same_thread=False)
    try:
        _prepare(db, path)
        db.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables, unless they are there; several may be about to.

    Raises:
        sqlite3.Error: it is another program's file, or of another version of this one.
    """
    # What a file says of itself is read in one transaction: another may be writing it.
    with _transaction(db, "BEGIN"):
        if _is_ours(db):
            return
    # It is empty still, and the journal is given its rights. It was not opened for them: to
    # close it again would end the locks that SQLite has on it in this process.
    path.chmod(0o600)
    _keep_journal(db)
    with _transaction(db, "BEGIN IMMEDIATE"):
        if _is_ours(db):
            return
        for statement in _statements():
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {_OURS}")
        db.execute(f"PRAGMA user_version = {_SCHEMA}")


def _is_ours(db: sqlite3.Connection) -> bool:
    (whose,) = db.execute("PRAGMA application_id").fetchone()
    (schema,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (whose, schema, tables) == (0, 0, 0):
        return False
    if whose != _OURS:
        raise sqlite3.DatabaseError("the file is another program's database")
    if schema != _SCHEMA:
        raise sqlite3.DatabaseError(f"the file is of version {schema}, and this is {_SCHEMA}")
    return True


def _keep_journal(db: sqlite3.Connection) -> None:
    """Change to a write-ahead log; SQLite does not wait for locks while it does that."""
    ends = time.monotonic() + _LONGEST_LOCK
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL").fetchall()
        except sqlite3.OperationalError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.01)
        else:
            return


def _statements() -> Iterator[str]:
    statement = ""
    for line in _TABLES.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
