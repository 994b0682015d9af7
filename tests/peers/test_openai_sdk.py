"""What only OpenAI's own SDK has, as far as Together answers it, sync and async."""

from __future__ import annotations

import json

import openai
import pytest
from pydantic import BaseModel

from aideon_core.types import ToolCall
from aideon_testing import Failure, Reply

MODEL = "openai/gpt-oss-20b"
HELLO = {"model": MODEL, "messages": [{"role": "user", "content": "Who, as JSON?"}]}
ADA = {"name": "Ada", "age": 36}


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


@pytest.fixture(params=[openai.OpenAI, openai.AsyncOpenAI], ids=lambda kind: kind.__name__)
async def client(request, together, settled):
    """The SDK pointed at the server; nothing is tried again."""
    url = f"{together.base_url}/v1"
    client = request.param(api_key="loopback", base_url=url, max_retries=0)
    yield client
    await settled(client.close())


async def test_an_answer_is_parsed_into_a_class(client, together, settled):
    """Parse asks for the class's schema, strictly, and gives an object of the class."""
    together.script.say(json.dumps(ADA))
    answer = await settled(client.chat.completions.parse(**HELLO, response_format=Person))
    assert answer.choices[0].message.parsed == Person(**ADA)
    asked = together.requests[-1].body["response_format"]["json_schema"]
    assert (asked["name"], asked["strict"]) == ("Person", True)


async def test_a_tool_call_is_parsed_into_a_class(client, together, settled):
    """Parse reads the arguments of a call into the class that the tool is made of."""
    together.script.call("Person", **ADA)
    tool = openai.pydantic_function_tool(Person)
    answer = await settled(client.chat.completions.parse(**HELLO, tools=[tool]))
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.parsed_arguments == Person(**ADA)


async def test_the_stream_helper_tells_events(client, together):
    """The helper's events and its final answer are those of the stream."""
    calls = (ToolCall("", "Person", json.dumps(ADA)),)
    together.script.reply(Reply("Somebody.", tool_calls=calls))
    tool = openai.pydantic_function_tool(Person)
    if isinstance(client, openai.AsyncOpenAI):
        async with client.chat.completions.stream(**HELLO, tools=[tool]) as stream:
            events = [event async for event in stream]
            final = await stream.get_final_completion()
    else:
        with client.chat.completions.stream(**HELLO, tools=[tool]) as stream:
            events = list(stream)
            final = stream.get_final_completion()
    assert "".join(e.delta for e in events if e.type == "content.delta") == "Somebody."
    (done,) = (e for e in events if e.type == "tool_calls.function.arguments.done")
    assert json.loads(done.arguments) == ADA
    message = final.choices[0].message
    assert message.content == "Somebody."
    assert message.tool_calls[0].function.parsed_arguments == Person(**ADA)
    assert final.usage.completion_tokens


async def test_embeddings_are_numbers_although_base64_is_asked_for(client, together, settled):
    """The SDK asks for base64 unless told otherwise, and reads the numbers that come."""
    model = "intfloat/multilingual-e5-large-instruct"
    answer = await settled(client.embeddings.create(model=model, input=["one", "two"]))
    assert together.requests[-1].body["encoding_format"] == "base64"
    assert {len(row.embedding) for row in answer.data} == {1024}
    assert all(isinstance(number, float) for number in answer.data[0].embedding)


async def test_pictures_come_as_addresses_or_as_base64(client, settled):
    """images.generate gives one of the two, as asked."""
    asked = {"model": "black-forest-labs/FLUX.1-schnell", "prompt": "A cat."}
    linked = await settled(client.images.generate(**asked))
    assert linked.data[0].url.startswith("http://127.0.0.1:")
    inline = await settled(
        client.images.generate(**asked, extra_body={"response_format": "base64"})
    )
    assert inline.data[0].b64_json


async def test_speech_and_transcription(client, together, settled):
    """Text becomes sound, and the sound that is sent back becomes what is scripted."""
    speech = await settled(
        client.audio.speech.create(
            model="hexgrad/Kokoro-82M", input="Hello.", voice="af_alloy", response_format="wav"
        )
    )
    together.script.say("Hello.")
    heard = await settled(
        client.audio.transcriptions.create(
            model="openai/whisper-large-v3", file=("hello.wav", speech.content)
        )
    )
    assert heard.text == "Hello."


async def test_the_list_of_models_is_no_page(client, settled, pieces_of):
    """Together's list is a bare array, on which OpenAI's SDK fails as it does at Together."""
    with pytest.raises(AttributeError, match="_set_private_attributes"):
        await pieces_of(client.models.list())
    raw = await settled(client.models.with_raw_response.list())
    assert MODEL in {row["id"] for row in json.loads(raw.text)}


async def test_raw_responses_carry_the_wire_headers(client, together, settled):
    """The request id and the limits are in the headers, success or not."""
    together.script.say("Hello.")
    raw = await settled(client.chat.completions.with_raw_response.create(**HELLO))
    assert raw.headers["x-request-id"] == raw.parse().id
    assert raw.headers["x-ratelimit"] == "false"
    together.script.fail(Failure.rate_limited(retry_after=0.01))
    with pytest.raises(openai.RateLimitError) as caught:
        await settled(client.chat.completions.create(**HELLO))
    assert caught.value.response.headers["x-ratelimit"] == "true"
    assert caught.value.request_id == caught.value.response.json()["id"]


async def test_a_completion_goes_on_from_the_prompt(client, together, settled, pieces_of):
    """Whole and streamed completions give the text."""
    together.script.say(*[" a city of love"] * 2)
    asked = {"model": MODEL, "prompt": "Paris is"}
    answer = await settled(client.completions.create(**asked))
    assert answer.choices[0].text == " a city of love"
    chunks = await pieces_of(await settled(client.completions.create(**asked, stream=True)))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == " a city of love"
