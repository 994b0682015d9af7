"""LangChain's own Together package, over the loopback server."""

from __future__ import annotations

import json

import httpx
import openai
import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_together import ChatTogether, TogetherEmbeddings
from pydantic import BaseModel

from aideon_core.types import ToolCall
from aideon_testing import Failure, Reply

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
EMBEDDER = "intfloat/multilingual-e5-large-instruct"


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


@tool
def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"Sunny in {city}."


@pytest.fixture
async def http(together_env):
    """HTTP clients to hand to the package, which closes none of its own."""
    with httpx.Client() as client:
        async with httpx.AsyncClient() as async_client:
            yield {"http_client": client, "http_async_client": async_client}


@pytest.fixture
def chat(http):
    """ChatTogether as the environment sets it up; nothing is tried again."""
    return ChatTogether(model=MODEL, max_retries=0, **http)


async def test_every_way_of_asking_gives_the_same_answer(chat, together):
    """invoke, ainvoke, stream, astream, batch and abatch give text, usage and model."""
    together.script.say(*["Hello there."] * 8)
    answers = [
        chat.invoke("Hello?"),
        await chat.ainvoke("Hello?"),
        _joined(chat.stream("Hello?")),
        _joined([chunk async for chunk in chat.astream("Hello?")]),
        *chat.batch(["Hello?", "Hello?"]),
        *await chat.abatch(["Hello?", "Hello?"]),
    ]
    assert {answer.content for answer in answers} == {"Hello there."}
    for answer in answers:
        assert answer.response_metadata["model_name"] == MODEL
        assert answer.response_metadata["finish_reason"] == "stop"
        usage = answer.usage_metadata
        assert (usage["input_tokens"], usage["output_tokens"]) == (2, 3)
        assert usage["total_tokens"] == 5


def test_a_stream_comes_in_pieces(chat, together):
    """Each word is a chunk of its own."""
    together.script.say("One two three")
    pieces = [chunk.content for chunk in chat.stream("Count.") if chunk.content]
    assert pieces == ["One", " two", " three"]


async def test_bound_tools_are_called(chat, together):
    """Whole and streamed calls are parsed, and the conversation goes on with the result."""
    calls = tuple(ToolCall("", "get_weather", json.dumps({"city": c})) for c in ("Rome", "京都"))
    together.script.reply(*[Reply(tool_calls=calls)] * 4)
    bound = chat.bind_tools([get_weather])
    answers = [
        bound.invoke("Weather?"),
        await bound.ainvoke("Weather?"),
        _joined(bound.stream("Weather?")),
        _joined([chunk async for chunk in bound.astream("Weather?")]),
    ]
    for answer in answers:
        assert [call["args"] for call in answer.tool_calls] == [{"city": "Rome"}, {"city": "京都"}]
        results = [get_weather.invoke(call) for call in answer.tool_calls]
        assert all(isinstance(result, ToolMessage) for result in results)
        together.script.say("Sunny in both.")
        last = bound.invoke([HumanMessage("Weather?"), answer, *results])
        assert last.content == "Sunny in both."
        sent = together.requests[-1].body["messages"]
        assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
        ids = [call["id"] for call in sent[1]["tool_calls"]]
        assert [message["tool_call_id"] for message in sent[2:]] == ids


# OpenAI's client leaves the parsed object in a field that its own type does not have.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_structured_output_by_each_method(chat, together, method):
    """Each of the three methods asks in its own way and is given the object it asks for."""
    person = {"name": "Ada", "age": 36}
    for _ in range(3):
        if method == "function_calling":
            together.script.call("Person", **person)
        else:
            together.script.say(json.dumps(person))
    structured = chat.with_structured_output(Person, method=method)
    expected = Person(**person)
    assert structured.invoke("Who, as JSON?") == expected
    assert await structured.ainvoke("Who, as JSON?") == expected
    assert list(structured.stream("Who, as JSON?"))[-1] == expected
    asked = together.requests[0].body
    if method == "function_calling":
        assert asked["tool_choice"]["function"]["name"] == "Person"
        assert asked["parallel_tool_calls"] is False
    else:
        kind = "json_schema" if method == "json_schema" else "json_object"
        assert asked["response_format"]["type"] == kind


def test_logprobs_reach_the_metadata(chat, together):
    """What the answer's tokens were given is in the response metadata."""
    together.script.say("Hello there.")
    answer = chat.invoke("Hello?", logprobs=1)
    assert answer.response_metadata["logprobs"]


_FAILURES = [
    (Failure.invalid_input(), openai.BadRequestError),
    (Failure.invalid_key(), openai.AuthenticationError),
    (Failure.unknown_model("x/y"), openai.NotFoundError),
    (Failure.rate_limited(retry_after=0.01), openai.RateLimitError),
    (Failure.server_error(), openai.InternalServerError),
    (Failure.unavailable(), openai.InternalServerError),
    (Failure.edge(521), openai.InternalServerError),
]


@pytest.mark.parametrize(("failure", "kind"), _FAILURES)
async def test_failures_are_those_of_the_openai_client(chat, together, failure, kind):
    """ChatTogether talks through OpenAI's client, and its errors come through as they are."""
    together.script.fail(*[failure] * 3)
    with pytest.raises(kind) as caught:
        chat.invoke("Hello?")
    assert caught.value.status_code == failure.status
    with pytest.raises(kind):
        await chat.ainvoke("Hello?")
    with pytest.raises(kind):
        list(chat.stream("Hello?"))


def test_a_limit_is_waited_out(together, http):
    """ChatTogether with retries comes back after a limit, and gets its answer."""
    together.script.fail(Failure.rate_limited(retry_after=0.01))
    together.script.say("Now.")
    assert ChatTogether(model=MODEL, max_retries=1, **http).invoke("Hello?").content == "Now."
    assert len(together.requests) == 2


async def test_embeddings_have_one_length_and_one_vector_for_each_text(http):
    """TogetherEmbeddings gets the same vector for the same text, sync and async."""
    embeddings = TogetherEmbeddings(model=EMBEDDER, **http)
    documents = embeddings.embed_documents(["one", "two", "one"])
    query = embeddings.embed_query("two")
    assert documents[0] == documents[2] != documents[1]
    assert query == documents[1]
    assert len({len(vector) for vector in documents}) == 1
    assert all(isinstance(number, float) for number in query)
    assert await embeddings.aembed_documents(["two"]) == [query]
    assert await embeddings.aembed_query("two") == query


def _joined(chunks):
    first, *rest = chunks
    for chunk in rest:
        first += chunk
    return first
