"""ChatAideon in hand-written LangGraph graphs: loops, checkpoints, interrupts and streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, Send, interrupt

from aideon_core import Completion
from langchain_aideon import ChatAideon

from .sides import SIDES, calls, opened, routed

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

_ASKED = {"messages": [HumanMessage("Weather in Oslo?")]}
_THREAD = {"configurable": {"thread_id": "1"}}
_CALL = calls("weather", '{"city": "Oslo"}')
_SAID = Completion("It rains in Oslo.")


@tool
def weather(city: str) -> str:
    """Tell the weather in a city."""
    get_stream_writer()({"looking": city})
    return f"Rain in {city}."


@tool
def asking(city: str) -> str:
    """Ask a person about the weather in a city."""
    return f"{interrupt({'city': city})} in {city}."


@pytest.fixture(params=SIDES)
async def sides(request, together):
    """Chat models that answer from one side, or each time from another."""
    async with opened(request.param, together) as opened_sides:
        yield opened_sides


def loop(chat: ChatAideon, *, looking=weather, saver=None, **binding) -> CompiledStateGraph:
    """The ReAct loop, written out: the model, its tools, and back until it calls none."""
    model = chat.bind_tools([looking], **binding)

    def agent(state: MessagesState):
        return {"messages": [model.invoke(state["messages"])]}

    return _wired(agent, looking, saver)


def awaiting_loop(chat: ChatAideon) -> CompiledStateGraph:
    """The same loop with an awaiting model."""
    model = chat.bind_tools([weather])

    async def agent(state: MessagesState):
        return {"messages": [await model.ainvoke(state["messages"])]}

    return _wired(agent, weather, None)


def _wired(agent, looking, saver):
    graph = StateGraph(MessagesState)
    graph.add_node("agent", agent)
    graph.add_node("tools", ToolNode([looking]))
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", tools_condition)
    graph.add_edge("tools", "agent")
    return graph.compile(checkpointer=saver)


def test_a_loop_ends_with_the_models_words(sides):
    """A ReAct loop written by hand runs the tool once and ends with the answer."""
    messages = loop(sides.chat(_CALL, _SAID)).invoke(_ASKED)["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[2].tool_call_id == messages[1].tool_calls[0]["id"]
    assert messages[-1].content == "It rains in Oslo."
    assert routed(messages) == sides.answered_by(2)


async def test_a_loop_runs_awaited(sides):
    """The loop does the same with an awaiting node."""
    messages = (await awaiting_loop(sides.chat(_CALL, _SAID)).ainvoke(_ASKED))["messages"]
    assert messages[-1].content == "It rains in Oslo."
    assert routed(messages) == sides.answered_by(2)


def test_values_and_updates_stream(sides):
    """Stream modes values and updates show the state growing and who made it grow."""
    graph = loop(sides.chat(_CALL, _SAID))
    seen = list(graph.stream(_ASKED, stream_mode=["values", "updates"]))
    sizes = [len(state["messages"]) for mode, state in seen if mode == "values"]
    nodes = [next(iter(update)) for mode, update in seen if mode == "updates"]
    assert sizes == [1, 2, 3, 4]
    assert nodes == ["agent", "tools", "agent"]


def test_messages_stream_word_by_word(sides):
    """Stream mode messages gives the words of a model that a node only invokes."""
    graph = loop(sides.chat(_CALL, _SAID))
    pieces = [
        piece
        for piece, facts in graph.stream(_ASKED, stream_mode="messages")
        if facts["langgraph_node"] == "agent" and isinstance(piece, AIMessageChunk)
    ]
    first = pieces[0].id
    call = [piece for piece in pieces if piece.id == first]
    words = [piece.content for piece in pieces if piece.id != first and piece.content]
    assert sum(call[1:], start=call[0]).tool_calls[0]["args"] == {"city": "Oslo"}
    assert "".join(words) == "It rains in Oslo."
    assert len(words) > 1


async def test_messages_stream_word_by_word_awaited(sides):
    """The words come one by one to an awaiting reader too."""
    graph = awaiting_loop(sides.chat(_CALL, _SAID))
    words = [
        piece.content
        async for piece, facts in graph.astream(_ASKED, stream_mode="messages")
        if facts["langgraph_node"] == "agent" and piece.content
    ]
    assert "".join(words) == "It rains in Oslo."
    assert len(words) > 1


def test_a_tools_own_news_stream(sides):
    """Stream mode custom carries what a tool tells while the model's graph runs."""
    graph = loop(sides.chat(_CALL, _SAID))
    assert list(graph.stream(_ASKED, stream_mode="custom")) == [{"looking": "Oslo"}]


def test_a_run_is_taken_up_from_its_checkpoint(sides):
    """A run stopped before its tool goes on from the checkpoint, by another graph as well."""
    saver = InMemorySaver()
    chat = sides.chat(_CALL, _SAID)
    stopped = loop(chat, saver=saver)
    stopped.invoke(_ASKED, _THREAD, interrupt_before=["tools"])
    assert stopped.get_state(_THREAD).next == ("tools",)
    messages = loop(chat, saver=saver).invoke(None, _THREAD)["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[-1].content == "It rains in Oslo."
    assert routed(messages) == sides.answered_by(2)


def test_a_checkpoint_keeps_what_is_known_of_an_answer(sides):
    """Usage, cost and route of an answer are the same after a checkpoint as before it."""
    graph = loop(sides.chat(_CALL, _SAID), saver=InMemorySaver())
    before = graph.invoke(_ASKED, _THREAD)["messages"]
    after = graph.get_state(_THREAD).values["messages"]
    assert after == before
    assert after[-1].usage_metadata == before[-1].usage_metadata
    assert after[-1].response_metadata["route"]["explain"]


def test_a_run_is_forked_from_an_earlier_state(sides):
    """An earlier state can be asked again: the tool's result is there, the answer is new."""
    graph = loop(sides.chat(_CALL, _SAID, Completion("Rain, once more.")), saver=InMemorySaver())
    graph.invoke(_ASKED, _THREAD)
    told = next(state for state in graph.get_state_history(_THREAD) if state.next == ("agent",))
    messages = graph.invoke(None, told.config)["messages"]
    assert messages[2].content == "Rain in Oslo."
    assert messages[-1].content == "Rain, once more."


def test_a_tool_asks_a_person(sides):
    """A tool that interrupts waits for a person, and what they say reaches the model."""
    graph = loop(
        sides.chat(calls("asking", '{"city": "Oslo"}'), _SAID),
        looking=asking,
        saver=InMemorySaver(),
    )
    (waiting,) = graph.invoke(_ASKED, _THREAD)["__interrupt__"]
    assert waiting.value == {"city": "Oslo"}
    messages = graph.invoke(Command(resume="Hail"), _THREAD)["messages"]
    assert messages[2].content == "Hail in Oslo."
    assert messages[-1].content == "It rains in Oslo."
    assert sides.last_turns()[-1] == ("tool", "Hail in Oslo.")


def test_branches_ask_at_once(sides):
    """Branches that ask the same chat model at the same time each get an answer of their own."""
    chat = sides.chat(*[Completion("Noted.")] * 5)

    def branch(state: MessagesState):
        return {"messages": [chat.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("branch", branch)
    graph.add_conditional_edges(
        START,
        lambda _: [Send("branch", {"messages": [HumanMessage(str(n))]}) for n in range(5)],
        ["branch"],
    )
    graph.add_edge("branch", END)
    messages = graph.compile().invoke(_ASKED)["messages"]
    assert [message.content for message in messages[1:]] == ["Noted."] * 5
    assert set(routed(messages)) == set(sides.answered_by(5))


@pytest.mark.model
def test_a_real_small_model_calls_its_tool(local_model, monkeypatch):
    """A real model that has to call the tool calls it, with arguments that fit."""
    monkeypatch.setenv("AIDEON_HOME", str(local_model._home))
    chat = ChatAideon(local=str(local_model.path), cloud=None, temperature=0, max_tokens=60)
    graph = loop(chat, tool_choice="any")
    updates = graph.stream(_ASKED, stream_mode="updates")
    (call,) = next(updates)["agent"]["messages"][0].tool_calls
    (result,) = next(updates)["tools"]["messages"]
    assert (call["name"], set(call["args"])) == ("weather", {"city"})
    assert result.content == f"Rain in {call['args']['city']}."
