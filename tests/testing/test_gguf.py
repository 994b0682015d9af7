"""The answerer that puts a GGUF model behind the loopback server."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager

import pytest

from aideon_core import Client, Completion, LlamaCppBackend, ToolCall
from aideon_core.backends import llama_cpp
from aideon_core.errors import BadRequest, ContextTooLong, LoadFailed, ServerError
from aideon_core.types import TokenLogprob, Usage
from aideon_testing import FakeBackend, GgufAnswers, LoopbackTogether

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CITY = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
    "required": ["name", "people"],
}
FORM = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
USAGE = Usage(7, 3)


@pytest.fixture
def behind(monkeypatch):
    """Puts an engine that answers as it is told behind the server; gives it and a client."""
    with ExitStack() as stack:

        def put(*answers):
            engine = FakeBackend(
                "local", side="local", answers=answers, abilities=LlamaCppBackend.abilities
            )
            monkeypatch.setattr(llama_cpp, "LlamaCppBackend", lambda _: engine)
            answerer = stack.enter_context(GgufAnswers("any"))
            return engine, stack.enter_context(asking(answerer))

        yield put


@contextmanager
def asking(answerer):
    with (
        LoopbackTogether(answerer) as server,
        Client(
            local=None, cloud=MODEL, api_key="k", base_url=server.base_url, max_retries=0
        ) as client,
    ):
        yield client


def test_tools_reach_the_engine_and_its_calls_the_client(behind):
    """A request with tools is answered by the engine's calls, whole and streamed."""
    call = ToolCall("c", "weather", '{"city": "Rome"}')
    engine, client = behind(Completion(tool_calls=(call,), usage=USAGE))
    ask = {"messages": "Rain in Rome?", "tools": [WEATHER], "tool_choice": "required"}
    for answer in (client.chat(**ask), Completion.from_chunks(client.stream(**ask))):
        (made,) = answer.tool_calls
        assert (made.name, json.loads(made.arguments)) == ("weather", {"city": "Rome"})
        assert answer.finish_reason == "tool_calls"
    assert {request.tool_choice for request in engine.requests} == {"required"}
    assert all(request.tools[0]["function"] == WEATHER["function"] for request in engine.requests)


def test_a_form_reaches_the_engine(behind):
    """A response format is the engine's to hold, and its answer is the text."""
    engine, client = behind(Completion(text='{"name": "Rome", "people": 3}', usage=USAGE))
    answer = client.chat("A city.", response_format=FORM)
    assert json.loads(answer.text) == {"name": "Rome", "people": 3}
    assert engine.requests[0].response_format["json_schema"]["schema"] == CITY


def test_logprobs_reach_the_engine(behind):
    """How many alternatives are asked for is what the engine is asked for."""
    told = Completion(text="Hi", usage=USAGE, logprobs=(TokenLogprob("Hi", -0.5),))
    engine, client = behind(told)
    client.chat("Hi", logprobs=True, top_logprobs=2)
    assert (engine.requests[0].logprobs, engine.requests[0].top_logprobs) == (True, 2)


@pytest.mark.parametrize(("seed", "seeds"), [(5, [5, 6, 7]), (None, [None] * 3)])
def test_each_of_several_answers_has_a_seed_of_its_own(behind, seed, seeds):
    """The answers to one request differ, also where a seed makes each of them repeatable."""
    engine, client = behind(Completion(text="Hi", usage=USAGE))
    answer = client.chat("Hi", n=3, seed=seed)
    assert len(answer.alternatives) == 2
    assert [(request.n, request.seed) for request in engine.requests] == [(None, s) for s in seeds]


def test_what_the_engine_refuses_is_a_400(behind):
    """A form or a tool that is none is the request's fault, and the answer says where."""
    refused = BadRequest(
        "tool_choice names 'rain'.", hint="There are weather.", param="tool_choice"
    )
    _, client = behind(refused)
    with pytest.raises(BadRequest, match="There are weather") as raised:
        client.chat("Hi", tools=[WEATHER])
    assert (raised.value.status_code, raised.value.param) == (400, "tool_choice")


def test_a_prompt_over_the_context_is_told_as_together_tells_it(behind):
    """The engine's word for it becomes the server's, which clients know."""
    _, client = behind(ContextTooLong("9 tokens.", param="messages"))
    with pytest.raises(ContextTooLong) as raised:
        client.chat("Hi")
    assert raised.value.status_code == 400


def test_an_engine_that_fails_is_a_500(behind):
    """What is not the request's fault is the server's."""
    _, client = behind(LoadFailed("The file is damaged."))
    with pytest.raises(ServerError, match="damaged") as raised:
        client.chat("Hi")
    assert raised.value.status_code == 500


def test_what_no_engine_here_can_do_is_refused(behind):
    """An image is a 400: a model that answers past it would seem to see nothing in it."""
    engine, client = behind(Completion(text="A cat."))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(BadRequest) as raised:
        client.chat([{"role": "user", "content": [image]}], model="moonshotai/Kimi-K2.6")
    assert raised.value.status_code == 400
    assert engine.requests == []


@pytest.mark.model
def test_the_real_model_calls_tools_and_holds_to_forms_over_http(local_model):
    """Over the loopback the model gives the calls and the JSON that it gives in process."""
    asks = (
        {
            "messages": "What is the weather in Rome?",
            "tools": [WEATHER],
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
        },
        {"messages": "Describe the city of Rome as JSON.", "response_format": FORM},
    )
    local = Client(local=local_model, cloud=None)
    with GgufAnswers(str(local_model.path)) as answerer, asking(answerer) as client:
        for ask in asks:
            ask |= {"temperature": 0, "max_tokens": 60}
            here, there = local.chat(**ask), client.chat(**ask)
            assert here.text == there.text
            assert here.finish_reason == there.finish_reason
            assert [(each.name, each.arguments) for each in here.tool_calls] == [
                (each.name, each.arguments) for each in there.tool_calls
            ]
            assert bool(here.tool_calls) == ("tools" in ask)


@pytest.mark.model
def test_the_real_model_refuses_a_schema_that_is_none(local_model):
    """A schema that means nothing is a 400 of the server, not a failure of it."""
    wrong = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}
    with (
        GgufAnswers(str(local_model.path)) as answerer,
        asking(answerer) as client,
        pytest.raises(BadRequest) as raised,
    ):
        client.chat("Hi", response_format=wrong, max_tokens=5)
    assert raised.value.status_code == 400


@pytest.mark.model
def test_several_answers_of_the_real_model_are_those_in_process(local_model):
    """With a seed, n answers over the loopback are the n answers of the engine itself."""
    ask = {"messages": "Name a color.", "n": 3, "seed": 11, "temperature": 1.5, "max_tokens": 12}
    here = Client(local=local_model, cloud=None).chat(**ask)
    with GgufAnswers(str(local_model.path)) as answerer, asking(answerer) as client:
        there = client.chat(**ask)
    texts = [[each.text for each in (answer, *answer.alternatives)] for answer in (here, there)]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1
