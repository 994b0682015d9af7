"""``output_type=``: over HTTP and over both sides, whole and streamed, blocking and awaiting."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

import pytest
from pydantic import BaseModel

from aideon_core import AsyncClient, Client, Completion, ToolCall, Usage
from aideon_core.errors import (
    AllBackendsFailed,
    BackendError,
    BadRequest,
    ConnectFailed,
    InvalidOutput,
    RateLimited,
    Unsupported,
)
from aideon_core.policy import POLICIES, Call, Failed, Ok, Sleep
from aideon_core.request import build
from aideon_core.routing import Candidate
from aideon_core.types import Message
from aideon_testing import Failure, FakeBackend, Reply

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
ADA = {"name": "Ada", "age": 36}
GOOD, BAD = json.dumps(ADA), '{"name": "Ada", "age": "old"}'
TOOL = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}


class Person(BaseModel):
    name: str
    age: int


@dataclass
class Point:
    x: int
    y: int


class Blocking:
    """Asks through a Client."""

    def __init__(self, **words):
        self.client = Client(**words)

    async def chat(self, *args, **params):
        return self.client.chat(*args, **params)

    async def stream(self, *args, **params):
        """The stream, read to its end, and what it showed after each chunk."""
        stream = self.client.stream(*args, **params)
        return stream, [json.dumps(stream.value) for _ in stream]

    async def close(self):
        self.client.close()


class Awaiting:
    """Asks through an AsyncClient."""

    def __init__(self, **words):
        self.client = AsyncClient(**words)

    async def chat(self, *args, **params):
        return await self.client.chat(*args, **params)

    async def stream(self, *args, **params):
        """The stream, read to its end, and what it showed after each chunk."""
        stream = self.client.stream(*args, **params)
        return stream, [json.dumps(stream.value) async for _ in stream]

    async def close(self):
        await self.client.close()


@pytest.fixture(params=[Blocking, Awaiting])
async def ask(request):
    made = []

    def make(**words):
        made.append(
            request.param(**({"local": None, "cloud": None, "policy": "local-first"} | words))
        )
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.fixture
def over_http(ask, together):
    return ask(
        cloud=MODEL, policy="cloud-only", api_key="k", base_url=together.base_url, max_retries=0
    )


def fake(name, *texts, side="cloud", **words):
    answers = [each if not isinstance(each, str) else Completion(text=each) for each in texts]
    return FakeBackend(name, side=side, answers=answers, **words)


@pytest.mark.parametrize(
    ("output_type", "text", "value"),
    [
        (Person, GOOD, Person(**ADA)),
        (Person, f"```json\n{GOOD}\n```", Person(**ADA)),
        (Point, '{"x": 1, "y": 2}', Point(1, 2)),
        (list[Point], '[{"x": 1, "y": 2}]', [Point(1, 2)]),
        (Literal["yes", "no"], '"no"', "no"),
        (Person.model_json_schema(), GOOD, ADA),
        (re.compile(r"\d+"), "36", "36"),
        ("json", "[1, 2]", [1, 2]),
        (dict, GOOD, ADA),
    ],
    ids=str,
)
async def test_the_answer_is_a_value_of_the_type(over_http, together, output_type, text, value):
    """Whole or streamed, the completion's value is of the type that was asked for."""
    together.script.say(text, text)
    whole = await over_http.chat("Ada, 36", output_type=output_type)
    stream, _ = await over_http.stream("Ada, 36", output_type=output_type)
    assert whole.value == value
    assert stream.completion.value == value
    assert (whole.text, stream.completion.text) == (text, text)


async def test_the_server_is_told_the_form_twice(over_http, together):
    """The schema goes as response_format, and into a system message before the user's words."""
    together.script.say(GOOD)
    await over_http.chat("Ada, 36", output_type=Person)
    body = together.requests[0].body
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "Person", "schema": Person.model_json_schema(), "strict": True},
    }
    system, user = body["messages"]
    assert system["role"] == "system"
    assert json.dumps(Person.model_json_schema()) in system["content"]
    assert user == {"role": "user", "content": "Ada, 36"}


async def test_the_partial_value_grows_with_the_stream(over_http, together):
    """Between chunks the stream shows the JSON so far; the final value is of the type."""
    together.script.say('```json\n{"name": "Ada King of Lovelace", "age": 36}\n```')
    stream, shown = await over_http.stream("Ada, 36", output_type=Person)
    assert shown[0] == "null"
    assert '{"name": "Ada King"}' in shown
    assert '{"name": "Ada King of Lovelace"}' in shown
    assert shown[-1] == '{"name": "Ada King of Lovelace", "age": 36}'
    assert stream.value == {"name": "Ada King of Lovelace", "age": 36}
    assert stream.completion.value == Person(name="Ada King of Lovelace", age=36)


async def test_a_number_shows_when_the_stream_has_ended(over_http, together):
    """A number that stands alone may go on until the answer ends."""
    together.script.say("42")
    stream, shown = await over_http.stream("6 times 7?", output_type=int)
    assert stream.value == stream.completion.value == 42
    assert shown[0] == "null"


async def test_without_an_output_type_there_is_no_value(over_http, together):
    """A text that happens to be JSON is a text, whole and streamed."""
    together.script.say(GOOD, GOOD)
    assert (await over_http.chat("Ada, 36")).value is None
    stream, shown = await over_http.stream("Ada, 36")
    assert stream.value is None
    assert set(shown) == {"null"}


async def test_a_wrong_answer_is_asked_for_once_more(over_http, together):
    """The model is shown its answer and what was wrong; both rounds are told and paid for."""
    first, second = Usage(10, 5, cached_tokens=2), Usage(30, 6)
    together.script.reply(Reply(BAD, usage=first), Reply(GOOD, usage=second))
    answer = await over_http.chat("Ada, 36", output_type=Person)
    assert answer.value == Person(**ADA)
    assert answer.usage == Usage(40, 11, cached_tokens=2)
    again = together.requests[1].body
    assert again["response_format"] == together.requests[0].body["response_format"]
    *before, wrong, why = again["messages"]
    assert before == together.requests[0].body["messages"]
    assert wrong == {"role": "assistant", "content": BAD}
    assert why["role"] == "user"
    assert '$.age is "old"' in why["content"]
    assert [type(each.error) for each in answer.route.attempts] == [InvalidOutput, type(None)]
    told = answer.route.explain()
    assert "InvalidOutput" in told
    assert '$.age is "old"' in told
    assert "answered when asked again" in told


async def test_the_repair_round_is_paid_for(ask):
    """The cost is the sum of both rounds, and unknown where one of them is."""
    paid = [Completion(text=text, cost=Decimal(cost)) for text, cost in ((BAD, 2), (GOOD, 3))]
    client = ask(cloud=fake("cloud", *paid))
    assert (await client.chat("?", output_type=Person)).cost == 5
    client = ask(cloud=fake("cloud", replace(paid[0], cost=None), paid[1]))
    assert (await client.chat("?", output_type=Person)).cost is None


@pytest.mark.parametrize("policy", ["local-first", "cloud-first"])
async def test_what_stays_wrong_goes_to_the_other_side(ask, policy):
    """One repair round where the answer came from, then the next side, by the same code."""
    local, cloud = fake("near", BAD, "No.", side="local"), fake("far", BAD, "No.")
    first, other = (local, cloud) if policy == "local-first" else (cloud, local)
    other._answers = (Completion(text=GOOD),)
    answer = await ask(local=local, cloud=cloud, policy=policy).chat("Ada, 36", output_type=Person)
    assert answer.value == Person(**ADA)
    assert answer.route.backend == other.name
    assert [len(each.requests) for each in (first, other)] == [2, 1]
    assert other.requests[0] == first.requests[0]
    assert [each.backend for each in answer.route.attempts] == [first.name, first.name, other.name]


async def test_in_the_end_the_error_has_the_answer_and_the_reason(over_http, together):
    """Wrong twice and nobody else to ask: InvalidOutput with the last answer."""
    together.script.say("I cannot.", BAD)
    with pytest.raises(InvalidOutput, match=re.escape('$.age is "old"')) as raised:
        await over_http.chat("Ada, 36", output_type=Person)
    error = raised.value
    assert isinstance(error, BackendError)
    assert error.completion.text == BAD
    assert error.completion.usage.output_tokens > 0
    assert (error.backend, error.model) == ("together", MODEL)
    assert len(error.route.attempts) == 2
    assert len(together.requests) == 2


async def test_both_sides_wrong_are_told_together(ask):
    """Each side's last reason is in the error."""
    client = ask(local=fake("near", BAD, side="local"), cloud=fake("far", "No."))
    with pytest.raises(AllBackendsFailed) as raised:
        await client.chat("Ada, 36", output_type=Person)
    assert [type(each) for each in raised.value.exceptions] == [InvalidOutput] * 2


async def test_an_answer_cut_off_is_told_as_that_and_not_asked_for_again(over_http, together):
    """A second try would be cut off as well; the hint is max_tokens."""
    together.script.say(GOOD)
    with pytest.raises(InvalidOutput, match="max_tokens") as raised:
        await over_http.chat("Ada, 36", output_type=Person, max_tokens=6)
    assert "breaks off inside" in raised.value.message
    assert raised.value.completion.finish_reason == "length"
    assert len(together.requests) == 1


@pytest.mark.parametrize("reply", [Reply(""), Reply("I", finish_reason="content_filter")], ids=str)
async def test_a_refusal_is_told_as_that(over_http, together, reply):
    """Without a text, or filtered, there is nothing to repair: the model refused."""
    together.script.reply(reply)
    with pytest.raises(InvalidOutput, match="refused"):
        await over_http.chat("Ada, 36", output_type=Person)
    assert len(together.requests) == 1


async def test_a_shown_answer_is_not_asked_for_again(over_http, together):
    """A stream that ends wrong raises with the whole answer; its text cannot be taken back."""
    together.script.say(BAD, GOOD)
    with pytest.raises(InvalidOutput, match=re.escape('$.age is "old"')) as raised:
        await over_http.stream("Ada, 36", output_type=Person)
    assert raised.value.completion.text == BAD
    assert raised.value.completion.route is raised.value.route
    assert len(raised.value.route.attempts) == 1
    assert len(together.requests) == 1


async def test_a_stream_of_nothing_falls_back(ask):
    """As long as nothing was shown, the other side may answer a stream too."""
    client = ask(local=fake("near", "", side="local"), cloud=fake("far", GOOD))
    stream, _ = await client.stream("Ada, 36", output_type=Person)
    assert stream.completion.value == Person(**ADA)
    assert stream.completion.route.backend == "far"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_model_that_calls_tools_has_no_value_yet(over_http, together, streamed):
    """Tool calls come back as they are, and nothing is validated."""
    together.script.call("search", name="Ada")
    asked = {"output_type": Person, "tools": [TOOL]}
    if streamed:
        stream, _ = await over_http.stream("Ada?", **asked)
        answer = stream.completion
    else:
        answer = await over_http.chat("Ada?", **asked)
    assert answer.tool_calls[0].name == "search"
    assert answer.value is None


async def test_a_form_does_not_keep_the_model_from_its_tools(over_http, together):
    """With tools on offer the form is in the prompt alone; a repair binds it and drops them."""
    together.script.say(BAD, GOOD)
    answer = await over_http.chat("Ada?", output_type=Person, tools=[TOOL], tool_choice="auto")
    assert answer.value == Person(**ADA)
    first, repair = (each.body for each in together.requests)
    assert "response_format" not in first
    assert "JSON Schema" in first["messages"][0]["content"]
    assert "tools" in first
    assert repair["response_format"]["type"] == "json_schema"
    assert "tools" not in repair


async def test_a_side_that_cannot_hold_to_a_form_is_not_asked(ask):
    """output_type needs the json ability, with tools and without."""
    plain = fake("near", GOOD, side="local", abilities=frozenset({"tools"}))
    client = ask(local=plain, cloud=fake("far", GOOD))
    for more in ({}, {"tools": [TOOL]}):
        answer = await client.chat("Ada, 36", output_type=Person, **more)
        assert answer.route.backend == "far"
        assert isinstance(answer.route.considered[0].ruled_out, Unsupported)
    assert plain.requests == []


async def test_a_response_format_given_by_hand_is_sent_as_it_is(over_http, together):
    """Without output_type nothing is added to the prompt and nothing is read."""
    together.script.say("{}")
    by_hand = {"type": "json_object"}
    answer = await over_http.chat("JSON, please", response_format=by_hand)
    assert answer.value is None
    body = together.requests[0].body
    assert body["response_format"] == by_hand
    assert body["messages"] == [{"role": "user", "content": "JSON, please"}]


async def test_the_form_is_said_once(over_http, together):
    """output_type and response_format at once are refused before anything is sent."""
    with pytest.raises(BadRequest, match="response_format"):
        await over_http.chat("?", output_type=Person, response_format={"type": "json_object"})
    assert list(together.requests) == []


async def test_a_failure_in_the_repair_round_is_a_failure_like_any(over_http, together):
    """When the second round is refused, the error says so and the route has both."""
    together.script.say(BAD)
    together.script.fail(Failure.rate_limited(retry_after=7))
    with pytest.raises(RateLimited) as raised:
        await over_http.chat("Ada, 36", output_type=Person)
    kinds = [type(each.error) for each in raised.value.route.attempts]
    assert kinds == [InvalidOutput, RateLimited]


NEAR = Candidate("near", "local", "small", frozenset({"json"}))
REQUEST = build("Ada, 36", output_type=Person, deadline=10.0)


def plan(policy="local-only", request=REQUEST, max_retries=1):
    rule = replace(POLICIES[policy], max_retries=max_retries)
    made = rule.plan(request, [NEAR], stream=False)
    return made, next(made)


def test_the_deadline_bounds_the_repair_round():
    """The second round gets what the first has left, and none is made when nothing is left."""
    steps, _ = plan()
    again = steps.send(Ok(Completion(text=BAD, finish_reason="stop"), 4.0))
    assert isinstance(again, Call)
    assert again.request.deadline == 6.0
    steps, _ = plan()
    with pytest.raises(InvalidOutput):
        steps.send(Ok(Completion(text=BAD, finish_reason="stop"), 10.0))


def test_a_repair_that_may_pass_is_tried_again_as_a_repair():
    """After a connection lost in the second round, the second round is what is sent again."""
    steps, _ = plan()
    repair = steps.send(Ok(Completion(text=BAD, usage=Usage(1, 1)), 1.0))
    assert isinstance(steps.send(Failed(ConnectFailed("cut"), 1.0)), Sleep)
    again = steps.send(Ok(None))
    assert again.request.messages == repair.request.messages
    with pytest.raises(StopIteration) as done:
        steps.send(Ok(Completion(text=GOOD, usage=Usage(2, 2, reasoning_tokens=1))))
    assert done.value.value.usage == Usage(3, 3, reasoning_tokens=1)
    assert done.value.value.value == Person(**ADA)


def test_the_messages_of_the_caller_are_left_alone():
    """What goes to the model is a copy: the list that was given stays as it was."""
    given = [{"role": "user", "content": "Ada, 36"}]
    request = build(given, output_type=Person)
    assert given == [{"role": "user", "content": "Ada, 36"}]
    assert request.messages[1] == Message("user", "Ada, 36")


def test_a_tool_call_with_words_is_still_a_tool_call():
    """Text beside tool calls is a preamble and is not read."""
    steps, _ = plan()
    calls = (ToolCall("1", "search", "{}"),)
    with pytest.raises(StopIteration) as done:
        steps.send(Ok(Completion(text="Let me look.", tool_calls=calls)))
    assert done.value.value.value is None


class Branch(BaseModel):
    """A branch, and those that grow from it."""

    name: str
    branches: list[Branch] = []


def test_a_class_that_holds_itself_is_an_object_on_the_wire(together):
    """The schema of a recursive class has an object at its root, which servers ask for."""
    together.script.say('{"name": "oak", "branches": [{"name": "twig"}]}')
    with Client(local=None, api_key="k", base_url=together.base_url) as client:
        answer = client.chat("Name an oak.", output_type=Branch)
    assert answer.value.branches[0].name == "twig"
    sent = together.requests[-1].body["response_format"]
    assert "$ref" not in sent.get("schema", sent.get("json_schema", {}).get("schema"))
