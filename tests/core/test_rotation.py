"""Keys are replaced while requests run, and no call fails of it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from aideon_core import AsyncClient, Client
from aideon_testing import LoopbackTogether

MODEL = "openai/gpt-oss-120b"
SECONDS = 2.0
EVERY = 0.3
WORKERS = 10


class Rotation:
    """Writes a new key, lets the server accept it, and revokes the oldest, again and again."""

    def __init__(self, server, path, monkeypatch, kind):
        self.keys = ["sk-rotated-0", "sk-rotated-1"]
        self._server, self._path, self._monkeypatch = server, path, monkeypatch
        server.keys.add(*self.keys)
        self._write()
        self.source = {
            "file": f"file:{path}",
            "environment": "env:ROTATED_KEY",
            "function": lambda: list(self.keys),
        }[kind]
        self.revoked = 0

    def _write(self):
        fresh = self._path.with_suffix(".new")
        fresh.write_text("\n".join(self.keys))
        fresh.replace(self._path)
        self._monkeypatch.setenv("ROTATED_KEYS", ",".join(self.keys))

    def run(self, until):
        number = len(self.keys)
        while time.monotonic() < until:
            time.sleep(EVERY)
            self._server.keys.add(f"sk-rotated-{number}")
            self.keys = [self.keys[-1], f"sk-rotated-{number}"]
            self._write()
            self._server.keys.revoke(f"sk-rotated-{number - 2}")
            self.revoked += 1
            number += 1


@pytest.fixture
def server():
    with LoopbackTogether(api_key=["sk-rotated-0", "sk-rotated-1"]) as running:
        yield running


@pytest.fixture(params=["file", "environment", "function"])
def rotation(request, server, tmp_path, monkeypatch):
    return Rotation(server, tmp_path / "keys", monkeypatch, request.param)


def words(server, rotation):
    return {
        "local": None,
        "cloud": MODEL,
        "api_key": rotation.source,
        "base_url": server.base_url,
        "max_retries": 0,
    }


def test_threads_lose_no_call_while_keys_are_replaced(server, rotation):
    """Whole and streamed calls of ten threads all succeed while six keys come and go."""
    until = time.monotonic() + SECONDS
    answered, failed = [], []
    with Client(**words(server, rotation)) as client:

        def work(number):
            while time.monotonic() < until:
                try:
                    if number % 2:
                        answered.append(client.chat("Hello?").text)
                    else:
                        answered.append("".join(chunk.text for chunk in client.stream("Hello?")))
                except Exception as error:  # noqa: BLE001 - counted below
                    failed.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(WORKERS)]
        threads.append(threading.Thread(target=rotation.run, args=(until,)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed
    assert len(answered) > WORKERS
    assert rotation.revoked > 3


async def test_tasks_lose_no_call_while_keys_are_replaced(server, rotation):
    """The same holds for the tasks of an event loop."""
    until = time.monotonic() + SECONDS
    async with AsyncClient(**words(server, rotation)) as client:

        async def work(number):
            answered = []
            while time.monotonic() < until:
                if number % 2:
                    answered.append((await client.chat("Hello?")).text)
                else:
                    chunks = [chunk.text async for chunk in client.stream("Hello?")]
                    answered.append("".join(chunks))
            return answered

        rotating = asyncio.create_task(asyncio.to_thread(rotation.run, until))
        answers = await asyncio.gather(*(work(number) for number in range(WORKERS)))
        await rotating
    assert sum(map(len, answers)) > WORKERS
    assert rotation.revoked > 3
