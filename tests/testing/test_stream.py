"""Streamed answers of POST /v1/chat/completions."""

from __future__ import annotations

import json

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_core.types import ToolCall
from aideon_testing import Failure, LoopbackTogether, Reply

CHAT = "/v1/chat/completions"
BODY = {
    "model": "openai/gpt-oss-120b",
    "messages": [{"role": "user", "content": "Say hello."}],
    "stream": True,
}
HEADERS = {"authorization": "Bearer any"}


def frames_of(text: str) -> list[dict]:
    """The JSON frames of a finished stream."""
    *frames, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def stream(server: LoopbackTogether, **parameters) -> list[dict]:
    response = httpx2.post(server.base_url + CHAT, json=BODY | parameters, headers=HEADERS)
    return frames_of(response.text)


def test_frames_come_in_the_order_of_todays_engines(together):
    """Opener, reasoning, content, finish, usage without choices, done."""
    together.script.reply(Reply("Hello there", reasoning="Greet back"))
    opener, *middle, finish, usage = stream(together)
    assert "usage" not in opener
    assert opener["choices"][0]["delta"] == {
        "token_id": None, "role": "assistant", "content": "", "reasoning": None,
    }  # fmt: skip
    deltas = [frame["choices"][0]["delta"] for frame in middle]
    assert [(delta["reasoning"], delta["content"]) for delta in deltas] == [
        ("Greet", ""), (" back", ""), (None, "Hello"), (None, " there"),
    ]  # fmt: skip
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert finish["usage"] is None
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 4


def test_a_stream_is_announced_as_one(together, client):
    """Content type and cache control are those of the wire, and the id is in the headers."""
    response = client.post(CHAT, json=BODY)
    assert response.headers["content-type"] == "text/event-stream;charset=utf-8"
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["transfer-encoding"] == "chunked"
    assert {frame["id"] for frame in frames_of(response.text)} == {response.headers["x-request-id"]}


def test_every_frame_repeats_role_and_text(together):
    """Each frame says the role, and says its content a second time as text."""
    together.script.say("Hello there, friend.")
    choices = [frame["choices"][0] for frame in stream(together)[:-1]]
    assert {choice["delta"]["role"] for choice in choices} == {"assistant"}
    assert all(choice["text"] == choice["delta"]["content"] for choice in choices)


def test_a_tool_call_is_streamed_in_fragments(together):
    """The first fragment names the call; the others continue it with explicit nulls."""
    calls = (ToolCall("call_1", "add", '{"a": 1}'), ToolCall("call_2", "now", "{}"))
    together.script.reply(Reply(tool_calls=calls))
    frames = stream(together)
    deltas = [frame["choices"][0]["delta"] for frame in frames[1:-2]]
    fragments = [delta["tool_calls"][0] for delta in deltas]
    assert fragments[0] == {
        "id": "call_1", "index": 0, "type": "function",
        "function": {"name": "add", "arguments": ""},
    }  # fmt: skip
    assert fragments[1]["id"] is fragments[1]["function"]["name"] is None
    assert list(deltas[0]) == ["token_id", "role", "content", "tool_calls", "reasoning"]
    joined = [
        "".join(f["function"]["arguments"] for f in fragments if f["index"] == i) for i in (0, 1)
    ]
    assert joined == ['{"a": 1}', "{}"]
    assert frames[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_truncated_stream_finishes_with_length(together):
    """max_tokens ends a stream as it ends a whole answer."""
    together.script.say("One two three")
    frames = stream(together, max_tokens=2)
    assert _content(frames) == "One two"
    assert frames[-2]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("cut_after", [0, 1, 3, 5])
def test_a_cut_stream_ends_after_that_many_frames(together, cut_after):
    """The client gets exactly the frames before the break, then a protocol error."""
    together.script.reply(Reply("Hello there", cut_after=cut_after))
    received = ""

    def read() -> None:
        nonlocal received
        with httpx2.stream("POST", together.base_url + CHAT, json=BODY, headers=HEADERS) as answer:
            for text in answer.iter_text():
                received += text

    with pytest.raises(httpx2.RemoteProtocolError):
        read()
    assert received.count("data: ") == cut_after
    assert "[DONE]" not in received


def test_a_client_that_leaves_early_disturbs_nobody(together):
    """Closing a stream unread leaves the server ready for the next request."""
    together.script.say("word " * 5000)
    with httpx2.stream("POST", together.base_url + CHAT, json=BODY, headers=HEADERS) as answer:
        next(answer.iter_raw())
    together.script.say("Still here.")
    assert _content(stream(together)) == "Still here."


def test_any_text_arrives_as_it_was_scripted():
    """The deltas of a stream add up to the text, whatever its characters."""
    with LoopbackTogether() as server, httpx2.Client(base_url=server.base_url) as client:

        @settings(deadline=None, max_examples=60)
        @given(text=st.text(), reasoning=st.text())
        def check(text: str, reasoning: str) -> None:
            server.script.reply(Reply(text, reasoning=reasoning))
            frames = frames_of(client.post(CHAT, json=BODY, headers=HEADERS).text)
            deltas = [frame["choices"][0]["delta"] for frame in frames[:-1]]
            assert "".join(delta["content"] for delta in deltas) == text
            assert "".join(delta["reasoning"] or "" for delta in deltas) == reasoning

        check()


def test_half_a_character_pair_is_escaped(together):
    """Text that is no valid Unicode arrives as the JSON escape a JavaScript server sends."""
    together.script.say("\ud83d")
    assert _content(stream(together)) == "\ud83d"


def test_choices_take_turns_in_a_stream(together):
    """Each choice has its own opener and finish; one frame counts for all of them."""
    together.script.say("one two", "three")
    *frames, usage = stream(together, n=2)
    choices = [frame["choices"][0] for frame in frames]
    assert [(choice["index"], choice["text"]) for choice in choices] == [
        (0, ""), (1, ""), (0, "one"), (1, "three"), (0, " two"), (1, ""), (0, ""),
    ]  # fmt: skip
    finishes = [choice["index"] for choice in choices if choice["finish_reason"]]
    assert finishes == [1, 0]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 3


def test_logprobs_are_streamed_as_parallel_lists(together):
    """Each frame of text tells its tokens; reasoning, opener and finish tell none."""
    together.script.reply(Reply("Hello there", reasoning="Hm"))
    choices = [frame["choices"][0] for frame in stream(together, logprobs=2)[:-1]]
    told = [choice["logprobs"] for choice in choices]
    assert [each and each["tokens"] for each in told] == [None, None, ["Hello"], [" there"], None]
    assert list(told[2]) == ["tokens", "token_logprobs", "token_ids", "top_logprobs"]
    assert told[2]["token_ids"] == [None]
    assert [len(each) for each in told[2]["top_logprobs"]] == [2]


def test_a_failure_of_any_choice_before_a_word_is_an_answer_of_its_own(together, client):
    """Nothing is streamed when one of the choices cannot begin."""
    together.script.say("one")
    together.script.fail(Failure.unavailable())
    assert client.post(CHAT, json=BODY | {"n": 2}).status_code == 503


def _content(frames: list[dict]) -> str:
    return "".join(frame["choices"][0]["delta"]["content"] for frame in frames[:-1])
