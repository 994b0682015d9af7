"""The cloud dies while an agent or a graph is at work."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core import exceptions
from langchain_core.messages import AIMessageChunk
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel

from aideon_core import Client, Completion, LlamaCppBackend, TogetherBackend
from aideon_core.errors import ConnectFailed, StreamInterrupted
from aideon_testing import Failure, Reply
from aideon_testing.faults import Cut, Stall
from langchain_aideon import ChatAideon

from .sides import CLOUD, calls, local, routed

pytestmark = pytest.mark.filterwarnings("ignore:The v3 streaming protocol on Pregel")

_ASKED = {"messages": [("user", "Weather in Oslo?")]}
_THREAD = {"configurable": {"thread_id": "1"}}
_CALL = calls("weather", '{"city": "Oslo"}').tool_calls
_CALLED = Reply(tool_calls=_CALL)
_SAID = "It rains in Oslo."
_WHOLE = Reply(_SAID)
_HALF = Reply(_SAID, cut_after=5)


def _refuses(together, stack):
    stack.enter_context(together.outage())


def _always(*faults):
    return lambda together, stack: stack.enter_context(together.faults.always(*faults))


_DEATHS = {
    "refuses connections": (_refuses, "ConnectFailed", exceptions.ModelConnectionError),
    "answers 500": (_always(Failure.server_error()), "ServerError", exceptions.ModelAPIError),
    "answers 503": (_always(Failure.unavailable()), "ServerError", exceptions.ModelAPIError),
    "answers 429": (
        _always(Failure.rate_limited(retry_after=0.2)),
        "RateLimited",
        exceptions.ModelRateLimitError,
    ),
    "takes the key away": (
        _always(Failure.invalid_key()),
        "AuthError",
        exceptions.ModelAuthenticationError,
    ),
    "says nothing": (
        _always(Stall(0, of="response")),
        "TimedOut",
        exceptions.ModelTimeoutError,
    ),
    "hangs up": (
        _always(Cut(0, of="response")),
        "ConnectFailed",
        exceptions.ModelConnectionError,
    ),
    "breaks off before the first word": (
        _always(Cut(1)),
        "ConnectFailed",
        exceptions.ModelConnectionError,
    ),
}


class Rig:
    """A tool in the middle of whose work the cloud dies, and the chat models around it."""

    def __init__(self, together):
        self.together = together
        self.model = CLOUD
        self.timeout = 30.0
        self.ran = []
        self.backends = []
        self.dies = None
        self._stack = ExitStack()

    def chat(
        self,
        *here,
        policy="cloud-first",
        called=_CALLED,
        said=_WHOLE,
        unable=None,
    ):
        """The cloud calls the tool first and answers then; a local model says what it is told.

        In place of what it is to say there may be another local model.
        """
        self.together.script.reply(called, said)
        cloud = TogetherBackend(
            self.model, api_key="loopback", base_url=self.together.base_url, timeout=self.timeout
        )
        self.backends.append(cloud)
        if here and isinstance(here[0], LlamaCppBackend):
            (self.here,) = here
        else:
            self.here = local(*(here or [Completion("Here: rain.")]), unable=unable)
        client = Client(local=self.here, cloud=cloud, policy=policy, max_retries=0)
        return ChatAideon(client=client, temperature=0, max_tokens=40)

    def weather(self):
        """The tool; it tells the weather, and then the cloud dies if it is to."""

        @tool("weather")
        def tell(city: str) -> str:
            """Tell the weather in a city."""
            self.ran.append(city)
            if self.dies is not None and len(self.ran) == 1:
                self.dies(self.together, self._stack)
            return f"Rain in {city}."

        return tell

    def revive(self):
        """The cloud is back."""
        self._stack.close()

    async def close(self):
        self.revive()
        for cloud in self.backends:
            await cloud.aclose()


@pytest.fixture
async def rig(together):
    """A tool and chat models, whose connections are closed after the test."""
    made = Rig(together)
    yield made
    await made.close()


@pytest.fixture(params=list(_DEATHS))
def death(request, rig):
    """How the cloud dies; the test gets what the route says of it and what it is to LangChain."""
    rig.dies, told, kind = _DEATHS[request.param]
    if told == "TimedOut":
        rig.timeout = 1.0
    return told, kind


def agent_of(rig, chat, saver=None):
    return create_agent(chat, [rig.weather()], checkpointer=saver)


def graph_of(rig, chat, saver=None):
    weather = rig.weather()
    model = chat.bind_tools([weather])

    def agent(state: MessagesState):
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("agent", agent)
    graph.add_node("tools", ToolNode([weather]))
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", tools_condition)
    graph.add_edge("tools", "agent")
    return graph.compile(checkpointer=saver)


def check_went_on(rig, told, messages):
    """Everything is there once and in order, and the route tells why the last answer is local."""
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[1].tool_calls[0]["id"] == messages[2].tool_call_id
    assert messages[-1].text == "Here: rain."
    assert rig.ran == ["Oslo"]
    assert routed(messages) == ["cloud", "local"]
    route = messages[-1].response_metadata["route"]
    assert told in route["reason"]
    assert told in route["explain"]
    (asked,) = rig.here.requests
    assert [turn.role for turn in asked.messages] == ["user", "assistant", "tool"]
    assert asked.messages[-1].content == "Rain in Oslo."


@pytest.mark.parametrize("build", [agent_of, graph_of])
def test_a_run_goes_on_here(rig, death, build):
    """When the cloud dies between two steps the local model ends the run, tools run once."""
    messages = build(rig, rig.chat()).invoke(_ASKED)["messages"]
    check_went_on(rig, death[0], messages)


async def test_an_awaited_run_goes_on_here(rig, death):
    """An awaited run goes on locally as well."""
    messages = (await agent_of(rig, rig.chat()).ainvoke(_ASKED))["messages"]
    check_went_on(rig, death[0], messages)


@pytest.mark.parametrize("build", [agent_of, graph_of])
def test_a_streamed_run_goes_on_here(rig, death, build):
    """A stream that dies before its first word is another one's stream; nobody sees a seam."""
    graph = build(rig, rig.chat(), InMemorySaver())
    pieces = [
        piece
        for piece, _ in graph.stream(_ASKED, _THREAD, stream_mode="messages")
        if isinstance(piece, AIMessageChunk)
    ]
    check_went_on(rig, death[0], graph.get_state(_THREAD).values["messages"])
    assert "".join(piece.content for piece in pieces) == "Here: rain."
    assert len({piece.id for piece in pieces}) == 2


async def test_events_tell_of_one_answer(rig, death):
    """Events of version 2 show one start and one end for the answer that moved here."""
    agent = agent_of(rig, rig.chat())
    events = [event async for event in agent.astream_events(_ASKED, version="v2")]
    kinds = [event["event"] for event in events]
    assert kinds.count("on_chat_model_start") == kinds.count("on_chat_model_end") == 2
    assert kinds.count("on_tool_start") == 1
    check_went_on(rig, death[0], events[-1]["data"]["output"]["messages"])


def test_version_3_tells_of_one_answer(rig, death):
    """A version 3 run has two messages, the second of them from here."""
    run = agent_of(rig, rig.chat()).stream_events(_ASKED, version="v3")
    assert ["".join(message.text) for message in run.messages] == ["", "Here: rain."]
    check_went_on(rig, death[0], run.output["messages"])


def test_an_agent_ends_with_its_form_here(rig, death):
    """The object that an agent is to end with comes from the local model."""

    class Report(BaseModel):
        """A weather report."""

        rain: bool

    chat = rig.chat(calls("Report", json.dumps({"rain": True}), "call_9"))
    agent = create_agent(chat, [rig.weather()], response_format=ToolStrategy(Report))
    answer = agent.invoke(_ASKED)
    assert answer["structured_response"] == Report(rain=True)
    assert routed(answer["messages"]) == ["cloud", "local"]
    assert rig.ran == ["Oslo"]


@pytest.mark.parametrize("build", [agent_of, graph_of])
def test_alone_the_cloud_takes_the_run_with_it(rig, death, build):
    """Without a local side the run ends in LangChain's own error, and no local model is asked."""
    graph = build(rig, rig.chat(policy="cloud-only"))
    with pytest.raises(death[1]) as caught:
        graph.invoke(_ASKED)
    assert caught.value.route.attempts[0].side == "cloud"
    assert rig.ran == ["Oslo"]
    assert rig.here.requests == []


@pytest.mark.parametrize("build", [agent_of, graph_of])
def test_a_run_is_taken_up_when_the_cloud_is_back(rig, death, build):
    """After the error a checkpointed run goes on where it was, and its tool is not run again."""
    graph = build(rig, rig.chat(policy="cloud-only"), InMemorySaver())
    with pytest.raises(death[1]):
        graph.invoke(_ASKED, _THREAD)
    rig.revive()
    rig.together.script.reply(_WHOLE)  # the first one may have been lost on the way
    messages = graph.invoke(None, _THREAD)["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[-1].content == _SAID
    assert rig.ran == ["Oslo"]
    assert routed(messages) == ["cloud", "cloud"]


def test_the_next_run_asks_the_cloud_again(rig):
    """A cloud that is back answers the next run."""
    rig.dies = _refuses
    agent = agent_of(rig, rig.chat())
    assert routed(agent.invoke(_ASKED)["messages"]) == ["cloud", "local"]
    rig.revive()
    assert routed(agent.invoke(_ASKED)["messages"]) == ["cloud"]


def test_both_sides_down_is_told_by_one_error(rig):
    """When neither side answers, the error names the cause on each."""
    rig.dies = _refuses
    agent = agent_of(rig, rig.chat(ConnectFailed("llama.cpp is gone.")))
    with pytest.raises(exceptions.ModelError) as caught:
        agent.invoke(_ASKED)
    assert [type(each).__name__ for each in caught.value.exceptions] == ["ConnectFailed"] * 2
    assert [each.side for each in caught.value.route.attempts] == ["cloud", "local"]


async def test_a_batch_is_finished_here(rig, together):
    """Those prompts of a batch that the cloud drops are answered here."""
    chat = rig.chat()
    together.script.say("One.", "Two.")
    together.faults.sequence(None, Failure.server_error(), None)
    answers = await chat.abatch(["1", "2", "3"], config={"max_concurrency": 1})
    assert routed(answers) == ["cloud", "local", "cloud"]


# A stream that breaks off when words of it were shown already. A local model that can go on from
# a given beginning ends the answer. No other one is asked: its own answer would not go on where
# the first stopped, so the reader is told, and has the words so far and the error.


def words_of(stream, shown):
    """Note each word as a reader sees it, up to whatever ends the stream."""
    for piece, facts in stream:
        if facts["langgraph_node"] in {"model", "agent"} and piece.content:
            shown.append(piece.content)


@pytest.mark.parametrize("build", [agent_of, graph_of])
def test_an_answer_that_broke_off_is_ended_here(rig, build):
    """The local model goes on where the cloud stopped, and the words are one message."""
    graph = build(rig, rig.chat(Completion(" Oslo, they say."), said=_HALF), InMemorySaver())
    shown = []
    words_of(graph.stream(_ASKED, _THREAD, stream_mode="messages"), shown)
    assert "".join(shown) == "It rains in Oslo, they say."
    messages = graph.get_state(_THREAD).values["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[-1].content == "It rains in Oslo, they say."
    assert [request.prefix for request in rig.here.requests] == ["It rains in"]
    facts = messages[-1].response_metadata
    assert "ConnectFailed" in facts["route"]["explain"]
    assert "broke off" in facts["warnings"][0]
    assert rig.ran == ["Oslo"]


@pytest.mark.model
def test_a_real_small_model_ends_what_broke_off(rig, local_model):
    """A real model goes on from the words that came, and they are said once."""
    graph = agent_of(rig, rig.chat(local_model, said=_HALF), InMemorySaver())
    shown = []
    words_of(graph.stream(_ASKED, _THREAD, stream_mode="messages"), shown)
    messages = graph.get_state(_THREAD).values["messages"]
    assert shown[:3] == ["It", " rains", " in"]
    assert "".join(shown) == messages[-1].content
    assert messages[-1].content.count("It rains in") == 1
    assert routed(messages) == ["cloud", "local"]
    assert rig.ran == ["Oslo"]


def test_version_3_goes_on_in_the_same_block(rig):
    """A version 3 message that broke off goes on in the block of text that it was in."""
    agent = agent_of(rig, rig.chat(Completion(" Oslo, they say."), said=_HALF))
    run = agent.stream_events(_ASKED, version="v3")
    assert ["".join(message.text) for message in run.messages][1] == "It rains in Oslo, they say."
    blocks = run.output["messages"][-1].content_blocks
    assert [block["type"] for block in blocks] == ["text"]


@pytest.mark.parametrize("build", [agent_of, graph_of])
def test_shown_words_are_not_answered_over(rig, build):
    """A reader who saw some words gets those and StreamInterrupted, not half of two answers."""
    graph = build(rig, rig.chat(said=_HALF, unable="prefix"), InMemorySaver())
    shown = []
    with pytest.raises(StreamInterrupted) as caught:
        words_of(graph.stream(_ASKED, _THREAD, stream_mode="messages"), shown)
    assert shown == ["It", " rains", " in"]
    assert caught.value.partial.text == "It rains in"
    assert caught.value.route.attempts[0].side == "cloud"
    assert rig.here.requests == []


def test_an_interrupted_run_is_taken_up(rig):
    """The run goes on from its checkpoint with a whole answer, and its tool is not run again."""
    graph = agent_of(rig, rig.chat(said=_HALF, policy="cloud-only"), InMemorySaver())
    shown = []
    with pytest.raises(StreamInterrupted):
        words_of(graph.stream(_ASKED, _THREAD, stream_mode="messages"), shown)
    shown.clear()
    rig.together.script.reply(_WHOLE)
    words_of(graph.stream(None, _THREAD, stream_mode="messages"), shown)
    assert "".join(shown) == _SAID
    messages = graph.get_state(_THREAD).values["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert rig.ran == ["Oslo"]


async def _noted(events, noted):
    async for event in events:
        noted.append(event)


async def test_events_end_with_the_interruption(rig):
    """Events of version 2 show the words that came, and then the error."""
    agent = agent_of(rig, rig.chat(said=_HALF, policy="cloud-only"))
    events = []
    with pytest.raises(StreamInterrupted):
        await _noted(agent.astream_events(_ASKED, version="v2"), events)
    chunks = [event["data"]["chunk"] for event in events if event["event"].endswith("model_stream")]
    assert [chunk.content for chunk in chunks if chunk.content] == ["It", " rains", " in"]


def test_version_3_ends_with_the_interruption(rig):
    """A version 3 message gives the words that came, and then the error."""
    shown = []
    agent = agent_of(rig, rig.chat(said=_HALF, policy="cloud-only"))
    run = agent.stream_events(_ASKED, version="v3")
    said = (word for message in run.messages for word in message.text)
    with pytest.raises(StreamInterrupted):
        shown.extend(said)
    assert shown == ["It", " rains", " in"]


def test_an_answer_that_nobody_saw_is_given_here(rig):
    """Without a reader of its words, a broken answer is no more than a failed one."""
    messages = agent_of(rig, rig.chat(said=_HALF)).invoke(_ASKED)["messages"]
    check_went_on(rig, "ConnectFailed", messages)


@pytest.mark.parametrize("model", ["moonshotai/Kimi-K2.6", "openai/gpt-oss-20b"])
def test_half_a_call_is_never_run(rig, model):
    """A tool call that breaks off while it is written runs no tool, and nobody writes its rest."""
    rig.model = model
    chat = rig.chat(called=Reply(tool_calls=_CALL, cut_after=4))
    with pytest.raises(StreamInterrupted):
        list(agent_of(rig, chat).stream(_ASKED, stream_mode="messages"))
    assert rig.ran == []
    assert rig.here.requests == []


def test_a_call_that_nobody_saw_is_made_here(rig):
    """Where calls come whole, one that breaks off is as if never begun: it is made here."""
    chat = rig.chat(
        Completion(tool_calls=_CALL),
        Completion("Here: rain."),
        called=Reply(tool_calls=_CALL, cut_after=4),
        said=Reply(_SAID, cut_after=1),
    )
    messages = agent_of(rig, chat).invoke(_ASKED)["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert routed(messages) == ["local", "local"]
    assert rig.ran == ["Oslo"]
