"""The two drivers: what one does by blocking the other does by awaiting."""

from __future__ import annotations

import inspect

import pytest

from aideon_core import drive as drive_module
from aideon_core.drive import adrive, drive
from aideon_core.errors import ConnectFailed
from aideon_core.policy import POLICIES, Call, Emit, Ok, Open, Pull, Sleep
from aideon_core.routing import Candidate
from aideon_core.types import Chunk, Completion, Message, Request
from aideon_testing import Cut, FakeBackend

ASK = Request((Message("user", "Hello?"),))


def blocking(plan, backends):
    return list(drive(plan, backends))


async def awaiting(plan, backends):
    return [item async for item in adrive(plan, backends)]


@pytest.fixture(params=["blocking", "awaiting"])
def run(request):
    async def either(plan, backends):
        if request.param == "blocking":
            return blocking(plan, backends)
        return await awaiting(plan, backends)

    return either


class Handle:
    """A stream of one chunk that counts how often it was closed."""

    def __init__(self):
        self.closed = 0
        self._chunks = iter([Chunk(text="x")])

    def __next__(self):
        return next(self._chunks)

    async def __anext__(self):
        try:
            return next(self._chunks)
        except StopIteration:
            raise StopAsyncIteration from None

    def close(self):
        self.closed += 1

    async def aclose(self):
        self.closed += 1


class OneStream(FakeBackend):
    """A backend whose stream is a Handle."""

    def __init__(self):
        super().__init__("only", side="local")
        self.handle = Handle()

    def stream(self, request):
        return self.handle

    async def astream(self, request):
        return self.handle


def whole_plan(stream):
    candidates = [
        Candidate("a", "local", "a", frozenset()),
        Candidate("b", "cloud", "b", frozenset()),
    ]
    return POLICIES["local-first"].plan(ASK, candidates, stream=stream)


@pytest.mark.parametrize("stream", [False, True])
async def test_both_drivers_give_the_same_items(stream):
    """The blocking and the awaiting driver yield equal chunks and an equal completion."""

    def backends():
        answers = [Cut(Completion(text="never"), after=0)]
        good = Completion(text="one two three", finish_reason="stop")
        return {
            "a": FakeBackend("a", side="local", answers=answers),
            "b": FakeBackend("b", side="cloud", answers=[good]),
        }

    one = blocking(whole_plan(stream), backends())
    two = await awaiting(whole_plan(stream), backends())

    def plain(items):
        return [(type(i), i.text, i.finish_reason, i.route and i.route.reason) for i in items]

    assert plain(one) == plain(two)
    assert isinstance(one[-1], Completion)
    assert one[-1].text == "one two three"
    assert "".join(chunk.text for chunk in one[:-1]) == ("one two three" if stream else "")


async def test_sleep_waits_and_emit_delivers(run):
    """A plan may wait and emit; its return value comes last."""

    def plan():
        yield Sleep(0.0)
        yield Emit(Chunk(text="now"))
        return Completion(text="now")

    assert await run(plan(), {}) == [Chunk(text="now"), Completion(text="now")]


async def test_a_stream_a_plan_forgets_is_closed_for_it(run):
    """Whatever a plan opened is closed when it ends, even when it fails."""
    backend = OneStream()

    def plan():
        yield Open("only", ASK)
        raise ConnectFailed("the plan gives up")

    with pytest.raises(ConnectFailed):
        await run(plan(), {"only": backend})
    assert backend.handle.closed == 1


def pulling():
    opened = yield Open("only", ASK)
    while isinstance(outcome := (yield Pull(opened.value)), Ok) and outcome.value:
        yield Emit(outcome.value)
    return Completion()


def test_leaving_a_blocking_stream_early_closes_its_source():
    """A caller who stops listening stops the backend too."""
    backend = OneStream()
    items = drive(pulling(), {"only": backend})
    next(items)
    items.close()
    assert backend.handle.closed == 1


async def test_leaving_an_awaiting_stream_early_closes_its_source():
    """The same for the awaiting driver."""
    backend = OneStream()
    items = adrive(pulling(), {"only": backend})
    await anext(items)
    await items.aclose()
    assert backend.handle.closed == 1


async def test_bugs_pass_through_untouched(run):
    """An error outside the tree is a bug: it is raised as it is and never falls back."""

    class Buggy(FakeBackend):
        def complete(self, request):
            raise ZeroDivisionError

        async def acomplete(self, request):
            raise ZeroDivisionError

    backends = {"a": Buggy("a", side="local"), "b": FakeBackend("b", side="cloud")}
    with pytest.raises(ZeroDivisionError):
        await run(whole_plan(stream=False), backends)
    assert backends["b"].requests == []


async def test_a_stop_iteration_from_a_backend_is_not_taken_for_the_end(run):
    """A stray StopIteration in a backend surfaces as an error instead of ending the plan."""

    class Stray(FakeBackend):
        def complete(self, request):
            raise StopIteration

        async def acomplete(self, request):
            raise RuntimeError from StopIteration()

    def plan():
        yield Call("a", ASK)
        return Completion(text="never")

    with pytest.raises(RuntimeError):
        await run(plan(), {"a": Stray("a", side="local")})


def test_the_two_drivers_take_the_same_arguments():
    """Drive and adrive differ by awaiting and by nothing else in their signatures."""
    one, two = inspect.signature(drive), inspect.signature(adrive)
    assert list(one.parameters) == list(two.parameters)
    assert len(inspect.getsource(drive_module).splitlines()) < 160
