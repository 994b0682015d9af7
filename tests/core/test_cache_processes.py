"""One cache file and several processes: one of them asks for all."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from contextlib import closing

import pytest

from aideon_core import Client
from aideon_core.cache import SqliteStore
from aideon_testing import Reply

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
SPAWN = multiprocessing.get_context("spawn")


def client(base_url, path):
    return Client(
        local=None,
        cloud=MODEL,
        policy="cloud-only",
        embedding=None,
        api_key="loopback",
        base_url=base_url,
        max_retries=0,
        cache=path,
    )


def ask(base_url, path, count, gate, told):
    """Ask the same in that many threads once the gate opens; tell what came."""
    with client(base_url, path) as asking:
        told.put("ready")
        gate.wait(60)
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(asking.chat("Hello").text))
            for _ in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told.put(answers)


@pytest.fixture
def start(together, tmp_path):
    """Start processes that ask, ready to go at once."""
    started = []

    def begin(processes, each):
        gate, told = SPAWN.Event(), SPAWN.Queue()
        args = (together.base_url, tmp_path / "c.sqlite", each, gate, told)
        new = [SPAWN.Process(target=ask, args=args) for _ in range(processes)]
        started.extend(new)
        for process in new:
            process.start()
        for _ in new:
            assert told.get(timeout=60) == "ready"
        return gate, told, new

    yield begin
    for process in started:
        process.kill()
        process.join()
        process.close()


def test_four_processes_make_one_call(start, together):
    """Four processes of five threads each, all with one question, reach the server once."""
    together.script.reply(Reply("Once.", delay=1.0))
    gate, told, processes = start(4, 5)
    gate.set()
    answers = [told.get(timeout=30) for _ in processes]
    assert answers == [["Once."] * 5] * 4
    assert len(together.requests) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_process_is_taken_over_from(start, together, tmp_path):
    """When the process that asks is killed, another one asks a few seconds later."""
    together.script.reply(Reply("Never heard.", delay=30), Reply("Taken over."))
    gate, _, (victim,) = start(1, 1)
    gate.set()
    while not together.requests:
        time.sleep(0.02)
    os.kill(victim.pid, signal.SIGKILL)
    started = time.monotonic()
    with client(together.base_url, tmp_path / "c.sqlite") as other:
        assert other.chat("Hello").text == "Taken over."
    assert 1 < time.monotonic() - started < 10
    assert len(together.requests) == 2


def test_a_call_longer_than_a_lease_is_still_waited_for(start, together, tmp_path):
    """A process that asks for long keeps its claim: the others wait as long as it takes."""
    together.script.reply(Reply("At last.", delay=5.0))
    gate, told, processes = start(2, 1)
    gate.set()
    assert [told.get(timeout=30) for _ in processes] == [["At last."]] * 2
    assert len(together.requests) == 1


def test_many_processes_may_make_the_file_together(start, tmp_path, together):
    """Processes that all come first make one file, and lose nothing over it."""
    together.script.say("Hello.")
    gate, told, processes = start(4, 1)
    assert not (tmp_path / "c.sqlite").exists()
    gate.set()
    assert [told.get(timeout=30) for _ in processes] == [["Hello."]] * 4
    with closing(SqliteStore(tmp_path / "c.sqlite", max_bytes=1000)) as store:
        assert store.get("nothing") is None
