"""The stores behind a cache: what is put is there, for a time, and within a size."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import closing

import pytest

from aideon_core import telemetry
from aideon_core.cache import Cache, MemoryStore, SqliteStore, StoreFailed
from aideon_core.errors import ConfigError


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
def make(request, tmp_path, clock):
    made = []

    def build(max_bytes=1_000_000):
        if request.param == "memory":
            made.append(MemoryStore(max_bytes=max_bytes, clock=clock))
        else:
            made.append(SqliteStore(tmp_path / "c.sqlite", max_bytes=max_bytes, clock=clock))
        return made[-1]

    yield build
    for store in made:
        store.close()


@pytest.fixture
def sqlite(tmp_path):
    store = SqliteStore(tmp_path / "c.sqlite", max_bytes=1_000_000)
    yield store
    store.close()


@pytest.fixture
def failures():
    """The events of caches that failed."""
    told = []
    end = telemetry.listen(told.append)
    yield told
    end()


def test_a_value_is_there_until_it_is_dropped(make):
    """What is put is given back, the last one of a key, until it is dropped."""
    store = make()
    assert store.get("k") is None
    store.put("k", b"one", None)
    store.put("k", b"two", None)
    assert store.get("k") == b"two"
    store.drop("k")
    assert store.get("k") is None


def test_a_value_ends_with_its_time(make, clock):
    """A value is served for its seconds and not one longer; one without an end stays."""
    store = make()
    store.put("brief", b"x", 10)
    store.put("lasting", b"x", None)
    clock.now += 9.9
    assert store.get("brief") == b"x"
    clock.now += 0.1
    assert store.get("brief") is None
    assert store.get("lasting") == b"x"


def test_what_was_used_longest_ago_makes_room(make, clock):
    """Past the size, values go that nobody asked for the longest, and never the newest."""
    store = make(max_bytes=10 * 1128)
    for number in range(10):
        clock.now += 1
        store.put(f"k{number}", bytes(1000), None)
    clock.now += 1
    assert store.get("k0") is not None
    clock.now += 1
    store.put("new", bytes(2000), None)
    kept = {f"k{number}" for number in range(10) if store.get(f"k{number}")}
    assert kept == {"k0", "k3", "k4", "k5", "k6", "k7", "k8", "k9"}
    assert store.get("new") is not None


def test_a_value_larger_than_the_store_is_not_kept(make):
    """One answer that would not fit does not throw all others out."""
    store = make(max_bytes=5000)
    store.put("k", b"small", None)
    store.put("huge", bytes(5000), None)
    assert store.get("huge") is None
    assert store.get("k") == b"small"


def test_what_is_cleared_is_gone_by_its_prefix(make):
    """Clearing takes the keys that begin so, whatever signs they hold, and leaves the others."""
    store = make()
    for key in ("a-1", "a-2", "a%", "b-1"):
        store.put(key, b"x", None)
    store.clear("a-")
    assert [key for key in ("a-1", "a-2", "a%", "b-1") if store.get(key)] == ["a%", "b-1"]


def test_a_claim_holds_until_it_is_released_or_lapses(sqlite, tmp_path, clock):
    """One owner at a time; its own may be renewed, and one that is not lapses."""
    store = SqliteStore(tmp_path / "timed.sqlite", max_bytes=1000, clock=clock)
    with closing(store):
        assert store.claim("k", "me", 3)
        assert store.claim("k", "me", 3)
        assert not store.claim("k", "you", 3)
        store.release("k", "you")
        assert not store.claim("k", "you", 3)
        store.release("k", "me")
        assert store.claim("k", "you", 3)
        clock.now += 3
        assert store.claim("k", "me", 3)
        store.put("k", b"x", None)
        assert store.claim("k", "you", 3)


def test_a_claim_lapses_though_the_clock_is_set_back(tmp_path, clock):
    """A claim of a process that died holds up nobody, whatever the clock did since."""
    store = SqliteStore(tmp_path / "timed.sqlite", max_bytes=1000, clock=clock)
    with closing(store):
        assert store.claim("k", "dead", 3)
        clock.now -= 3600
        assert store.claim("k", "me", 3)
        clock.now -= 1
        assert not store.claim("k", "you", 3)


def test_a_damaged_sum_is_mended(sqlite, tmp_path):
    """Where the file says wrongly that it is full, it is emptied once and used again."""
    sqlite.put("k", b"x", None)
    with closing(sqlite3.connect(tmp_path / "c.sqlite")) as db, db:
        db.execute("UPDATE total SET bytes = 9000000000")
    sqlite.put("k2", b"y", None)
    sqlite.put("k3", b"z", None)
    assert [sqlite.get(key) for key in ("k", "k2", "k3")] == [None, None, b"z"]


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    """A process that changes its folder finds what it kept before."""
    monkeypatch.chdir(tmp_path)
    cache = Cache("c.sqlite")
    cache.put("k", b"x")
    cache.close()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert cache.get("k") == b"x"
    cache.close()


def test_the_file_is_its_owners_alone(sqlite, tmp_path):
    """Answers may be private: nobody else on the machine can read the file or its journal."""
    sqlite.put("k", b"x", None)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_clearing_gives_the_room_back(sqlite):
    """A cleared file is small again, and holds nothing of what was in it."""
    for number in range(40):
        sqlite.put(f"k{number}", b"private" * 2000, None)
    sqlite.clear("k1")
    assert sqlite.get("k2") is not None
    sqlite.clear("")
    sqlite.close()
    assert sqlite.path.stat().st_size < 100_000
    assert b"privateprivate" not in sqlite.path.read_bytes()


def test_another_who_has_the_file_sees_changes_at_once(sqlite):
    """What one client puts or clears, every other one of the file sees at its next look."""
    with closing(SqliteStore(sqlite.path, max_bytes=1_000_000)) as other:
        sqlite.put("k", b"one", None)
        assert other.get("k") == b"one"
        other.put("k", b"two", None)
        assert sqlite.get("k") == b"two"
        other.clear("")
        assert sqlite.get("k") is None


def test_threads_share_a_store(make):
    """Many threads that put and get at once lose nothing and see nothing broken."""
    store, wrong = make(), []

    def work(mine):
        for number in range(50):
            key = f"{mine}-{number}"
            store.put(key, key.encode(), None)
            if store.get(key) != key.encode():
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(each,)) for each in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert all(store.get(f"{mine}-49") for mine in range(8))


def test_those_who_come_first_at_once_all_come_through(tmp_path):
    """Making the file is no race: whoever opens it while another makes it can use it."""
    for number in range(15):
        stores = [SqliteStore(tmp_path / f"{number}", max_bytes=1000) for _ in range(4)]
        failed, ready = [], threading.Barrier(8)

        def work(do, *args, failed=failed, ready=ready):
            ready.wait()
            try:
                do(*args)
            except StoreFailed as error:
                failed.append(error)

        threads = [
            threading.Thread(target=work, args=each)
            for store in stores
            for each in [(store.get, "k"), (store.put, "k", b"x", None)]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert [store.get("k") for store in stores] == [b"x"] * 4
        for store in stores:
            store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_uses_the_store_and_leaves_its_parents_alone(make):
    """A child reads what was there; the parent's connections outlive the child's end."""
    store = make()
    store.put("k", b"parent", None)
    if (pid := os.fork()) == 0:
        code = 1
        try:
            before = store.get("k")
            store.put("k2", b"child", None)
            code = 0 if (before, store.get("k2")) == (b"parent", b"child") else 1
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    store.put("k3", b"after", None)
    assert (store.get("k"), store.get("k3")) == (b"parent", b"after")


def test_a_file_that_is_no_store_is_left_as_it_is(tmp_path):
    """A damaged file, or another program's database, is refused and not touched."""
    broken = tmp_path / "broken"
    broken.write_bytes(b"these are not the bytes of a database" * 100)
    foreign = tmp_path / "foreign"
    with closing(sqlite3.connect(foreign)) as db:
        db.execute("CREATE TABLE theirs (x)")
    for path in (broken, foreign):
        before = path.read_bytes()
        with closing(SqliteStore(path, max_bytes=1000)) as store:
            with pytest.raises(StoreFailed):
                store.put("k", b"x", None)
            with pytest.raises(StoreFailed):
                store.get("k")
        assert path.read_bytes() == before


def test_a_place_that_is_lost_is_refused(tmp_path):
    """A folder that cannot be made any more is a failure of the store, whatever the cause."""
    with closing(SqliteStore(tmp_path / "sub" / "c.sqlite", max_bytes=1000)) as store:
        (tmp_path / "sub").write_text("in the way")
        with pytest.raises(StoreFailed, match=r"FileExistsError|NotADirectoryError"):
            store.put("k", b"x", None)


def test_a_store_that_fails_costs_one_event_and_no_exception(tmp_path, failures):
    """A cache over a broken file finds nothing and keeps nothing, and says so once."""
    (tmp_path / "broken").write_bytes(b"no database" * 500)
    cache = Cache(tmp_path / "broken")
    for _ in range(3):
        cache.put("k", b"x")
        assert cache.get("k") is None
        assert cache.claim("k", "me", 3)
    cache.close()
    (event,) = failures
    assert event.name == "cache.failed"
    assert "broken" in event.facts["store"]
    assert "not a database" in event.facts["reason"]


def test_a_locked_store_is_waited_for_briefly_and_once(tmp_path, failures):
    """While another program holds the file, a cache waits about a second, then goes without."""
    cache = Cache(tmp_path / "c.sqlite")
    cache.put("k", b"x")
    with closing(sqlite3.connect(cache._store.path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        for _ in range(20):
            cache.put("k", b"y")
        db.execute("ROLLBACK")
    assert [event.name for event in failures] == ["cache.failed"]
    assert "locked" in failures[0].facts["reason"]
    cache._alone_until = 0
    assert cache.get("k") == b"x"
    cache.close()


def test_clearing_says_when_it_could_not(tmp_path):
    """Whoever wants answers gone hears of it when they are not."""
    (tmp_path / "broken").write_bytes(b"no database" * 500)
    with pytest.raises(ConfigError, match="was not cleared"):
        Cache(tmp_path / "broken").clear()


def test_a_path_that_cannot_be_a_file_is_refused_at_once(tmp_path):
    """A folder, a place below a file, and an empty path are refused when the cache is made."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file" / "c.sqlite", "", "a\0b", 7):
        with pytest.raises(ConfigError, match="cache"):
            Cache(path)
    Cache(tmp_path / "new" / "folders" / "c.sqlite")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"ttl": 0}, "ttl is 0"),
        ({"ttl": True}, "ttl is True"),
        ({"ttl": float("nan")}, "ttl is nan"),
        ({"max_mb": -1}, "max_mb is -1"),
        ({"tenant": 7}, "tenant is 7"),
        ({"store": MemoryStore(max_bytes=1), "max_mb": 3}, "store="),
    ],
)
def test_words_that_make_no_sense_are_refused(words, said):
    """A limit that is none, or two places at once, is an error that names the word."""
    with pytest.raises(ConfigError, match=said):
        Cache(**({"path": ":memory:"} | words if "store" not in words else words))
