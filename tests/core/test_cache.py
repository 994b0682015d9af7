"""Clients that keep answers: what an equal call is, and what it gets."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator

from aideon_core import (
    AsyncClient,
    Client,
    Completion,
    LlamaCppBackend,
    Message,
    TokenLogprob,
    ToolCall,
    Usage,
)
from aideon_core import request as requests
from aideon_core.cache import Cache, MemoryStore, flights, replay
from aideon_core.cache.entries import Entry
from aideon_core.cache.key import asked, digest
from aideon_core.cache.reach import reach_of
from aideon_core.errors import (
    ConfigError,
    ConnectFailed,
    InvalidOutput,
    ServerError,
    StreamInterrupted,
    TimedOut,
)
from aideon_core.policy import POLICIES, Prefer
from aideon_core.types import Considered, Request, Route
from aideon_testing import Cut, Failure, FakeBackend, Reply

ANSWER = Completion(
    text="Two, three, five.",
    finish_reason="stop",
    usage=Usage(9, 6, 4, 1),
    cost=Decimal("0.00012"),
    id="chat-1",
)
MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


class Clock:
    """A clock that goes when it is told to."""

    now = 1_700_000_000.0

    def __call__(self):
        return self.now


class Gated(FakeBackend):
    """A backend that answers once its gate is open."""

    def __init__(self, *args, **words):
        super().__init__(*args, **words)
        self.gate = threading.Event()
        self.asked = threading.Event()
        self.calls = 0

    def complete(self, request):
        self.calls += 1
        self.asked.set()
        assert self.gate.wait(10)
        return super().complete(request)

    async def acomplete(self, request):
        return await asyncio.to_thread(self.complete, request)


class Sync:
    """Drives a Client."""

    def __init__(self, **words):
        self.client = Client(**({"embedding": None} | words))

    async def chat(self, *args, **params):
        return self.client.chat(*args, **params)

    async def stream(self, *args, **params):
        with self.client.stream(*args, **params) as stream:
            return list(stream), stream.completion

    async def close(self):
        self.client.close()


class Async(Sync):
    """Drives an AsyncClient the same way."""

    def __init__(self, **words):
        self.client = AsyncClient(**({"embedding": None} | words))

    async def chat(self, *args, **params):
        return await self.client.chat(*args, **params)

    async def stream(self, *args, **params):
        async with self.client.stream(*args, **params) as stream:
            return [chunk async for chunk in stream], stream.completion

    async def close(self):
        await self.client.close()


@pytest.fixture(params=["memory", "sqlite"])
def where(request, tmp_path):
    return ":memory:" if request.param == "memory" else tmp_path / "c.sqlite"


@pytest.fixture(params=[Sync, Async])
async def make(request, where):
    made = []

    def build(*answers, cache=where, **words):
        cloud = FakeBackend("cloud", side="cloud", model="large", answers=answers or (ANSWER,))
        given = {"local": None, "cloud": cloud, "policy": "cloud-only", "cache": cache} | words
        made.append(request.param(**given))
        made[-1].cloud = given["cloud"]
        return made[-1]

    yield build
    for each in made:
        await each.close()


@pytest.fixture
def over(together, tmp_path):
    """Clients over the loopback server with one cache file."""
    made = []

    def build(kind=Client, **words):
        given = {"local": None, "cloud": MODEL, "policy": "cloud-only", "embedding": None}
        address = {"api_key": "loopback", "base_url": together.base_url, "max_retries": 0}
        made.append(kind(**(given | address | {"cache": tmp_path / "c.sqlite"} | words)))
        return made[-1]

    yield build
    for client in made:
        if isinstance(client, Client):
            client.close()


def at_once(count, call):
    """What ``call`` gave or raised in each of that many threads."""
    results, ready = [], threading.Barrier(count)

    def run():
        ready.wait()
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001 - handed to the test
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


async def test_an_equal_call_is_answered_without_asking(make):
    """The second of two equal calls says the same, costs nothing and tells where it is from."""
    client = make()
    first = await client.chat("Name three primes.", temperature=0)
    again = await client.chat("Name three primes.", temperature=0.0)
    assert len(client.cloud.requests) == 1
    assert again == replace(first, cost=Decimal(0), route=again.route)
    assert (again.route.backend, again.route.side, again.route.model) == ("cloud", "cloud", "large")
    told = again.route.explain()
    assert re.search(r"from the cache, first given by cloud \(large\) at 20\d\d-\d\d-\d\d ", told)
    assert again.route.attempts == ()


async def test_without_cache_every_call_is_asked(make):
    """Nothing is kept unless a cache was asked for."""
    client = make(cache=None)
    await client.chat("Hello")
    await client.chat("Hello")
    assert len(client.cloud.requests) == 2
    with pytest.raises(ConfigError, match="keeps no answers"):
        await client.chat("Hello", cache="refresh")


async def test_a_call_may_go_past_the_cache_or_renew_it(make):
    """cache=False neither reads nor keeps; "refresh" asks anew and keeps what comes."""
    client = make(ANSWER, replace(ANSWER, text="Seven."), replace(ANSWER, text="Eleven."))
    assert (await client.chat("Hi")).text == ANSWER.text
    assert (await client.chat("Hi", cache=False)).text == "Seven."
    assert (await client.chat("Hi")).text == ANSWER.text
    assert (await client.chat("Hi", cache="refresh")).text == "Eleven."
    assert (await client.chat("Hi", cache=True)).text == "Eleven."
    for wrong in ("never", 0):
        with pytest.raises(ConfigError, match="'refresh' or None"):
            await client.chat("Hi", cache=wrong)


async def test_chat_and_stream_fill_the_cache_for_each_other(make):
    """What was streamed whole is chat's answer, and the reverse, in pieces that fold to it."""
    client = make()
    _, streamed = await client.stream("Name three primes.")
    answer = await client.chat("Name three primes.")
    assert answer == replace(streamed, cost=Decimal(0), route=answer.route)
    again, completion = await client.stream("Name three primes.")
    assert completion == Completion.from_chunks(again)
    assert completion == replace(streamed, cost=Decimal(0), route=completion.route)
    assert len(again) > 3
    assert (again[-1].usage, again[-1].cost) == (ANSWER.usage, 0)
    assert "from the cache" in again[-1].route.reason
    assert len(client.cloud.requests) == 1
    await client.chat("Another.")
    _, completion = await client.stream("Another.")
    assert completion.text == ANSWER.text
    assert len(client.cloud.requests) == 2


async def test_what_was_not_read_to_its_end_is_not_kept(make):
    """A stream that broke, or that its reader left, is no answer to another call."""
    client = make(Cut(ANSWER, after=2), ANSWER)
    with pytest.raises(StreamInterrupted):
        await client.stream("Go on.")
    assert "cache" not in (await client.chat("Go on.")).route.reason
    left = client.client.stream("Leave.")
    if isinstance(client.client, Client):
        next(left)
        left.close()
    else:
        await anext(left)
        await left.aclose()
    assert "cache" not in (await client.chat("Leave.")).route.reason
    assert len(client.cloud.requests) == 4


@pytest.mark.parametrize(
    "bad",
    [
        ServerError("It is down."),
        replace(ANSWER, finish_reason="content_filter"),
        replace(ANSWER, text=""),
        replace(ANSWER, extra={"odd": object()}),
        replace(ANSWER, extra={"odd": {1: "a name that is no text"}}),
    ],
    ids=["error", "filtered", "empty", "not JSON", "not the same as JSON"],
)
async def test_what_is_no_good_answer_is_not_kept(make, bad):
    """Errors, refusals, silence, and what would come back changed are asked for again."""
    client = make(bad, ANSWER, max_retries=0)
    try:
        await client.chat("Hello")
    except ServerError:
        assert isinstance(bad, ServerError)
    answer = await client.chat("Hello")
    assert answer.text == ANSWER.text
    assert len(client.cloud.requests) == 2


async def test_an_answer_cut_off_by_max_tokens_is_kept(make):
    """The same max_tokens would cut it there again; another asks anew."""
    client = make(replace(ANSWER, finish_reason="length"))
    await client.chat("Hello", max_tokens=5)
    assert (await client.chat("Hello", max_tokens=5)).finish_reason == "length"
    await client.chat("Hello", max_tokens=6)
    assert len(client.cloud.requests) == 2


async def test_tenants_never_see_each_others_answers(make, where, tmp_path):
    """One store, two tenants: each asks for itself, and clears its own alone."""
    store = MemoryStore(max_bytes=10**6) if where == ":memory:" else None
    place = {"store": store} if store else {"path": where}
    ada = make(cache=Cache(**place, tenant="ada"))
    bob = make(replace(ANSWER, text="For Bob."), cache=Cache(**place, tenant="bob"))
    assert (await ada.chat("Hello")).text == ANSWER.text
    assert (await bob.chat("Hello")).text == "For Bob."
    bob.client.cache.clear()
    assert "cache" in (await ada.chat("Hello")).route.reason
    assert "cache" not in (await bob.chat("Hello")).route.reason


async def test_a_policy_gets_only_what_it_could_have_been_given(make, where):
    """A local-only call is never given the cloud's answer, nor a cloud-only one the local's."""
    local = FakeBackend("local", side="local", model="small", answers=[replace(ANSWER, text="L")])
    cloud = FakeBackend("cloud", side="cloud", model="large", answers=[replace(ANSWER, text="C")])
    client = make(local=local, cloud=cloud, policy="cloud-first", cache=where)
    assert (await client.chat("Hello")).text == "C"
    assert (await client.chat("Hello", policy="local-only")).text == "L"
    assert (await client.chat("Hello", policy="cloud-only")).text == "C"
    assert (await client.chat("Hello", policy="local-first")).text == "L"
    assert (await client.chat("Hello", model="small")).text == "L"
    assert (len(local.requests), len(cloud.requests)) == (2, 2)
    for policy, text in [("cloud-first", "C"), ("local-only", "L"), ("cloud-only", "C")]:
        assert (await client.chat("Hello", policy=policy)).text == text
    assert (len(local.requests), len(cloud.requests)) == (2, 2)


async def test_a_row_of_a_side_the_policy_excludes_is_never_served(make):
    """Even a row put under the wrong key is not served where its side may not answer."""
    client = make()
    question = client.client._question(
        requests.build("Hello"), client.client.backends, None, None, stream=False
    )
    forged = Entry(ANSWER, "local", "local", "small", time.time()).encoded()
    client.client.cache.put(question._key, forged)
    assert "cache" not in (await client.chat("Hello")).route.reason


async def test_what_was_kept_is_there_while_the_backend_is_not(make):
    """Who may answer counts, not who can be asked just now: without a network the cache is."""
    shared = Cache(":memory:")
    await make(cache=shared).chat("Hello")
    away = FakeBackend("cloud", side="cloud", model="large", unavailable=ConnectFailed("Away."))
    client = make(cloud=away, cache=shared)
    assert "from the cache" in (await client.chat("Hello")).route.reason
    with pytest.raises(ConnectFailed):
        await client.chat("Something else.")


async def test_an_answer_is_served_for_its_time(make, where):
    """After ttl seconds an answer is asked for again; a shorter ttl holds for older answers."""
    clock = Clock()
    client = make(cache=Cache(where, ttl=60, clock=clock))
    await client.chat("Hello")
    clock.now += 59
    assert "cache" in (await client.chat("Hello")).route.reason
    clock.now += 1
    assert "cache" not in (await client.chat("Hello")).route.reason
    if where != ":memory:":
        clock.now += 30
        stricter = make(cache=Cache(where, ttl=30, clock=clock))
        assert "cache" not in (await stricter.chat("Hello")).route.reason


async def test_a_clock_that_is_set_back_makes_no_answer_older(make, where):
    """An answer from further in the future than ttl is asked for again."""
    clock = Clock()
    client = make(cache=Cache(where, ttl=60, clock=clock))
    await client.chat("Hello")
    clock.now -= 59
    assert "cache" in (await client.chat("Hello")).route.reason
    clock.now -= 1
    assert "cache" not in (await client.chat("Hello")).route.reason


async def test_a_damaged_row_is_asked_for_again(make, where):
    """A row that was changed, by a fault or by somebody, is dropped and counts as none."""
    client = make()
    await client.chat("Hello")
    cache = client.client.cache
    question = client.client._question(
        requests.build("Hello"), client.client.backends, None, None, stream=False
    )
    good = cache._store.get(question._key)
    for bad in (b"", b"x", good[:-3], good.replace(b"Two", b"Ten")):
        cache._store.put(question._key, bad, None)
        assert (await client.chat("Hello")).text == ANSWER.text
        assert cache._store.get(question._key) not in (None, bad)
    for at in (b'"noon"', b"1e30", b"NaN", b"null"):
        cache.put(question._key, b'[{"text": "Ten."}, "cloud", "cloud", "large", %s]' % at)
        assert (await client.chat("Hello")).text == ANSWER.text
    cache.put(question._key, b'["well kept", "and no entry"]')
    assert (await client.chat("Hello")).text == ANSWER.text
    assert len(client.cloud.requests) == 10


async def test_a_broken_store_costs_no_answer(make, tmp_path):
    """A client over a file that is no cache answers as if it had none."""
    (tmp_path / "broken").write_bytes(b"no database" * 500)
    client = make(cache=tmp_path / "broken")
    for _ in range(2):
        assert (await client.chat("Hello")).text == ANSWER.text
        chunks, _ = await client.stream("Hello")
        assert chunks[-1].finish_reason == "stop"


async def test_answers_stay_within_the_size(make, where):
    """Past max_mb the answers used longest ago go, and are asked for again."""
    client = make(cache=Cache(where, max_mb=0.002))
    for number in range(10):
        await client.chat(f"Question {number}")
    assert "cache" in (await client.chat("Question 9")).route.reason
    assert "cache" not in (await client.chat("Question 0")).route.reason


async def test_a_full_disk_costs_no_answer(make, tmp_path):
    """When the file cannot grow, answers that were kept are served and new ones are given."""
    client = make(replace(ANSWER, text="Long. " * 5000), cache=tmp_path / "c.sqlite")
    await client.chat("Kept")
    with client.client.cache._store._writer.held() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    assert (await client.chat("New")).text.startswith("Long.")
    client.client.cache._alone_until = 0
    assert "cache" in (await client.chat("Kept")).route.reason
    assert "cache" not in (await client.chat("New")).route.reason


async def test_a_value_is_read_anew(make):
    """A kept answer has the value of the call's own output type, and streams it too."""

    class Primes(BaseModel):
        primes: list[int]

    client = make(replace(ANSWER, text='{"primes": [2, 3]}'))
    first = await client.chat("Primes?", output_type=Primes)
    again = await client.chat("Primes?", output_type=Primes)
    assert again.value == first.value == Primes(primes=[2, 3])
    _, streamed = await client.stream("Primes?", output_type=Primes)
    assert streamed.value == first.value
    assert len(client.cloud.requests) == 1


async def test_a_type_that_refuses_a_kept_answer_has_it_asked_for_again(make):
    """Where a type of the same schema takes less, what it refuses is no answer for it."""

    def primes(most):
        class Primes(BaseModel):
            primes: list[int]

            @field_validator("primes")
            @classmethod
            def _few(cls, value):
                assert len(value) <= most
                return value

        return Primes

    client = make(
        replace(ANSWER, text='{"primes": [2, 3]}'), replace(ANSWER, text='{"primes": [2]}')
    )
    assert len((await client.chat("Primes?", output_type=primes(2))).value.primes) == 2
    assert len((await client.chat("Primes?", output_type=primes(1))).value.primes) == 1


async def test_answers_that_cannot_be_read_are_not_kept(make):
    """InvalidOutput is raised again by asking again, not from the cache."""
    client = make(replace(ANSWER, text="no JSON"))
    for _ in range(2):
        with pytest.raises(InvalidOutput):
            await client.chat("Primes?", output_type=list[int])
    assert len(client.cloud.requests) == 4


async def test_a_mended_answer_to_a_prefix_is_not_kept(make):
    """It does not go on from the prefix as others do, so it could be read wrongly later."""
    abilities = frozenset({"json", "prefix"})
    answers = [replace(ANSWER, text="?"), replace(ANSWER, text="[1, 2]")]
    cloud = FakeBackend(
        "cloud", side="cloud", model="large", answers=answers * 2, abilities=abilities
    )
    client = make(cloud=cloud)
    for _ in range(2):
        answer = await client.chat("List.", output_type=list[int], prefix="[")
        assert answer.value == [1, 2]
    assert len(cloud.requests) == 4


async def test_tool_rounds_are_served(make):
    """run_tools asks nothing twice: a whole run of tools comes from the cache."""
    call = ToolCall("c1", "now", "{}")
    client = make(replace(ANSWER, text="", tool_calls=(call,), finish_reason=None), ANSWER)

    def now() -> str:
        """Tell the time."""
        return "noon"

    async def run():
        done = client.client.run_tools("When?", tools=[now])
        return await done if isinstance(client.client, AsyncClient) else done

    assert (await run()).completion.text == ANSWER.text
    assert (await run()).completion.text == ANSWER.text
    assert len(client.cloud.requests) == 2


@pytest.mark.parametrize("where", [":memory:", "file"], indirect=False)
def test_twenty_threads_make_one_call(over, together, tmp_path, where):
    """Twenty equal calls at once, chats and streams, reach the server as one request."""
    together.script.reply(Reply("Once.", delay=0.3))
    cache = where if where == ":memory:" else tmp_path / "one.sqlite"
    client = over(cache=cache)
    turn = iter(range(20))

    def call():
        if next(turn) % 2:
            return client.chat("Hello").text
        with client.stream("Hello") as stream:
            return "".join(chunk.text for chunk in stream)

    assert at_once(20, call) == ["Once."] * 20
    assert len(together.requests) == 1


async def test_twenty_tasks_make_one_call(over, together):
    """Twenty equal awaited calls at once reach the server as one request."""
    together.script.reply(Reply("Once.", delay=0.3))
    client = over(AsyncClient)

    async def call(number):
        if number % 2:
            return (await client.chat("Hello")).text
        async with client.stream("Hello") as stream:
            return "".join([chunk.text async for chunk in stream])

    assert await asyncio.gather(*map(call, range(20))) == ["Once."] * 20
    assert len(together.requests) == 1
    await client.close()


async def test_two_clients_of_one_file_make_one_call(over, together):
    """Clients that know only the file of each other wait for each other as processes do."""
    together.script.reply(Reply("Once.", delay=0.3))
    first, second, third = over(), over(), over(AsyncClient)
    answers = await asyncio.gather(
        asyncio.to_thread(first.chat, "Hello"),
        asyncio.to_thread(second.chat, "Hello"),
        third.chat("Hello"),
    )
    assert [answer.text for answer in answers] == ["Once."] * 3
    assert len(together.requests) == 1
    await third.close()


async def test_waiting_threads_hold_up_no_task(where):
    """Though all of the loop's threads wait for it, a task that asks brings the answer."""
    cloud = FakeBackend("cloud", side="cloud", answers=[ANSWER])
    client = Client(local=None, cloud=cloud, policy="cloud-only", embedding=None, cache=where)
    other = AsyncClient.sharing(client)
    opened = asyncio.Event()

    async def acomplete(request):
        await opened.wait()
        return cloud.complete(request)

    cloud.acomplete = acomplete
    leader = asyncio.create_task(other.chat("Hello"))
    await asyncio.sleep(0.2)
    waiting = [asyncio.create_task(asyncio.to_thread(client.chat, "Hello")) for _ in range(64)]
    await asyncio.sleep(0.2)
    opened.set()
    async with asyncio.timeout(5):
        answers = [await leader, *await asyncio.gather(*waiting)]
    assert {answer.text for answer in answers} == {ANSWER.text}
    assert len(cloud.requests) == 1
    await other.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_goes_on_with_its_parents_cache(where):
    """A child serves what its parent kept, awaits too, and waits for nothing of its parent's."""
    cloud = Gated("cloud", side="cloud", answers=[ANSWER])
    cloud.gate.set()
    client = Client(local=None, cloud=cloud, policy="cloud-only", embedding=None, cache=where)
    client.chat("Kept")
    asyncio.run(AsyncClient.sharing(client).chat("Kept"))
    cloud.gate.clear()
    parents = threading.Thread(target=client.chat, args=("Under way",))
    parents.start()
    time.sleep(0.1)
    if (pid := os.fork()) == 0:
        code = 1
        try:
            cloud.gate = threading.Event()
            cloud.gate.set()
            kept = asyncio.run(AsyncClient.sharing(client).chat("Kept"))
            fresh = client.chat("New")
            told = "cache" in kept.route.reason and fresh.text == ANSWER.text
            code = 0 if told else 1
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    cloud.gate.set()
    parents.join()
    assert "cache" in client.chat("Under way").route.reason
    client.close()


async def test_threads_and_tasks_wait_for_each_other(where):
    """A blocking and an awaiting client of one cache make one call between them."""
    cloud = Gated("cloud", side="cloud", answers=[ANSWER])
    client = Client(local=None, cloud=cloud, policy="cloud-only", embedding=None, cache=where)
    other = AsyncClient.sharing(client)
    blocking = asyncio.gather(*(asyncio.to_thread(client.chat, "Hi") for _ in range(2)))
    awaiting = asyncio.gather(*(other.chat("Hi") for _ in range(5)))
    await asyncio.sleep(0.2)
    cloud.gate.set()
    answers = [*await blocking, *await awaiting]
    assert {answer.text for answer in answers} == {ANSWER.text}
    assert len(cloud.requests) == 1
    await other.close()


def test_a_failure_is_not_shared(where):
    """When the one that asks fails, the next one asks, and everybody has an answer or its own."""
    answers = [ServerError("Down."), ANSWER]
    cloud = Gated("cloud", side="cloud", answers=answers)
    client = Client(
        local=None, cloud=cloud, policy="cloud-only", embedding=None, max_retries=0, cache=where
    )
    threading.Timer(0.2, cloud.gate.set).start()
    results = at_once(6, lambda: client.chat("Hello"))
    assert sorted(type(each).__name__ for each in results) == ["Completion"] * 5 + ["ServerError"]
    assert len(cloud.requests) == 2
    client.close()


def test_a_lasting_failure_is_not_waited_for_one_by_one(where):
    """When asking fails again and again, nobody waits for more than two before asking too."""
    cloud = FakeBackend("cloud", side="cloud", answers=[ServerError("Down.")])
    slow = cloud.complete

    def complete(request):
        time.sleep(0.2)
        return slow(request)

    cloud.complete = complete
    client = Client(
        local=None, cloud=cloud, policy="cloud-only", embedding=None, max_retries=0, cache=where
    )
    started = time.monotonic()
    results = at_once(12, lambda: client.chat("Hello"))
    assert {type(each) for each in results} == {ServerError}
    assert time.monotonic() - started < 1.8
    client.close()


async def test_a_cancelled_leader_hands_over(where):
    """Cancelling the one that asks cancels no other: the next one asks."""
    cloud = Gated("cloud", side="cloud", answers=[ANSWER])
    client = AsyncClient(local=None, cloud=cloud, policy="cloud-only", embedding=None, cache=where)
    leader = asyncio.create_task(client.chat("Hello"))
    await asyncio.to_thread(cloud.asked.wait, 5)
    others = [asyncio.create_task(client.chat("Hello")) for _ in range(4)]
    await asyncio.sleep(0.1)
    others[0].cancel()
    leader.cancel()
    await asyncio.sleep(0.1)
    cloud.gate.set()
    results = await asyncio.gather(leader, *others, return_exceptions=True)
    assert [type(each) for each in results[:2]] == [asyncio.CancelledError] * 2
    assert [each.text for each in results[2:]] == [ANSWER.text] * 3
    assert cloud.calls == 2
    await client.close()


async def test_a_leader_cancelled_twice_hands_over(tmp_path):
    """One that is cancelled again while it waits for a busy store leaves nobody waiting."""
    cloud = Gated("cloud", side="cloud", answers=[ANSWER])
    words = {"local": None, "cloud": cloud, "policy": "cloud-only", "embedding": None}
    client = AsyncClient(cache=tmp_path / "c.sqlite", **words)
    leader = asyncio.create_task(client.chat("Hello"))
    await asyncio.to_thread(cloud.asked.wait, 5)
    free = threading.Event()
    busy = [asyncio.create_task(client.cache.off_loop(lambda: free.wait(10))) for _ in range(2)]
    for _ in range(2):
        await asyncio.sleep(0.05)
        leader.cancel()
    await asyncio.wait([leader])
    assert leader.cancelled()
    free.set()
    cloud.gate.set()
    answer = await asyncio.wait_for(client.chat("Hello"), 5)
    assert answer.text == ANSWER.text
    await asyncio.gather(*busy)
    await client.close()


async def test_waiting_for_long_costs_no_memory():
    """Who waits looks up again and again, and leaves nothing behind each time."""
    flight = flights.Flight("key", (0, None))

    def futures():
        return sum(isinstance(each, asyncio.Future) for each in gc.get_objects())

    before = futures()
    for _ in range(50):
        await flight.await_(0.001)
    assert futures() - before < 10
    waiting = [asyncio.create_task(flight.await_(30)) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.to_thread(flight.land)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    await flight.await_(30)


def test_waiting_ends_with_the_deadline(where):
    """Who waits for an equal call waits no longer than its own deadline, and hears why."""
    cloud = Gated("cloud", side="cloud", answers=[ANSWER])
    client = Client(local=None, cloud=cloud, policy="cloud-only", embedding=None, cache=where)
    leader = threading.Thread(target=client.chat, args=("Hello",))
    leader.start()
    assert cloud.asked.wait(5)
    started = time.monotonic()
    with pytest.raises(TimedOut) as raised:
        client.chat("Hello", deadline=0.3)
    assert 0.2 < time.monotonic() - started < 2
    assert "an equal call was waited for" in raised.value.route.explain()
    cloud.gate.set()
    leader.join()
    client.close()


async def test_a_reader_that_asks_the_same_meanwhile_does_not_wait_for_itself(make):
    """In the middle of a stream, the same question in the same thread or task is asked."""
    client = make()
    stream = client.client.stream("Hello")
    started = time.monotonic()
    if isinstance(client.client, Client):
        next(stream)
        answer = client.client.chat("Hello")
        rest = list(stream)
    else:
        await anext(stream)
        answer = await client.client.chat("Hello")
        rest = [chunk async for chunk in stream]
    assert time.monotonic() - started < 0.5
    assert answer.text == ANSWER.text
    assert rest[-1].finish_reason == "stop"
    assert len(client.cloud.requests) == 2


def test_a_stream_that_nobody_reads_on_holds_up_no_other(where, monkeypatch):
    """A reader that stopped in the middle is not waited for: the next equal call asks."""
    monkeypatch.setattr(flights, "_LONGEST_REST", 0.2)
    cloud = FakeBackend("cloud", side="cloud", answers=[ANSWER])
    client = Client(local=None, cloud=cloud, policy="cloud-only", embedding=None, cache=where)
    stream = client.stream("Hello")
    next(stream)
    started = time.monotonic()
    results = at_once(4, lambda: client.chat("Hello"))
    assert time.monotonic() - started < 2
    assert [each.text for each in results] == [ANSWER.text] * 4
    assert len(cloud.requests) == 2
    assert list(stream)[-1].finish_reason == "stop"
    client.close()


def test_closing_a_stream_ends_its_waiting(where):
    """A stream that waits for an equal call ends when another thread closes it."""
    cloud = Gated("cloud", side="cloud", answers=[ANSWER])
    client = Client(local=None, cloud=cloud, policy="cloud-only", embedding=None, cache=where)
    leader = threading.Thread(target=client.chat, args=("Hello",))
    leader.start()
    assert cloud.asked.wait(5)
    stream = client.stream("Hello")
    threading.Timer(0.2, stream.close).start()
    assert list(stream) == []
    assert stream.completion is None
    cloud.gate.set()
    leader.join()
    client.close()


def test_a_server_that_fails_midway_leaves_nothing_behind(over, together):
    """Over the wire too, a stream that broke is asked for again, and then kept."""
    together.script.reply(Reply("One two three four.", cut_after=3), Reply("One two three four."))
    client = over()
    with pytest.raises(StreamInterrupted), client.stream("Count.") as stream:
        list(stream)
    assert client.chat("Count.").text == client.chat("Count.").text == "One two three four."
    assert len(together.requests) == 2


def test_another_address_is_another_backend(over, together):
    """The same model of another server is asked, whatever the first one said."""
    together.script.say("One.", "Two.")
    assert over().chat("Hello").text == "One."
    port = together.base_url.rpartition(":")[2]
    assert over(base_url=f"http://localhost:{port}").chat("Hello").text == "Two."


def test_a_client_without_cache_loads_nothing_for_it():
    """Who keeps no answers never imports SQLite, nor anything else of the cache."""
    code = """
import sys
from aideon_core import Client
from aideon_testing import FakeBackend
client = Client(local=FakeBackend("local", side="local"), cloud=None, embedding=None)
client.chat("Hello")
print([name for name in sys.modules if name == "sqlite3" or name.startswith("aideon_core.cache")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_true_keeps_answers_in_the_home_of_the_settings(tmp_path, monkeypatch):
    """cache=True is one file for all clients of the same home, and False is none."""
    monkeypatch.setenv("AIDEON_HOME", str(tmp_path / "home"))
    for count in (1, 1):
        cloud = FakeBackend("cloud", side="cloud", answers=[ANSWER])
        with Client(local=None, cloud=cloud, policy="cloud-only", cache=True) as client:
            client.chat("Hello")
            assert len(cloud.requests) <= count
    assert (tmp_path / "home" / "cache.sqlite").exists()
    assert cloud.requests == []
    assert Client(local=None, cloud=cloud, policy="cloud-only", cache=False).cache is None


@dataclass(frozen=True)
class Nearest:
    """Somebody's own policy."""

    miles: int
    name = "nearest"

    def plan(self, request, candidates, *, stream):
        return POLICIES["cloud-only"].plan(request, candidates, stream=stream)


class Moody(Prefer):
    """Somebody's policy whose fields do not tell all that its choice depends on."""

    def __init__(self, mood):
        super().__init__("moody", ("cloud",))
        object.__setattr__(self, "mood", mood)


class Secretive:
    """Somebody's policy that does not tell what its choice depends on."""

    name = "secretive"
    plan = Nearest.plan


async def test_a_policy_of_ones_own_keeps_to_itself(make):
    """Nobody can tell whom it would ask, so its answers are for it alone, with its settings."""
    client = make()
    for policy, asked_now in [
        (None, 1),
        (Nearest(1), 2),
        (Nearest(1), 2),
        (Nearest(2), 3),
        (Prefer("mine", ("cloud",)), 3),
        (Secretive(), 4),
        (Secretive(), 5),
        (Moody("good"), 6),
        (Moody("bad"), 7),
        (Nearest(lambda: 1), 8),
        (Nearest(lambda: 2), 9),
    ]:
        assert (await client.chat("Hello", policy=policy)).text == ANSWER.text
        assert len(client.cloud.requests) == asked_now


TEXTS = st.text(max_size=20)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
LOGPROBS = st.builds(
    TokenLogprob,
    TEXTS,
    st.floats(max_value=0, allow_nan=False),
    st.lists(st.tuples(TEXTS, st.floats(max_value=0, allow_nan=False)), max_size=2).map(tuple),
)
SAID = {
    "text": TEXTS.filter(bool),
    "reasoning": TEXTS,
    "tool_calls": st.lists(
        st.builds(ToolCall, TEXTS, TEXTS, st.sampled_from(['{"a": 1, "b c": "d"}', "{}", ""])),
        max_size=2,
    ).map(tuple),
    "finish_reason": st.sampled_from(["stop", "length", "tool_calls"]),
    "logprobs": st.lists(LOGPROBS, max_size=3).map(tuple),
    "extra": st.dictionaries(TEXTS, JSONS, max_size=2),
    "warnings": st.lists(TEXTS, max_size=2).map(tuple),
}
COMPLETIONS = st.builds(
    Completion,
    **SAID,
    usage=st.none() | st.builds(Usage, *[st.integers(0, 10**6)] * 4),
    cost=st.none() | st.decimals(0, 100, allow_nan=False, places=8),
    model=st.none() | TEXTS,
    id=st.none() | TEXTS,
    alternatives=st.lists(st.builds(Completion, **SAID), max_size=2).map(tuple),
)
ROUTE = Route("p", "r", (), backend="cloud", side="cloud", model="large")
ASK = Request((Message("user", "Hello?"),))
REACH = reach_of(POLICIES["cloud-only"], ASK, {"cloud": FakeBackend("cloud", side="cloud")})


@settings(max_examples=200, deadline=None)
@given(COMPLETIONS)
def test_any_answer_comes_back_equal(completion):
    """Whatever an answer holds is given back as it was, whole and in pieces."""
    entry = Entry.of(ASK, replace(completion, route=ROUTE), 1.5)
    kept = Entry.decoded(entry.encoded())
    assert kept.completion == completion
    answer = kept.answer(ASK, REACH)
    assert replace(answer, route=None, cost=completion.cost) == completion
    assert Completion.from_chunks(replay.chunks(answer)) == answer


MESSAGES = st.lists(
    st.builds(
        Message,
        role=st.sampled_from(["system", "user", "assistant", "tool"]),
        content=TEXTS
        | st.lists(
            st.builds(
                lambda text, detail: {"type": "text", "text": text, **detail},
                TEXTS,
                st.dictionaries(st.sampled_from(["a", "b"]), JSONS, max_size=2),
            ),
            max_size=2,
        ).map(tuple),
        name=st.none() | TEXTS,
        tool_calls=st.lists(st.builds(ToolCall, TEXTS, TEXTS, TEXTS), max_size=1).map(tuple),
        tool_call_id=st.none() | TEXTS,
    ),
    min_size=1,
    max_size=2,
).map(tuple)
NUMBERS = st.none() | st.sampled_from([0, 0.5, 1, 1.0, 2])
REQUESTS = st.builds(
    Request,
    messages=MESSAGES,
    temperature=NUMBERS,
    top_p=NUMBERS,
    max_tokens=st.none() | st.integers(1, 3),
    stop=st.lists(st.sampled_from(["a", "b"]), max_size=2).map(tuple),
    seed=st.none() | st.integers(0, 2),
    n=st.none() | st.integers(1, 2),
    prefix=st.none() | TEXTS,
    logit_bias=st.none() | st.dictionaries(st.integers(0, 3), NUMBERS.filter(bool), max_size=2),
    tools=st.lists(st.dictionaries(TEXTS, JSONS, max_size=2), max_size=1).map(tuple),
    tool_choice=st.none() | st.sampled_from(["auto", "none"]),
    response_format=st.none() | st.dictionaries(TEXTS, JSONS, max_size=2),
    logprobs=st.none() | st.booleans(),
)


def key(request):
    return digest(asked(request, REACH))


def told_apart(value):
    """A value in which True is not 1, as JSON has it and Python does not."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, dict):
        return {name: told_apart(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [told_apart(each) for each in value]
    return value


def shown(request):
    return {
        name: told_apart(getattr(request, name))
        if name != "messages"
        else [
            (m.role, told_apart(m.content), m.name, m.tool_calls, m.tool_call_id)
            for m in request.messages
        ]
        for name in Request.__slots__
    }


@settings(max_examples=300, deadline=None)
@given(REQUESTS, REQUESTS)
def test_keys_are_equal_when_requests_are(one, other):
    """Two requests have one key if they ask the same, and only then."""
    assert (key(one) == key(other)) == (shown(one) == shown(other))
    assert key(one) == key(replace(one, deadline=3.0))


@settings(max_examples=200, deadline=None)
@given(REQUESTS, st.data())
def test_any_one_difference_is_another_key(request, data):
    """Changing one thing that is asked changes the key."""
    other = data.draw(REQUESTS)
    for name in Request.__slots__:
        changed = replace(request, **{name: getattr(other, name)})
        assert (key(changed) == key(request)) == (shown(changed) == shown(request)), name


def test_spelling_makes_no_other_key():
    """Tuples and lists, names in another order, and 1 and 1.0 ask the same."""
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}, "b": {}}}
    turned = {"properties": {"b": {}, "a": {"enum": (1.0, 2)}}, "type": "object"}
    one = Request((Message("user", ({"type": "text", "text": "Hi"},)),), tools=(schema,))
    other = Request((Message("user", [{"text": "Hi", "type": "text"}]),), tools=(turned,))
    assert key(one) == key(other)
    assert key(replace(one, temperature=1)) == key(replace(other, temperature=1.0))
    assert key(replace(one, stop=("a", "b"))) != key(replace(one, stop=("b", "a")))


def test_a_local_model_in_other_settings_is_another(tmp_path):
    """A chat template asks something else of a file, and a short context cuts answers off."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")

    def sources(**words):
        local = LlamaCppBackend(file, **words)
        return reach_of(POLICIES["local-only"], ASK, {"local": local}).sources

    assert sources() == sources(n_threads=1)
    assert len({sources(), sources(chat_template="{{ messages }}"), sources(n_ctx=64)}) == 3


def test_output_types_of_one_schema_share_a_key_and_others_do_not():
    """The form an answer is to have is part of what is asked."""
    kinds = [None, "json", dict, list[int], list[str], re.compile("[a-z]+"), re.compile("[0-9]+")]
    keys = [key(requests.build("Hi", output_type=kind)) for kind in kinds]
    assert len(set(keys)) == len(keys)
    assert key(requests.build("Hi", output_type=list[int])) == keys[3]


def test_the_reach_tells_why_others_could_not_answer():
    """A kept answer's route still tells who was ruled out."""
    backends = {"cloud": FakeBackend("cloud", side="cloud", abilities=frozenset())}
    reach = reach_of(POLICIES["local-first"], replace(ASK, logprobs=True), backends)
    assert reach.sources == ()
    (seen,) = reach.considered
    assert isinstance(seen, Considered)
    assert seen.ruled_out is not None


def test_a_rate_limited_leader_still_serves_its_followers(over, together):
    """Retries happen once, for all who wait."""
    together.script.fail(Failure.rate_limited(retry_after=0))
    together.script.say("After all.")
    client = over(max_retries=2)
    assert [each.text for each in at_once(5, lambda: client.chat("Hello"))] == ["After all."] * 5
    assert len(together.requests) == 2


def test_an_answer_of_two_models_is_not_kept():
    """What one model began and another ended is asked for anew."""
    cloud = FakeBackend("cloud", side="cloud", answers=[Cut(Completion(text="One two three."), 1)])
    able = frozenset({"prefix"})
    local = FakeBackend(
        "local", side="local", abilities=able, answers=[Completion(text=" and more.")]
    )
    client = Client(local=local, cloud=cloud, policy="cloud-first", cache=":memory:")
    for _ in range(2):
        with client.stream("Count.") as stream:
            assert "".join(chunk.text for chunk in stream) == "One and more."
    assert len(local.requests) == 2
