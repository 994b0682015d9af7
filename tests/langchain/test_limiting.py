"""A rate limiter for the cloud alone."""

from __future__ import annotations

import copy
import time

import pytest
from langchain_core.exceptions import ModelTimeoutError
from langchain_core.rate_limiters import BaseRateLimiter, InMemoryRateLimiter

from aideon_core import Client
from aideon_core.backends.base import Backend
from aideon_core.errors import ServerError, TimedOut
from aideon_testing import FakeBackend
from langchain_aideon import ChatAideon
from langchain_aideon.chat.limiting import LimitedBackend


class Counting(BaseRateLimiter):
    """Admits everybody and notes how it was asked."""

    def __init__(self):
        self.asked = []

    def acquire(self, *, blocking=True):
        self.asked.append("acquire")
        return True

    async def aacquire(self, *, blocking=True):
        self.asked.append("aacquire")
        return True


def shut():
    """A limiter that admits one request, and the next one in a quarter of an hour."""
    limiter = InMemoryRateLimiter(requests_per_second=0.001, check_every_n_seconds=0.01)
    while not limiter.acquire(blocking=False):
        limiter.available_tokens = 1.0
    return limiter


async def test_the_limiter_is_asked_before_each_call_to_the_cloud(chat_over, together):
    """Whole and streamed, blocking and awaited, a cloud call waits for its turn."""
    limiter = Counting()
    chat = chat_over(cloud_rate_limiter=limiter)
    chat.invoke("One.")
    list(chat.stream("Two."))
    assert limiter.asked == ["acquire", "acquire"]
    await chat.ainvoke("Three.")
    assert [chunk async for chunk in chat.astream("Four.")]
    assert limiter.asked == ["acquire", "acquire", "aacquire", "aacquire"]
    assert len(together.requests) == 4


async def test_local_answers_never_wait():
    """What is answered on this machine asks no limiter, and leaves the turns to others."""
    limiter = Counting()
    local, cloud = FakeBackend("local", side="local"), FakeBackend("cloud", side="cloud")
    chat = ChatAideon(client=Client(local=local, cloud=cloud), cloud_rate_limiter=limiter)
    chat.invoke("Hello?")
    await chat.ainvoke("Hello?")
    assert (len(local.requests), limiter.asked) == (2, [])
    chat.invoke("Hello?", policy="cloud-first")
    assert (len(cloud.requests), limiter.asked) == (1, ["acquire"])


def test_a_fallback_and_each_retry_wait_too():
    """A call that falls back to the cloud waits, and so does each time it is asked again."""
    limiter = Counting()
    broken = ServerError("It is down.")
    local = FakeBackend("local", side="local", answers=[broken])
    cloud = FakeBackend("cloud", side="cloud", answers=[broken])
    chat = ChatAideon(client=Client(local=local, cloud=cloud), cloud_rate_limiter=limiter)
    with pytest.raises(Exception, match="It is down"):
        chat.invoke("Hello?")
    assert limiter.asked == ["acquire"] * len(cloud.requests)
    assert limiter.asked


def test_a_model_named_for_one_call_waits_too(chat_over, together):
    """model= changes who answers, not how often the cloud may be asked."""
    limiter = Counting()
    chat = chat_over(cloud_rate_limiter=limiter)
    chat.invoke("Hello?", model="openai/gpt-oss-20b")
    assert together.requests[0].body["model"] == "openai/gpt-oss-20b"
    assert limiter.asked == ["acquire"]


async def test_a_deadline_ends_the_wait(chat_over, together):
    """Who waits for a turn past the deadline gets TimedOut, and nothing is sent."""
    chat = chat_over(cloud_rate_limiter=shut(), deadline=0.1)
    began = time.monotonic()
    with pytest.raises(ModelTimeoutError):
        chat.invoke("Hello?")
    with pytest.raises(TimedOut):
        await chat.ainvoke("Hello?")
    assert time.monotonic() - began < 5
    assert together.requests == []


def test_what_is_left_of_the_deadline_is_the_answers():
    """The wait is part of the deadline."""
    cloud = FakeBackend("cloud", side="cloud")
    limiter = InMemoryRateLimiter(requests_per_second=20, check_every_n_seconds=0.01)
    chat = ChatAideon(
        client=Client(local=None, cloud=cloud), cloud_rate_limiter=limiter, deadline=60
    )
    chat.invoke("Hello?")
    assert 59 < cloud.requests[0].deadline < 60


def test_a_limited_backend_is_the_backend_in_all_else():
    """Routing, facts and closing are the backend's own."""
    missing = ServerError("Not now.")
    inner = FakeBackend("cloud", side="cloud", model="m", unavailable=missing)
    backend = LimitedBackend(inner, Counting())
    assert isinstance(backend, Backend)
    assert (backend.name, backend.side, backend.model) == ("cloud", "cloud", "m")
    assert (backend.abilities, backend.facts) == (inner.abilities, inner.facts)
    assert backend.unavailable() is missing
    backend.close()
    assert inner.closed


def test_a_deep_copy_keeps_to_the_same_limit(chat_over):
    """Copies of an agent share the cloud's limit, or each would have all of it."""
    limiter = InMemoryRateLimiter(requests_per_second=1000)
    again = copy.deepcopy(chat_over(cloud_rate_limiter=limiter, rate_limiter=limiter))
    assert again.cloud_rate_limiter is again.rate_limiter is limiter
    assert again.invoke("Hello?").content


def test_a_limited_model_keeps_its_client(chat_over):
    """A limiter changes neither the profile nor the cloud's own SDK client's address."""
    limited, free = chat_over(cloud_rate_limiter=Counting()), chat_over()
    assert limited.profile == free.profile
    assert limited.model_name == free.model_name
    assert "RateLimiter" not in repr(limited)
