"""LangChain's agents over ChatAideon: locally, in the cloud, and across both."""

from __future__ import annotations

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel, Field

from aideon_core import Completion
from langchain_aideon import ChatAideon

from .sides import SIDES, calls, opened, routed

_ASKED = {"messages": [("user", "Weather in Oslo?")]}
_CALL = calls("weather", '{"city": "Oslo"}')
_SAID = Completion("It rains in Oslo.")
_REPORT = '{"city": "Oslo", "rain": true}'


class Report(BaseModel):
    """A weather report."""

    city: str
    rain: bool


@pytest.fixture(params=SIDES)
async def sides(request, together):
    """Chat models that answer from one side, or each time from another."""
    async with opened(request.param, together) as opened_sides:
        yield opened_sides


@pytest.fixture
def ran():
    """The cities that the tool was run for."""
    return []


@pytest.fixture
def weather(ran):
    """A tool that counts its runs."""

    @tool("weather")
    def tell(city: str) -> str:
        """Tell the weather in a city."""
        ran.append(city)
        return f"Rain in {city}."

    return tell


def test_an_agent_calls_a_tool_and_answers(sides, weather, ran):
    """create_agent runs the tool that the model calls and ends with the model's words."""
    agent = create_agent(sides.chat(_CALL, _SAID), [weather], system_prompt="Be brief.")
    messages = agent.invoke(_ASKED)["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[-1].content == "It rains in Oslo."
    assert ran == ["Oslo"]
    assert routed(messages) == sides.answered_by(2)
    assert sides.last_turns() == [
        ("system", "Be brief."),
        ("user", "Weather in Oslo?"),
        ("assistant", sides.last_turns()[2][1]),
        ("tool", "Rain in Oslo."),
    ]


async def test_an_agent_runs_awaited(sides, weather, ran):
    """An agent does the same when it is awaited."""
    agent = create_agent(sides.chat(_CALL, _SAID), [weather])
    messages = (await agent.ainvoke(_ASKED))["messages"]
    assert messages[-1].content == "It rains in Oslo."
    assert ran == ["Oslo"]
    assert routed(messages) == sides.answered_by(2)


def test_an_agent_runs_several_calls_of_one_answer(sides, weather, ran):
    """Two calls in one answer run once each, and their results reach the model in order."""
    both = Completion(
        tool_calls=(
            *_CALL.tool_calls,
            *calls("weather", '{"city": "Rome"}', "call_2").tool_calls,
        )
    )
    messages = create_agent(sides.chat(both, _SAID), [weather]).invoke(_ASKED)["messages"]
    results = [message for message in messages if isinstance(message, ToolMessage)]
    assert [result.content for result in results] == ["Rain in Oslo.", "Rain in Rome."]
    assert [result.tool_call_id for result in results] == ["call_1", "call_2"]
    assert sorted(ran) == ["Oslo", "Rome"]


def test_a_wrong_call_is_told_to_the_model(sides, weather, ran):
    """Arguments that do not fit a tool are told to the model, which may call again."""
    wrong = calls("weather", '{"town": "Oslo"}', "call_0")
    agent = create_agent(sides.chat(wrong, _CALL, _SAID), [weather])
    messages = agent.invoke(_ASKED)["messages"]
    assert messages[2].status == "error"
    assert "city" in messages[2].content
    assert messages[-1].content == "It rains in Oslo."
    assert ran == ["Oslo"]


@pytest.mark.parametrize("strategy", [ProviderStrategy, ToolStrategy, None])
def test_an_agent_ends_with_a_form(sides, weather, ran, strategy):
    """With a response format an agent calls its tools first and ends with an object."""
    chat = sides.chat(_CALL, *_ended(strategy))
    form = Report if strategy is None else strategy(Report)
    answer = create_agent(chat, [weather], response_format=form).invoke(_ASKED)
    assert answer["structured_response"] == Report(city="Oslo", rain=True)
    assert ran == ["Oslo"]
    assert routed(answer["messages"]) == sides.answered_by(2)


@pytest.mark.parametrize("strategy", [ProviderStrategy, ToolStrategy, None])
async def test_an_agent_without_tools_ends_with_a_form(sides, strategy):
    """A response format needs no tools, awaited or not."""
    chat = sides.chat(*_ended(strategy))
    form = Report if strategy is None else strategy(Report)
    answer = await create_agent(chat, response_format=form).ainvoke(_ASKED)
    assert answer["structured_response"] == Report(city="Oslo", rain=True)


def test_a_form_leaves_a_cloud_model_its_tools(together, chat_over):
    """While tools are on offer the form is in the prompt: bound to it, no model would call one."""
    together.script.call("weather", city="Oslo")
    together.script.say(_REPORT)
    agent = create_agent(chat_over(), [_forecast], response_format=ProviderStrategy(Report))
    assert agent.invoke(_ASKED)["structured_response"] == Report(city="Oslo", rain=True)
    first, last = (request.body for request in together.requests)
    for body in (first, last):
        assert body["tools"][0]["function"]["name"] == "weather"
        assert "response_format" not in body
        assert '"rain"' in body["messages"][0]["content"]


@tool("weather")
def _forecast(city: str) -> str:
    """Tell the weather in a city."""
    return f"Rain in {city}."


def _ended(strategy):
    """The last answer of a run: a call of the form's own tool, or the form as text."""
    if strategy is ToolStrategy:
        return [calls("Report", _REPORT, "call_9")]
    return [Completion(_REPORT)]


def test_an_agent_repairs_a_form(sides, weather):
    """A form that does not fit is told to the model, and its next try counts."""
    wrong = calls("Report", '{"city": "Oslo"}', "call_8")
    right = calls("Report", _REPORT, "call_9")
    agent = create_agent(sides.chat(wrong, right), [weather], response_format=ToolStrategy(Report))
    answer = agent.invoke(_ASKED)
    assert answer["structured_response"] == Report(city="Oslo", rain=True)
    assert "rain" in answer["messages"][2].content


def test_a_conversation_is_kept(sides, weather, ran):
    """With a checkpointer the second question is asked with the first one's answers."""
    chat = sides.chat(_CALL, _SAID, Completion("As I said: rain."))
    agent = create_agent(chat, [weather], checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    agent.invoke(_ASKED, thread)
    messages = agent.invoke({"messages": [("user", "Sure?")]}, thread)["messages"]
    roles = ["human", "ai", "tool", "ai", "human", "ai"]
    assert [message.type for message in messages] == roles
    assert messages[-1].content == "As I said: rain."
    assert len(sides.last_turns()) == 5
    assert ran == ["Oslo"]


@pytest.mark.parametrize(
    ("decision", "runs", "said"),
    [
        ({"type": "approve"}, ["Oslo"], "Rain in Oslo."),
        (
            {"type": "edit", "edited_action": {"name": "weather", "args": {"city": "Rome"}}},
            ["Rome"],
            "Rain in Rome.",
        ),
        ({"type": "reject", "message": "Not now."}, [], "Not now."),
    ],
)
def test_a_person_decides_about_a_call(sides, weather, ran, decision, runs, said):
    """A call waits for a person, and runs as it was approved, changed or not at all."""
    agent = create_agent(
        sides.chat(_CALL, _SAID),
        [weather],
        middleware=[HumanInTheLoopMiddleware(interrupt_on={"weather": True})],
        checkpointer=InMemorySaver(),
    )
    thread = {"configurable": {"thread_id": "1"}}
    (waiting,) = agent.invoke(_ASKED, thread)["__interrupt__"]
    assert waiting.value["action_requests"][0]["args"] == {"city": "Oslo"}
    assert ran == []
    messages = agent.invoke(Command(resume={"decisions": [decision]}), thread)["messages"]
    assert ran == runs
    assert any(said in message.text for message in messages if message.type == "tool")
    assert messages[-1].content == "It rains in Oslo."


class Choice(BaseModel):
    """A number between two bounds."""

    number: int = Field(ge=3, le=4)


@pytest.mark.model
def test_a_real_small_model_ends_an_agent_with_a_form(local_model, monkeypatch):
    """A real model of half a billion weights ends an agent's run with an object of the form."""
    monkeypatch.setenv("AIDEON_HOME", str(local_model._home))
    chat = ChatAideon(local=str(local_model.path), cloud=None, temperature=0, max_tokens=60)
    for form in (ProviderStrategy(Choice), ToolStrategy(Choice)):
        agent = create_agent(chat, response_format=form)
        answer = agent.invoke({"messages": [("user", "Give me the number 3.")]})
        assert answer["structured_response"].number in {3, 4}
