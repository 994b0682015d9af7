"""One deadline bounds the whole answer, whatever the server does."""

from __future__ import annotations

import time

import pytest

from aideon_core import AsyncClient, Client
from aideon_core.errors import AideonError, BadRequest, StreamInterrupted, TimedOut
from aideon_testing import Failure, FakeBackend
from aideon_testing.faults import Drip, Latency, Stall

MODEL = "openai/gpt-oss-120b"
DEADLINE = 0.8
# A stall can begin just before the deadline and last as long as the last wait.
LATEST = 3 * DEADLINE
SLOW = {
    "before the headers": Latency(60.0),
    "in the headers": Stall(at=10, of="response"),
    "before the body": Stall(at=0),
    "in the body": Stall(at=300),
    "byte by byte": Drip(2500.0),
}


@pytest.fixture
def client(together):
    with Client(
        local=None, cloud=MODEL, api_key="k", base_url=together.base_url, max_retries=5
    ) as made:
        yield made


def ask(client, streamed):
    if streamed:
        return list(client.stream("Hello?", deadline=DEADLINE))
    return client.chat("Hello?", deadline=DEADLINE)


async def aask(client, streamed):
    if streamed:
        return [chunk async for chunk in client.stream("Hello?", deadline=DEADLINE)]
    return await client.chat("Hello?", deadline=DEADLINE)


@pytest.mark.parametrize("fault", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_slow_server_is_given_up_in_time(client, together, fault, streamed):
    """However an answer is slow, the caller has its error when the deadline has passed."""
    together.script.say("one two three " * 200)
    together.faults.always(fault)
    started = time.monotonic()
    with pytest.raises((TimedOut, StreamInterrupted)) as raised:
        ask(client, streamed)
    assert time.monotonic() - started < LATEST
    if isinstance(raised.value, StreamInterrupted):
        assert isinstance(raised.value.__cause__, TimedOut)


@pytest.mark.parametrize("fault", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_slow_server_is_given_up_in_time_when_awaited(together, fault, streamed):
    """The same holds on an event loop, where it holds to the moment."""
    together.script.say("one two three " * 200)
    together.faults.always(fault)
    async with AsyncClient(
        local=None, cloud=MODEL, api_key="k", base_url=together.base_url, max_retries=5
    ) as client:
        started = time.monotonic()
        with pytest.raises((TimedOut, StreamInterrupted)):
            await aask(client, streamed)
        assert time.monotonic() - started < LATEST


def test_retries_end_with_the_deadline(client, together):
    """Five retries with their waits take no longer than the deadline allows."""
    together.faults.always(Failure.server_error())
    started = time.monotonic()
    with pytest.raises(AideonError, match="500"):
        client.chat("Hello?", deadline=DEADLINE)
    assert time.monotonic() - started < LATEST


def test_the_other_side_has_what_time_is_left(together):
    """A side that answers at once answers, after the other one used part of the time."""
    together.faults.always(Latency(0.2), Failure.server_error())
    local = FakeBackend("local", side="local")
    with Client(
        local=local, cloud=MODEL, policy="cloud-first", api_key="k", base_url=together.base_url
    ) as client:
        assert client.chat("Hello?", deadline=5.0).route.backend == "local"
    assert 4.0 < local.requests[0].deadline < 4.9


@pytest.mark.parametrize("deadline", [0, -1, "soon", float("nan")])
def test_a_deadline_has_to_be_a_time(client, deadline):
    """What is no number of seconds is refused before anything is sent."""
    with pytest.raises(BadRequest, match="deadline"):
        client.chat("Hello?", deadline=deadline)
