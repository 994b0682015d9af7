"""Together's own SDK and OpenAI's, sync and async, talk to the loopback as to the service."""

from __future__ import annotations

import json

import httpx
import openai
import pytest
import together as sdk

from aideon_core.types import ToolCall
from aideon_testing import Failure, LoopbackTogether, Reply

MODEL = "openai/gpt-oss-20b"
HELLO = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}]}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}

_FAILURES = [
    (Failure.invalid_input(), "BadRequestError"),
    (Failure.invalid_key(), "AuthenticationError"),
    (Failure.error(402, "Credit limit reached."), "APIStatusError"),
    (Failure.error(403, "Not allowed."), "PermissionDeniedError"),
    (Failure.unknown_model("x/y"), "NotFoundError"),
    (Failure.error(409, "Under way already."), "ConflictError"),
    (Failure.error(422, "Cannot be processed."), "UnprocessableEntityError"),
    (Failure.rate_limited(retry_after=0.01), "RateLimitError"),
    (Failure.server_error(), "InternalServerError"),
    (Failure.unavailable(), "InternalServerError"),
]


@pytest.fixture(
    params=[
        (sdk.Together, sdk.DefaultHttpxClient),
        (sdk.AsyncTogether, sdk.DefaultAsyncHttpxClient),
        (openai.OpenAI, openai.DefaultHttpxClient),
        (openai.AsyncOpenAI, openai.DefaultAsyncHttpxClient),
    ],
    ids=lambda pair: pair[0].__name__,
)
async def client(request, together, settled):
    """The SDK pointed at the server; nothing is tried again."""
    kind, http = request.param
    client = kind(
        api_key="loopback",
        base_url=together.base_url + ("/v1" if kind.__module__.startswith("openai") else ""),
        max_retries=0,
        # Nothing here is encrypted, and reading the certificates takes longer than a test.
        http_client=http(verify=False),
    )
    yield client
    await settled(client.close())


@pytest.fixture
def errors(client):
    """The SDK that the client is of: both have the same exceptions, by the same names."""
    return openai if isinstance(client, openai.OpenAI | openai.AsyncOpenAI) else sdk


async def test_a_whole_answer_is_read_as_the_sdk_types_it(client, together, settled):
    """Text, finish reason, model, usage and id are where the SDK's types have them."""
    together.script.say("Hello there.")
    answer = await settled(client.chat.completions.create(**HELLO))
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "Hello there.")
    assert choice.finish_reason == "stop"
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens == 3


async def test_a_stream_adds_up_to_the_answer(client, together, settled, pieces_of):
    """The deltas joined are the text; the finish reason and the usage come once, at the end."""
    together.script.say("Hello there, friend.")
    chunks = await pieces_of(await settled(client.chat.completions.create(**HELLO, stream=True)))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == "Hello there, friend."
    assert [c.finish_reason for c in choices if c.finish_reason] == ["stop"]
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [5]
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


async def test_reasoning_comes_beside_the_answer(client, together, settled, pieces_of):
    """What a reasoning model thinks is in ``reasoning``, whole and streamed."""
    together.script.reply(*[Reply("Four.", reasoning="Two and two")] * 2)
    whole = await settled(client.chat.completions.create(**HELLO))
    assert whole.choices[0].message.reasoning == "Two and two"
    chunks = await pieces_of(await settled(client.chat.completions.create(**HELLO, stream=True)))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.reasoning or "" for delta in deltas) == "Two and two"
    assert "".join(delta.content or "" for delta in deltas) == "Four."


async def test_a_whole_tool_call_is_read(client, together, settled):
    """Parallel calls arrive in order, each with an id, a name and JSON arguments."""
    calls = tuple(ToolCall("", "get_weather", json.dumps({"city": c})) for c in ("Rome", "京都"))
    together.script.reply(Reply(tool_calls=calls))
    answer = await settled(client.chat.completions.create(**HELLO, tools=[WEATHER]))
    assert answer.choices[0].finish_reason == "tool_calls"
    heard = answer.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments)["city"] for call in heard] == ["Rome", "京都"]
    assert {call.function.name for call in heard} == {"get_weather"}
    assert len({call.id for call in heard}) == 2


async def test_a_streamed_tool_call_adds_up(client, together, settled, pieces_of):
    """The fragments of each index joined are the call; only the first one names it."""
    calls = tuple(ToolCall("", "get_weather", json.dumps({"city": c})) for c in ("Rome", "Oslo"))
    together.script.reply(Reply(tool_calls=calls))
    stream = await settled(client.chat.completions.create(**HELLO, tools=[WEATHER], stream=True))
    fragments = [
        fragment
        for chunk in await pieces_of(stream)
        for choice in chunk.choices
        for fragment in choice.delta.tool_calls or ()
    ]
    for index, city in enumerate(["Rome", "Oslo"]):
        mine = [fragment for fragment in fragments if fragment.index == index]
        assert [f.function.name for f in mine if f.function.name] == ["get_weather"]
        assert [bool(f.id) for f in mine] == [True] + [False] * (len(mine) - 1)
        assert json.loads("".join(f.function.arguments for f in mine)) == {"city": city}


async def test_a_conversation_with_tools_goes_on(client, together, settled):
    """The answer to a call goes back in, and the server hears every message."""
    together.script.call("get_weather", city="Rome")
    answer = await settled(client.chat.completions.create(**HELLO, tools=[WEATHER]))
    (call,) = answer.choices[0].message.tool_calls
    told = {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
    asked = {"role": "assistant", "content": "", "tool_calls": [call.model_dump()]}
    messages = [*HELLO["messages"], asked, told]
    together.script.say("It is sunny.")
    last = await settled(
        client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER])
    )
    assert last.choices[0].message.content == "It is sunny."
    assert together.requests[-1].body["messages"] == messages


@pytest.mark.parametrize(("failure", "kind"), _FAILURES)
async def test_each_status_is_the_exception_it_is_at_together(
    client, together, failure, kind, settled, errors
):
    """The class, the status and the whole body are those of the service."""
    together.script.fail(failure)
    with pytest.raises(errors.APIStatusError) as caught:
        await settled(client.chat.completions.create(**HELLO))
    assert type(caught.value) is getattr(errors, kind)
    assert caught.value.status_code == failure.status
    body = caught.value.response.json()
    assert body["error"] == failure.body["error"]
    assert body["id"] == caught.value.response.headers["x-request-id"]
    # OpenAI's SDK hands over the inner object, Together's the whole body.
    assert caught.value.body == (body["error"] if errors is openai else body)


async def test_the_edge_fails_in_plain_text(client, together, settled, errors):
    """An error of the network in front of the API has no JSON, and is an error all the same."""
    together.script.fail(Failure.edge(521))
    with pytest.raises(errors.InternalServerError) as caught:
        await settled(client.chat.completions.create(**HELLO))
    assert caught.value.status_code == 521
    assert caught.value.response.text == "error code: 521"


async def test_a_key_that_is_not_accepted_is_refused(client, settled, errors):
    """A server that wants one key refuses every other."""
    with LoopbackTogether(api_key="another") as server:
        other = client.with_options(base_url=f"{server.base_url}/v1")
        with pytest.raises(errors.AuthenticationError) as caught:
            await settled(other.chat.completions.create(**HELLO))
    assert caught.value.response.json()["error"]["code"] == "invalid_api_key"


async def test_a_stream_that_is_refused_raises_before_its_first_piece(
    client, together, settled, errors
):
    """A failure that comes before the answer is an HTTP error, streamed or not."""
    together.script.fail(Failure.rate_limited(retry_after=0.01))
    with pytest.raises(errors.RateLimitError):
        await settled(client.chat.completions.create(**HELLO, stream=True))


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
async def test_what_may_pass_is_tried_again(client, together, status, settled):
    """The SDK comes back as often as it is set to, and says which try it is."""
    soon = {"retry-after-ms": "1"}
    together.script.fail(*[Failure.error(status, "Not now.", headers=soon)] * 2)
    together.script.say("Now.")
    answer = await settled(client.with_options(max_retries=2).chat.completions.create(**HELLO))
    assert answer.choices[0].message.content == "Now."
    tries = [request.headers["x-stainless-retry-count"] for request in together.requests]
    assert tries == ["0", "1", "2"]


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
async def test_what_cannot_pass_is_not_tried_again(client, together, status, settled, errors):
    """A request that is wrong is sent once."""
    together.script.fail(Failure.error(status, "Never."))
    with pytest.raises(errors.APIStatusError):
        await settled(client.with_options(max_retries=2).chat.completions.create(**HELLO))
    assert len(together.requests) == 1


async def test_a_slow_answer_times_out(client, together, settled, errors):
    """An answer that takes longer than the client waits is the SDK's timeout."""
    together.script.reply(Reply("late", delay=30))
    with pytest.raises(errors.APITimeoutError):
        await settled(client.with_options(timeout=0.2).chat.completions.create(**HELLO))


async def test_an_answer_that_breaks_off_is_a_connection_error(client, together, settled, errors):
    """A connection that ends within the body is no answer."""
    together.script.reply(Reply("Hello there", cut_after=0))
    with pytest.raises((errors.APIConnectionError, httpx.RemoteProtocolError)):
        await settled(client.chat.completions.create(**HELLO))


async def test_a_stream_that_breaks_off_raises_after_what_came(
    client, together, settled, pieces_of
):
    """What was sent before the break arrives, and the break is an error."""
    together.script.reply(Reply("Hello there", cut_after=2))
    stream = await settled(client.chat.completions.create(**HELLO, stream=True))
    came = []
    with pytest.raises(httpx.RemoteProtocolError):
        await pieces_of(stream, came)
    assert [chunk.choices[0].delta.content for chunk in came] == ["", "Hello"]
