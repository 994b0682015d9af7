"""The values: folding a stream, explaining a route."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from aideon_core.types import Chunk, Completion, Message, ToolCall, ToolCallDelta, Usage

TEXTS = st.text(max_size=40)


def cut(text, places):
    marks = sorted({min(place, len(text)) for place in places} | {0, len(text)})
    return [text[a:b] for a, b in pairwise(marks)]


@given(TEXTS, TEXTS, st.lists(st.tuples(TEXTS, TEXTS), max_size=3), st.lists(st.integers(0, 40)))
def test_a_stream_cut_anywhere_folds_into_the_same_answer(text, reasoning, calls, places):
    """However an answer is cut into chunks, from_chunks gives the answer."""
    wanted = Completion(
        text=text,
        reasoning=reasoning,
        tool_calls=tuple(ToolCall(f"c{i}", f"f{n}", a) for i, (n, a) in enumerate(calls)),
        finish_reason="stop",
        usage=Usage(1, 2),
        model="m",
        id="1",
    )
    chunks = [Chunk(reasoning=piece) for piece in cut(reasoning, places)]
    chunks += [Chunk(text=piece) for piece in cut(text, places)]
    for index, call in enumerate(wanted.tool_calls):
        chunks.append(Chunk(tool_calls=(ToolCallDelta(index, call.id, call.name),)))
        chunks += [
            Chunk(tool_calls=(ToolCallDelta(index, arguments=piece),))
            for piece in cut(call.arguments, places)
        ]
    chunks.append(Chunk(finish_reason="stop", usage=Usage(1, 2), model="m", id="1"))
    assert Completion.from_chunks(chunks) == wanted


def test_the_first_finish_reason_is_the_true_one():
    """An engine that sends tool_calls and then stop has called tools."""
    chunks = [Chunk(finish_reason="tool_calls"), Chunk(finish_reason="stop")]
    assert Completion.from_chunks(chunks).finish_reason == "tool_calls"


def test_nothing_folds_into_an_empty_answer():
    """No chunks, no text, and nothing is made up: usage and cost stay unknown."""
    assert Completion.from_chunks([]) == Completion(text="", usage=None, cost=None)


def test_the_text_of_a_message_leaves_images_out():
    """Message.text joins the text parts and skips the rest."""
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    parts = ({"type": "text", "text": "a"}, image, {"type": "text", "text": "b"})
    assert Message("user", parts).text == "ab"


def test_usages_add_up_count_by_count():
    """The sum of two usages has every count of both."""
    assert Usage(1, 2, 3, 4) + Usage(10, 20, 30, 40) == Usage(11, 22, 33, 44)
