"""A stream is stopped from wherever somebody wants it to stop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from aideon_core import AsyncClient, Client
from aideon_testing import Reply
from aideon_testing.faults import Stall

MODEL = "openai/gpt-oss-120b"


@pytest.fixture
def slow(together):
    """A server whose streams fall silent after their first words."""
    together.script.reply(Reply("one two three four five six seven eight nine ten"))
    together.faults.always(Stall(at=1500))
    return together


def test_another_thread_stops_a_stream_that_waits(slow):
    """A Stop button ends the answer at once, without an error and without a second request."""
    seen = []
    with Client(local=None, cloud=MODEL, api_key="k", base_url=slow.base_url) as client:
        stream = client.stream("Count.")
        reader = threading.Thread(target=lambda: seen.extend(stream))
        reader.start()
        time.sleep(0.5)
        assert reader.is_alive()
        stream.close()
        reader.join(5)
        assert not reader.is_alive()
        assert seen
        assert stream.completion is None
        assert list(stream) == []
    assert len(slow.requests) == 1


async def test_another_task_stops_a_stream_that_waits(slow):
    """The same holds between the tasks of an event loop."""
    async with AsyncClient(local=None, cloud=MODEL, api_key="k", base_url=slow.base_url) as client:
        stream = client.stream("Count.")

        async def read():
            return [chunk async for chunk in stream]

        reader = asyncio.create_task(read())
        await asyncio.sleep(0.5)
        await stream.aclose()
        assert await asyncio.wait_for(reader, 5)
        assert stream.completion is None
    assert len(slow.requests) == 1


@pytest.mark.model
def test_a_local_answer_is_stopped_from_another_thread(local_model):
    """The local model stops within a token, whoever asks."""
    stream = Client(local=local_model, cloud=None).stream("Count to a thousand.", max_tokens=2000)
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(stream))
    reader.start()
    while not seen:
        time.sleep(0.01)
    stream.close()
    reader.join(10)
    assert not reader.is_alive()
