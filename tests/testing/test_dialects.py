"""The ways in which models differ on the chat wire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest
import together
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_core.types import ToolCall, Usage
from aideon_testing import LoopbackTogether, Reply
from aideon_testing.engines import CACHED, TODAY, dialect_of

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT = "/v1/chat/completions"
HEADERS = {"authorization": "Bearer any"}
TOOL = {"type": "function", "function": {"name": "square_root", "parameters": {"type": "object"}}}
CALL = ToolCall("call_0123456789abcdef01234567", "square_root", '{"number": 132413}')
LLAMA = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
QWEN3 = "Qwen/Qwen3-235B-A22B-Instruct-2507-tput"
CODER = "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8"
GEMMA = "google/gemma-3-27b-it"
V4 = "deepseek-ai/DeepSeek-V4-Pro"
VISION = "meta-llama/Llama-Vision-Free"
MIXTRAL = "mistralai/Mixtral-8x7B-Instruct-v0.1"
R1 = "deepseek-ai/DeepSeek-R1"
NEXT = "Qwen/Qwen3-Next-80B-A3B-Thinking"
GLM = "zai-org/GLM-4.6"
APRIEL = "ServiceNow-AI/Apriel-1.6-15b-Thinker"
MISTRAL = "mistralai/Mistral-7B-Instruct-v0.2"
COGITO = "deepcogito/cogito-v2-1-671b"
MODELS = (
    LLAMA, QWEN3, CODER, GEMMA, V4, VISION, MIXTRAL, R1, NEXT, GLM, APRIEL, COGITO,
    "openai/gpt-oss-120b",
    "deepseek-ai/DeepSeek-V3.1",
    "Qwen/Qwen2.5-7B-Instruct-Turbo",
    "Qwen/Qwen3-235B-A22B-Thinking-2507",
    "Qwen/Qwen3-235B-A22B-fp8-tput",
    "Qwen/Qwen3-VL-32B-Instruct",
    "arcee-ai/trinity-mini",
    "essentialai/rnj-1-instruct",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct",
    "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo",
    MISTRAL,
    "mistralai/Mistral-Small-24B-Instruct-2501",
    "moonshotai/Kimi-K2-Instruct",
    "moonshotai/Kimi-K2-Thinking",
    "new/model",
)  # fmt: skip
CALLERS = [model for model in MODELS if dialect_of(model).tool_choice != "none"]


class Server:
    """A server of a model of every dialect, and clients of it."""

    def __init__(self, loopback: LoopbackTogether, http: httpx2.Client) -> None:
        url = loopback.base_url
        self.script = loopback.script
        self.http = http
        self.sdks = {
            "together": together.Together(api_key="any", base_url=url, max_retries=0),
            "openai": openai.OpenAI(api_key="any", base_url=f"{url}/v1", max_retries=0),
        }


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One for all tests here; each leaves its script empty."""
    with (
        LoopbackTogether(models=MODELS) as loopback,
        httpx2.Client(base_url=loopback.base_url, headers=HEADERS) as http,
    ):
        served = Server(loopback, http)
        yield served
        for sdk in served.sdks.values():
            sdk.close()


def ask(server: Server, model: str, **parameters: Any) -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **parameters}
    return server.http.post(CHAT, json=body)


def choice(server: Server, model: str, **parameters: Any) -> dict[str, Any]:
    return ask(server, model, **parameters).json()["choices"][0]


def stream(server: Server, model: str, **parameters: Any) -> list[dict[str, Any]]:
    *told, done = ask(server, model, stream=True, **parameters).text.split("\n\n")[:-1]
    assert done == "data: [DONE]"
    return [json.loads(frame.removeprefix("data: ")) for frame in told]


def choices(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [choice for frame in told for choice in frame["choices"]]


def text(told: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in choices(told))


def fragments(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    deltas = [choice["delta"] for choice in choices(told)]
    return [call for delta in deltas for call in delta.get("tool_calls") or ()]


# Official clients


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("sdk", ["together", "openai"])
def test_the_official_clients_read_every_dialect(server, model, sdk):
    """Text, whole and streamed, reaches a user of either SDK, whatever the model speaks."""
    client = server.sdks[sdk]
    server.script.reply(*[Reply("Hello there 🌟", reasoning="Greet.")] * 2)
    messages = [{"role": "user", "content": "Hi"}]
    asked = {"model": model, "messages": messages, "seed": 7, "logprobs": True}
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].message.content.endswith("Hello there 🌟")
    said, reasons = "", []
    for chunk in client.chat.completions.create(**asked, stream=True):
        for one in chunk.choices:
            said += one.delta.content or ""
            reasons += [one.finish_reason] if one.finish_reason else []
    assert said.endswith("Hello there 🌟")
    assert reasons == [dialect_of(model).natural_finish]


@pytest.mark.parametrize("model", CALLERS)
@pytest.mark.parametrize("sdk", ["together", "openai"])
def test_the_official_clients_read_every_tool_call(server, model, sdk):
    """Tool calls, whole and streamed, can be read by either SDK."""
    client = server.sdks[sdk]
    server.script.reply(*[Reply("Wait.", tool_calls=(CALL,))] * 2)
    messages = [{"role": "user", "content": "Hi"}]
    asked = {"model": model, "messages": messages, "tools": [TOOL]}
    whole = client.chat.completions.create(**asked).choices[0]
    (call,) = whole.message.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == (
        CALL.id,
        CALL.name,
        CALL.arguments,
    )
    assert whole.finish_reason == "tool_calls"
    reasons = [
        one.finish_reason
        for chunk in client.chat.completions.create(**asked, stream=True)
        for one in chunk.choices
        if one.finish_reason
    ]
    assert reasons[0] == "tool_calls"


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_says_what_a_whole_answer_says(server, model):
    """Whatever is scripted, the frames add up to the text of the whole answer."""

    @settings(deadline=None, max_examples=6)
    @given(said=st.text(), reasoning=st.text(), limit=st.integers(1, 20))
    def check(said: str, reasoning: str, limit: int) -> None:
        server.script.reply(*[Reply(said, reasoning=reasoning)] * 2)
        whole = choice(server, model, max_tokens=limit)
        told = stream(server, model, max_tokens=limit)
        stray = dialect_of(model).stream.before_reasoning if reasoning else ""
        assert text(told) == stray + whole["message"]["content"]
        deltas = [one["delta"] for one in choices(told)]
        streamed = "".join(delta.get("reasoning") or "" for delta in deltas)
        assert streamed == (whole["message"].get("reasoning") or "")

    check()


# Tool calls in streams


def test_llama_streams_calls_in_openais_order(server):
    """A name, then all arguments, in frames of OpenAI's order; then the engine's own finish."""
    server.script.reply(Reply(tool_calls=(CALL,), usage=Usage(9, 4)))
    opener, name, arguments, finish = stream(server, LLAMA, tools=[TOOL])
    assert list(opener) == ["id", "object", "created", "model", "choices"]
    assert opener["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert name["choices"][0]["delta"]["tool_calls"][0] == {
        "index": 0, "id": CALL.id, "type": "function",
        "function": {"name": "square_root", "arguments": ""},
    }  # fmt: skip
    assert arguments["choices"][0]["delta"]["tool_calls"] == [
        {"index": 0, "function": {"arguments": CALL.arguments}}
    ]
    assert finish["choices"][0]["finish_reason"] == "tool_calls"
    assert finish["choices"][0]["seed"] > 2**53
    assert finish["usage"]["cached_tokens"] == 0


def test_qwen3_finishes_a_call_twice_and_differently(server):
    """The call's last piece, a frame of its own and a frame with usage each finish."""
    server.script.reply(Reply(tool_calls=(CALL,)))
    told = stream(server, QWEN3, tools=[TOOL])
    reasons = [one["finish_reason"] for one in choices(told)]
    assert reasons == [None, None, "tool_calls", "tool_calls", "stop"]
    assert told[-2]["choices"][0]["matched_stop"] == 151645
    assert told[-1]["usage"]["total_tokens"] > 0
    assert "logprobs" not in told[-1]["choices"][0]


def test_a_cut_call_is_never_finished_as_a_whole_one(server):
    """The first finish reason is what clients go by, so it says that tokens ran out."""
    for model in CALLERS:
        server.script.reply(Reply(tool_calls=(CALL,)))
        told = choices(stream(server, model, tools=[TOOL], max_tokens=3))
        reasons = [one["finish_reason"] for one in told if one["finish_reason"]]
        assert reasons[0] == "length", model


def test_qwen3_coder_streams_calls_beside_the_delta(server):
    """The whole call stands in the choice, with index -1."""
    server.script.reply(Reply(tool_calls=(CALL,)))
    _, told, finish = choices(stream(server, CODER, tools=[TOOL]))
    assert told["delta"]["tool_calls"] is None
    (call,) = told["tool_calls"]
    assert call["index"] == -1
    assert call["function"] == {"name": "square_root", "arguments": CALL.arguments}
    assert finish["finish_reason"] == "tool_calls"


def test_deepseek_v4_streams_the_last_call_twice_and_cut(server):
    """The repeated call cannot be parsed; the whole answer is fine."""
    server.script.reply(*[Reply(tool_calls=(CALL,))] * 2)
    pieces = fragments(stream(server, V4, tools=[TOOL]))
    joined = [
        "".join(each["function"]["arguments"] for each in pieces if each["index"] == index)
        for index in (0, 1)
    ]
    assert joined[0] == CALL.arguments
    assert joined[1] == CALL.arguments[:-1]
    assert len({each["id"] for each in pieces if each["id"]}) == 2
    assert len(choice(server, V4, tools=[TOOL])["message"]["tool_calls"]) == 1


@pytest.mark.parametrize("model", [LLAMA, QWEN3, CODER])
def test_parallel_calls_stay_apart(server, model):
    """Two calls in one answer arrive as two, with all their arguments."""
    other = ToolCall("call_other", "now", '{"zone": "UTC"}')
    server.script.reply(Reply(tool_calls=(CALL, other)))
    told = stream(server, model, tools=[TOOL])
    beside = [call for one in choices(told) for call in one.get("tool_calls") or ()]
    pieces = fragments(told) + beside
    arguments = [each["function"]["arguments"] for each in pieces]
    assert [each for each in arguments if each] == [CALL.arguments, other.arguments]
    assert [each["id"] for each in pieces if each.get("id")] == [CALL.id, other.id]


@pytest.mark.parametrize(("model", "content"), [(LLAMA, None), (V4, "")])
def test_a_call_without_text_has_no_content_or_an_empty_one(server, model, content):
    """Clients have to take both for the same."""
    server.script.reply(Reply(tool_calls=(CALL,)))
    assert choice(server, model, tools=[TOOL])["message"]["content"] == content


# Reasoning


@pytest.mark.parametrize(
    ("model", "content"),
    [
        (R1, "<think>\nHm.\n</think>\n\nYes."),
        ("Qwen/Qwen3-235B-A22B-Thinking-2507", "Hm.\n</think>\n\nYes."),
        (V4, "Yes."),
    ],
)
def test_reasoning_comes_in_three_styles(server, model, content):
    """In tags inside the text, with only the closing tag, or in a field of its own."""
    server.script.reply(*[Reply("Yes.", reasoning="Hm.")] * 2)
    message = choice(server, model)["message"]
    assert message["content"] == text(stream(server, model)) == content
    assert message.get("reasoning") == ("Hm." if model == V4 else None)


def test_reasoning_that_is_cut_is_never_closed(server):
    """An answer that ends while the model thinks has an opening tag and no closing one."""
    server.script.reply(Reply("Yes.", reasoning="One two three"))
    assert choice(server, R1, max_tokens=2)["message"]["content"] == "<think>\nOne two"


def test_some_engines_open_the_thinking_before_the_stream(server):
    """The tag comes in a frame of another engine, with a logprob nobody asked for."""
    server.script.reply(Reply("Yes.", reasoning="Hm."))
    tag, opener, *_ = stream(server, NEXT)
    assert tag["choices"][0]["text"] == "<think>\n"
    assert tag["choices"][0]["logprobs"] == 0
    assert isinstance(tag["choices"][0]["delta"]["token_id"], int)
    assert opener["choices"][0]["delta"]["content"] == ""


def test_glm_begins_with_a_stray_newline(server):
    """A piece of text comes before the reasoning."""
    server.script.reply(Reply("Yes.", reasoning="Hm."))
    deltas = [one["delta"] for one in choices(stream(server, GLM))]
    assert [(each["content"], each["reasoning"]) for each in deltas[:3]] == [
        ("", None), ("\n", None), ("", "Hm"),
    ]  # fmt: skip


def test_a_glyph_of_several_tokens_comes_after_an_empty_frame(server):
    """The old engine sends a frame for each token, also for one that is no character yet."""
    server.script.say("Hi 🌟")
    told = choices(stream(server, R1))
    assert [one["text"] for one in told] == ["Hi", "", " 🌟", ""]
    assert all(isinstance(one["delta"]["token_id"], int) for one in told)


# Choosing a dialect


def test_a_dialect_of_ones_own_is_spoken():
    """A server can be told what a model speaks."""
    body = {"model": "a/b", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with LoopbackTogether(models=["a/b"], dialects={"a/b": CACHED}) as loopback:
        told = httpx2.post(loopback.base_url + CHAT, json=body, headers=HEADERS).text
    assert '"model":"a/b-cached"' in told


def test_an_unknown_model_speaks_as_todays_engines_do():
    """Nothing has to be known about a model to serve it."""
    assert dialect_of("some/model") is TODAY
