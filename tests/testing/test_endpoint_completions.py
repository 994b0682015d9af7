"""POST /v1/completions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx2
import openai
import pytest
import together as together_sdk

from aideon_core.types import Chunk, TokenLogprob, Usage
from aideon_testing import Failure, LoopbackTogether, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "/v1/completions"
MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
BODY = {"model": MODEL, "prompt": "Paris is"}


@pytest.fixture
def sdk(together) -> Iterator[together_sdk.Together]:
    """Together's SDK, talking to the server."""
    with together_sdk.Together(api_key="k", base_url=together.base_url, max_retries=0) as sdk:
        yield sdk


@pytest.fixture
def openai_sdk(together) -> Iterator[openai.OpenAI]:
    """OpenAI's SDK, talking to the server."""
    url = f"{together.base_url}/v1"
    with openai.OpenAI(api_key="k", base_url=url, max_retries=0) as sdk:
        yield sdk


def frames(response: httpx2.Response) -> list[dict]:
    """The frames of a stream, which must end as streams do."""
    *events, end, rest = response.text.split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_both_sdks_read_a_whole_completion(together, sdk, openai_sdk):
    """The script says what comes after the prompt."""
    together.script.say(" a city of love", " a big city")
    ours = sdk.completions.create(**BODY)
    theirs = openai_sdk.completions.create(**BODY)
    assert ours.choices[0].text == " a city of love"
    assert ours.usage.model_dump() == {
        "prompt_tokens": 2,
        "completion_tokens": 4,
        "total_tokens": 6,
    }
    assert theirs.choices[0].text == " a big city"
    assert ours.object == theirs.object == "text.completion"


def test_a_completion_has_the_wires_keys_in_the_wires_order(client):
    """The body is what the API writes, a seed of its own included."""
    response = client.post(PATH, json=BODY)
    body = response.json()
    assert response.text == json.dumps(body, indent=2)
    assert list(body) == ["id", "object", "created", "model", "prompt", "choices", "usage"]
    assert body["prompt"] == []
    assert list(body["choices"][0]) == ["text", "finish_reason", "seed", "logprobs", "index"]
    assert isinstance(body["choices"][0]["seed"], int)
    assert body["id"] == response.headers["x-request-id"]


def test_both_sdks_read_a_streamed_completion(together, sdk, openai_sdk):
    """The text comes a token at a time."""
    together.script.say("one two three", "one two three")
    ours = list(sdk.completions.create(**BODY, stream=True))
    theirs = list(openai_sdk.completions.create(**BODY, stream=True))
    assert [chunk.choices[0].text for chunk in ours] == ["one", " two", " three", ""]
    assert [chunk.token.text for chunk in ours] == ["one", " two", " three", ""]
    assert ours[-1].finish_reason == "stop"
    assert ours[-1].usage.total_tokens == 5
    assert "".join(chunk.choices[0].text for chunk in theirs) == "one two three"


def test_a_frame_has_the_specs_keys(client):
    """Every frame has a token, a choice, and a null where the end has facts."""
    first, *_, last = frames(client.post(PATH, json=BODY | {"stream": True, "seed": 7}))
    assert first["object"] == "completion.chunk"
    assert set(first["token"]) == {"id", "text", "logprob", "special"}
    assert (first["usage"], first["finish_reason"], first["seed"]) == (None, None, 7)
    assert last["usage"]["prompt_tokens"] == 2
    assert last["id"] == first["id"]


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices_are_several_answers(together, client, stream):
    """With n, the script gives one answer for each choice; the prompt counts once."""
    together.script.say("one", "two words", "three")
    response = client.post(PATH, json=BODY | {"n": 3, "stream": stream})
    texts = ["", "", ""]
    bodies = frames(response) if stream else [response.json()]
    for body in bodies:
        for choice in body["choices"]:
            texts[choice["index"]] += choice["text"]
    assert texts == ["one", "two words", "three"]
    assert bodies[-1]["usage"] == {
        "prompt_tokens": 2,
        "completion_tokens": 4,
        "total_tokens": 6,
    }


def test_an_echo_gives_the_prompt_beside_the_choices(sdk):
    """The prompt stands apart, and the text still begins after it."""
    completion = sdk.completions.create(**BODY, echo=True)
    assert [part.text for part in completion.prompt] == ["Paris is"]
    assert not completion.choices[0].text.startswith("Paris")


def test_stop_and_max_tokens_cut_the_text(together, client):
    """They apply to completions as they do to chat."""
    together.script.say("one two three", "one two three")
    cut = client.post(PATH, json=BODY | {"stop": ["three"]}).json()["choices"][0]
    short = client.post(PATH, json=BODY | {"max_tokens": 1}).json()["choices"][0]
    assert (cut["text"], cut["finish_reason"]) == ("one two ", "stop")
    assert (short["text"], short["finish_reason"]) == ("one", "length")


def test_logprobs_of_an_answerer_are_lists():
    """Tokens, their logprobs and the alternatives stand side by side."""

    class Sure:
        async def answer(self, body):
            top = (("Yes", -0.1), ("No", -2.4))
            yield Chunk(text="Yes", logprobs=(TokenLogprob("Yes", -0.1, top),))
            yield Chunk(finish_reason="stop")

    with LoopbackTogether(Sure()) as server:
        url, headers = server.base_url + PATH, {"authorization": "Bearer k"}
        body = httpx2.post(url, json=BODY | {"logprobs": 2}, headers=headers).json()
        streamed = httpx2.post(url, json=BODY | {"logprobs": 2, "stream": True}, headers=headers)
    assert body["choices"][0]["logprobs"] == {
        "token_ids": [],
        "tokens": ["Yes"],
        "token_logprobs": [-0.1],
        "top_logprobs": [{"Yes": -0.1, "No": -2.4}],
    }
    assert body["usage"] is None
    assert frames(streamed)[0]["token"]["logprob"] == -0.1


def test_scripted_answers_have_logprobs_as_well(client):
    """Every token of the text has one, when they are asked for."""
    choice = client.post(PATH, json=BODY | {"logprobs": 1}).json()["choices"][0]
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == choice["text"]
    assert len(logprobs["token_logprobs"]) == len(logprobs["tokens"])
    assert all(logprob < 0 for logprob in logprobs["token_logprobs"])


def test_a_prompt_beyond_the_context_is_refused(client):
    """Prompt and answer together must fit into the model."""
    body = {"model": "meta-llama/Meta-Llama-3.1-8B", "prompt": "word " * 16000, "max_tokens": 400}
    error = client.post(PATH, json=body).json()["error"]
    assert error["param"] == "max_tokens"
    assert "must be <= 16384" in error["message"]


def test_a_failure_in_a_stream_is_its_finish_reason():
    """Frames that are sent stay sent; the last one says that something went wrong."""

    class Tired:
        async def answer(self, _):
            yield Chunk(text="so far")
            raise Failure.unavailable()

    with LoopbackTogether(Tired()) as server:
        response = httpx2.post(
            server.base_url + PATH,
            json=BODY | {"stream": True},
            headers={"authorization": "Bearer k"},
        )
    assert [frame["finish_reason"] for frame in frames(response)] == [None, "error"]


def test_an_answerer_hears_the_prompt_as_a_message():
    """Whoever answers chats answers completions, with every parameter but the prompt's own."""
    heard = []

    class Listener:
        async def answer(self, body):
            heard.append(body)
            yield Chunk(text="ok", finish_reason="stop", usage=Usage(1, 1))

    with LoopbackTogether(Listener()) as server:
        url, headers = server.base_url + PATH, {"authorization": "Bearer k"}
        parameters = {"temperature": 0.5, "echo": True, "n": 2, "seed": 7}
        httpx2.post(url, json=BODY | parameters, headers=headers)
    messages = [{"role": "user", "content": "Paris is"}]
    asked = {"model": MODEL, "temperature": 0.5, "messages": messages}
    assert heard == [asked | {"seed": 7}, asked | {"seed": 8}]


@pytest.mark.parametrize(
    ("change", "status", "message", "param"),
    [
        ({"model": None}, 400, "Invalid request", "model"),
        ({"model": 3}, 400, "Invalid request", "model"),
        ({"prompt": None}, 400, "Invalid request", "prompt"),
        ({"prompt": ""}, 400, "Prompt cannot be empty", None),
        ({"prompt": ["a"]}, 400, "Input validation error", None),
        ({"n": 0}, 400, "Input validation error", None),
        ({"n": 129}, 400, "Input validation error", None),
        ({"n": True}, 400, "Input validation error", None),
        ({"logprobs": 21}, 400, "Input validation error", None),
        ({"logprobs": "5"}, 400, "Input validation error", None),
        ({"max_tokens": "many"}, 400, "Input validation error", None),
        ({"temperature": "hot"}, 400, "Input validation error", None),
        ({"stop": [1]}, 400, "Input validation error", None),
        ({"echo": "yes"}, 400, "Input validation error", None),
        ({"stream": 1}, 400, "Input validation error", None),
        ({"model": "openai/whisper-large-v3"}, 400, "Input validation error", None),
    ],
)
def test_what_the_api_would_refuse_is_refused(client, change, status, message, param):
    """A body that will not do gets the API's error, and no answer is used up."""
    response = client.post(PATH, json=BODY | change)
    error = response.json()["error"]
    assert (response.status_code, error["message"], error["param"]) == (status, message, param)
    assert error["type"] == "invalid_request_error"


def test_the_sdks_raise_what_they_raise_at_together(sdk, openai_sdk):
    """An unknown model is NotFoundError with the API's words, in either SDK."""
    with pytest.raises(together_sdk.NotFoundError, match="Unable to access model nobody/nothing"):
        sdk.completions.create(model="nobody/nothing", prompt="x")
    with pytest.raises(openai.NotFoundError) as caught:
        openai_sdk.completions.create(model="nobody/nothing", prompt="x")
    assert caught.value.code == "model_not_available"


@pytest.mark.parametrize("stream", [False, True])
def test_a_scripted_failure_reaches_the_sdk(together, sdk, stream):
    """Failures are scripted as for chat, and come before any frame."""
    together.script.fail(Failure.rate_limited())
    with pytest.raises(together_sdk.RateLimitError):
        sdk.completions.create(**BODY, stream=stream)


@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_answer_breaks_the_connection(together, client, stream):
    """A connection can be made to break in the middle of a completion."""
    together.script.reply(Reply("one two three", cut_after=2))
    with pytest.raises(httpx2.RemoteProtocolError):
        client.post(PATH, json=BODY | {"stream": stream})


def test_an_answerer_that_fails_in_a_stream_breaks_the_connection(caplog):
    """A bug in an answerer is logged, and never looks like the end of an answer."""

    class Buggy:
        async def answer(self, body):
            yield Chunk(text="so far")
            raise ValueError(body["model"])

    with LoopbackTogether(Buggy()) as server, pytest.raises(httpx2.RemoteProtocolError):
        httpx2.post(
            server.base_url + PATH,
            json=BODY | {"stream": True},
            headers={"authorization": "Bearer k"},
        )
    assert "middle of a stream" in caplog.text


async def test_async_sdks_stream_as_well(together):
    """The async clients read the same frames."""
    together.script.say("one two")
    async with together_sdk.AsyncTogether(api_key="k", base_url=together.base_url) as sdk:
        stream = await sdk.completions.create(**BODY, stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "one two"
