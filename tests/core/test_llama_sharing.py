"""One local model shared by many: sequences, queues, memory."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from aideon_core import AsyncClient, Client, LlamaCppBackend
from aideon_core.backends.llama_cpp.engine import Engine
from aideon_core.backends.llama_cpp.residents import Residents
from aideon_core.errors import ConfigError, LoadFailed, QueueFull
from aideon_testing import FakeBackend

ASKS = [f"What is {n} plus {3 * n}? Explain briefly." for n in range(16)]


@pytest.fixture
def client(local_model):
    return Client(local=local_model, cloud=None)


def at_once(work, count):
    """What ``count`` threads give that all begin together."""
    gate = threading.Barrier(count)

    def begin(n):
        gate.wait()
        return work(n)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


@pytest.mark.model
def test_eight_threads_get_the_serial_answers_to_the_last_character(client):
    """At temperature 0 an answer does not depend on who else is asking, nor on what was asked."""

    def ask(n):
        return client.chat(ASKS[n], temperature=0, max_tokens=24).text

    serial = [ask(n) for n in range(16)]
    threaded = at_once(lambda k: [ask(n) for n in range(k, 16, 8)], 8)
    assert [threaded[n % 8][n // 8] for n in range(16)] == serial


@pytest.mark.model
def test_a_seed_holds_in_company(client):
    """A seed gives the same answer alone and among others."""
    ask = {"messages": "Invent a name for a boat.", "temperature": 1.0, "max_tokens": 12}
    alone = client.chat(**ask, seed=7).text
    others = at_once(lambda n: client.chat(**ask, **({"seed": 7} if n == 2 else {})).text, 5)
    assert others[2] == alone


@pytest.mark.model
def test_many_warm_answers_are_written_together(client):
    """Five at once with nothing to reproduce all get their own whole answers."""
    answers = at_once(
        lambda n: client.chat(f"Spell the number {n} in words.", max_tokens=16, temperature=0.8), 5
    )
    assert all(answer.text for answer in answers)
    assert all(0 < answer.usage.output_tokens <= 16 for answer in answers)


@pytest.mark.model
def test_conversations_in_turn_keep_what_was_read(client):
    """Four interleaved conversations each read only their new turn."""
    system = {"role": "system", "content": "You are brief and kind. " * 20}
    talks = [[system, {"role": "user", "content": f"My number is {n}."}] for n in range(4)]
    for talk in talks:
        answer = client.chat(talk, temperature=0, max_tokens=12)
        talk += [
            {"role": "assistant", "content": answer.text},
            {"role": "user", "content": "Say it again."},
        ]
    for talk in talks:
        usage = client.chat(talk, temperature=0, max_tokens=4).usage
        assert usage.cached_tokens > 0.7 * usage.input_tokens


@pytest.mark.model
def test_a_short_question_does_not_wait_for_a_long_answer(client):
    """A long answer under way does not keep a short one from being given."""
    with client.stream("Write a very long story.", max_tokens=800, temperature=0) as stream:
        next(stream)
        short = client.chat("Say hi.", max_tokens=3, temperature=0)
        assert short.text
        assert next(stream).finish_reason is None


@pytest.mark.model
def test_several_answers_to_one_question(client):
    """n=3 gives three answers, counted together, each repeatable by the seed."""
    ask = {"messages": "Invent a name for a cat.", "temperature": 1.2, "max_tokens": 8, "n": 3}
    answer = client.chat(**ask, seed=5)
    texts = [answer.text, *(other.text for other in answer.alternatives)]
    assert len(set(texts)) > 1
    assert answer.usage.output_tokens > 8
    again = client.chat(**ask, seed=5)
    assert [again.text, *(other.text for other in again.alternatives)] == texts


@pytest.mark.model
def test_every_abandoned_answer_frees_its_sequence(client):
    """Streams closed early and tasks cancelled leave all sequences to those who come after."""
    for _ in range(6):
        with client.stream("Write a very long story.", max_tokens=1500) as stream:
            next(stream)

    async def cancelled():
        twin = AsyncClient.sharing(client)
        tasks = [asyncio.create_task(twin.chat("A long story.", max_tokens=1500)) for _ in range(6)]
        await asyncio.sleep(0.3)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(cancelled())
    assert all(at_once(lambda _: client.chat("Say hi.", max_tokens=2).text, 4))


@pytest.mark.model
def test_a_full_queue_goes_to_the_cloud(local_model):
    """Beyond max_queue a request is answered by the cloud, or says why nobody answers."""
    small = LlamaCppBackend(str(local_model.path), n_ctx=256, parallel=1, max_queue=0)
    alone = Client(local=small, cloud=None, max_retries=0)
    hybrid = Client(local=small, cloud=FakeBackend("cloud", side="cloud"))
    with alone.stream("Count to one hundred.", max_tokens=200, temperature=0) as stream:
        next(stream)
        with pytest.raises(QueueFull, match="1 requests wait"):
            alone.chat("Hi")
        assert hybrid.chat("Hi").route.reason == "fell back to cloud: local failed (QueueFull)"


@pytest.mark.model
def test_an_idle_model_leaves_and_comes_back(local_model):
    """After idle_seconds the model is out of memory; the next request loads it again."""
    backend = LlamaCppBackend(str(local_model.path), n_ctx=128, parallel=1, idle_seconds=0.2)
    client = Client(local=backend, cloud=None)
    client.chat("Hi", max_tokens=2)
    assert client.chat("Hi", max_tokens=2).usage.cached_tokens > 0
    time.sleep(1.0)
    later = client.chat("Hi", max_tokens=2)
    assert later.text
    assert later.usage.cached_tokens == 0


@pytest.mark.model
def test_an_engine_nobody_holds_is_freed_while_idle(local_model):
    """Dropping the last client of a model frees it, also when it is waiting for work."""
    backend = LlamaCppBackend(str(local_model.path), n_ctx=96, parallel=1)
    Client(local=backend, cloud=None).chat("Hi", max_tokens=1)
    assert any(options.n_ctx == 96 for options in Engine.live())
    del backend
    gc.collect()
    assert not any(options.n_ctx == 96 for options in Engine.live())


@pytest.mark.parametrize(
    ("name", "value"),
    [("parallel", 0), ("n_threads", 1.5), ("idle_seconds", -1), ("max_queue", "2"), ("n_ctx", 0)],
)
def test_a_setting_that_cannot_be_is_refused(tmp_path, name, value):
    """A wrong number is a ConfigError that names the setting, before anything is loaded."""
    file = tmp_path / "any.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match=name):
        LlamaCppBackend(file, **{name: value})


class _Model:
    """A resident that leaves when it is told to."""

    def __init__(self, residents, idle_since):
        self.idle_since = idle_since
        self._residents = residents
        self.is_gone = False

    def leave(self):
        self.is_gone = True
        self._residents.left(self)


def test_the_model_idle_for_longest_makes_room():
    """Within a memory limit the one idle for longest leaves, and busy ones never do."""
    residents = Residents()
    busy, old, new = (_Model(residents, since) for since in (None, 1.0, 2.0))
    for each in (busy, old, new):
        residents.enter(each, 10, 30)
    residents.enter(_Model(residents, None), 10, 30)
    assert [each.is_gone for each in (busy, old, new)] == [False, True, False]


def test_a_model_beyond_the_limit_is_refused():
    """A model larger than the limit is LoadFailed at once, with both sizes."""
    with pytest.raises(LoadFailed, match=r"2\.00 GB, and 1\.00 GB"):
        Residents().enter(_Model(None, None), 2_000_000_000, 1_000_000_000)
