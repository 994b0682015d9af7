"""Reading a chat body as a request for the local engine."""

from __future__ import annotations

import pytest

from aideon_core.types import Message, Request, ToolCall
from aideon_testing import Failure
from aideon_testing.gguf import request_of


def test_everything_a_client_may_send_reaches_the_engine():
    """Messages, sampling, tools and formats arrive under the names of the core."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    parts = [{"type": "text", "text": "Hi"}]
    call = {"id": "c", "index": 0, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = {
        "model": "any",
        "messages": [
            {"role": "user", "content": parts},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "1", "tool_call_id": "c"},
        ],
        "temperature": 0,
        "max_tokens": 5,
        "stop": "x",
        "seed": 1,
        "tools": [tool],
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
    }
    assert request_of(body) == Request(
        messages=(
            Message("user", tuple(parts)),
            Message("assistant", tool_calls=(ToolCall("c", "f", "{}"),)),
            Message("tool", "1", tool_call_id="c"),
        ),
        temperature=0,
        max_tokens=5,
        stop=("x",),
        seed=1,
        tools=(tool,),
        tool_choice="auto",
        response_format={"type": "json_object"},
    )


@pytest.mark.parametrize("message", [{"content": "no role"}, {"role": "user", "tool_calls": [{}]}])
def test_a_message_of_another_shape_is_a_400(message):
    """What cannot be read is refused as the API refuses it."""
    with pytest.raises(Failure, match="messages"):
        request_of({"messages": [message]})


@pytest.mark.parametrize(
    ("asked", "alternatives"),
    [({"logprobs": 3}, 3), ({"logprobs": True, "top_logprobs": 3}, 3), ({"logprobs": 0}, 0)],
)
def test_logprobs_are_read_in_both_ways(asked, alternatives):
    """Together's number and OpenAI's boolean ask the engine for the same."""
    request = request_of({"messages": [{"role": "user", "content": "Hi"}], **asked})
    assert (request.logprobs, request.top_logprobs) == (True, alternatives)


@pytest.mark.parametrize("kind", ["json_schema", "json_object"])
def test_a_schema_of_the_older_shape_reaches_the_engine(kind):
    """Together also takes a schema one level higher than OpenAI does."""
    schema = {"type": "object"}
    body = {
        "messages": [{"role": "user", "content": "Hi"}],
        "response_format": {"type": kind, "schema": schema},
    }
    wanted = request_of(body).response_format
    assert wanted["type"] == "json_schema"
    assert wanted["json_schema"]["schema"] == schema
