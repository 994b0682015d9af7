"""Calls that a model writes as text, as the stream that a server would send."""
# ruff: noqa: RUF001 - DeepSeek's tokens have a wide bar

from __future__ import annotations

import itertools
import json
import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aideon_core import Chunk, Completion, ToolCall
from aideon_core.errors import BadRequest
from aideon_core.tools.reading import read_calls
from aideon_core.tools.streaming import CallStream, new_call_id
from aideon_core.types import ToolCallDelta

TOOLS = {
    "f": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    "get_weather": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = '{"name": "f", "arguments": {"a": 1}}'


def stream(**params):
    ids = itertools.count()
    return CallStream(TOOLS, new_id=lambda: f"id{next(ids)}", **params)


def streamed(pieces, **params):
    """All chunks of a text that comes in these pieces, and the machine."""
    machine = stream(**params)
    chunks = [chunk for piece in pieces for chunk in machine.feed(piece)]
    return [*chunks, *machine.finish()], machine


def joined(chunks):
    completion = Completion.from_chunks(chunks)
    return completion.text, [(call.name, call.arguments) for call in completion.tool_calls]


def is_whole(call):
    try:
        return isinstance(json.loads(call.arguments), dict)
    except ValueError:
        return False


HEADS = [
    ("<tool_call>\n", "}\n</tool_call>", "}"),
    ("", "}", "}"),
    ("[", "}]", "}"),
    ("```json\n", "}\n```", "}"),
    ("[TOOL_CALLS] [", "}]", "}"),
    ('{"type": "function", "function": ', "}}", "}}"),
    ('{"tool_calls": [', "}]}", "}"),
    ('[{"id": "x", "type": "function", "function": ', "}}]", "}}"),
]
NAMED = [
    ("[TOOL_CALLS]get_weather[ARGS]", ""),
    ("[TOOL_CALLS]get_weather[CALL_ID]x[ARGS]", ""),
    ("<function=get_weather>", "</function>"),
    ("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>", "<｜tool▁call▁end｜>"),
]
WAYS = [
    *((f'{before}{{"name": "get_weather", "arguments":', *rest) for before, *rest in HEADS),
    *((before, after, "") for before, after in NAMED),
]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
ARGUMENTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=3)


@pytest.mark.parametrize(("before", "after", "closing"), WAYS)
@given(arguments=ARGUMENTS, ascii_only=st.booleans(), indent=st.none() | st.just(2))
@settings(max_examples=25)
def test_arguments_stream_while_they_are_written(
    before, after, closing, arguments, ascii_only, indent
):
    """Letter by letter, JSON arguments come as they are, and no later than they can."""
    written = json.dumps(arguments, ensure_ascii=ascii_only, indent=indent)
    machine = stream()
    assert not any(machine.feed(letter) for letter in before + " ")
    assert machine.feed("{") == ()
    assert machine.arguments_begin == "get_weather"
    assert machine.arguments_began_with == "{"
    assert machine.closing == closing
    chunks = [chunk for letter in written[1:-1] for chunk in machine.feed(letter)]
    assert machine.calls == ()
    if arguments:
        assert machine.arguments_begin is None
        assert re.sub(r"\s", "", joined(chunks)[1][0][1])[:2] == '{"'
    chunks += machine.feed("}")
    assert [json.loads(call.arguments) for call in machine.calls] == [arguments]
    assert joined(chunks) == ("", [("get_weather", machine.calls[0].arguments)])
    chunks += [chunk for letter in after for chunk in machine.feed(letter)]
    chunks += machine.finish()
    assert joined(chunks) == ("", [("get_weather", machine.calls[0].arguments)])
    assert all(delta.index == 0 for chunk in chunks for delta in chunk.tool_calls)


def test_a_stream_looks_as_a_server_s():
    """The id and the name come first and once, the arguments in fragments, calls numbered."""
    pieces = ["Sure.", "\n<tool_call>\n", '{"name": "f", "arguments":', ' {"', "a", '": ', "12"]
    pieces += ["}", "}\n</tool_call>\n<tool_call>\n", CALL, "</tool_call>"]
    chunks, machine = streamed(pieces)
    assert chunks == [
        Chunk(text="Sure."),
        Chunk(tool_calls=(ToolCallDelta(0, "id0", "f", '{"'),)),
        Chunk(tool_calls=(ToolCallDelta(0, arguments="a"),)),
        Chunk(tool_calls=(ToolCallDelta(0, arguments='":'),)),
        Chunk(tool_calls=(ToolCallDelta(0, arguments=" "),)),
        Chunk(tool_calls=(ToolCallDelta(0, arguments="12}"),)),
        Chunk(tool_calls=(ToolCallDelta(1, "id1", "f", '{"a": 1}'),)),
    ]
    assert machine.calls == (ToolCall("id0", "f", '{"a": 12}'), ToolCall("id1", "f", '{"a": 1}'))
    with pytest.raises(ValueError, match="finished"):
        machine.feed("more")


WORDS = [
    *"{}[]()\"'\\,:=;<>`\n \tf1",
    '"name"',
    '"arguments"',
    '{"name": "f", "arguments": ',
    '{"type": "function", "function": {"name": "f", "parameters": ',
    '{"tool_calls": [',
    CALL,
    '{"name": "g", "arguments": {"a": 1}}',
    "{'name': 'f', 'arguments': {'a': True,}}",
    '"id": "x", ',
    "f(a=1)",
    "[f(a=1)]",
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<|python_tag|>",
    "```json",
    "```",
    "<function=f>",
    "<parameter=a>",
    "</parameter>",
    "</function>",
    "<think>",
    "</think>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "Hello.",
    "\\u12",
    "\ud800",
    "\x00",
]
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=16).map("".join)


@example('[TOOL_CALLS]f[ARGS]{"a"[f(a=1)]', [])
@example('[TOOL_CALLS]f[ARGS]{"a"\n[f(a=1)]', [])
@example("<function=f>{}</function> \n.", [25])
@example('{"name": "f", "arguments": {"a": 1}, "id": "x"}\nDone.', [])
@example('<tool_call>{"name": "f", "arguments": {"a": hello}}</tool_call>\n' + CALL, [])
@given(TEXTS, st.lists(st.integers(0)))
@settings(max_examples=300)
def test_a_stream_joined_says_what_the_whole_text_says(text, cuts):
    """Cut anyhow, chunks join to the text and calls of read_calls, but for calls broken off."""
    at = sorted({cut % (len(text) + 1) for cut in cuts})
    pieces = [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]
    chunks, machine = streamed(pieces)
    shown, calls = joined(chunks)
    assert (shown, calls) == joined(streamed(text)[0])
    left, found = read_calls(text, TOOLS)
    whole = [(call.name, call.arguments) for call in machine.calls]
    # What was begun and broke off is text to read_calls; whatever else there is, both find.
    assert whole == [(call.name, call.arguments) for call in found]
    broken = [call for call in Completion.from_chunks(chunks).tool_calls if not is_whole(call)]
    assert [each for each in calls if each in whole] == whole
    assert len(calls) == len(whole) + len(broken)
    if not broken:
        assert shown == left


@given(TEXTS)
def test_one_call_alone_ends_the_answer(text):
    """Without parallel calls nothing comes after the first whole one, and till then all does."""
    one, machine = streamed(text, parallel=False)
    all_chunks, both = streamed(text)
    assert machine.calls == both.calls[:1]
    text_of_one, calls_of_one = joined(one)
    text_of_all, calls_of_all = joined(all_chunks)
    assert text_of_all.startswith(text_of_one)
    assert calls_of_all[: len(calls_of_one)] == calls_of_one


def test_after_the_only_call_the_stream_is_over():
    """The machine says at once when it is over, so that no token is written in vain."""
    machine = stream(parallel=False)
    machine.feed(CALL[:-2])
    assert not machine.over
    machine.feed("}")
    assert machine.over
    assert machine.feed(f"}}\n{CALL} Hello.") == machine.finish() == ()
    assert len(machine.calls) == 1


@pytest.mark.parametrize(
    ("pieces", "began_with"),
    [
        (['{"name": "f", "arguments": {']
         , "{"),
        (['{"name": "f", "arguments', '": {"'], '{"'),
        (['{"name": "f", "arguments":', ' {"a'], '{"a'),
        (['<tool_call>{"name": "f",', ' "arguments":{ \n'], "{ \n"),
        (["<function=f", ">{"], "{"),
    ],
)  # fmt: skip
def test_the_beginning_of_arguments_is_told_exactly(pieces, began_with):
    """Tokens that hold the end of a call's head and more tell what of them is arguments."""
    machine = stream()
    for piece in pieces[:-1]:
        machine.feed(piece)
        assert machine.arguments_begin is None
        assert machine.arguments_began_with == ""
    machine.feed(pieces[-1])
    assert machine.arguments_begin == "f"
    assert machine.arguments_began_with == began_with
    machine.feed(" ")
    assert machine.arguments_begin is None
    assert machine.arguments_began_with == ""


@pytest.mark.parametrize(
    "text",
    [
        "Hello {",
        '{"name": "g", "arguments": {',
        '{"name": "f", "arguments": "{',
        '{"arguments": {"a": 1',
        '{"age": 3, "name": "f", "arguments": {',
        "[f(a={",
        '```python\n{"name": "f", "arguments": {',
        CALL,
        '{"name": "f", "arguments": {...',
    ],
)
def test_no_arguments_begin_where_there_is_no_call(text):
    """What is no call of a known tool in JSON, or is whole already, cannot be constrained."""
    machine = stream()
    machine.feed(text)
    assert machine.arguments_begin is None


@pytest.mark.parametrize(
    ("written", "arguments", "rest"),
    [
        ('{"a": hello}}\nHi.', '{"a": hello', "}}\nHi."),
        ('{"a": 1 "b"}}', '{"a": 1', '"b"}}'),
        ('{"a": [1, {"b": "never', '{"a": [1, {"b": "never', ""),
    ],
)
def test_arguments_that_break_off_stay_as_they_were_shown(written, arguments, rest):
    """As from a server: the call has broken arguments, and what comes after is text."""
    chunks, machine = streamed(f'{{"name": "f", "arguments": {written}')
    assert joined(chunks) == (rest, [("f", arguments)])
    assert machine.calls == ()


def test_ids_are_those_of_the_model_or_new_ones():
    """An id that the model wrote before the arguments is kept; others look as OpenAI's."""
    chunks, _ = streamed(f'{{"id": "x1", {CALL[1:]}\n[f(a=1)]\n[TOOL_CALLS]f[CALL_ID]x2[ARGS]{{}}')
    calls = Completion.from_chunks(chunks).tool_calls
    assert [call.id for call in calls] == ["x1", "id0", "x2"]
    assert re.fullmatch("call_[0-9a-f]{24}", new_call_id())
    assert new_call_id() != new_call_id()


@pytest.mark.parametrize("fed", ["whole", "letters"])
def test_where_a_call_starts_is_told(fed):
    """The beginning of a call's text is known, so that it can be written once more."""
    machine = stream()
    text = "Let me see.\n<tool_call>[f(a='x')]</tool_call>"
    for piece in [text] if fed == "whole" else text:
        machine.feed(piece)
    assert machine.started == text.index("<tool_call>")
    more = f" Then {{x}} and\n```json\n[{CALL}, {CALL}]\n```"
    where = len(text) + more.index("}}") + 2
    for piece in [more] if fed == "whole" else more:
        machine.feed(piece)
    assert len(machine.calls) == 3
    assert machine.started == where


def test_arguments_are_held_to_the_tool_s_schema():
    """A call in a way of writing that nothing constrains is checked when it is whole."""
    machine = stream()
    machine.feed("[f(a=1)]\n[f(a='x')]\n[f()]")
    right, wrong, empty = machine.calls
    assert machine.invalid(right) is None
    assert machine.invalid(wrong) == '$.a is "x": It is not of type "integer".'
    assert '"a" is a required property' in machine.invalid(empty)


def test_a_tool_whose_parameters_are_no_schema_is_named():
    """Who offers a broken schema learns which tool has it, and what is wrong with it."""
    machine = CallStream({"f": {"type": "thing"}})
    with pytest.raises(BadRequest, match="tool 'f'.*thing") as caught:
        machine.invalid(ToolCall("", "f", "{}"))
    assert caught.value.param == "tools"


@pytest.mark.parametrize(
    "piece",
    [
        "Plain words, and more of them.\n",
        "<",
        "{",
        "[",
        "```",
        "`",
        "<think>",
        "\\",
        '{"name": "f", "arguments": {"a": [',
        '{"tool_calls": {',
        '{"function": {',
        CALL,
        '{"name": "f", "arguments": {"a": hello',
    ],
)
def test_streaming_takes_time_in_proportion_to_the_text(piece):
    """However hostile, ten times the text takes about ten times as long, cut or whole."""

    def seconds(pieces):
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            streamed(pieces)
            best = min(best, time.process_time() - start)
        return best

    few = max(1, 1500 // len(piece))
    for cut in (lambda text: text, lambda text: [text]):
        assert seconds(cut(piece * few * 10)) < 40 * seconds(cut(piece * few)) + 0.05


def test_one_string_of_arguments_takes_time_in_proportion_to_it():
    """A whole file written as one argument streams without slowing down."""

    def seconds(times):
        start = time.process_time()
        streamed(['{"name": "f", "arguments": {"a": "', *["some \\n code"] * times, '"}}'])
        return time.process_time() - start

    assert seconds(20_000) < 40 * min(seconds(2_000) for _ in range(3)) + 0.05
