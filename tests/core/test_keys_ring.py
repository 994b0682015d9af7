"""The ring: leases, refusals, pauses and changing keys, among threads and event loops."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from aideon_core.errors import ConfigError, CoolingDown, MissingKey, RateLimited
from aideon_core.keys import Called, Environment, File, Fixed, Key, KeyRing


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def __call__(self):
        return self.now


@dataclass
class Wallet:
    """A source whose answers are set by the test, and which counts how often it is asked."""

    keys: list[str] = field(default_factory=list)
    error: Exception | None = None
    ttl: float = 60.0
    blocking: bool = True
    asked: int = 0
    threads: set[str] = field(default_factory=set)
    open: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self):
        self.open.set()

    def read(self):
        self.asked += 1
        self.threads.add(threading.current_thread().name)
        given = [Key(key, "wallet") for key in self.keys]
        assert self.open.wait(10)
        if self.error:
            raise self.error
        return given


@pytest.fixture
def clock():
    return Clock()


def lent(ring, times=1):
    return [ring.lease().reveal() for _ in range(times)]


def eventually(true):
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def test_keys_are_lent_in_turn():
    """Requests are spread over all live keys."""
    turns = lent(KeyRing(Fixed("a", "b"), Fixed("c")), 6)
    assert sorted(turns[:3]) == ["a", "b", "c"]
    assert turns[3:] == turns[:3]


def test_a_paused_key_is_left_alone_until_its_time(clock):
    """After a 429 the other key takes the calls; then both do again."""
    ring = KeyRing(Fixed("a", "b"), clock=clock)
    ring.paused(ring.lease(), 5.0)
    assert lent(ring, 3) == ["b", "b", "b"]
    clock.now += 5.0
    assert set(lent(ring, 2)) == {"a", "b"}


def test_when_every_key_pauses_the_shortest_wait_is_told(clock):
    """CoolingDown is a RateLimited whose retry_after is the first moment a key is free."""
    ring = KeyRing(Fixed("a", "b"), clock=clock)
    ring.paused(ring.lease(), 7.0)
    ring.paused(ring.lease(), 3.0)
    with pytest.raises(CoolingDown, match="Ask again in 3 s") as raised:
        ring.lease()
    assert raised.value.retry_after == 3.0
    assert isinstance(raised.value, RateLimited)
    assert raised.value.retryable
    clock.now += 3.0
    assert lent(ring) == ["b"]


def test_a_refused_key_makes_way_for_another(clock):
    """After a 401 the caller is told whether there is another key, and gets it."""
    ring = KeyRing(Fixed("a", "b"), clock=clock)
    assert ring.refused(ring.lease())
    assert lent(ring, 3) == ["b"] * 3
    assert not ring.refused(ring.lease())


def test_a_single_refused_key_is_tried_again(clock):
    """An account that is topped up works without a restart."""
    ring = KeyRing(Fixed("a"), clock=clock)
    for _ in range(3):
        assert not ring.refused(ring.lease())
    key = ring.lease()
    ring.answered(key)
    assert lent(ring) == ["a"]


def test_a_refused_key_is_probed_after_a_minute(clock):
    """Sixty seconds later one call tries the key, and if it works the key is back."""
    ring = KeyRing(Fixed("a", "b"), clock=clock)
    ring.refused(ring.lease())
    clock.now += 60.0
    assert sorted(lent(ring, 3)) == ["a", "b", "b"]
    ring.answered(Key("a", ""))
    assert sorted(lent(ring, 4)) == ["a", "a", "b", "b"]


@pytest.mark.parametrize("blocking", [True, False])
def test_a_refusal_asks_the_sources(clock, blocking):
    """A key that was replaced is replaced here on the first refusal, before its time is up."""
    wallet = Wallet(["old"], blocking=blocking, ttl=0.0 if not blocking else 60.0)
    ring = KeyRing(wallet, clock=clock)
    old = ring.lease()
    wallet.keys = ["new"]
    assert ring.refused(old)
    assert lent(ring) == ["new"]
    assert ring.refused(old), "refused again by a slower call, and the new key is there"


async def test_an_awaited_refusal_asks_the_sources(clock):
    """An awaited call finds the replaced key on its first refusal, too."""
    wallet = Wallet(["old"])
    ring = KeyRing(wallet, clock=clock)
    old = await ring.alease()
    wallet.keys = ["new"]
    assert await ring.arefused(old)
    assert (await ring.alease()).reveal() == "new"


def test_an_asking_from_before_the_refusal_does_not_count():
    """A source read just before it changed is read again, so the call gets the new key."""
    wallet = Wallet(["old"], ttl=0.0)
    ring = KeyRing(wallet)
    old = ring.lease()
    wallet.open.clear()
    ring.lease()  # asks, and is answered too late
    eventually(lambda: wallet.asked == 2)
    wallet.keys = ["new"]
    with ThreadPoolExecutor() as pool:
        outcome = pool.submit(ring.refused, old)
        eventually(lambda: ring._queued is not None)
        wallet.open.set()
        assert outcome.result(10)
    assert lent(ring) == ["new"]


def test_with_another_key_in_hand_a_refusal_does_not_wait():
    """The refused key's successor is asked for in the background when a live key is left."""
    slow = Wallet(["a"])
    ring = KeyRing(slow, Fixed("b"))
    key = next(key for key in iter(ring.lease, None) if key.reveal() == "a")
    slow.open.clear()
    assert ring.refused(key)
    slow.open.set()


def test_many_refusals_at_once_ask_once(clock):
    """Calls that are refused together share one asking; Vault is not flooded."""
    wallet = Wallet(["old"])
    ring = KeyRing(wallet, clock=clock)
    old = ring.lease()
    wallet.open.clear()
    with ThreadPoolExecutor(50) as pool:
        outcomes = [pool.submit(ring.refused, old) for _ in range(50)]
        eventually(lambda: wallet.asked == 2)
        wallet.open.set()
        assert not any(outcome.result(10) for outcome in outcomes)
    assert wallet.asked <= 3
    for _ in range(20):
        ring.refused(ring.lease())
    assert wallet.asked <= 3
    clock.now += 1.0
    ring.refused(ring.lease())
    assert wallet.asked <= 4


def test_an_answer_holds_for_its_ttl(clock):
    """A source is asked again when its answer is too old, and not before."""
    wallet = Wallet(["a"], ttl=60.0)
    ring = KeyRing(wallet, clock=clock)
    lent(ring, 100)
    assert wallet.asked == 1
    clock.now += 60.0
    wallet.keys = ["b"]
    assert lent(ring, 2) == ["b", "b"]
    assert wallet.asked == 2


def test_a_source_that_fails_leaves_its_old_keys(clock):
    """While Vault is down, the key it gave keeps working; afterwards the new one takes over."""
    wallet = Wallet(["old"])
    ring = KeyRing(wallet, clock=clock)
    lent(ring)
    wallet.error, wallet.keys = ConfigError("The vault is down."), ["new"]
    for _ in range(5):
        clock.now += 60.0
        assert lent(ring) == ["old"]
    assert ring.unavailable() is None
    wallet.error = None
    clock.now += 1.0
    assert lent(ring) == ["new"]


def test_a_slow_source_does_not_hold_up_a_call_that_has_a_key(clock):
    """With a key in hand a call waits a moment for newer ones, and others not at all."""
    wallet = Wallet(["old"])
    ring = KeyRing(wallet, clock=clock)
    lent(ring)
    clock.now += 60.0
    wallet.open.clear()
    wallet.keys = ["new"]
    began = time.monotonic()
    assert lent(ring, 100) == ["old"] * 100
    assert time.monotonic() - began < 2.0
    wallet.open.set()
    eventually(lambda: lent(ring) == ["new"])


def test_the_reason_is_told_when_no_key_is_left(clock):
    """MissingKey repeats what the sources complained about, with the error as its cause."""
    wallet = Wallet(error=ConfigError("The vault is sealed.", hint="Unseal it."))
    ring = KeyRing(wallet, name="Groq", clock=clock)
    assert ring.unavailable() is None, "nobody knows yet"
    with pytest.raises(MissingKey, match="no key for Groq. The vault is sealed. Unseal it.") as got:
        ring.lease()
    assert got.value.__cause__ is wallet.error
    assert isinstance(ring.unavailable(), MissingKey)
    clock.now += 1.0
    assert ring.unavailable() is None, "it may be there by now"
    wallet.error, wallet.keys = None, ["a"]
    assert lent(ring) == ["a"]


def test_a_source_may_fail_in_any_way(clock):
    """An exception of a user's function is the cause, and its text is not repeated."""

    def wallet():
        raise ZeroDivisionError("canary")

    with pytest.raises(MissingKey, match="failed with ZeroDivisionError") as raised:
        KeyRing.of(wallet).lease()
    assert "canary" not in str(raised.value)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_source_of_something_else_than_keys_is_told():
    """A source of one's own that gives plain text is an error, not a surprise later."""

    class Plain:
        ttl, blocking = 0.0, False

        def read(self):
            return ["canary"]

    with pytest.raises(MissingKey, match="gave something that is no Key"):
        KeyRing(Plain()).lease()


def test_without_sources_there_is_no_key():
    """An empty list is no key, and the hint says what to pass."""
    with pytest.raises(MissingKey, match="Pass api_key="):
        KeyRing.of([]).lease()


async def test_slow_sources_are_never_asked_on_the_event_loop():
    """While a source takes its time, the loop goes on with other work."""
    wallet = Wallet(["a"])
    wallet.open.clear()
    ring = KeyRing(wallet)
    lease = asyncio.create_task(ring.alease())
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not lease.done()
    wallet.open.set()
    assert (await lease).reveal() == "a"
    assert threading.current_thread().name not in wallet.threads


async def test_concurrent_calls_share_one_asking():
    """Two hundred tasks that need the first key ask for it once."""
    wallet = Wallet(["a"])
    ring = KeyRing(wallet)
    keys = await asyncio.gather(*(ring.alease() for _ in range(200)))
    assert {key.reveal() for key in keys} == {"a"}
    assert wallet.asked == 1


async def test_a_cancelled_call_does_not_cancel_the_asking():
    """Whoever else waits for the key still gets it."""
    wallet = Wallet(["a"])
    wallet.open.clear()
    ring = KeyRing(wallet)
    first, second = (asyncio.create_task(ring.alease()) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.wait([first])
    wallet.open.set()
    assert (await second).reveal() == "a"


def test_a_loop_that_ends_early_leaves_the_ring_whole():
    """A key asked for on one loop is there for the next one and for threads."""
    wallet = Wallet(["a"])
    wallet.open.clear()
    ring = KeyRing(wallet)

    async def given_up():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ring.alease(), 0.02)

    asyncio.run(given_up())
    wallet.open.set()
    assert asyncio.run(ring.alease()).reveal() == "a"
    assert lent(ring) == ["a"]


@dataclass
class Host:
    """A server that knows which keys are valid, and counts what it refuses."""

    valid: set[str]
    refused: int = 0
    served: int = 0

    def takes(self, key):
        if key in self.valid:
            self.served += 1
            return True
        self.refused += 1
        return False


def call(ring, host):
    """One call as a backend makes it; whether it was answered."""
    for _ in range(3):
        key = ring.lease()
        time.sleep(0.001)
        if host.takes(key.reveal()):
            ring.answered(key)
            return True
        if not ring.refused(key):
            return False
    return False


async def acall(ring, host):
    for _ in range(3):
        key = await ring.alease()
        await asyncio.sleep(0.001)
        if host.takes(key.reveal()):
            ring.answered(key)
            return True
        if not await ring.arefused(key):
            return False
    return False


@pytest.fixture(params=["file", "environment", "wallet", "both keys in the file"])
def place(request, tmp_path, monkeypatch):
    """A ring, and a function that writes a new key where the ring reads."""
    monkeypatch.delenv("TOGETHER_API_KEYS", raising=False)
    monkeypatch.delenv("TOGETHER_API_KEY_FILE", raising=False)
    path, new = tmp_path / "key", tmp_path / "new"
    written = []

    def write(key):
        written.append(key)
        if request.param == "environment":
            monkeypatch.setenv("TOGETHER_API_KEY", key)
        kept = written[-2:] if request.param.startswith("both") else [key]
        new.write_text("\n".join(kept))
        new.replace(path)

    write("key-0")
    sources = {
        "environment": Environment(),
        "wallet": Called(path.read_text, ttl=0.05),
    }
    return KeyRing(sources.get(request.param, File(path))), write


ROTATIONS = 4


def test_threads_notice_no_rotation(place):
    """Two hundred calls a second, four rotations: no call fails."""
    ring, write = place
    host = Host({"key-0"})
    over = threading.Event()
    outcomes: list[bool] = []

    def work():
        while not over.is_set():
            outcomes.append(call(ring, host))
            time.sleep(0.02)

    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(work) for _ in range(8)]
        for n in range(1, ROTATIONS + 1):
            time.sleep(0.1)
            host.valid.add(f"key-{n}")
            write(f"key-{n}")
            time.sleep(0.02)
            host.valid.discard(f"key-{n - 1}")
        time.sleep(0.1)
        over.set()
        for worker in workers:
            worker.result(10)
    assert all(outcomes)
    assert len(outcomes) > 50
    assert host.served == len(outcomes)


async def test_tasks_notice_no_rotation(place):
    """The same on an event loop, with the old key revoked at once."""
    ring, write = place
    host = Host({"key-0"})
    outcomes: list[bool] = []

    async def work():
        while f"key-{ROTATIONS}" not in host.valid or len(outcomes) < 100:
            outcomes.append(await acall(ring, host))
            await asyncio.sleep(0.02)

    async def rotate():
        for n in range(1, ROTATIONS + 1):
            await asyncio.sleep(0.05)
            write(f"key-{n}")
            host.valid = {f"key-{n}"}

    await asyncio.gather(rotate(), *(work() for _ in range(8)))
    assert all(outcomes)
    assert host.refused > 0 or isinstance(ring._asked[0].source, Environment)


@pytest.mark.slow
def test_a_lease_costs_next_to_nothing():
    """Lending a fixed key takes microseconds: it is done for every request."""
    ring = KeyRing(Fixed("a"))
    best = min(_seconds(ring.lease, 2000) for _ in range(20))
    assert best / 2000 < 20e-6, "the bound is wide because machines are busy"


def _seconds(do, times):
    began = time.perf_counter()
    for _ in range(times):
        do()
    return time.perf_counter() - began
