"""What our own client sends is what Together publishes, like that of the SDKs."""

from __future__ import annotations

import pytest

from aideon_core import AsyncClient, Client
from aideon_core.errors import AideonError
from aideon_testing import Failure

MODEL = "openai/gpt-oss-120b"
PICTURE = "data:image/png;base64,iVBORw0KGgo="
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Weather in Oslo?"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
]
REQUESTS = {
    "every number": {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 50,
        "seed": 7,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.1,
        "repetition_penalty": 1.1,
        "top_k": 40,
        "min_p": 0.05,
        "logit_bias": {1024: -10.5},
        "stop": ["###", "END"],
    },
    "no top_k": {"top_k": 0},
    "several answers": {"n": 2},
    "log probabilities": {"logprobs": True, "top_logprobs": 3},
    "a tool": {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
    "one tool": {
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
    },
    "any JSON": {"response_format": {"type": "json_object"}},
    "a schema": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
        }
    },
}


@pytest.fixture
def client(together):
    with Client(local=None, cloud=MODEL, api_key="k", base_url=together.base_url) as made:
        yield made


@pytest.mark.parametrize("params", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("messages", ["Hello?", TURNS], ids=["a prompt", "a conversation"])
def test_every_parameter_is_sent_as_published(client, params, messages):
    """Whole and streamed, each parameter and kind of turn holds to the specification."""
    assert client.chat(messages, **params).finish_reason == "stop"
    assert list(client.stream(messages, **params))


def test_pictures_are_sent_as_published(client):
    """An image part goes as it is to a model that takes it."""
    turn = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}
    assert client.chat([turn], model="moonshotai/Kimi-K2.6").text


async def test_awaited_requests_are_the_same(together):
    """The awaiting client sends what the blocking one does."""
    async with AsyncClient(
        local=None, cloud=MODEL, api_key="k", base_url=together.base_url
    ) as client:
        assert (await client.chat(TURNS, tools=[TOOL])).finish_reason == "stop"
        assert [chunk async for chunk in client.stream(TURNS)]


@pytest.mark.parametrize(
    "failure", [Failure.invalid_input(), Failure.unknown_model("x/y"), Failure.server_error()]
)
def test_errors_are_read_as_published(together, failure):
    """Each refusal that is published becomes an error of ours with its status."""
    together.script.fail(failure)
    with (
        Client(
            local=None, cloud=MODEL, api_key="k", base_url=together.base_url, max_retries=0
        ) as client,
        pytest.raises(AideonError, match=str(failure.status)),
    ):
        client.chat("Hello?")
