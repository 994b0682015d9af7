"""Runs with tools: ask, call, tell, ask again, until there is an answer."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideon_core import AsyncClient, Client, Completion, Message, ToolCall, Usage, tool
from aideon_core.errors import (
    BadArguments,
    BadRequest,
    ConfigError,
    ConnectFailed,
    TimedOut,
    ToolLoopExceeded,
)
from aideon_core.tools.running import ToolRun
from aideon_testing import FakeBackend, LoopbackTogether, Reply


@tool
def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: one
        b: the other
    """
    return a + b


@tool
async def slow_add(a: int, b: int) -> int:
    """Add two numbers, later."""
    await asyncio.sleep(0)
    return a + b


@tool
def fails(why: str) -> str:
    """Fail."""
    raise LookupError(why)


class Sync:
    """Runs with a Client."""

    def __init__(self, **words):
        self.client = Client(**words)

    async def run_tools(self, *args, **params):
        return self.client.run_tools(*args, **params)

    async def close(self):
        self.client.close()


class Async(Sync):
    """Runs with an AsyncClient."""

    def __init__(self, **words):
        self.client = AsyncClient(**words)

    async def run_tools(self, *args, **params):
        return await self.client.run_tools(*args, **params)

    async def close(self):
        await self.client.close()


@pytest.fixture(params=[Sync, Async])
def make(request):
    return request.param


def calling(*calls, **facts):
    return Completion(
        tool_calls=tuple(
            ToolCall(call_id, name, given if isinstance(given, str) else json.dumps(given))
            for call_id, name, given in calls
        ),
        **facts,
    )


def backend(*answers):
    return FakeBackend("cloud", side="cloud", answers=answers)


@pytest.mark.parametrize("adder", [add, slow_add], ids=["sync", "async"])
async def test_a_run_goes_from_the_question_to_the_answer(together, make, adder):
    """Through a server: the model calls, reads the result, and answers; all of it is kept."""
    together.script.call(adder.name, a=6, b=7)
    together.script.say("It is 13.")
    client = make(local=None, cloud="openai/gpt-oss-120b", api_key="k", base_url=together.base_url)
    run = await client.run_tools("What is 6 plus 7?", tools=[adder], temperature=0)
    await client.close()
    assert isinstance(run, ToolRun)
    assert run.text == run.completion.text == "It is 13."
    assert [turn.role for turn in run.messages] == ["user", "assistant", "tool", "assistant"]
    assert run.messages[2].content == "13"
    assert run.messages[2].tool_call_id == run.messages[1].tool_calls[0].id != ""
    assert len(run.completions) == 2
    assert run.usage.total_tokens == sum(each.usage.total_tokens for each in run.completions)
    assert run.cost == sum(each.cost for each in run.completions) > 0
    first, second = (each.body for each in together.requests)
    assert first["tools"] == second["tools"] == [adder.schema]
    assert first["temperature"] == second["temperature"] == 0
    assert second["messages"][2]["content"] == "13"


async def test_calls_of_one_round_run_together_and_answer_in_order(make):
    """Calls that wait for each other all end, and their results keep the calls' order."""
    barrier = threading.Barrier(3, timeout=10)

    def meet(number: int) -> int:
        barrier.wait()
        time.sleep(0.02 * (3 - number))
        return number

    asked = backend(
        calling(*((f"c{number}", "meet", {"number": number}) for number in range(3))),
        Completion(text="done"),
    )
    run = await make(local=None, cloud=asked).run_tools("Go", tools=[meet])
    results = [turn for turn in run.messages if turn.role == "tool"]
    assert [(turn.tool_call_id, turn.content) for turn in results] == [
        ("c0", "0"),
        ("c1", "1"),
        ("c2", "2"),
    ]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("1", "subtract", {}), "There is no tool 'subtract'. There are: add, fails."),
        (("1", "add", {"a": "x", "b": 1}), '$.a is "x"'),
        (("1", "add", '{"a": 1, "b'), "are no JSON"),
        (("1", "fails", {"why": "no such city"}), "LookupError: no such city"),
    ],
)
async def test_what_goes_wrong_is_told_to_the_model(make, call, told):
    """Unknown names, wrong arguments and exceptions become results the model can act on."""
    asked = backend(calling(call), Completion(text="Sorry."))
    run = await make(local=None, cloud=asked).run_tools("Go", tools=[add, fails])
    assert told in run.messages[2].content
    assert "Traceback" not in run.messages[2].content
    assert run.text == "Sorry."


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ('{"a": 1,  "b": 2}', '{"a": 1,  "b": 2}'),
        ("", "{}"),
        ('{"a": 1, "b', "{}"),
        ('{"a": "x\ny"}', '{"a": "x\\ny"}'),
    ],
)
async def test_broken_arguments_do_not_go_back_to_the_server(make, written, sent):
    """Servers refuse a conversation over arguments they cannot read, so they get readable ones."""
    asked = backend(calling(("1", "add", written)), Completion(text="Sorry."))
    run = await make(local=None, cloud=asked).run_tools("Go", tools=[add])
    assert asked.requests[1].messages[1].tool_calls[0].arguments == sent
    assert run.completions[0].tool_calls[0].arguments == written


async def test_exceptions_can_be_raised_instead(make):
    """With on_error="raise" a tool's exception comes as it is; wrong arguments do not."""
    asked = backend(
        calling(("1", "add", {}), ("2", "add", {"a": 1, "b": 1})),
        calling(("3", "add", {"a": 1, "b": 1}), ("4", "fails", {"why": "broken"})),
    )
    with pytest.raises(LookupError, match="broken"):
        await make(local=None, cloud=asked).run_tools("Go", tools=[add, fails], on_error="raise")
    assert len(asked.requests) == 2


async def test_a_model_that_never_ends_is_stopped(make):
    """After max_rounds the error holds the conversation, and the last calls were not run."""
    ran = []

    def note(a: int) -> int:
        ran.append(a)
        return a

    asked = backend(calling(("1", "note", {"a": 1}), usage=Usage(1, 2), cost=Decimal(1)))
    with pytest.raises(ToolLoopExceeded, match="After 3 rounds .* note.*max_rounds") as caught:
        await make(local=None, cloud=asked).run_tools("Go", tools=[note], max_rounds=3)
    run = caught.value.run
    assert len(asked.requests) == len(run.completions) == 3
    assert (run.usage, run.cost) == (Usage(3, 6), Decimal(3))
    assert run.messages[-1].tool_calls[0].name == "note"
    assert ran == [1, 1]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
async def test_a_forced_call_is_forced_once(make, choice):
    """A tool_choice that forces a call holds for the first round, so that the run can end."""
    asked = backend(calling(("1", "add", {"a": 1, "b": 2})), Completion(text="3"))
    await make(local=None, cloud=asked).run_tools("Go", tools=[add], tool_choice=choice)
    assert [each.tool_choice for each in asked.requests] == [choice, None]


async def test_another_choice_holds_for_all_rounds(make):
    """A tool_choice of "auto" is sent every time."""
    asked = backend(calling(("1", "add", {"a": 1, "b": 2})), Completion(text="3"))
    await make(local=None, cloud=asked).run_tools("Go", tools=[add], tool_choice="auto")
    assert [each.tool_choice for each in asked.requests] == ["auto", "auto"]


async def test_calls_that_were_cut_off_are_not_run(make):
    """An answer that max_tokens ended is the last one, and its calls are left alone."""
    ran = []
    asked = backend(calling(("1", "note", {}), text="I will", finish_reason="length"))
    run = await make(local=None, cloud=asked).run_tools(
        "Go", tools=[tool(lambda: ran.append(1), name="note")], max_tokens=5
    )
    assert ran == []
    assert run.completion.finish_reason == "length"
    assert run.messages[-1] == Message("assistant", "I will")


async def test_calls_without_an_id_get_one(make):
    """Results are matched to calls by id, also where a model gives none."""
    asked = backend(
        calling(("", "add", {"a": 1, "b": 2}), ("", "add", {"a": 3, "b": 4})),
        calling(("", "add", {"a": 5, "b": 6})),
        Completion(text="ok"),
    )
    run = await make(local=None, cloud=asked).run_tools("Go", tools=[add])
    calls = [call.id for turn in run.messages for call in turn.tool_calls]
    results = [turn.tool_call_id for turn in run.messages if turn.role == "tool"]
    assert calls == results
    assert len({*calls}) == 3


async def test_usage_and_cost_are_known_for_all_rounds_or_not_at_all(make):
    """A sum without one round's share would be a wrong number."""
    asked = backend(
        calling(("1", "add", {"a": 1, "b": 2}), usage=Usage(1, 1), cost=Decimal(1)),
        Completion(text="3"),
    )
    run = await make(local=None, cloud=asked).run_tools("Go", tools=[add])
    assert (run.usage, run.cost) == (None, None)


async def test_tools_see_the_context_of_the_caller(make):
    """Context variables, as tracing uses them, reach the tools."""
    user = contextvars.ContextVar("user")
    user.set("ada")
    asked = backend(calling(("1", "who", {}), ("2", "who", {})), Completion(text="ok"))
    who = tool(lambda: user.get() + "!", name="who")
    run = await make(local=None, cloud=asked).run_tools("Go", tools=[who])
    assert [turn.content for turn in run.messages[2:4]] == ["ada!", "ada!"]


async def test_a_deadline_bounds_the_whole_run(make):
    """Time spent in tools counts, and each round gets what is left."""
    asked = backend(calling(("1", "rest", {})))
    started = time.monotonic()
    with pytest.raises(TimedOut, match="0.3 s"):
        await make(local=None, cloud=asked).run_tools(
            "Go", tools=[tool(lambda: time.sleep(0.1), name="rest")], deadline=0.3, max_rounds=50
        )
    assert time.monotonic() - started < 5
    deadlines = [each.deadline for each in asked.requests]
    assert deadlines == sorted(deadlines, reverse=True)
    assert len(deadlines) >= 2


async def test_errors_of_the_client_come_as_they_are(make):
    """When nobody answers, a run fails as a chat does."""
    asked = backend(calling(("1", "add", {"a": 1, "b": 2})), ConnectFailed("gone"))
    with pytest.raises(ConnectFailed, match="gone"):
        await make(local=None, cloud=asked, max_retries=0).run_tools("Go", tools=[add])


@pytest.mark.parametrize(
    ("params", "error", "told"),
    [
        ({"tools": [add.schema]}, ConfigError, "cannot be called"),
        ({"tools": [add, add]}, ConfigError, "Two tools are named 'add'"),
        ({"tools": [add], "max_rounds": 0}, ConfigError, "max_rounds is 0"),
        ({"tools": [add], "on_error": "ignore"}, ConfigError, "on_error is 'ignore'"),
        ({"tools": [add], "temperature": 3}, BadRequest, "temperature"),
        ({"tools": add}, BadRequest, "tools has to be a list"),
    ],
)
async def test_wrong_words_are_refused_before_anything_is_sent(make, params, error, told):
    """What cannot work is told at once."""
    asked = backend(Completion(text="hi"))
    with pytest.raises(error, match=told):
        await make(local=None, cloud=asked).run_tools("Go", **params)
    assert asked.requests == []


async def test_a_conversation_may_go_on(make):
    """The messages of one run begin the next one, through a server."""
    with LoopbackTogether() as together:
        together.script.reply(
            Reply(
                "Adding.",
                tool_calls=(
                    ToolCall("", "add", '{"a": 1, "b": 2}'),
                    ToolCall("", "add", '{"a": 3, "b": 4}'),
                ),
            )
        )
        together.script.say("3 and 7.", "You are welcome.")
        client = make(
            local=None, cloud="openai/gpt-oss-120b", api_key="k", base_url=together.base_url
        )
        run = await client.run_tools([{"role": "user", "content": "1+2, 3+4?"}], tools=[add])
        more = await client.run_tools([*run.messages, Message("user", "Thanks")], tools=[add])
        await client.close()
    assert more.text == "You are welcome."
    assert [turn.content for turn in more.messages] == [
        "1+2, 3+4?",
        "Adding.",
        "3",
        "7",
        "3 and 7.",
        "Thanks",
        "You are welcome.",
    ]


async def test_cancelling_a_run_cancels_its_tools():
    """Async tools that are at work are cancelled with the run."""
    begun, ended = asyncio.Event(), []

    @tool
    async def wait(number: int):
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(number)

    asked = backend(calling(("1", "wait", {"number": 1}), ("2", "wait", {"number": 2})))
    running = asyncio.create_task(
        AsyncClient(local=None, cloud=asked).run_tools("Go", tools=[wait])
    )
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(ended) == [1, 2]


async def test_a_failure_that_is_raised_cancels_the_other_tools():
    """With on_error="raise" nothing goes on behind the caller's back."""
    ended = []

    @tool
    async def wait():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    @tool
    async def breaks():
        raise LookupError("broken") from KeyError("cause")

    asked = backend(calling(("1", "wait", {}), ("2", "breaks", {})))
    with pytest.raises(LookupError, match="broken") as caught:
        await AsyncClient(local=None, cloud=asked).run_tools(
            "Go", tools=[wait, breaks], on_error="raise"
        )
    assert isinstance(caught.value.__cause__, KeyError)
    assert ended == [1]


async def test_blocking_tools_do_not_block_the_event_loop():
    """While a plain function works, other tasks of the loop go on."""
    done = threading.Event()
    asked = backend(calling(("1", "rest", {})), Completion(text="ok"))
    running = asyncio.create_task(
        AsyncClient(local=None, cloud=asked).run_tools(
            "Go", tools=[tool(lambda: done.wait(10), name="rest")]
        )
    )
    await asyncio.sleep(0.01)
    done.set()
    run = await running
    assert run.messages[2].content == "true"


async def test_a_tool_may_end_with_any_exception(make):
    """Even StopIteration, which no future can carry, is told to the model."""
    asked = backend(calling(("1", "first", {})), Completion(text="ok"))
    client = make(local=None, cloud=asked)
    run = await client.run_tools("Go", tools=[tool(lambda: next(iter([])), name="first")])
    assert "StopIteration" in run.messages[2].content


async def test_an_async_tool_can_be_called_anywhere():
    """Without a loop and inside a running one, call gives the result and not a coroutine."""
    assert slow_add.call('{"a": 1, "b": 2}') == 3
    assert await asyncio.to_thread(slow_add.call, '{"a": 1, "b": 2}') == 3
    assert await slow_add.acall('{"a": 1, "b": 2}') == 3
    with pytest.raises(BadArguments):
        await slow_add.acall("{}")


@given(st.lists(st.lists(st.sampled_from(["add", "fails", "none"]), max_size=3), max_size=4))
def test_every_call_gets_its_result(rounds):
    """Whatever the model calls, the conversation stays one that servers accept."""
    answers = [
        calling(*((f"{at}-{n}", name, {"a": 1, "b": 2}) for n, name in enumerate(names)))
        for at, names in enumerate(rounds)
    ]
    asked = backend(*answers, Completion(text="end"))
    run = Client(local=None, cloud=asked).run_tools("Go", tools=[add, fails])
    waiting = []
    for turn in run.messages:
        if turn.role == "tool":
            assert turn.tool_call_id == waiting.pop(0)
        else:
            assert waiting == []
            waiting = [call.id for call in turn.tool_calls]
    assert waiting == []
    assert run.messages[-1].role == "assistant"
