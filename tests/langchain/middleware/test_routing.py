"""AideonRoutingMiddleware: a policy for each step of an agent."""

from __future__ import annotations

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentState, ModelFallbackMiddleware, ModelRetryMiddleware
from langchain_core.language_models import FakeListChatModel
from langchain_core.tools import tool

from aideon_core import Completion
from aideon_core.errors import ConfigError
from aideon_core.policy import Prefer
from aideon_testing import Failure
from langchain_aideon.middleware import (
    AideonRoutingMiddleware,
    Choice,
    Condition,
    after_tool,
    after_tools,
    first_step,
    messages_over,
    state_is,
)

ASK = {"messages": [("user", "Rain in Oslo?")]}


@tool
def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"Rain in {city}."


def route(message):
    return message.response_metadata["route"]


async def test_each_step_goes_by_its_rule(hybrid, together, run):
    """The first step is answered in the cloud and the next one here, and each says why."""
    chat, local = hybrid(Completion(text="It rains."), policy="local-first")
    together.script.call("weather", city="Oslo")
    rules = {first_step: "cloud-first", after_tools: "local-only"}
    agent = create_agent(chat, [weather], middleware=[AideonRoutingMiddleware(rules)])
    _, asked, _, answer = (await run(agent, ASK))["messages"]
    assert (route(asked)["side"], route(asked)["rule"]) == ("cloud", "first step")
    assert (route(answer)["side"], route(answer)["rule"]) == ("local", "after tool calls")
    assert route(answer)["policy"] == "local-only"
    assert (len(together.requests), len(local.requests)) == (1, 1)


async def test_a_function_chooses(hybrid, together, run):
    """A function gives a policy's name, a Policy or a Choice, and its name is the reason."""
    chat, _ = hybrid(policy="local-only")

    def by_length(request):
        return {
            1: "cloud-only",
            3: Prefer("mine", ("cloud",)),
            5: Choice("cloud-only", model="openai/gpt-oss-20b", reason="long"),
        }.get(len(request.messages))

    agent = create_agent(chat, middleware=[AideonRoutingMiddleware(by_length)])
    said = ASK
    for _ in range(4):
        said = await run(agent, said)
        said = {"messages": [*said["messages"], ("user", "And?")]}
    first, second, third, fourth = (
        route(m) for m in said["messages"][1::2] if not isinstance(m, tuple)
    )
    assert (first["policy"], first["rule"]) == ("cloud-only", "by_length")
    assert second["policy"] == "mine"
    assert (third["model"], third["rule"]) == ("openai/gpt-oss-20b", "long")
    assert (fourth["side"], "rule" in fourth) == ("local", False)
    assert together.requests[2].body["model"] == "openai/gpt-oss-20b"


async def test_an_async_function_chooses(hybrid, together):
    """An async function chooses for an async agent; a blocking one says that it cannot."""
    chat, _ = hybrid()

    async def choose(request):
        return "local-only"

    agent = create_agent(chat, middleware=[AideonRoutingMiddleware(choose)])
    assert (await agent.ainvoke(ASK))["messages"][-1].content == "Here."
    with pytest.raises(ConfigError, match="Call ainvoke or astream"):
        agent.invoke(ASK)
    assert together.requests == []


async def test_rules_know_the_conversation(hybrid, calls, run):
    """Rules go by a tool that was called, the number of messages and the state's values."""

    class Tiered(AgentState):
        tier: str

    chat, _ = hybrid(
        calls(("weather", {"city": "Oslo"})), Completion(text="One."), policy="local-only"
    )
    rules = {
        after_tool("other"): Choice(reason="never"),
        after_tool("weather"): Choice(reason="asked the weather"),
        messages_over(4): "local-first",
        state_is("tier", "gold"): "local-first",
        Condition("mine", lambda request: False): "cloud-only",
    }
    agent = create_agent(
        chat, [weather], middleware=[AideonRoutingMiddleware(rules)], state_schema=Tiered
    )
    first = await run(agent, ASK | {"tier": "gold"})
    again = await run(agent, {"messages": [*first["messages"], ("user", "And?")], "tier": "tin"})
    steps = [m for m in again["messages"] if m.type == "ai"]
    assert [route(step)["rule"] for step in steps] == [
        "state 'tier' is 'gold'",
        "asked the weather",
        "more than 4 messages",
    ]


async def test_the_choice_holds_while_streaming(hybrid, together, calls):
    """Every streaming mode goes by the rules, and the finished step tells them."""
    chat, local = hybrid(calls(("weather", {"city": "Oslo"})), Completion(text="It rains here."))
    together.script.say("It rains there.")
    rules = {first_step: "local-only", after_tools: "cloud-only"}
    agent = create_agent(chat, [weather], middleware=[AideonRoutingMiddleware(rules)])
    pieces, updates = [], []
    async for mode, item in agent.astream(ASK, stream_mode=["messages", "updates"]):
        (pieces if mode == "messages" else updates).append(item)
    said = "".join(m.content for m, _ in pieces if m.type == "AIMessageChunk")
    assert said == "It rains there."
    last = updates[-1]["model"]["messages"][-1]
    assert (route(last)["side"], route(last)["rule"]) == ("cloud", "after tool calls")
    assert (len(local.requests), len(together.requests)) == (1, 1)


def test_langchains_own_middleware_goes_with_it(hybrid, together):
    """A retry is routed as the call was, and so is the same call of another model."""
    chat, _ = hybrid(sides=("cloud",))
    other, local = hybrid(policy="cloud-only")
    together.script.fail(Failure.server_error(), Failure.server_error())
    agent = create_agent(
        chat,
        middleware=[
            ModelFallbackMiddleware(other),
            ModelRetryMiddleware(max_retries=1, initial_delay=0, jitter=False, on_failure="error"),
            AideonRoutingMiddleware({first_step: "cloud-first"}),
        ],
    )
    answer = agent.invoke(ASK)["messages"][-1]
    assert (len(together.requests), local.requests) == (3, [])
    assert route(answer)["policy"] == "cloud-first"


def test_mistakes_are_told_before_anything_runs():
    """A policy that does not exist, or a key that is no condition, is refused at once."""
    with pytest.raises(ConfigError, match="Did you mean 'cloud-first'"):
        AideonRoutingMiddleware({first_step: "cloud-frist"})
    with pytest.raises(ConfigError, match="is no Condition"):
        AideonRoutingMiddleware({"first step": "cloud-first"})
    with pytest.raises(ConfigError, match="a function or a mapping"):
        AideonRoutingMiddleware("cloud-first")
    with pytest.raises(ConfigError, match="names no tool"):
        after_tool()


def test_a_model_without_sides_is_refused():
    """A model that has no sides to choose between says which ones have."""
    agent = create_agent(
        FakeListChatModel(responses=["Hm."]),
        middleware=[AideonRoutingMiddleware({first_step: "local-only"})],
    )
    with pytest.raises(ConfigError, match="Give create_agent a ChatAideon, or an AideonRouter"):
        agent.invoke(ASK)


def test_a_bound_model_is_routed(hybrid, together):
    """A model with parameters bound to it is routed as it is itself."""
    chat, local = hybrid()
    agent = create_agent(
        chat.bind(temperature=0), middleware=[AideonRoutingMiddleware({first_step: "local-only"})]
    )
    assert agent.invoke(ASK)["messages"][-1].content == "Here."
    assert (local.requests[0].temperature, together.requests) == (0, [])
