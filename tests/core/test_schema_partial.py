"""JSON that arrives in pieces: every prefix shows what is there, and the end is the value."""

from __future__ import annotations

import json
import time
from copy import deepcopy

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aideon_core.schema import Partial, partial

# Surrogates too: half a pair is legal JSON when it is escaped.
TEXTS = st.text(st.characters(codec=None), max_size=12)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=15,
)
CONTAINERS = VALUES.filter(lambda value: isinstance(value, dict | list))
INDENTS = st.sampled_from([None, 2])


def fed(text, size):
    """The reader after each piece of ``size`` characters, with a copy of what it showed."""
    reader = Partial()
    shown = []
    for at in range(0, len(text), size):
        reader.feed(text[at : at + size])
        shown.append(deepcopy(reader.value))
    reader.end()
    return reader, shown


def grows(before, after):
    """Whether one partial value is an earlier state of the other."""
    if before is None:
        return True
    if isinstance(before, str):
        return isinstance(after, str) and after.startswith(before)
    if isinstance(before, list):
        return (
            isinstance(after, list) and len(before) <= len(after) and all(map(grows, before, after))
        )
    if isinstance(before, dict):
        return isinstance(after, dict) and all(
            key in after and grows(each, after[key]) for key, each in before.items()
        )
    return type(before) is type(after) and before == after


@given(VALUES, INDENTS, st.integers(1, 9))
def test_the_whole_text_is_the_value_however_it_is_cut(value, indent, size):
    """Read to its end in pieces of any size, a JSON text is what json.loads makes of it."""
    text = json.dumps(value, indent=indent)
    reader, _ = fed(text, size)
    assert reader.value == json.loads(text)
    assert [found.value for found in reader.found] == [json.loads(text)]
    assert text[reader.found[0].start : reader.found[0].end] == text


@given(VALUES, INDENTS)
def test_what_is_shown_only_grows(value, indent):
    """Each character adds to what was shown and takes nothing of it back."""
    _, shown = fed(json.dumps(value, indent=indent), 1)
    states = [*shown, value]
    assert all(map(grows, states, states[1:]))


@given(CONTAINERS.map(json.dumps), st.data())
def test_every_prefix_shows_what_the_pieces_show(text, data):
    """A beginning read at once shows the same as when it came character by character."""
    cut = data.draw(st.integers(0, len(text)))
    reader, _ = fed(text[:cut], 1)
    assert partial(text[:cut]) == reader.value
    assert partial(text) == json.loads(text)


@given(
    st.text("ab .:\n`'\"<>/", max_size=20).filter(lambda words: not words.lstrip().startswith('"')),
    CONTAINERS.map(json.dumps),
    st.text("ab .:\n`'", max_size=9),
)
def test_words_around_an_object_or_a_list_do_not_change_it(before, text, after):
    """Fences, prose and quotes before and after the JSON leave the value as it is."""
    reader, _ = fed(before + text + after, 3)
    assert [found.value for found in reader.found] == [json.loads(text)]


@given(st.text('[]{}",:0123456789-.eE+truefalsnu\\ \n/<>hik`', max_size=40), st.integers(1, 5))
@example("[0+]", 1)
def test_no_text_makes_it_fail(text, size):
    """Whatever a model writes is read without an exception, the same in pieces and at once."""
    pieces, _ = fed(text, size)
    whole, _ = fed(text, len(text) + 1)
    assert pieces.found == whole.found
    assert (pieces.error is None) == (whole.error is None)
    try:
        value = json.loads(text, parse_constant=pytest.fail)
    except ValueError:
        return
    assert [found.value for found in whole.found] == [value]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"name": "A', {"name": "A"}),
        ('{"name": "A\\', {"name": "A"}),
        ('{"name": "A\\u00e', {"name": "A"}),
        ('{"name": "\\ud83d', {"name": ""}),
        ('{"name": "\\ud83d\\ude', {"name": ""}),
        ('{"name": "\\ud83d\\ude00', {"name": "😀"}),
        ('{"name": "\\ud83dA', {"name": "\ud83dA"}),
        ('{"name": "\\ud83d\\ud83d\\ude00"', {"name": "\ud83d😀"}),
        ('{"age": 3', {}),
        ('{"age": 36,', {"age": 36}),
        ('{"old": tru', {}),
        ('{"old": true}', {"old": True}),
        ('{"na', {}),
        ('{"name":', {}),
        ("[[", [[]]),
        ("[1, 2", [1]),
        ('"half', "half"),
        ("12", None),
        ("", None),
        ("Here you are: ", None),
        ('Here you are:\n```json\n{"a": [1, ', {"a": [1]}),
        ('<think>{"a": 1}</thi', {"a": 1}),
        ('<think>{"a": 1}</think>{"b": "', {"b": ""}),
    ],
)
def test_what_a_beginning_shows(text, value):
    """Strings show as far as they are written; numbers, words and names once complete."""
    assert partial(text) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1,}',
        "{'a': 1}",
        '{a: 1, "b": {}}',
        '[x, {"a": 1}]',
        '{"a": {"b": 1}, }',
        '{"a": 1 "b": 2}',
        '{"a": "x\ny"}',
        '{"a": "\\x"}',
        '{"a": "\\u12g4"}',
        '{"a": 01}',
        '{"a": 1.}',
        '{"a": +1}',
        '{"a": NaN}',
        '{"a": nul}',
        "[1 2]",
        "[1,]",
        "{1: 2}",
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
)
def test_broken_json_is_not_repaired(text):
    """A slip is an error that names its place, and no part of the text is taken for all of it."""
    reader, _ = fed(text, 50_000)
    assert reader.found == []
    assert "at character" in reader.error


def test_a_citation_in_brackets_is_no_json():
    """A few words in brackets before the JSON are words."""
    reader, _ = fed('As [the table] says: {"a": 1}', 4)
    assert [found.value for found in reader.found] == [{"a": 1}]


def test_a_long_answer_takes_time_in_proportion():
    """Eight times the text, in pieces of one token, takes far less than 64 times as long."""

    def seconds(items):
        text = json.dumps([{"name": "n" * 50, "tags": ["x\n"] * 3}] * items)
        reader = Partial()
        started = time.perf_counter()
        for at in range(0, len(text), 4):
            reader.feed(text[at : at + 4])
        assert reader.value == json.loads(text)
        return time.perf_counter() - started

    short = min(seconds(100) for _ in range(3))
    assert min(seconds(800) for _ in range(3)) < 24 * short


@given(CONTAINERS.map(json.dumps), st.integers(1, 12))
def test_a_thought_is_forgotten_however_its_tag_is_cut(text, size):
    """What a model wrote before ``</think>`` is no part of the answer, JSON or not."""
    reader, _ = fed(f'<Or> {{"draft": 1}}? [[no</</think>\n{text}', size)
    assert [found.value for found in reader.found] == [json.loads(text)]
    assert reader.value == json.loads(text)
