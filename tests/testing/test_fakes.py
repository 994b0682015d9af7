"""FakeBackend."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideon_core.backends.base import Backend
from aideon_core.errors import ConnectFailed, Offline, RateLimited
from aideon_core.types import Completion, Message, Request, ToolCall, Usage
from aideon_testing import Cut, FakeBackend

REQUEST = Request(messages=(Message("user", "Hi"),))


def test_a_fake_is_a_backend():
    """Whatever takes a backend takes a fake."""
    assert isinstance(FakeBackend("a", side="local"), Backend)


@given(text=st.text(), reasoning=st.text(), called=st.booleans())
def test_a_fakes_stream_adds_up_to_its_whole_answer(text, reasoning, called):
    """Streamed and whole answers of a fake are equal in every field."""
    calls = (ToolCall("1", "f", '{"a": 1}'), ToolCall("2", "g", "{}")) if called else ()
    answer = Completion(text, reasoning, calls, usage=Usage(1, 2), cost=Decimal("0.5"))
    backend = FakeBackend("a", side="cloud", model="m", answers=[answer])
    assert Completion.from_chunks(backend.stream(REQUEST)) == backend.complete(REQUEST)


@given(texts=st.lists(st.text(), min_size=1, max_size=4))
def test_a_fakes_several_answers_are_streamed_mixed(texts):
    """The alternatives of a fake's answer come as chunks of their own index."""
    first, *others = (Completion(text) for text in texts)
    answer = Completion(first.text, alternatives=tuple(others))
    backend = FakeBackend("a", side="cloud", answers=[answer])
    assert Completion.from_chunks(backend.stream(REQUEST)) == backend.complete(REQUEST)


async def test_a_fake_says_the_same_to_those_who_await():
    """The awaiting methods give what the blocking ones give."""
    backend = FakeBackend("a", side="cloud", answers=[Completion("One two.", usage=Usage(1, 3))])
    stream = await backend.astream(REQUEST)
    chunks = [chunk async for chunk in stream]
    assert Completion.from_chunks(chunks) == await backend.acomplete(REQUEST)
    assert backend.requests == [REQUEST, REQUEST]


def test_a_fakes_last_answer_repeats():
    """Answers are given in order, errors included, and the last one for ever."""
    backend = FakeBackend("a", side="cloud", answers=[RateLimited("slow down"), Completion("ok")])
    with pytest.raises(RateLimited):
        backend.stream(REQUEST)
    assert [backend.complete(REQUEST).text for _ in "123"] == ["ok"] * 3


async def test_a_cut_answer_breaks_after_its_chunks():
    """A cut stream delivers what it promised, then fails as a lost connection does."""
    backend = FakeBackend("a", side="cloud", answers=[Cut(Completion("One two three"), after=2)])
    received = []
    stream = backend.stream(REQUEST)
    with pytest.raises(ConnectFailed):
        received.extend(chunk.text for chunk in stream)
    stream = await backend.astream(REQUEST)
    received = [(await anext(stream)).text, (await anext(stream)).text]
    assert received == ["One", " two"]
    with pytest.raises(ConnectFailed):
        await anext(stream)
    with pytest.raises(ConnectFailed):
        backend.complete(REQUEST)


async def test_a_fake_tells_why_it_cannot_be_asked_and_that_it_was_closed():
    """Availability and closing can be asserted on."""
    backend = FakeBackend("a", side="cloud", unavailable=Offline("no cloud"))
    assert isinstance(backend.unavailable(), Offline)
    await backend.aclose()
    assert backend.closed
