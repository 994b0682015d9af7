"""Thinking: in a field, between tags, or before a closing tag alone."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aideon_core.backends import wire
from aideon_core.types import Completion, Message, Request

PLAIN = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
OPENED = "Qwen/Qwen3-235B-A22B-Thinking-2507"
ASK = Request((Message("user", "Hi"),))
JSON_FORM = Request((Message("user", "Hi"),), response_format={"type": "json_object"})
TEXT_FORM = Request((Message("user", "Hi"),), response_format={"type": "text"})


def whole(content, model=PLAIN, request=ASK, **message):
    answer = wire.completion_of(
        {"choices": [{"message": {"content": content} | message}]}, model=model, request=request
    )
    return answer.text, answer.reasoning


def streamed(pieces, model=PLAIN, request=ASK, *, end="[DONE]"):
    reader = wire.FrameReader(model, request)
    chunks = [
        reader.read(json.dumps({"choices": [{"index": 0, "delta": {"content": piece}}]}))
        for piece in pieces
    ]
    if end:
        chunks.append(reader.read(end))
    chunks.append(reader.close())
    answer = Completion.from_chunks(chunk for chunk in chunks if chunk is not None)
    return answer.text, answer.reasoning


@pytest.mark.parametrize(
    ("content", "text", "reasoning"),
    [
        ("<think>\nwhy\n</think>\n\nHello", "Hello", "why"),
        ("<think>why</think>Hello", "Hello", "why"),
        (" \n<think>why</think>\r\n\r\nHello\n", "Hello\n", "why"),
        ("<think>\n\n</think>\n\n    x = 1", "    x = 1", ""),
        ("<think>a\n\nb</think>c", "c", "a\n\nb"),
        ("<think>a</think><think>b</think>c", "<think>b</think>c", "a"),
        ("<think>\ncut off he", "", "cut off he"),
        ("<think>cut in the tag</thi", "", "cut in the tag</thi"),
        ("<think>", "", ""),
        ("<thi", "<thi", ""),
        ("<thinking>is another tag", "<thinking>is another tag", ""),
        ("a < b", "a < b", ""),
        ("Use <think>x</think> tags", "Use <think>x</think> tags", ""),
        ("```\n<think>\nx\n</think>\n```", "```\n<think>\nx\n</think>\n```", ""),
        ("\n  ", "\n  ", ""),
        ("", "", ""),
    ],
)
def test_thinking_between_tags_is_told_from_the_answer(content, text, reasoning):
    """Tags at the beginning enclose thinking; anywhere else they are text, as they were sent."""
    assert whole(content) == (text, reasoning)
    assert streamed([content]) == (text, reasoning)
    assert streamed(content) == (text, reasoning)


@pytest.mark.parametrize(
    ("content", "text", "reasoning"),
    [
        ("Okay.\n</think>\n\nHello", "Hello", "Okay."),
        ("\nOkay.</think>Hello", "Hello", "Okay."),
        ("<think>\nOkay.\n</think>\n\nHello", "Hello", "Okay."),
        ("The tag is `</think>`", "`", "The tag is `"),
        ("Okay, the user", "", "Okay, the user"),
        ("Okay, the </thi", "", "Okay, the </thi"),
        ("</think>\nHello", "Hello", ""),
        ("", "", ""),
    ],
)
def test_a_model_that_begins_inside_a_thought_thinks_up_to_the_tag(content, text, reasoning):
    """Where the template opens the thought, all is thinking up to the tag, or to the cut."""
    for model in (OPENED, "Qwen/Qwen3-4B-Thinking-2507-FP8", "arcee-ai/maestro-reasoning"):
        assert whole(content, model) == (text, reasoning)
        assert streamed(content, model) == (text, reasoning)
        assert streamed([content], model, TEXT_FORM) == (text, reasoning)


def test_a_required_form_leaves_no_room_for_thinking():
    """An answer bound to a form is an answer, also from a model that else begins thinking."""
    content = '{"is_fruit": true}'
    assert whole(content, OPENED, JSON_FORM) == (content, "")
    assert streamed(content, OPENED, JSON_FORM) == (content, "")


def test_the_model_in_the_answer_tells_where_none_was_given():
    """Whether thinking comes first is known from the answer's own model too."""
    body = {"model": OPENED, "choices": [{"message": {"content": "Hm.</think>Hi"}}]}
    assert wire.completion_of(body).text == "Hi"
    body["choices"][0]["delta"] = body["choices"][0].pop("message")
    reader = wire.FrameReader()
    chunk = reader.read(json.dumps(body))
    assert (chunk.text, chunk.reasoning) == ("Hi", "Hm.")


def test_a_closing_tag_alone_closes_the_thought_of_a_whole_answer():
    """A whole answer of an unknown model is split at a closing tag that is not talked about."""
    assert whole("Hm.\n</think>\n\nHello") == ("Hello", "Hm.")
    assert whole("Hm.</think>Hello") == ("Hello", "Hm.")
    for prose in (
        "Close it with `</think>` then.",
        "It ends in </think> always.",
        'The tag "</think>" ends it.',
        "```\nx\n</think>\ny\n```",
        "The last word is </think>",
        "<b><think>a</think>\nb",
    ):
        assert whole(prose) == (prose, "")
        assert streamed(prose) == (prose, "")


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_thinking_in_a_field_is_read(name):
    """Both names of the field are known; the text beside it is left alone."""
    assert whole("Hi", **{name: "why"}) == ("Hi", "why")
    assert whole("Hi", OPENED, **{name: "why"}) == ("Hi", "why")
    reader = wire.FrameReader(OPENED, ASK)
    thought = reader.read(json.dumps({"choices": [{"delta": {"content": "", name: "why"}}]}))
    answer = reader.read(json.dumps({"choices": [{"delta": {"content": "Hi", name: None}}]}))
    assert (thought.reasoning, thought.text) == ("why", "")
    assert (answer.reasoning, answer.text) == ("", "Hi")


def test_thinking_in_details_is_read_once():
    """Details of the thinking count where nothing else tells it."""
    details = [
        {"type": "reasoning.text", "text": "a"},
        {"type": "reasoning.summary", "summary": "b"},
    ]
    assert whole("Hi", reasoning_details=details) == ("Hi", "ab")
    assert whole("Hi", reasoning="ab", reasoning_details=details) == ("Hi", "ab")
    reader = wire.FrameReader()
    chunk = reader.read(json.dumps({"choices": [{"delta": {"reasoning_details": details}}]}))
    assert chunk.reasoning == "ab"


PIECES = st.lists(
    st.sampled_from(
        [
            "<think>",
            "</think>",
            "<",
            "</",
            "think",
            ">",
            "\n",
            "\r\n",
            " ",
            "a",
            "Hello",
            "```",
            "é",
        ]
    ),
    max_size=12,
)


@settings(deadline=None)  # the machine may be busy
@given(PIECES, st.sampled_from([PLAIN, OPENED]), st.sampled_from([ASK, JSON_FORM]), st.data())
@example(["a", "\n", "</think>"], OPENED, ASK, None)
def test_where_a_stream_is_cut_changes_nothing(parts, model, request, data):
    """Any text means the same in one piece as cut at any characters."""
    content = "".join(parts)
    cuts = data.draw(st.sets(st.integers(0, len(content)))) if data else range(len(content))
    edges = [0, *sorted(cuts), len(content)]
    pieces = [content[start:end] for start, end in itertools.pairwise(edges)]
    assert streamed(pieces, model, request) == streamed([content], model, request)


@settings(deadline=None)  # the machine may be busy
@given(PIECES, st.sampled_from([PLAIN, OPENED]), st.sampled_from([ASK, JSON_FORM]))
def test_whole_and_streamed_answers_agree(parts, model, request):
    """Whole or streamed, an answer is the same, but for a closing tag nobody can foresee."""
    content = "".join(parts)
    told = whole(content, model, request)
    if told != streamed(content, model, request):
        assert "</think>" in content
        assert not content.lstrip().startswith("<think>")
        assert model == PLAIN or request is JSON_FORM


@settings(deadline=None)  # the machine may be busy
@given(PIECES)
def test_no_word_of_a_plain_model_is_taken_for_thinking(parts):
    """Text that does not begin with the tag is passed on in full, to the last character."""
    content = "".join(parts)
    if not content.lstrip().startswith("<think>"):
        assert streamed(content) == (content, "")


@settings(deadline=None)  # the machine may be busy
@given(PIECES, st.sampled_from([PLAIN, OPENED]))
def test_nothing_is_lost_when_a_stream_breaks_off(parts, model):
    """Every character but a pair of tags and the line ends beside them arrives at any end."""
    content = "".join(parts)
    without_opening = content.lstrip().removeprefix("<think>")
    possible = {
        "".join(each.split())
        for sent in (content, without_opening)
        for each in (sent, sent.replace("</think>", "", 1))
    }
    for end in ("", "[DONE]", '{"choices": [{"delta": {}, "finish_reason": "length"}]}'):
        text, reasoning = streamed(content, model, end=end)
        assert "".join((reasoning + text).split()) in possible


def test_held_back_text_comes_with_the_reason_for_the_end():
    """What might have become a tag is passed on with the frame that ends the answer."""
    reader = wire.FrameReader(PLAIN)
    held = reader.read('{"choices": [{"delta": {"content": "<thi"}}]}')
    assert held.text == ""
    last = reader.read('{"choices": [{"delta": {"content": "s"}, "finish_reason": "length"}]}')
    assert last.text == "<this"
    reader = wire.FrameReader(PLAIN)
    reader.read('{"choices": [{"delta": {"content": "<thi"}}]}')
    last = reader.read('{"choices": [{"delta": {}, "finish_reason": "length"}]}')
    assert (last.text, last.finish_reason) == ("<thi", "length")
    assert reader.close() is None
