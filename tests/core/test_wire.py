"""The chat wire as pure functions: requests out, answers and frames in."""

from __future__ import annotations

import json

import pytest

from aideon_core.backends import wire
from aideon_core.errors import ServerError
from aideon_core.types import Chunk, Completion, Message, Request, ToolCall, Usage

ASK = Request((Message("user", "Hi"),))


def whole(message=None, *, body=None, **choice):
    """A whole answer, read."""
    answer = {"choices": [{"message": {"content": "x"} if message is None else message} | choice]}
    return wire.completion_of(answer | (body or {}))


def folded(*frames, reader=None):
    """Frames, read as a stream that then ends."""
    reader = reader or wire.FrameReader()
    chunks = [reader.read(json.dumps(frame)) for frame in frames]
    chunks += [reader.read("[DONE]"), reader.close()]
    return Completion.from_chunks(chunk for chunk in chunks if chunk is not None)


def frame(delta=None, *, body=None, **choice):
    return {"choices": [{"delta": delta or {}} | choice]} | (body or {})


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
    ("asked", "together", "openai"),
    [
        ({}, {}, {}),
        ({"logprobs": True}, {"logprobs": 1}, {"logprobs": True}),
        (
            {"logprobs": True, "top_logprobs": 0},
            {"logprobs": 1},
            {"logprobs": True, "top_logprobs": 0},
        ),
        (
            {"logprobs": True, "top_logprobs": 5},
            {"logprobs": 5},
            {"logprobs": True, "top_logprobs": 5},
        ),
        ({"top_logprobs": 3}, {"logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"logprobs": False, "top_logprobs": 3}, {}, {}),
    ],
)
def test_log_probabilities_are_asked_for_in_each_dialect(asked, together, openai):
    """Together takes a number of alternatives, other servers a flag and a number."""
    request = Request((Message("user", "Hi"),), **asked)
    for dialect, wanted in ((wire.TOGETHER, together), (wire.OPENAI, openai)):
        body = wire.chat_body(request, "m", stream=False, dialect=dialect)
        assert {key: body[key] for key in body if "logprobs" in key} == wanted


def test_a_dialect_names_the_limit_and_says_whether_usage_is_asked_for():
    """A server that differs gets the parameters it knows."""
    dialect = wire.RequestDialect(max_tokens="max_completion_tokens", stream_options=False)
    request = Request((Message("user", "Hi"),), max_tokens=7)
    body = wire.chat_body(request, "m", stream=True, dialect=dialect)
    assert body["max_completion_tokens"] == 7
    assert "max_tokens" not in body
    assert "stream_options" not in body
    assert wire.chat_body(request, "m", stream=True)["max_tokens"] == 7


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
        ({"prompt_tokens": 3, "prompt_cache_hit_tokens": 2}, Usage(3, 0, 2)),
        ({"prompt_tokens": 3.0, "completion_tokens": 2.0}, Usage(3, 2)),
        ({"prompt_tokens": 3, "completion_tokens": 2.5}, Usage(3, 0)),
        ({"prompt_tokens": True}, None),
        ({"prompt_tokens": -1}, None),
        ({"prompt_tokens": float("inf")}, None),
        (None, None),
        ({}, None),
        ("3", None),
    ],
)
def test_usage_is_read_in_every_shape(usage, wanted):
    """Cached and reasoning tokens are found flat or nested; no usage is None, not zero."""
    assert wire.usage_of(usage) == wanted


@pytest.mark.parametrize("place", ["body", "choice", "x_groq"])
def test_usage_is_found_wherever_a_server_puts_it(place):
    """Token counts may be in the body, in the choice, or in a field of the vendor's own."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    body = {"body": {"usage": usage}, "choice": {}, "x_groq": {"x_groq": {"usage": usage}}}[place]
    choice = {"usage": usage} if place == "choice" else {}
    assert whole(body=body, **choice).usage == Usage(3, 2)
    assert folded(frame({"content": "x"}, body=body, **choice)).usage == Usage(3, 2)
    assert not whole(body=body, **choice).extra


def test_the_last_usage_of_a_stream_counts():
    """A server that counts on every frame has counted everything on the last."""
    frames = [
        frame({"content": "x"}, body={"usage": {"prompt_tokens": 3, "completion_tokens": n}})
        for n in (1, 2)
    ]
    last = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}
    assert folded(*frames).usage == Usage(3, 2)
    assert folded(*frames, last).usage == Usage(3, 5)


@pytest.mark.parametrize(
    ("reason", "wanted", "extra"),
    [
        ("stop", "stop", {}),
        ("eos", "stop", {}),
        ("length", "length", {}),
        ("tool_calls", "tool_calls", {}),
        ("function_call", "tool_calls", {}),
        ("content_filter", "content_filter", {}),
        ("weary", "stop", {"finish_reason": "weary"}),
        (7, "stop", {"finish_reason": 7}),
        (None, "stop", {}),
        ("", "stop", {}),
    ],
)
def test_every_reason_for_an_end_is_one_of_ours(reason, wanted, extra):
    """An old name is translated, an unknown one is a stop and is kept as it was sent."""
    for read in (
        whole(finish_reason=reason),
        folded(frame({"content": "x"}), frame(finish_reason=reason)),
    ):
        assert read.finish_reason == wanted
        assert read.extra == extra


def test_an_answer_with_calls_and_no_reason_ended_for_them():
    """Where a server leaves the reason out, tool calls are one."""
    call = {"tool_calls": [{"id": "c", "index": 0, "function": {"name": "f", "arguments": "{}"}}]}
    assert whole(call).finish_reason == "tool_calls"
    assert folded(frame(call)).finish_reason == "tool_calls"
    assert whole(call, finish_reason="stop").finish_reason == "stop"


def test_the_first_of_two_reasons_counts():
    """A second, different reason for the end of a stream is passed over."""
    reader = wire.FrameReader()
    reader.read(json.dumps(frame({"content": "x"}, finish_reason="tool_calls")))
    assert reader.finished
    assert reader.read(json.dumps(frame(finish_reason="stop"))).finish_reason is None


def test_the_models_own_words_after_the_reason_are_kept():
    """Text that follows a finish reason still belongs to the answer."""
    answer = folded(frame({"content": "a"}, finish_reason="stop"), frame({"content": "b"}))
    assert answer.text == "ab"


def test_an_error_inside_a_good_stream_is_an_error():
    """A frame that reports an error under HTTP 200 is ServerError, not an empty answer."""
    for reported in (
        {"choices": [{"index": 0, "text": "", "error": "boom", "finish_reason": "error"}]},
        {"choices": [{"index": 0, "delta": {}, "error": {"message": "boom"}}]},
        {"error": {"message": "boom", "code": 429}},
        {"error": "boom", "choices": []},
        {"object": "error", "message": "boom", "type": "BadRequestError", "code": 400},
        {"detail": "boom"},
    ):
        with pytest.raises(ServerError, match="reported an error: boom"):
            wire.FrameReader().read(json.dumps(reported))


@pytest.mark.parametrize("data", ['{"error": {"message": "boom"}}', '"boom"', "boom"])
def test_an_event_named_error_is_an_error(data):
    """An event that goes by the name of error is one, whatever is in it."""
    with pytest.raises(ServerError, match="boom"):
        wire.FrameReader().read(data, event="error")


@pytest.mark.parametrize("data", ["{", "[1]", "null", '"x"', "oops", "[" * 100_000])
def test_a_frame_that_is_no_object_is_an_error(data):
    """What cannot be read is ServerError, so that another side can answer."""
    with pytest.raises(ServerError):
        wire.FrameReader().read(data)


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": None}]},
        {"choices": [{"finish_reason": "stop"}]},
        {"choices": []},
        {"choices": "x"},
        {"error": {"message": "overloaded"}},
        {"error": "overloaded", "choices": [{"message": {"content": "x"}}]},
        {"choices": [{"message": {"content": ""}, "finish_reason": "error"}]},
        {"detail": [{"loc": ["body"], "msg": "wrong", "type": "t"}]},
        [],
        None,
        "text",
    ],
)
def test_a_body_without_a_message_is_no_answer(body):
    """A 200 with nothing said in it is ServerError, so that another side can answer."""
    with pytest.raises(ServerError, match="not a chat completion"):
        wire.completion_of(body)


def test_an_error_in_a_good_body_tells_its_text():
    """The message of an error under HTTP 200 reaches the caller."""
    with pytest.raises(ServerError, match="overloaded"):
        wire.completion_of({"error": {"message": "overloaded"}})


def test_a_stream_that_says_nothing_is_not_finished():
    """[DONE] alone is no answer; after some text it is the end."""
    reader = wire.FrameReader()
    assert reader.read("[DONE]") is None
    assert not reader.finished
    reader = wire.FrameReader()
    reader.read('{"choices": [{"delta": {"content": "x"}}]}')
    assert reader.read("") is None
    assert reader.read(" \n") is None
    assert reader.read("[DONE]") == Chunk(finish_reason="stop")
    assert reader.finished
    assert reader.close() is None


def test_the_first_of_several_choices_is_the_answer():
    """Of n answers, the one at index 0 is ours, wherever it stands and however they mix."""
    other, ours = ({"index": n, "message": {"content": text}} for n, text in ((1, "b"), (0, "a")))
    assert wire.completion_of({"choices": [other, ours]}).text == "a"
    deltas = [{"index": n, "delta": {"content": text}} for n, text in ((1, "b"), (0, "a"))]
    assert folded({"choices": deltas}, *({"choices": [each]} for each in deltas)).text == "aa"
    ended = {"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]}
    reader = wire.FrameReader()
    reader.read(json.dumps(ended))
    assert not reader.finished


def test_text_beside_the_delta_is_not_said_twice():
    """The duplicate of the content in a choice is passed over."""
    assert folded(frame({"content": "a"}, text="a"), frame({"content": "b"}, text="b")).text == "ab"


def test_content_in_parts_is_joined():
    """Content that comes as a list of parts is their text."""
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    assert whole({"content": parts}).text == "ab"
    assert folded(frame({"content": parts})).text == "ab"


def test_a_server_that_does_not_stream_is_read_all_the_same():
    """A whole message in one event is the answer; one that repeats a stream is not."""
    message = {"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]}
    assert folded(message).text == "x"
    assert folded(frame({"content": "x"}), message).text == "x"


def test_warnings_are_the_providers_own_words_once():
    """What the provider did not follow is told, once, whole or streamed."""
    warnings = {"warnings": [{"message": "Model supports only auto"}, "and", {"code": 3}]}
    words = ("Model supports only auto", "and")
    assert whole(body=warnings).warnings == words
    assert folded(*[frame({"content": "x"}, body=warnings)] * 3).warnings == words


def test_fields_without_a_name_are_kept_by_their_path():
    """What this version does not know is kept, from every level, whole and streamed alike."""
    extra = {
        "timings": {"ms": 3},
        "choice.mood": "good",
        "message.refusal": "I will not.",
        "usage.energy": 0,
    }
    body = {"timings": {"ms": 3}, "usage": {"prompt_tokens": 1, "energy": 0}, "nothing": None}
    message = {"content": "x", "refusal": "I will not.", "audio": None, "annotations": []}
    assert whole(message, body=body, mood="good").extra == extra
    frames = [
        frame({"content": "x", "refusal": "I will"}, body=body, mood="good"),
        frame({"refusal": " not."}, mood="better", body={"timings": {"ms": 4}}),
    ]
    assert folded(*frames).extra == extra


def test_fields_without_a_name_cannot_grow_without_bound():
    """However many and deep they are, what is kept is small enough to be shown and copied."""
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    body = {f"field{number}": number for number in range(10_000)} | {"deep": deep}
    assert 0 < len(whole(body=body).extra) < 100
    assert whole(body={"deep": deep, "wide": [0] * 100_000, "flat": 1}).extra == {"flat": 1}


def test_half_a_character_is_no_text():
    """An escape that is only half of a character is read as a replacement, not passed on."""
    content = wire.FrameReader().read(
        r'{"choices":[{"delta":{"content":"a\ud83d, \ud83d\ude00"}}]}'
    )
    assert content.text == "a�, 😀"
    body = wire.parsed(rb'{"choices":[{"message":{"content":"\uD83D"}}]}')
    assert wire.completion_of(body).text == "�"


def test_a_body_with_a_broken_character_is_read():
    """One byte that is no UTF-8 does not cost the answer; a byte order mark does not either."""
    body = b'\xef\xbb\xbf{"choices":[{"message":{"content":"caf\xe9"}}]}'
    assert wire.completion_of(wire.parsed(body)).text == "caf�"


def test_a_body_that_is_not_json_is_an_error_that_shows_it():
    """The beginning of an unreadable body is in the message."""
    with pytest.raises(ServerError, match="error code: 521"):
        wire.parsed(b"error code: 521")
