"""LlamaIndex's own Together LLM over the loopback server."""

from __future__ import annotations

import json

import httpx
import openai
import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.together import TogetherLLM
from pydantic import BaseModel

from aideon_core.types import ToolCall
from aideon_testing import Failure, Reply

MODEL = "openai/gpt-oss-20b"
ASKED = [ChatMessage(role="system", content="Be brief."), ChatMessage("Name two primes.")]


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


@pytest.fixture
async def llm_over(together):
    """Build a TogetherLLM that asks the server; nothing is tried again."""
    with httpx.Client() as client:
        async with httpx.AsyncClient() as async_client:
            words = {
                "model": MODEL,
                "api_key": "loopback",
                "api_base": f"{together.base_url}/v1",
                "max_retries": 0,
                "http_client": client,
                "async_http_client": async_client,
            }
            yield lambda **fields: TogetherLLM(**(words | fields))


async def test_every_way_of_asking_gives_the_same_answer(llm_over, together):
    """chat, complete and their streams, sync and async, give the whole text."""
    together.script.say(*["2 and 3."] * 8)
    llm = llm_over()
    assert llm.chat(ASKED).message.content == "2 and 3."
    assert (await llm.achat(ASKED)).message.content == "2 and 3."
    assert llm.complete("Name two primes.").text == "2 and 3."
    assert (await llm.acomplete("Name two primes.")).text == "2 and 3."
    streams = [
        list(llm.stream_chat(ASKED)),
        [piece async for piece in await llm.astream_chat(ASKED)],
        list(llm.stream_complete("Name two primes.")),
        [piece async for piece in await llm.astream_complete("Name two primes.")],
    ]
    for pieces in streams:
        assert "".join(piece.delta or "" for piece in pieces) == "2 and 3."
    assert [pieces[-1].message.content for pieces in streams[:2]] == ["2 and 3."] * 2
    assert [pieces[-1].text for pieces in streams[2:]] == ["2 and 3."] * 2
    assert not together.script


def test_usage_is_in_the_raw_answer(llm_over, together):
    """What an answer took is where LlamaIndex's token counters look for it."""
    together.script.say("2 and 3.")
    answer = llm_over().chat(ASKED)
    assert answer.raw.usage.completion_tokens == 4
    assert answer.additional_kwargs["total_tokens"] == answer.raw.usage.total_tokens


async def test_tools_are_called(llm_over, together):
    """A function-calling model's calls are parsed and run, whole and streamed."""

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    tool = FunctionTool.from_defaults(add)
    llm = llm_over(is_function_calling_model=True)
    calls = (ToolCall("", "add", '{"a": 1, "b": 2}'), ToolCall("", "add", '{"a": 3, "b": 4}'))
    together.script.reply(*[Reply(tool_calls=calls)] * 4)
    answers = [
        llm.chat_with_tools([tool], "Add.", allow_parallel_tool_calls=True),
        await llm.achat_with_tools([tool], "Add.", allow_parallel_tool_calls=True),
        list(llm.stream_chat_with_tools([tool], "Add.", allow_parallel_tool_calls=True))[-1],
        [
            piece
            async for piece in await llm.astream_chat_with_tools(
                [tool], "Add.", allow_parallel_tool_calls=True
            )
        ][-1],
    ]
    for answer in answers:
        selected = llm.get_tool_calls_from_response(answer)
        assert [tool(**call.tool_kwargs).raw_output for call in selected] == [3, 7]
        assert len({call.tool_id for call in selected}) == 2
    together.script.call("add", a=5, b=6)
    assert llm.predict_and_call([tool], "Add.").response == "11"


async def test_structured_predict_by_a_tool_call(llm_over, together):
    """A function-calling model fills the class by calling it."""
    llm = llm_over(is_function_calling_model=True)
    together.script.call("Person", name="Ada", age=36)
    together.script.call("Person", name="Ada", age=36)
    prompt = PromptTemplate("Who is {name}?")
    expected = Person(name="Ada", age=36)
    assert llm.structured_predict(Person, prompt, name="Ada") == expected
    assert await llm.astructured_predict(Person, prompt, name="Ada") == expected
    assert together.requests[0].body["tools"][0]["function"]["name"] == "Person"


def test_structured_predict_by_text(llm_over, together):
    """Any other model writes the JSON, which LlamaIndex asks for in words."""
    together.script.say(json.dumps({"name": "Ada", "age": 36}))
    answer = llm_over().structured_predict(Person, PromptTemplate("Who is {name}?"), name="Ada")
    assert answer == Person(name="Ada", age=36)
    assert "tools" not in together.requests[0].body


async def test_a_completion_model_completes(llm_over, together):
    """With is_chat_model=False the prompt goes to the completions endpoint as it is."""
    together.script.say(*["2 and 3."] * 4)
    llm = llm_over(is_chat_model=False)
    assert llm.complete("Primes:").text == "2 and 3."
    assert (await llm.acomplete("Primes:")).text == "2 and 3."
    assert list(llm.stream_complete("Primes:"))[-1].text == "2 and 3."
    assert [piece async for piece in await llm.astream_complete("Primes:")][-1].text == "2 and 3."
    assert {request.path for request in together.requests} == {"/v1/completions"}
    assert {request.body["prompt"] for request in together.requests} == {"Primes:"}


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure.invalid_key(), openai.AuthenticationError),
        (Failure.unknown_model("x/y"), openai.NotFoundError),
        (Failure.rate_limited(retry_after=0.01), openai.RateLimitError),
        (Failure.edge(521), openai.InternalServerError),
    ],
)
async def test_failures_are_those_of_the_openai_client(llm_over, together, failure, kind):
    """TogetherLLM talks through OpenAI's client, and its errors come through as they are."""
    together.script.fail(*[failure] * 3)
    llm = llm_over()
    with pytest.raises(kind):
        llm.complete("Hello?")
    with pytest.raises(kind):
        await llm.acomplete("Hello?")
    with pytest.raises(kind):
        list(llm.stream_chat(ASKED))


def test_a_limit_is_waited_out(llm_over, together):
    """With retries the answer after a limit is had."""
    together.script.fail(Failure.error(429, "Not now.", headers={"retry-after-ms": "1"}))
    together.script.say("Now.")
    assert llm_over(max_retries=1).complete("Hello?").text == "Now."
    assert len(together.requests) == 2


def test_the_base_has_to_be_given_beside_together_env(together_env):
    """With api_base, the key of the environment and nothing else is needed."""
    together_env.script.say("2 and 3.")
    with httpx.Client() as client:
        llm = TogetherLLM(
            model=MODEL, api_base=f"{together_env.base_url}/v1", http_client=client, max_retries=0
        )
        assert llm.complete("Name two primes.").text == "2 and 3."
    assert together_env.requests[0].key == together_env.api_key


def test_no_variable_gives_the_base(together_env):
    """The day TogetherLLM reads one, together_env is to set it."""
    llm = TogetherLLM(model=MODEL)
    assert llm.api_base == "https://api.together.xyz/v1"
    assert together_env.requests == []
