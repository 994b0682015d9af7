"""The wire format as pure functions, on the shapes the service was seen to send."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideon_core.backends import wire
from aideon_core.errors import ServerError
from aideon_core.types import Completion, Message, Request, ToolCall, Usage

RECORDINGS = Path(__file__).parents[3] / "shared" / "together" / "recordings"
BODY = re.compile(r"^ +(data: \{.*?)(?=^ {6,8}\w+:|\Z)", re.MULTILINE | re.DOTALL)
ASK = Request((Message("user", "Hi"),))


def test_parameters_not_given_are_not_sent():
    """The body has the model, the messages and what the caller set, nothing else."""
    assert wire.chat_body(ASK, "m", stream=False) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_a_conversation_with_tools_keeps_its_shape():
    """Tool calls and tool results are sent as OpenAI's API defines them."""
    turns = (
        Message("assistant", "", tool_calls=(ToolCall("c1", "now", '{"zone": "UTC"}'),)),
        Message("tool", "noon", tool_call_id="c1"),
    )
    tool = {"type": "function", "function": {"name": "now"}}
    body = wire.chat_body(
        Request(turns, tools=(tool,), tool_choice="auto", stop=("END",)), "m", stream=True
    )
    assert body["messages"] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "now", "arguments": '{"zone": "UTC"}'},
                }
            ],
        },
        {"role": "tool", "content": "noon", "tool_call_id": "c1"},
    ]
    assert body["tools"] == [tool]
    assert body["tool_choice"] == "auto"
    assert body["stop"] == ["END"]
    assert body["stream"] is True


@pytest.mark.parametrize(
    ("usage", "wanted"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, Usage(3, 2)),
        ({"prompt_tokens": 3, "completion_tokens": 2, "cached_tokens": 1}, Usage(3, 2, 1)),
        (
            {
                "prompt_tokens": 3,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            Usage(3, 2, 1, 2),
        ),
        (
            {
                "prompt_tokens": 3,
                "completion_tokens": 2,
                "prompt_tokens_details": None,
                "reasoning_tokens": 1,
            },
            Usage(3, 2, 0, 1),
        ),
        (None, None),
        ({}, None),
    ],
)
def test_usage_is_read_in_every_shape(usage, wanted):
    """Cached and reasoning tokens are found flat or nested; no usage is None, not zero."""
    assert wire.usage_of(usage) == wanted


def test_the_old_engines_eos_is_a_stop():
    """finish_reason "eos" means the model stopped."""
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "eos"}]}
    assert wire.completion_of(body).finish_reason == "stop"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": {"message": "flat"}}, "flat"),
        ({"error": {"message": {"message": "nested", "code": 400}}}, "nested"),
        ({"error": "a string"}, "a string"),
        ("error code: 521", "error code: 521"),
        ({"message": "no error key"}, "no error key"),
    ],
)
def test_an_error_message_is_found_in_every_shape(body, text):
    """Object, nested object, string and plain text errors all give their message."""
    assert wire.error_text(body) == text


def test_an_error_inside_a_good_stream_is_an_error():
    """A frame that reports an error under HTTP 200 is ServerError, not an empty answer."""
    frame = {"choices": [{"index": 0, "text": "", "error": "boom", "finish_reason": "error"}]}
    with pytest.raises(ServerError, match="boom"):
        wire.FrameReader().read(json.dumps(frame))


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": None}]},
        {"choices": [{"finish_reason": "stop"}]},
        {"choices": []},
        {"error": {"message": "overloaded"}},
        [],
    ],
)
def test_a_body_without_a_message_is_no_answer(body):
    """A 200 with nothing said in it is ServerError, so that another side can answer."""
    with pytest.raises(ServerError):
        wire.completion_of(body)


def test_a_stream_that_says_nothing_is_not_finished():
    """[DONE] alone is no answer; after some text it is the end."""
    reader = wire.FrameReader()
    assert reader.read("[DONE]") is None
    assert not reader.finished
    reader = wire.FrameReader()
    reader.read('{"choices": [{"delta": {"content": "x"}}]}')
    assert reader.read("") is None
    assert reader.read("[DONE]").finish_reason == "stop"
    assert reader.finished


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "delta",
                    "content",
                    "tool_calls",
                    "function",
                    "usage",
                    "error",
                    "prompt_tokens",
                    "finish_reason",
                    "index",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_whatever_the_server_sends_is_read_or_refused(body):
    """Any JSON is an answer or a ServerError; nothing else comes out of the parser."""
    with suppress(ServerError):
        assert isinstance(wire.completion_of(body), Completion)
    with suppress(ServerError):
        wire.FrameReader().read(json.dumps(body))


@pytest.mark.skipif(not RECORDINGS.exists(), reason="the shared recordings are not here")
def test_recorded_streams_and_answers_are_read():
    """Every recorded chat body and stream parses, and streams finish."""
    streams = 0
    for path in sorted((RECORDINGS / "maruel-genai").rglob("*.yaml")):
        text = path.read_text()
        if "/chat/completions" not in text:
            continue
        for frames in BODY.findall(text):
            lines = [line.strip() for line in frames.splitlines()]
            data = [line[6:] for line in lines if line.startswith("data: {")]
            if not all(line.endswith("}") for line in data):
                continue  # folded by the YAML writer: read by the replay tests instead
            reader = wire.FrameReader()
            try:
                chunks = [reader.read(each) for each in data]
            except ServerError as error:
                assert "reported an error" in str(error)
                continue
            assert reader.finished, path
            assert Completion.from_chunks(chunks).model
            streams += 1
    assert streams > 50
