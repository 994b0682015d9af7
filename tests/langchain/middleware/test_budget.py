"""BudgetMiddleware: what one thread of one agent may spend."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ModelFallbackMiddleware,
    ModelRequest,
    ModelRetryMiddleware,
)
from langchain.agents.structured_output import (
    ProviderStrategy,
    StructuredOutputError,
    ToolStrategy,
)
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from aideon_core import AideonError, Completion, ToolCall
from aideon_core.errors import (
    AllBackendsFailed,
    ConfigError,
    InvalidOutput,
    StreamInterrupted,
    TimedOut,
)
from aideon_core.types import ModelFacts, Usage
from aideon_testing import Failure, Reply
from langchain_aideon.middleware import (
    AideonRoutingMiddleware,
    BudgetExceeded,
    BudgetMiddleware,
    Choice,
    estimates,
    first_step,
    money,
)
from langchain_aideon.middleware.accounts import Accounts
from langchain_aideon.router import AideonRouter
from langchain_aideon.router.legs import ChatModelLeg

ASK = {"messages": [("user", "Rain in Oslo?")]}
THREAD = {"configurable": {"thread_id": "1"}, "recursion_limit": 20}
# What the server is told to say it used: 0.88 dollars a million, read or written.
USAGE = Usage(1000, 1000)
TOOK = Decimal("0.00176")


@tool
def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"Rain in {city}."


def spending(agent, thread=THREAD):
    return agent.get_state(thread).values.get("spending")


async def test_what_fits_is_asked_and_counted(hybrid, together, run):
    """Calls that fit are made, and the thread's state keeps what they cost, to the digit."""
    chat, _ = hybrid(max_tokens=10)
    together.script.reply(Reply("Yes.", usage=USAGE), Reply("No.", usage=USAGE))
    agent = create_agent(
        chat, middleware=[BudgetMiddleware("0.05 USD")], checkpointer=InMemorySaver()
    )
    said = await run(agent, ASK, THREAD)
    assert "spending" not in said
    assert Decimal(spending(agent)["usd"]) == TOOK
    await run(agent, ASK, THREAD)
    assert spending(agent) == {"usd": str(2 * TOOK), "estimated": "0"}


async def test_what_does_not_fit_is_asked_here(hybrid, together, run):
    """Once the next call may not fit, the local side answers, and the route says why."""
    chat, local = hybrid(max_tokens=10)
    together.script.reply(Reply("Yes.", usage=USAGE))
    agent = create_agent(
        chat, middleware=[BudgetMiddleware("0.00177 USD")], checkpointer=InMemorySaver()
    )
    await run(agent, ASK, THREAD)
    answer = (await run(agent, ASK, THREAD))["messages"][-1]
    assert answer.content == "Here."
    told = answer.response_metadata["route"]["budget"]
    assert told.startswith("kept local: the call may cost up to 0.0000")
    assert told.endswith("and 0.00176 USD of 0.00177 USD are spent")
    assert (len(together.requests), len(local.requests)) == (1, 1)


async def test_the_budget_outlives_the_process(hybrid, together, run):
    """Another agent on the same checkpoints goes on with what was spent; other threads do not."""
    saver = InMemorySaver()
    together.script.reply(Reply("Yes.", usage=USAGE), Reply("Yes.", usage=USAGE))
    for thread, side in (("1", "cloud"), ("1", "local"), ("2", "cloud")):
        chat, _ = hybrid(max_tokens=10)
        agent = create_agent(chat, middleware=[BudgetMiddleware("0.00177")], checkpointer=saver)
        said = await run(agent, ASK, {"configurable": {"thread_id": thread}})
        assert said["messages"][-1].response_metadata["route"]["side"] == side


async def test_a_caller_cannot_set_what_was_spent(hybrid, together, run):
    """What a thread has spent is the middleware's own: no input changes it."""
    chat, _ = hybrid(max_tokens=10)
    agent = create_agent(chat, middleware=[BudgetMiddleware("1 USD")], checkpointer=InMemorySaver())
    await run(agent, ASK | {"spending": {"usd": "-5"}}, THREAD)
    assert Decimal(spending(agent)["usd"]) > 0


async def test_stop_ends_the_run_with_a_plain_answer(hybrid, together, run):
    """With "stop", or with no local side, the run ends and says why; nothing is sent."""
    for sides, words in ((("local", "cloud"), {"on_exhausted": "stop"}), (("cloud",), {})):
        chat, local = hybrid(max_tokens=1000, sides=sides)
        budget = BudgetMiddleware("0.0001 USD", **words)
        agent = create_agent(chat, [weather], middleware=[budget])
        (_, answer) = (await run(agent, ASK))["messages"]
        assert answer.content.startswith("Stopped, because the budget is exhausted: the call may")
        assert answer.tool_calls == []
        assert (together.requests, local.requests) == ([], [])


async def test_stop_ends_an_agent_in_the_middle(hybrid, together, run):
    """A run that has called tools ends too, with what it has, also where a form was asked."""

    class Answer(BaseModel):
        text: str

    chat, _ = hybrid(max_tokens=10, sides=("cloud",))
    for tools, form, asked in (
        ([weather], None, 1),
        ([weather], ToolStrategy(Answer), 1),
        ([], ToolStrategy(Answer), 0),
    ):
        if asked:
            call = ToolCall("", "weather", '{"city": "Oslo"}')
            together.script.reply(Reply(tool_calls=(call,), usage=USAGE))
        budget = BudgetMiddleware("0.001" if asked else "0")
        agent = create_agent(chat, tools, middleware=[budget], response_format=form)
        before = len(together.requests)
        said = await run(agent, ASK, THREAD)
        assert said["messages"][-1].content.startswith("Stopped")
        assert said["messages"][-1].response_metadata["stopped_by"] == "budget"
        assert len(together.requests) - before == asked


async def test_raise_tells_the_sums(hybrid, together, run):
    """With "raise" the error is one of Aideon's and has the limit, the spent and the needed."""
    chat, _ = hybrid(max_tokens=1000)
    agent = create_agent(chat, middleware=[BudgetMiddleware("0.0001 USD", "raise")])
    with pytest.raises(BudgetExceeded, match="Nothing was sent. Raise the limit") as caught:
        await run(agent, ASK)
    assert isinstance(caught.value, AideonError)
    assert (caught.value.limit, caught.value.spent) == (Decimal("0.0001"), 0)
    assert caught.value.needed > Decimal("0.00088")
    assert together.requests == []


async def test_local_without_a_local_side_is_an_error(hybrid, together, run):
    """Asking for the local side where there is none says so when it is needed."""
    chat, _ = hybrid(max_tokens=1000, sides=("cloud",))
    agent = create_agent(chat, middleware=[BudgetMiddleware("0.0001", "local")])
    with pytest.raises(ConfigError, match="no local side to go to"):
        await run(agent, ASK)
    assert together.requests == []


def test_without_max_tokens_the_longest_answer_has_to_fit(hybrid, together):
    """Where max_tokens is not set, an answer as long as the model's limit is reckoned with."""
    chat, _ = hybrid()
    for limit, side in (("0.11", "local"), ("0.12", "cloud")):
        agent = create_agent(chat, middleware=[BudgetMiddleware(limit)])
        assert agent.invoke(ASK)["messages"][-1].response_metadata["route"]["side"] == side
    agent = create_agent(chat.bind(max_tokens=10), middleware=[BudgetMiddleware("0.01")])
    assert agent.invoke(ASK)["messages"][-1].response_metadata["route"]["side"] == "cloud"


def test_local_calls_cost_nothing(hybrid, together):
    """A model that asks local models alone goes on with an empty budget."""
    chat, local = hybrid(policy="local-only")
    agent = create_agent(
        chat, middleware=[BudgetMiddleware("0 USD", "raise")], checkpointer=InMemorySaver()
    )
    agent.invoke(ASK, THREAD)
    assert (len(local.requests), spending(agent)["usd"]) == (1, "0")


def test_an_unknown_price_is_asked_for(hybrid, together):
    """A model whose price nobody knows needs one, and is counted by it then."""
    chat, _ = hybrid(max_tokens=10)
    route = AideonRoutingMiddleware({first_step: Choice("cloud-only", "openai/gpt-oss-20b")})
    agent = create_agent(chat, middleware=[route, BudgetMiddleware("1 USD")])
    with pytest.raises(ConfigError, match=r"price of 'openai/gpt-oss-20b'.*prices="):
        agent.invoke(ASK)
    assert together.requests == []
    together.script.reply(Reply("Yes.", usage=USAGE))
    budget = BudgetMiddleware("1 USD", prices={"openai/gpt-oss-20b": ("0.05", "0.20")})
    agent = create_agent(chat, middleware=[route, budget], checkpointer=InMemorySaver())
    agent.invoke(ASK, THREAD)
    assert Decimal(spending(agent)["usd"]) == Decimal("0.00025")
    assert spending(agent)["estimated"] == "0"


def test_failed_answers_of_a_form_are_counted(hybrid, together):
    """Each try at a form costs what it costs: those repaired in the loop, those retried."""

    class Answer(BaseModel):
        text: str

    chat, _ = hybrid(max_tokens=100, sides=("cloud",))
    for strategy, around in (
        (ToolStrategy(Answer), []),
        (
            ToolStrategy(Answer, handle_errors=False),
            [ModelRetryMiddleware(max_retries=1, initial_delay=0, jitter=False)],
        ),
    ):
        wrong = ToolCall("1", "Answer", '{"other": 1}')
        right = ToolCall("2", "Answer", '{"text": "Yes."}')
        together.script.reply(
            Reply(tool_calls=(wrong,), usage=USAGE), Reply(tool_calls=(right,), usage=USAGE)
        )
        agent = create_agent(
            chat,
            middleware=[*around, BudgetMiddleware("1 USD")],
            response_format=strategy,
            checkpointer=InMemorySaver(),
        )
        said = agent.invoke(ASK, THREAD)
        assert said["structured_response"] == Answer(text="Yes.")
        assert Decimal(spending(agent)["usd"]) == 2 * TOOK


def test_money_of_a_failed_run_is_counted_by_the_next(hybrid, together):
    """What a run cost that failed after it was billed comes off the thread's next run."""

    class Answer(BaseModel):
        text: str

    chat, _ = hybrid(max_tokens=100, sides=("cloud",))
    wrong = ToolCall("1", "Answer", '{"other": 1}')
    right = ToolCall("2", "Answer", '{"text": "Yes."}')
    together.script.reply(
        Reply(tool_calls=(wrong,), usage=USAGE), Reply(tool_calls=(right,), usage=USAGE)
    )
    agent = create_agent(
        chat,
        middleware=[BudgetMiddleware("1 USD")],
        response_format=ToolStrategy(Answer, handle_errors=False),
        checkpointer=InMemorySaver(),
    )
    with pytest.raises(StructuredOutputError):
        agent.invoke(ASK, THREAD)
    agent.invoke(ASK, THREAD)
    assert Decimal(spending(agent)["usd"]) == 2 * TOOK


def test_money_of_a_failed_run_is_missing_from_the_next(hybrid, together):
    """A call that fitted before a billed failure does not fit after it."""

    class Answer(BaseModel):
        text: str

    chat, _ = hybrid(max_tokens=100, sides=("cloud",))
    wrong = ToolCall("1", "Answer", '{"other": 1}')
    together.script.reply(Reply(tool_calls=(wrong,), usage=USAGE))
    agent = create_agent(
        chat,
        middleware=[BudgetMiddleware("0.0018")],
        response_format=ToolStrategy(Answer, handle_errors=False),
        checkpointer=InMemorySaver(),
    )
    with pytest.raises(StructuredOutputError):
        agent.invoke(ASK, THREAD)
    assert agent.invoke(ASK, THREAD)["messages"][-1].content.startswith("Stopped")
    assert len(together.requests) == 1


class Around(AgentMiddleware):
    """A user's own middleware that makes every call twice, or fails after the first."""

    def __init__(self, error=None):
        self._error = error

    def wrap_model_call(self, request, handler):
        handler(request)
        self._fail()
        return handler(request)

    async def awrap_model_call(self, request, handler):
        await handler(request)
        self._fail()
        return await handler(request)

    def _fail(self):
        error, self._error = self._error, None
        if error is not None:
            raise error


async def test_calls_that_other_middleware_threw_away_are_counted(hybrid, together, run):
    """A call whose answer was thrown away, or whose step failed after it, is paid all the same."""
    chat, _ = hybrid(max_tokens=100, sides=("cloud",))
    together.script.reply(*[Reply("Yes.", usage=USAGE)] * 3)
    agent = create_agent(
        chat,
        middleware=[Around(OSError("Full.")), BudgetMiddleware("1 USD")],
        checkpointer=InMemorySaver(),
    )
    with pytest.raises(OSError, match="Full"):
        await run(agent, ASK, THREAD)
    await run(agent, ASK, THREAD)
    assert Decimal(spending(agent)["usd"]) == 3 * TOOK
    together.script.reply(Reply("Yes.", usage=USAGE), Reply("Yes.", usage=USAGE))
    await run(agent, ASK, THREAD)
    assert Decimal(spending(agent)["usd"]) == 5 * TOOK


async def test_a_cancelled_call_counts_as_the_most_it_may_cost(hybrid, together):
    """Whoever hangs up before the answer is there has not asked for nothing."""
    chat, _ = hybrid(max_tokens=100, sides=("cloud",))
    together.script.reply(Reply("Late.", delay=2), Reply("Yes.", usage=USAGE))
    agent = create_agent(chat, middleware=[BudgetMiddleware("1 USD")], checkpointer=InMemorySaver())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(agent.ainvoke(ASK, THREAD), 0.5)
    assert len(together.requests) == 1
    await agent.ainvoke(ASK, THREAD)
    assert Decimal(spending(agent)["estimated"]) > 0
    total = Decimal(spending(agent)["usd"]) - Decimal(spending(agent)["estimated"])
    assert total == TOOK


def test_calls_at_the_same_time_share_the_limit(hybrid, together):
    """Runs of one thread that are under way together do not spend the same money twice."""
    chat, _ = hybrid(max_tokens=1000, sides=("cloud",))
    together.script.reply(*[Reply("Yes.", usage=USAGE, delay=0.3)] * 6)
    agent = create_agent(chat, middleware=[BudgetMiddleware("0.002")], checkpointer=InMemorySaver())
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: agent.invoke(ASK, THREAD), range(6)))
    assert len(together.requests) == 2


def test_an_agent_without_a_checkpointer_begins_anew(hybrid, together):
    """Every run without a checkpointer has the whole limit, also in what it names a thread."""
    chat, _ = hybrid(max_tokens=100, sides=("cloud",))
    together.script.reply(*[Reply("Yes.", usage=USAGE)] * 3)
    agent = create_agent(chat, middleware=[BudgetMiddleware("0.0018")])
    for _ in range(3):
        assert agent.invoke(ASK, THREAD)["messages"][-1].content == "Yes."


def test_accounts_hold_what_a_state_lacks():
    """An account is open until the state tells it all, and a state rolled back owes nothing."""
    kept, cost = Accounts(), money.Cost(Decimal("0.3"))
    limit, most = Decimal(1), Decimal("0.4")
    assert kept.reserve("a", None, most, limit) == (True, 0)
    assert kept.reserve("a", None, most, limit) == (True, Decimal("0.4"))
    assert kept.reserve("a", None, most, limit) == (False, Decimal("0.8"))
    told = kept.book("a", None, most, [cost])
    assert money.spent(told) == Decimal("0.3")
    assert money.spent(kept.book("a", None, most, [cost])) == Decimal("0.6")
    assert money.spent(kept.book("a", told, money.NOTHING, [])) == Decimal("0.3")
    whole = {"usd": "0.6"}
    kept.settle("a", whole)
    assert kept._accounts == {}
    assert kept.reserve("a", {"usd": "0.1"}, most, limit) == (True, Decimal("0.1"))


def test_an_untold_cost_counts_as_the_most_it_may_be(hybrid, together):
    """An answer that tells no cost counts as the estimate, and is marked as one."""
    chat, _ = hybrid(max_tokens=10, sides=("cloud",))
    other = FakeListChatModel(responses=["Yes."])
    together.script.fail(Failure.server_error())
    agent = create_agent(
        chat,
        middleware=[BudgetMiddleware("1 USD"), ModelFallbackMiddleware(other)],
        checkpointer=InMemorySaver(),
    )
    agent.invoke(ASK, THREAD)
    assert Decimal(spending(agent)["usd"]) > 0
    assert spending(agent)["estimated"] == spending(agent)["usd"]


@pytest.mark.parametrize("mode", ["messages", "updates", "values"])
async def test_streams_are_counted(hybrid, together, mode):
    """A streamed agent spends and counts as one that answers whole, and shows no sums."""
    chat, _ = hybrid(max_tokens=10, streaming=True)
    together.script.reply(Reply("Yes.", usage=USAGE), Reply("No.", usage=USAGE))
    agent = create_agent(chat, middleware=[BudgetMiddleware("1 USD")], checkpointer=InMemorySaver())
    assert list(agent.stream(ASK, THREAD, stream_mode=mode))
    assert [item async for item in agent.astream(ASK, THREAD, stream_mode=mode)]
    assert Decimal(spending(agent)["usd"]) == 2 * TOOK


def test_the_prompt_is_counted_whole(hybrid, together):
    """The system's prompt, the tools and the form are part of what a call may cost."""

    class Answer(BaseModel):
        """A long description of the answer, with many words that the model has to read."""

        text: str

    chat, _ = hybrid(max_tokens=1, sides=("cloud",))
    needed = []
    for words in (
        {},
        {"system_prompt": "Answer in one word. " * 10},
        {"tools": [weather]},
        {"response_format": ToolStrategy(Answer)},
        {"response_format": ProviderStrategy(Answer)},
    ):
        agent = create_agent(chat, **words, middleware=[BudgetMiddleware("0 USD", "raise")])
        with pytest.raises(BudgetExceeded) as caught:
            agent.invoke(ASK)
        needed.append(caught.value.needed)
    plain, *others = needed
    assert all(each > plain for each in others)


def test_a_router_is_held_to_its_budget(hybrid, together):
    """A router's cloud models are reckoned with by their own prices and limits."""
    cloud, _ = hybrid(sides=("cloud",), max_tokens=1000)
    leg = ChatModelLeg(cloud, side="cloud", prices="together")
    router = AideonRouter(
        local=FakeListChatModel(responses=["From here."]), cloud=leg, policy="cloud-first"
    )
    for limit, asked in (("0.0005", 0), ("0.01", 1)):
        agent = create_agent(
            router, middleware=[BudgetMiddleware(limit)], checkpointer=InMemorySaver()
        )
        agent.invoke(ASK, THREAD)
        assert len(together.requests) == asked
        assert (Decimal(spending(agent)["usd"]) > 0) == bool(asked)


@pytest.mark.parametrize(
    ("made", "written"),
    [
        ({"max_tokens": 1000}, 1000),
        ({"max_tokens": 10, "n": 3}, 30),
        ({"max_tokens": 10, "bound": {"max_tokens": 2000}}, 2000),
        ({"max_tokens": 10, "bound": {"max_completion_tokens": 2000}}, 2000),
        ({"max_tokens": 10, "bound": {"n": 4}}, 40),
    ],
)
def test_what_is_bound_to_a_leg_is_reckoned_with(made, written):
    """The longest answer of a router's model is what it was made and bound with."""
    bound = made.pop("bound", {})
    model = ChatOpenAI(model="m", api_key="k", base_url="http://127.0.0.1:1", **made).bind(**bound)
    router = AideonRouter(cloud=ChatModelLeg(model, side="cloud"))
    request = ModelRequest(model=router, messages=[HumanMessage("Hi.")], state={}, runtime=None)
    assert estimates.worst(request, {"m": ("0", "1")}) == Decimal(written) / 1_000_000


def test_mistakes_are_told_at_once():
    """A limit that is no amount, or a way that does not exist, is refused when it is given."""
    for limit in ("5 EUR", "much", "-1 USD", 0.05, Decimal("NaN"), ""):
        with pytest.raises(ConfigError, match='such as "0.05 USD"'):
            BudgetMiddleware(limit)
    with pytest.raises(ConfigError, match="local, stop, raise"):
        BudgetMiddleware("1 USD", "explode")
    for pair in (("0.1",), (0.1, 0.2), ("x", "0.2")):
        with pytest.raises(ConfigError, match="a million tokens read and written"):
            BudgetMiddleware("1 USD", prices={"a/b": pair})
    assert BudgetMiddleware(" 0.05USD ").limit == Decimal("0.05")


def test_a_model_without_sides_is_refused():
    """A model that has no sides is refused before anything is counted."""
    agent = create_agent(FakeListChatModel(responses=[""]), middleware=[BudgetMiddleware("1 USD")])
    with pytest.raises(ConfigError, match="Give create_agent a ChatAideon"):
        agent.invoke(ASK)


def test_sums_are_exact():
    """Amounts add up without a rounding, and show to a millionth of a dollar."""
    one = money.Cost(Decimal("0.1")).as_spending()
    two = money.Cost(Decimal("0.2"), estimated=True).as_spending()
    assert money.plus(one, two) == {"usd": "0.3", "estimated": "0.2"}
    assert money.plus(None, None) == {"usd": "0", "estimated": "0"}
    assert money.spent(None) == 0
    assert money.shown(Decimal("0.00000049")) == "0 USD"
    assert money.shown(Decimal(10)) == "10 USD"


@pytest.mark.parametrize(
    ("facts", "prompt", "most", "tokens"),
    [
        (ModelFacts(100, 50), 10, None, 50),
        (ModelFacts(100, 50), 10, 20, 20),
        (ModelFacts(100, 50), 10, 80, 50),
        (ModelFacts(100, 50), 70, None, 30),
        (ModelFacts(100, None), 120, None, 0),
        (ModelFacts(), 10, 20, 20),
        (ModelFacts(), 10, None, None),
    ],
)
def test_the_longest_answer_has_the_nearest_bound(facts, prompt, most, tokens):
    """An answer is as long as is asked, as the model writes, or as its context leaves."""
    assert money.most_tokens(facts, prompt, most) == tokens


def test_failures_cost_what_was_written():
    """A failed call costs what its answer did; what nobody can tell costs the most it may."""
    most = Decimal(1)
    read, untold = InvalidOutput("No."), InvalidOutput("No.")
    read.completion = Completion(cost=Decimal("0.2"))
    assert estimates.of_failure(read, most, {}) == [money.Cost(Decimal("0.2"))]
    assert estimates.of_failure(untold, most, {}) == [money.Cost(most, estimated=True)]
    for broken in (StreamInterrupted("No."), TimedOut("No.")):
        assert estimates.of_failure(broken, most, {}) == [money.Cost(most, estimated=True)]
    both = AllBackendsFailed("No.", [read, TimedOut("No.")])
    assert len(estimates.of_failure(both, most, {})) == 2
    assert estimates.of_failure(ValueError("No."), most, {}) == []


def test_an_answer_costs_what_it_tells():
    """A told cost comes first, then own prices by what was read and written."""
    told = AIMessage("", response_metadata={"cost": "0.5"})
    assert estimates.of_answers([told], Decimal(9), {}) == [money.Cost(Decimal("0.5"))]
    assert estimates.of_answers([HumanMessage("")], Decimal(9), {}) == []
