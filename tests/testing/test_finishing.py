"""How answers end and what is counted, as the engines differ in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from aideon_core.types import Usage
from aideon_testing import Failure, LoopbackTogether, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT = "/v1/chat/completions"
HEADERS = {"authorization": "Bearer any"}
TOOL = {"type": "function", "function": {"name": "square_root", "parameters": {"type": "object"}}}
LLAMA = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
QWEN3 = "Qwen/Qwen3-235B-A22B-Instruct-2507-tput"
CODER = "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8"
GEMMA = "google/gemma-3-27b-it"
V4 = "deepseek-ai/DeepSeek-V4-Pro"
VISION = "meta-llama/Llama-Vision-Free"
MIXTRAL = "mistralai/Mixtral-8x7B-Instruct-v0.1"
MISTRAL = "mistralai/Mistral-7B-Instruct-v0.2"
APRIEL = "ServiceNow-AI/Apriel-1.6-15b-Thinker"
GPT_OSS = "openai/gpt-oss-120b"
MODELS = (LLAMA, QWEN3, CODER, GEMMA, V4, VISION, MIXTRAL, MISTRAL, APRIEL, GPT_OSS)


@pytest.fixture
def server() -> Iterator[LoopbackTogether]:
    """A server of models that differ in how they end."""
    with LoopbackTogether(models=MODELS) as server:
        yield server


def ask(server: LoopbackTogether, model: str, **parameters: Any) -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **parameters}
    return httpx2.post(server.base_url + CHAT, json=body, headers=HEADERS)


def choice(server: LoopbackTogether, model: str, **parameters: Any) -> dict[str, Any]:
    return ask(server, model, **parameters).json()["choices"][0]


def stream(server: LoopbackTogether, model: str, **parameters: Any) -> list[dict[str, Any]]:
    *told, done = ask(server, model, stream=True, **parameters).text.split("\n\n")[:-1]
    assert done == "data: [DONE]"
    return [json.loads(frame.removeprefix("data: ")) for frame in told]


def error(response: httpx2.Response) -> tuple[int, object]:
    return response.status_code, response.json()["error"]["message"]


def choices(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [choice for frame in told for choice in frame["choices"]]


def text(told: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in choices(told))


def test_the_engine_of_2024_says_eos_and_does_not_indent(server):
    """Bodies are compact, ids short, and an answer that ends by itself says so."""
    server.script.say("Hello")
    response = ask(server, MIXTRAL)
    body = response.json()
    assert body["choices"][0]["finish_reason"] == "eos"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Hello"}
    assert response.text == json.dumps(body, separators=(",", ":"))
    assert response.headers["x-request-id"] == body["id"]
    assert len(body["id"]) == 16


@pytest.mark.parametrize(
    ("model", "parameters", "last"),
    [
        (LLAMA, {"max_tokens": 1}, ("One", "length")),
        (LLAMA, {}, ("", "stop")),
        (APRIEL, {"stop": ["two"]}, (" ", "stop")),
        (GEMMA, {}, (" two", "stop")),
        (V4, {"max_tokens": 1}, ("", "length")),
    ],
)
def test_the_finish_reason_may_ride_on_the_last_text(server, model, parameters, last):
    """A client must not take the finish frame for an empty one."""
    server.script.say("One two")
    finish = choices(stream(server, model, **parameters))[-1]
    assert (finish["delta"]["content"], finish["finish_reason"]) == last


def test_gemma_streams_no_usage_and_its_own_ids(server):
    """Nothing says how much was used, and the id is not the response's."""
    server.script.say("One two")
    told = stream(server, GEMMA)
    assert all("usage" not in frame for frame in told)
    assert all(frame["id"].startswith("chatcmpl-") for frame in told)
    assert told[-1]["choices"][0]["stop_reason"] == 106


def test_a_stop_string_is_named(server):
    """stop_reason is the string that ended the answer, null when the limit did."""
    server.script.say("One two", "One two")
    assert choices(stream(server, GEMMA, stop=["two"]))[-1]["stop_reason"] == "two"
    assert choices(stream(server, GEMMA, max_tokens=1))[-1]["stop_reason"] is None


def test_gemma_whole_says_no_finish_reason(server):
    """A finished answer may not say why it finished."""
    server.script.say("One")
    assert "finish_reason" not in choice(server, GEMMA)


def test_vision_counts_in_every_frame(server):
    """With tools each frame tells the usage so far."""
    server.script.say("One two three")
    told = stream(server, VISION, tools=[TOOL])
    counted = [frame["usage"]["completion_tokens"] for frame in told]
    assert counted == [1, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("model", "usage"),
    [
        (
            LLAMA,
            {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "cached_tokens": 5},
        ),
        (
            V4,
            {
                "prompt_tokens": 9, "total_tokens": 13, "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 5}, "reasoning_tokens": 1,
            },
        ),
        (QWEN3, {"prompt_tokens": 9, "total_tokens": 13, "completion_tokens": 4}),
    ],
)  # fmt: skip
def test_cached_tokens_are_told_in_three_ways(server, model, usage):
    """Flat, nested, or not at all."""
    server.script.reply(Reply("One", usage=Usage(9, 4, cached_tokens=5, reasoning_tokens=1)))
    assert ask(server, model).json()["usage"] == usage


def test_a_failure_in_a_stream_is_a_frame(server):
    """The status was 200 already, so a choice says error, and the stream ends in order."""
    server.script.reply(Reply("Half", failure=Failure.server_error()))
    told = stream(server, V4)
    assert text(told) == "Half"
    assert told[-1]["choices"][0]["finish_reason"] == "error"
    assert told[-1]["choices"][0]["error"] == "[object Object]"
    assert "usage" not in told[-1]


def test_a_failure_of_a_whole_answer_is_its_status(server):
    """What breaks before the status is sent is an error like any other."""
    server.script.reply(Reply("Half", failure=Failure.server_error()))
    assert error(ask(server, V4)) == (500, "Internal server error")


# Logprobs


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        (GPT_OSS, ["content"]),
        (CODER, ["tokens", "token_logprobs", "token_ids"]),
        (MISTRAL, ["token_ids", "tokens", "token_logprobs", "top_logprobs"]),
    ],
)
def test_logprobs_of_a_whole_answer_come_in_three_forms(server, model, keys):
    """OpenAI's list of tokens, or parallel lists with or without the alternatives."""
    server.script.say("Hi there")
    logprobs = choice(server, model, logprobs=2)["logprobs"]
    assert list(logprobs) == keys
    tokens = [each["token"] for each in logprobs.get("content", ())] or logprobs["tokens"]
    assert tokens[:2] == ["Hi", " there"]
    assert all(len(top) == 2 for top in logprobs.get("top_logprobs", ()))


def test_the_old_engine_streams_a_bare_logprob(server):
    """A number, with the alternatives beside it, also for the token that ends the answer."""
    server.script.say("Hi")
    said, end = choices(stream(server, MISTRAL, logprobs=2))
    assert said["logprobs"] == said["top_logprobs"]["Hi"] < 0
    assert len(said["top_logprobs"]) == 2
    assert end["logprobs"] < 0
    assert end["text"] == ""


def test_vllm_tells_the_logprobs_of_thoughts(server):
    """Other engines keep those to themselves."""
    server.script.reply(*[Reply("Yes", reasoning="Hm")] * 2)
    told = [one["logprobs"] for one in choices(stream(server, APRIEL, logprobs=1))]
    assert [each and each["tokens"] for each in told] == [None, ["Hm"], ["Yes"], ["</s>"]]
    told = [one["logprobs"] for one in choices(stream(server, V4, logprobs=1))]
    assert [each and each["tokens"] for each in told] == [None, None, ["Yes"], None]


def test_limits_may_be_fractions(server):
    """One request in six seconds is a limit of a sixth, and a successful answer tells it."""
    headers = ask(server, VISION).headers
    assert headers["x-ratelimit-limit"] == "0.1666666667"
    assert headers["x-ratelimit-reset"] == headers["retry-after"] == "6"
    assert headers["x-ratelimit-remaining"] == "0"
