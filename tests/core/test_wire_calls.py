"""Tool calls as engines send them, whole and in pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_core.backends import wire
from aideon_core.errors import ServerError
from aideon_core.types import Completion, ToolCall

NOT_GIVEN = object()


def piece(name=None, arguments=None, *, id=None, index=NOT_GIVEN):  # noqa: A002 - the wire's word
    function = {"name": name, "arguments": arguments}
    call = {"id": id, "type": "function", "function": function}
    return call if index is NOT_GIVEN else call | {"index": index}


def streamed(*frames, place="delta", key="tool_calls"):
    """The calls in a stream; each frame is a list of pieces."""
    reader = wire.FrameReader()
    chunks = []
    for calls in frames:
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}}
        (choice["delta"] if place == "delta" else choice)[key] = calls
        chunks.append(reader.read(json.dumps({"choices": [choice]})))
    chunks.append(reader.read("[DONE]"))
    return Completion.from_chunks(chunk for chunk in chunks if chunk is not None).tool_calls


def whole(calls, key="tool_calls"):
    message = {"content": None, key: calls}
    return wire.completion_of({"choices": [{"message": message}]}).tool_calls


ONE = (ToolCall("c1", "f", '{"n": 1}'),)
TWO = (*ONE, ToolCall("c2", "g", "{}"))


def test_pieces_with_null_ids_and_names_continue_a_call():
    """Ids and names that are null, repeated or left out do not begin another call."""
    for renewed in (
        piece(arguments="1}", index=0),
        piece(arguments="1}", index=0, id=""),
        piece("", "1}", index=0),
        piece(arguments="1}", index=0, id="c1"),
        piece("f", "1}", index=0, id="c1"),
        piece(arguments="1}", index=0, id="another"),
        {"index": 0, "function": {"arguments": "1}"}},
    ):
        assert (
            streamed(
                [piece("f", "", id="c1", index=0)], [piece(arguments='{"n": ', index=0)], [renewed]
            )
            == ONE
        )


def test_calls_in_parallel_are_told_apart_by_index():
    """Two calls may come mixed, each piece with the index of its call."""
    assert streamed(
        [piece("f", '{"n"', id="c1", index=0), piece("g", "{", id="c2", index=1)],
        [piece(arguments="}", index=1), piece(arguments=": 1}", index=0)],
    ) == TWO  # fmt: skip


@pytest.mark.parametrize("index", [-1, None, NOT_GIVEN, "x", 0.5])
@pytest.mark.parametrize("place", ["delta", "choice"])
def test_calls_without_a_number_are_told_apart_by_their_ids(index, place):
    """Two ids at the index -1, or at none, are two calls; a piece without one is of the last."""
    assert streamed(
        [piece("f", '{"n"', id="c1", index=index)],
        [piece(None, ": 1}", index=index)],
        [piece("g", "{", id="c2", index=index)],
        [piece(None, "}", id="c2", index=index)],
        place=place,
    ) == TWO  # fmt: skip
    assert streamed(
        [piece("f", '{"n": 1}', id="c1", index=index), piece("g", "{}", id="c2", index=index)],
        place=place,
    ) == TWO  # fmt: skip


def test_calls_beside_the_message_are_calls():
    """An engine that puts the calls of a whole answer into the choice is understood."""
    choice = {
        "message": {"content": "", "tool_calls": []},
        "tool_calls": [piece("f", '{"n": 1}', id="c1")],
    }
    assert wire.completion_of({"choices": [choice]}).tool_calls == ONE


def test_calls_without_number_or_id_are_told_apart_by_their_names():
    """Where nothing else tells, a name begins a call and arguments continue one."""
    calls = streamed([piece("f", '{"n": 1}'), piece("g", "{")], [piece(None, "}")])
    assert [(call.name, call.arguments) for call in calls] == [("f", '{"n": 1}'), ("g", "{}")]


def test_two_named_calls_at_one_index_are_two():
    """A new id with a name at an index already used is another call."""
    first, second = piece("f", '{"n": 1}', id="c1", index=0), piece("g", "{}", id="c2", index=0)
    assert streamed([first, second]) == TWO
    assert streamed([first], [second]) == TWO


def test_one_id_at_two_indexes_is_two_calls():
    """The index counts where an engine gives two calls one id."""
    calls = streamed([piece("f", "{}", id="c", index=0), piece("f", "{}", id="c", index=1)])
    assert calls == (ToolCall("c", "f", "{}"),) * 2
    assert whole([piece("f", "{}", id="c")] * 2) == calls


def test_calls_are_numbered_from_zero_on():
    """An engine that begins to count at 3 leaves no gap."""
    reader = wire.FrameReader()
    delta = {"tool_calls": [piece("f", "{}", id="c1", index=3)]}
    chunk = reader.read(json.dumps({"choices": [{"delta": delta}]}))
    assert [call.index for call in chunk.tool_calls] == [0]


def test_arguments_as_an_object_are_written_out():
    """Arguments that come parsed are the JSON text they stand for."""
    call = piece("f", {"n": 1, "s": "é"}, id="c1", index=0)
    wanted = (ToolCall("c1", "f", '{"n": 1, "s": "é"}'),)
    assert whole([call]) == wanted
    assert streamed([call]) == wanted
    assert whole([piece("f", None, id="c1")]) == (ToolCall("c1", "f", ""),)


def test_the_old_function_call_is_a_call():
    """The form from before tools is read, whole and in pieces."""
    assert whole({"name": "f", "arguments": "{}"}, "function_call") == (ToolCall("", "f", "{}"),)
    pieces = [{"name": "f", "arguments": ""}, {"arguments": "{"}, {"arguments": "}"}]
    assert streamed(*pieces, key="function_call") == (ToolCall("", "f", "{}"),)


@pytest.mark.parametrize("calls", [None, [], {}, "x", [None], [{}], [{"function": None}], [[]]])
def test_calls_with_nothing_in_them_are_none(calls):
    """An empty or senseless list of calls is no call."""
    assert whole(calls) == ()
    assert streamed(calls) == ()


def test_arguments_nested_beyond_reason_are_refused():
    """An object nested without end is ServerError, not a crash."""
    deep: dict = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(ServerError):
        whole([piece("f", deep)])


SPLIT = st.lists(st.text(max_size=4), min_size=1, max_size=4)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(SPLIT, max_size=4), st.sampled_from(["index", "id", "minus one"]), st.data())
def test_calls_arrive_whole_however_they_are_cut(texts, told_by, data):
    """Calls cut into pieces are the calls that were cut, by index or by id."""
    wanted = tuple(
        ToolCall(f"c{number}", f"f{number}", "".join(text)) for number, text in enumerate(texts)
    )
    frames = []
    for number, text in enumerate(texts):
        index = {"index": number, "id": None, "minus one": -1}[told_by]
        frames.append([piece(f"f{number}", "", id=f"c{number}", index=index)])
        # By index, a piece needs nothing else; else it is of the last call, or says whose.
        frames += [[piece(None, part, index=index)] for part in text]
    if told_by == "index":
        begun = [frame for frame in frames if frame[0]["id"]]
        frames = begun + [
            each
            for number in data.draw(st.permutations(range(len(texts))))
            for each in frames
            if not each[0]["id"] and each[0]["index"] == number
        ]
    assert streamed(*frames) == wanted


@pytest.mark.parametrize(
    ("arguments", "is_whole"),
    [
        ("{}", True),
        ('{"a": "line\nbreak"}', True),
        ("", True),
        (" \n", True),
        ('{"number": 132', False),
        ("{}{}", False),
        ("[1]", False),
        ('"x"', False),
        ("null", False),
        ("nonsense", False),
        ('{"a":' * 100_000, False),
    ],
)
def test_a_call_that_was_cut_off_is_seen(arguments, is_whole):
    """Arguments that are no JSON object make an answer unfit for use; none at all do not."""
    calls = (ToolCall("c1", "f", "{}"), ToolCall("c2", "f", arguments))
    assert wire.calls_are_whole(Completion(tool_calls=calls)) is is_whole
    assert wire.calls_are_whole(Completion())


def test_the_family_that_corrupts_its_streams_is_known():
    """Only the models seen to send corrupt calls are held back."""
    assert wire.streams_corrupt_calls("deepseek-ai/DeepSeek-V4-Pro")
    assert not wire.streams_corrupt_calls("deepseek-ai/DeepSeek-V3.1")
    assert not wire.streams_corrupt_calls("openai/gpt-oss-20b")
