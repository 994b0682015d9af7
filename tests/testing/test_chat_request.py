"""What chat refuses, warns of and ignores before a model says anything."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from aideon_testing import LoopbackTogether, Reply
from aideon_testing.engines import DEDICATED, TODAY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aideon_testing.dialects import Dialect

CHAT = "/v1/chat/completions"
HEADERS = {"authorization": "Bearer any"}
TOOL = {"type": "function", "function": {"name": "square_root", "parameters": {"type": "object"}}}
QWEN3 = "Qwen/Qwen3-235B-A22B-Instruct-2507-tput"
CODER = "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8"
GEMMA = "google/gemma-3-27b-it"
V4 = "deepseek-ai/DeepSeek-V4-Pro"
APRIEL = "ServiceNow-AI/Apriel-1.6-15b-Thinker"
COGITO = "deepcogito/cogito-v2-1-671b"
GPT_OSS = "openai/gpt-oss-120b"
MODELS = (QWEN3, CODER, GEMMA, V4, APRIEL, COGITO, GPT_OSS)


@pytest.fixture
def server() -> Iterator[LoopbackTogether]:
    """A server of models that differ in what they take."""
    with LoopbackTogether(models=MODELS) as server:
        yield server


def ask(server: LoopbackTogether, model: str, **parameters: Any) -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **parameters}
    return httpx2.post(server.base_url + CHAT, json=body, headers=HEADERS)


def answer(dialect: Dialect, **parameters: Any) -> httpx2.Response:
    """What a server answers for a model of that dialect."""
    with LoopbackTogether(models=["any/model"], dialects={"any/model": dialect}) as server:
        return ask(server, "any/model", **parameters)


def error(response: httpx2.Response) -> tuple[int, object]:
    return response.status_code, response.json()["error"]["message"]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_a_tool_choice_that_is_not_followed_is_warned_of(server, choice):
    """The answer is a 200 with warnings, in a stream on its last frame."""
    warnings = [{"message": "Model supports only tool_choice auto"}]
    server.script.say("No.", "No.", "No.")
    assert ask(server, CODER, tools=[TOOL], tool_choice=choice).json()["warnings"] == warnings
    streamed = ask(server, CODER, tools=[TOOL], tool_choice=choice, stream=True).text
    *others, last = [
        json.loads(line.removeprefix("data: ")) for line in streamed.split("\n\n")[:-2]
    ]
    assert last["warnings"] == warnings
    assert not any("warnings" in frame for frame in others)
    assert "warnings" not in ask(server, CODER, tools=[TOOL]).json()


def test_scripted_warnings_are_sent(server):
    """A test can have the API warn of anything, once however often it is said."""
    server.script.reply(Reply("No.", warnings=("Odd", "Odd")))
    assert ask(server, V4).json()["warnings"] == [{"message": "Odd"}]


IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}
VIDEO = {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "data:,"}}]}
STRICT = {"type": "function", "function": {"name": "f", "parameters": {"$schema": "x"}}}
AUTO = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
XGRAMMAR = "The provided JSON schema contains features not supported by xgrammar."
INVALID = "Input validation error"


@pytest.mark.parametrize(
    ("model", "parameters", "message"),
    [
        (COGITO, {"tools": [TOOL]}, AUTO),
        (GEMMA, {"tools": [TOOL], "tool_choice": "auto"}, AUTO),
        (GEMMA, {"tools": [STRICT], "tool_choice": "required"}, XGRAMMAR),
        (GEMMA, {"messages": [VIDEO]}, "Unknown video model type: gemma3"),
        (APRIEL, {"messages": [IMAGE]}, f"{APRIEL} is not a multimodal model None"),
        (QWEN3, {"messages": [IMAGE]}, INVALID),
        (V4, {"n": 0}, INVALID),
        (V4, {"n": 129}, INVALID),
        (V4, {"n": True}, INVALID),
        (V4, {"logprobs": 21}, INVALID),
        (V4, {"stop": 1}, INVALID),
        (V4, {"tools": "f"}, INVALID),
        (V4, {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, INVALID),
        (V4, {"response_format": {"type": "yaml"}}, INVALID),
        (V4, {"response_format": {"type": "json_schema"}}, INVALID),
        (V4, {"response_format": {"type": "regex"}}, INVALID),
        (V4, {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, INVALID),
    ],
)
def test_what_a_model_cannot_do_is_a_400(server, model, parameters, message):
    """The script is left alone, and the message is the API's own."""
    assert error(ask(server, model, **parameters)) == (400, message)
    assert len(server.script) == 0


WRONG = [
    *({name: "hot"} for name in ("temperature", "top_p", "min_p", "presence_penalty")),
    *({"temperature": value} for value in (True, [], math.nan, math.inf)),
    *({name: "yes"} for name in ("stream", "echo", "seed", "top_k", "logit_bias")),
    *({"seed": value} for value in (1.5, math.nan, {}, [1])),
    *({"stream": value} for value in (1, {})),
    *({"max_tokens": value} for value in (-1, 1.0, "5", True)),
    *({"logit_bias": {"5": value}} for value in ("1", True, [], math.nan)),
    {"stop": [1]},
    {"context_length_exceeded_behavior": "ignore"},
    {"prompt": "x", "n": 0},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_chat_and_completions_refuse_alike(server, path, wrong):
    """A parameter of the wrong kind is a 400 wherever it is sent, and costs no answer."""
    server.script.say("Kept.")
    body = {"model": V4, "messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi"} | wrong
    content = json.dumps(body).encode()
    response = httpx2.post(server.base_url + path, content=content, headers=HEADERS)
    assert error(response) == (400, INVALID)
    assert len(server.script) == 1


CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TEXT = {"type": "text", "text": "Hi"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:,"}}


@pytest.mark.parametrize(
    "message",
    [
        {},
        "Hi",
        {"content": "Hi"},
        {"role": 3, "content": "Hi"},
        {"role": "wizard", "content": "Hi"},
        {"role": "user"},
        {"role": "user", "content": {"text": "Hi"}},
        {"role": "user", "content": ["Hi"]},
        {"role": "user", "content": [TEXT, {"type": ["text"]}]},
        {"role": "user", "content": [{"type": "text"}]},
        {"role": "user", "content": [{"type": "image_url"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": "x"}]},
        {"role": "tool", "content": "Rain."},
        {"role": "tool", "content": "Rain.", "tool_call_id": 3},
        {"role": "assistant", "tool_calls": "x"},
        {"role": "assistant", "tool_calls": [{}]},
        {"role": "assistant", "tool_calls": [CALL, {"id": "b", "function": {"name": "f"}}]},
        {"role": "assistant", "tool_calls": [CALL | {"id": 5}]},
    ],
    ids=str,
)
def test_what_is_no_message_is_a_400(server, message):
    """One message that is none is enough, wherever it stands."""
    right = {"role": "user", "content": "Hi"}
    assert error(ask(server, V4, messages=[right, message, right])) == (400, INVALID)


@pytest.mark.parametrize(
    "message",
    [
        *({"role": role, "content": "Hi"} for role in ("system", "developer", "function")),
        {"role": "user", "content": [TEXT, PICTURE], "name": "me", "tool_calls": None},
        {"role": "assistant", "content": None, "tool_calls": [CALL | {"index": 0}]},
        {"role": "assistant", "content": [TEXT], "reasoning": "So."},
        {"role": "assistant"},
        {"role": "tool", "content": "Rain.", "tool_call_id": "a"},
    ],
    ids=str,
)
def test_every_message_that_clients_send_is_taken(server, message):
    """All roles, parts and calls that are documented or on record, OpenAI's developer too."""
    asked = [message, {"role": "user", "content": "Hi"}]
    assert ask(server, V4, messages=asked).status_code == 200


def test_a_conversation_has_to_be_there(server):
    """A request without messages says which parameter is missing."""
    response = ask(server, V4, messages=None)
    assert error(response) == (400, "Invalid request")
    assert response.json()["error"]["param"] == "messages"


@pytest.mark.parametrize(
    "wrong",
    [
        *({"tools": tools} for tools in ({}, "f", [{}], ["f"], [TOOL, {"type": "function"}])),
        {"tools": [{"type": "web_search", "function": {"name": "f"}}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": "x"}}]},
        *({"tools": [TOOL], "tool_choice": choice} for choice in (5, ["a"], "bogus", {})),
        *({name: "x"} for name in ("reasoning", "chat_template_kwargs")),
        {"reasoning_effort": 3},
    ],
    ids=str,
)
def test_what_are_no_tools_is_a_400(server, wrong):
    """Tools are functions with names, and a choice is a known word or one of the names."""
    assert error(ask(server, V4, **wrong)) == (400, INVALID)


@pytest.mark.parametrize(
    "choice",
    [None, "auto", "none", "required", "square_root", {"function": {"name": "square_root"}}],
    ids=str,
)
def test_every_tool_choice_of_the_api_is_taken(server, choice):
    """Words, a tool's name, and OpenAI's object with or without its type."""
    assert ask(server, V4, tools=[TOOL], tool_choice=choice).status_code == 200


def test_gemma_refuses_a_number_of_logprobs(server):
    """One model wants OpenAI's boolean; its engine's complaint is the message."""
    status, message = error(ask(server, GEMMA, logprobs=2))
    assert status == 400
    assert message.startswith("[{'type': 'bool_parsing', 'loc': ('body', 'logprobs')")
    assert ask(server, GEMMA, logprobs=True).status_code == 200


@pytest.mark.parametrize("model", [GPT_OSS, V4])
def test_some_models_ignore_images(server, model):
    """They answer as if nothing had been there."""
    assert ask(server, model, messages=[IMAGE]).status_code == 200


@pytest.mark.parametrize(
    ("media", "status", "kind"),
    [("nested", 400, dict), ("refused", 400, str), ("failed", 500, str), ("invalid", 400, str)],
)
def test_media_are_refused_in_four_ways(media, status, kind):
    """One of them has an object where the others have the message."""
    response = answer(replace(TODAY, media=media), messages=[IMAGE])
    assert response.status_code == status
    assert type(response.json()["error"]["message"]) is kind


def test_a_model_without_an_engine_is_a_400():
    """A model that needs a dedicated endpoint is told apart from one that does not exist."""
    status, message = error(answer(DEDICATED))
    assert status == 400
    assert message.startswith("Unable to access non-serverless model any/model.")


@pytest.mark.parametrize(
    ("path", "asked"), [(CHAT, {}), ("/v1/completions", {"prompt": "Hi"})], ids=["chat", "text"]
)
def test_a_model_that_is_listed_is_served(path, asked):
    """A model known to need an endpoint is refused, until a server is given it by name."""
    model = "Qwen/Qwen2.5-14B-Instruct"
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **asked}
    with LoopbackTogether() as usual, LoopbackTogether(models=[model]) as own:
        refused, served = (
            httpx2.post(server.base_url + path, json=body, headers=HEADERS)
            for server in (usual, own)
        )
    assert served.status_code == 200
    status, message = error(refused)
    assert status == 400
    assert message.startswith(f"Unable to access non-serverless model {model}.")
