"""RunnableRouter: whole chains, routed as models are."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ModelRateLimitError
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableGenerator, RunnableLambda
from langchain_core.tracers.context import collect_runs

from aideon_core.errors import (
    AllBackendsFailed,
    ConfigError,
    RateLimited,
    StreamInterrupted,
)
from langchain_aideon.router.runnables import RunnableRouter


class Heard(BaseCallbackHandler):
    """Notes the runs and the events it is told of."""

    def __init__(self):
        self.names, self.tags, self.routes = [], [], []

    def on_chain_start(self, serialized, inputs, **kwargs):
        self.names.append(kwargs["name"])
        self.tags.append(kwargs["tags"])

    def on_custom_event(self, name, data, **kwargs):
        self.routes.append((name, data))


def failing(error: BaseException) -> RunnableLambda:
    """A chain that raises."""

    def fail(_):
        raise error

    return RunnableLambda(fail)


def chain(*answers: str):
    """A prompt, a model and a parser."""
    model = FakeListChatModel(responses=list(answers))
    return ChatPromptTemplate.from_template("Name a {kind}.") | model | StrOutputParser()


HERE, THERE = RunnableLambda(lambda x: f"here {x}"), RunnableLambda(lambda x: f"there {x}")


async def test_the_policy_says_which_chain_answers():
    """The preferred side answers, blocking, awaited, streamed and in batches."""
    router = RunnableRouter(local=HERE, cloud=THERE)
    assert router.invoke("a") == await router.ainvoke("a") == "here a"
    assert list(router.stream("a")) == [piece async for piece in router.astream("a")] == ["here a"]
    assert router.batch(["a", "b"]) == await router.abatch(["a", "b"]) == ["here a", "here b"]
    assert RunnableRouter(local=HERE, cloud=THERE, policy="cloud-first").invoke("a") == "there a"


async def test_a_failing_chain_gives_way():
    """A chain that cannot be reached, or answers with something unreadable, is passed over."""
    broken = ChatPromptTemplate.from_template("{x}") | FakeListChatModel(responses=["no JSON"])
    for local in (failing(ConnectionError()), broken | JsonOutputParser()):
        routes = []
        router = RunnableRouter(local=local, cloud=THERE, on_route=routes.append)
        assert router.invoke({"x": 1}) == await router.ainvoke({"x": 1}) == "there {'x': 1}"
        assert [route.side for route in routes] == ["cloud", "cloud"]
        assert routes[0].reason.startswith("fell back to cloud: local failed")


def test_chains_stream_in_pieces():
    """The pieces of a chain come one by one, and a parser behind the router gets them too."""
    router = RunnableRouter(local=chain("A heron."), cloud=THERE)
    pieces = list(router.stream({"kind": "bird"}))
    assert len(pieces) > 2
    assert "".join(pieces) == "A heron."

    def upper(given):
        for piece in given:
            yield piece.upper()

    shout = RunnableGenerator(upper)
    assert "".join((router | shout).stream({"kind": "bird"})) == "A HERON."


async def test_a_stream_that_breaks_is_not_begun_anew():
    """After its first piece a broken stream raises, and the next chain is not asked."""

    def breaking(_):
        yield 1
        raise ConnectionError("gone")

    asked = []
    cloud = RunnableLambda(asked.append)
    router = RunnableRouter(local=RunnableGenerator(breaking), cloud=cloud)
    got = []
    with pytest.raises(StreamInterrupted, match="gone"):
        got.extend(router.stream("a"))
    assert asked == []
    early = RunnableRouter(local=failing(ConnectionError()), cloud=THERE)
    assert [piece async for piece in early.astream("a")] == ["there a"]


async def test_closing_a_stream_closes_the_chain():
    """Whoever stops reading stops the chain that answers."""
    closed = []

    def counting(_):
        try:
            yield from range(100)
        finally:
            closed.append("blocking")

    async def acounting(_):
        try:
            for number in range(100):
                yield number
        finally:
            closed.append("awaiting")

    stream = RunnableRouter(local=RunnableGenerator(counting)).stream("a")
    assert next(stream) == 0
    stream.close()
    astream = RunnableRouter(local=RunnableGenerator(acounting)).astream("a")
    assert await anext(astream) == 0
    await astream.aclose()
    assert closed == ["blocking", "awaiting"]


def test_the_chain_is_a_child_of_the_routers_run():
    """Callbacks and tags reach the chosen chain, as the router's child, and hear the route."""
    heard = Heard()
    router = RunnableRouter(local=HERE.with_config(run_name="here"), cloud=THERE, name="router")
    with collect_runs() as collected:
        router.invoke("a", {"callbacks": [heard], "tags": ["mine"]})
        list(router.stream("a", {"callbacks": [heard]}))
    assert heard.names == ["router", "here"] * 2
    assert heard.tags[1] == ["leg:local", "mine"]
    assert [[child.name for child in run.child_runs] for run in collected.traced_runs] == [
        ["here"],
        ["here"],
    ]
    assert [name for name, _ in heard.routes] == ["aideon_route"] * 2
    assert heard.routes[0][1]["explain"].startswith("local: RunnableLambda answered")


async def test_events_tell_the_route():
    """astream_events has the route among its events."""
    events = [each async for each in RunnableRouter(local=HERE).astream_events("a", version="v2")]
    (route,) = [each["data"] for each in events if each["event"] == "on_custom_event"]
    assert route["side"] == "local"


def test_an_input_may_choose_the_policy():
    """``choose`` is given the input and names the policy, or leaves it."""
    router = RunnableRouter(
        local=HERE, cloud=THERE, choose=lambda text: "cloud-only" if len(text) > 3 else None
    )
    assert router.batch(["a", "abcd"]) == ["here a", "there abcd"]
    with pytest.raises(ConfigError, match="no policy"):
        RunnableRouter(local=HERE, choose=lambda _: "nearest").invoke("a")


def test_retries_are_the_cores():
    """The last chain left is asked again after a failure that may pass, and not with 0 retries."""
    calls = []

    def shaky(given):
        calls.append(given)
        if len(calls) == 1:
            raise ModelRateLimitError
        return "ok"

    assert RunnableRouter(local=RunnableLambda(shaky), max_retries=1).invoke("a") == "ok"
    calls.clear()
    with pytest.raises(RateLimited) as caught:
        RunnableRouter(local=RunnableLambda(shaky), max_retries=0).invoke("a")
    assert isinstance(caught.value, ModelRateLimitError)
    assert caught.value.route.attempts


def test_mistakes_in_a_chain_are_not_hidden():
    """A TypeError in a chain is raised, unless the caller wants to move on after it."""
    local = failing(TypeError("oops"))
    with pytest.raises(TypeError, match="oops"):
        RunnableRouter(local=local, cloud=THERE).invoke("a")
    assert (
        RunnableRouter(local=local, cloud=THERE, falls_back_on=(TypeError,)).invoke("a")
        == "there a"
    )


async def test_failures_of_all_are_told_with_their_route():
    """When no chain could answer, the error holds each cause, and on_route heard of it."""
    routes = []
    router = RunnableRouter(
        local=failing(ConnectionError()),
        cloud=failing(TimeoutError()),
        on_route=routes.append,
        max_retries=0,
    )
    with pytest.raises(AllBackendsFailed):
        router.invoke("a")
    with pytest.raises(AllBackendsFailed):
        await router.ainvoke("a")
    assert [route.side for route in routes] == [None, None]


async def test_cancelling_passes_through():
    """A cancelled call ends as cancelled, and the next chain is not asked."""

    async def forever(_):
        await asyncio.sleep(60)

    call = asyncio.create_task(
        RunnableRouter(local=RunnableLambda(forever), cloud=THERE).ainvoke("a")
    )
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


def test_several_chains_a_side_are_asked_in_order():
    """A list of chains is asked in its order, before the other side."""
    router = RunnableRouter(local=[failing(ConnectionError()), HERE], cloud=THERE)
    assert router.invoke("a") == "here a"


@pytest.mark.parametrize("given", ["text", {"a": object()}, [HumanMessage("Hi.")], 3, None])
def test_inputs_of_any_kind_are_routed(given):
    """What is asked may be text, messages, a dict or anything else, and arrives as it is."""
    assert RunnableRouter(local=RunnableLambda(lambda x: (x,))).invoke(given) == (given,)


def test_offline_keeps_cloud_chains_out(monkeypatch):
    """With AIDEON_OFFLINE no chain of the cloud side is run."""
    monkeypatch.setenv("AIDEON_OFFLINE", "1")
    assert RunnableRouter(local=HERE, cloud=THERE, policy="cloud-first").invoke("a") == "here a"


def test_schemas_and_names_are_the_first_chains():
    """The router takes what its first chain takes, and its repr names them all."""
    router = RunnableRouter(local=chain("x"), cloud=THERE)
    assert "kind" in router.get_input_jsonschema()["properties"]
    assert repr(router).startswith("RunnableRouter(local=RunnableSequence, cloud=")


@pytest.mark.parametrize("fields", [{}, {"local": len}, {"local": HERE, "policy": "x"}])
def test_mistakes_are_told_by_the_constructor(fields):
    """No chain, something that is none, and an unknown policy are refused at once."""
    with pytest.raises(ConfigError):
        RunnableRouter(**fields)
