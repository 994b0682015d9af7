"""All of the middleware in one agent, with LangChain's own around them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    HumanInTheLoopMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    SummarizationMiddleware,
    ToolRetryMiddleware,
)
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from aideon_core import Completion
from aideon_testing import Failure
from langchain_aideon.middleware import (
    AideonRoutingMiddleware,
    BudgetMiddleware,
    PrivacyMiddleware,
    after_tools,
    first_step,
)

THREAD = {"configurable": {"thread_id": "1"}, "recursion_limit": 30}
ASK = {"messages": [("user", "What is in my mail?")]}


@tool
def read_mail(folder: str) -> str:
    """Read the user's mail."""
    return f"SECRET letter in {folder}."


@pytest.fixture
def agent(hybrid, calls):
    """An agent with everything, whose local side answers once, and its summaries' model."""
    chat, local = hybrid(Completion(text="A letter."), max_tokens=50)
    summaries, _ = hybrid(policy="local-only")
    other, _ = hybrid(sides=("cloud",), max_tokens=50)
    made = create_agent(
        chat,
        [read_mail],
        middleware=[
            SummarizationMiddleware(summaries, trigger=("messages", 4), keep=("messages", 2)),
            HumanInTheLoopMiddleware(interrupt_on={"read_mail": True}),
            ToolRetryMiddleware(max_retries=1, initial_delay=0, jitter=False),
            ModelFallbackMiddleware(other),
            ModelRetryMiddleware(max_retries=1, initial_delay=0, jitter=False, on_failure="error"),
            AideonRoutingMiddleware({first_step: "cloud-only", after_tools: "cloud-only"}),
            BudgetMiddleware("0.05 USD"),
            PrivacyMiddleware(private_tools=[read_mail]),
        ],
        checkpointer=InMemorySaver(),
    )
    return made, local


async def test_everything_goes_together(agent, together, run):
    """Retries, approvals, summaries, routes, money and privacy hold in one agent at once."""
    made, local = agent
    together.script.fail(Failure.server_error())
    together.script.call("read_mail", folder="inbox")
    await run(made, ASK, THREAD)
    said = await run(made, Command(resume={"decisions": [{"type": "approve"}]}), THREAD)
    assert said["messages"][-1].content == "A letter."
    told = said["messages"][-1].response_metadata["route"]
    assert (told["policy"], told["privacy"]) == ("local-only", "private")
    assert "rule" not in told
    assert said["messages"][1].response_metadata["route"]["rule"] == "first step"
    said = await run(made, {"messages": [("user", "And then?")]}, THREAD)
    assert said["messages"][-1].response_metadata["route"]["side"] == "local"
    assert (len(together.requests), len(local.requests)) == (2, 2)
    assert not any("SECRET" in str(request.body) for request in together.requests)
    values = made.get_state(THREAD).values
    assert (values["privacy"], Decimal(values["spending"]["usd"]) > 0) == ("private", True)


async def test_an_agent_streams_with_all_of_them(agent, together):
    """Tokens, steps and values stream from an agent that has all of them."""
    made, _ = agent
    together.script.call("read_mail", folder="inbox")
    modes = ["messages", "updates", "values"]
    heard = [item async for item in made.astream(ASK, THREAD, stream_mode=modes)]
    resume = Command(resume={"decisions": [{"type": "approve"}]})
    heard += [item async for item in made.astream(resume, THREAD, stream_mode=modes)]
    assert {mode for mode, _ in heard} == set(modes)
    last = [item for mode, item in heard if mode == "values"][-1]
    assert last["privacy"] == "private"
    assert len(together.requests) == 1
