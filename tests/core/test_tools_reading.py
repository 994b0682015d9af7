"""Calls that models write as text, read whole and in pieces."""
# ruff: noqa: RUF001 - DeepSeek's tokens have a wide bar

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aideon_core import ToolCall
from aideon_core.tools.reading import CallReader, read_calls

BFCL = Path(__file__).parents[2].parent / "shared/data/bfcl"
NAMES = {"f", "get_weather", "math.hypot"}


def written(call):
    return json.dumps({"name": call[0], "arguments": call[1]})


def tagged(calls):
    return "\n".join(f"<tool_call>\n{written(call)}\n</tool_call>" for call in calls)


def unclosed(calls):
    return tagged(calls).removesuffix("\n</tool_call>")


def mistral(calls):
    return f"[TOOL_CALLS] [{', '.join(written(call) for call in calls)}]"


def mistral_named(calls):
    return "".join(f"[TOOL_CALLS]{name}[ARGS]{json.dumps(given)}" for name, given in calls)


def python_tag(calls):
    return "<|python_tag|>" + "; ".join(
        json.dumps({"name": name, "parameters": given}) for name, given in calls
    )


def bare(calls):
    return "\n".join(
        json.dumps({"type": "function", "name": name, "parameters": given}, indent=2)
        for name, given in calls
    )


def bare_list(calls):
    return json.dumps([{"name": name, "arguments": json.dumps(given)} for name, given in calls])


def openai_style(calls):
    return json.dumps(
        [
            {"type": "function", "function": {"name": name, "arguments": given}}
            for name, given in calls
        ]
    )


def fenced(calls):
    return f"```json\n{bare_list(calls)}\n```"


def python_literal(calls):
    return "".join(
        f"<tool_call>{ {'name': name, 'arguments': given}!r}</tool_call>" for name, given in calls
    )


def pythonic(calls):
    return f"[{', '.join(as_python(call) for call in calls)}]"


def as_python(call):
    return f"{call[0]}({', '.join(f'{key}={value!r}' for key, value in call[1].items())})"


def tool_code(calls):
    return "```tool_code\n" + "\n".join(f"print({as_python(call)})" for call in calls) + "\n```"


def function_tag(calls):
    return "".join(f"<function={name}>{json.dumps(given)}</function>" for name, given in calls)


def qwen_coder(calls):
    return "\n".join(
        f"<tool_call>\n<function={name}>\n"
        + "".join(
            f"<parameter={key}>\n{value if isinstance(value, str) else json.dumps(value)}"
            "\n</parameter>\n"
            for key, value in given.items()
        )
        + "</function>\n</tool_call>"
        for name, given in calls
    )


def deepseek(calls):
    inner = "\n".join(
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{json.dumps(given)}\n```"
        "<｜tool▁call▁end｜>"
        for name, given in calls
    )
    return f"<｜tool▁calls▁begin｜>{inner}<｜tool▁calls▁end｜>"


def deepseek_31(calls):
    inner = "".join(
        f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{json.dumps(given)}<｜tool▁call▁end｜>"
        for name, given in calls
    )
    return f"<｜tool▁calls▁begin｜>{inner}<｜tool▁calls▁end｜>"


STYLES = [
    tagged,
    unclosed,
    mistral,
    mistral_named,
    python_tag,
    bare,
    bare_list,
    openai_style,
    fenced,
    python_literal,
    pythonic,
    tool_code,
    function_tag,
    qwen_coder,
    deepseek,
    deepseek_31,
]


def read_in_pieces(pieces, names):
    reader = CallReader(names)
    parts = [reader.feed(piece) for piece in pieces] + [reader.finish()]
    return "".join(text for text, _ in parts), tuple(call for _, calls in parts for call in calls)


def meant(calls):
    return [(call.name, json.loads(call.arguments)) for call in calls]


def answers():
    """The calls of each BFCL answer, each with the schemas of its functions."""
    for path in sorted(BFCL.glob("*.answers.jsonl")):
        questions = path.with_name(path.name.replace(".answers", ""))
        functions = {
            row["id"]: {each["name"]: each["parameters"] for each in row["function"]}
            for row in map(json.loads, questions.read_text().splitlines())
        }
        for row in map(json.loads, path.read_text().splitlines()):
            # Every value of a parameter is a list of possible ones; "" stands for none.
            yield (
                functions[row["id"]],
                [
                    (
                        name,
                        {key: values[0] for key, values in given.items() if values[0] != ""},
                    )
                    for answer in row["ground_truth"]
                    for name, given in answer.items()
                ],
            )


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
def test_every_possible_answer_of_bfcl_is_read_back(style):
    """The calls of each answer of the leaderboard, in each model's way, are read back equal."""
    if not BFCL.exists():
        pytest.skip("the BFCL data is not on this machine")
    count = 0
    for schemas, calls in answers():
        text, found = read_calls(style(calls), schemas)
        assert meant(found) == calls
        assert text == ""
        count += 1
    assert count == 300


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
CALLS = st.lists(
    st.tuples(
        st.sampled_from(sorted(NAMES)),
        st.dictionaries(st.from_regex(r"[a-z_]\w{0,5}", fullmatch=True), VALUES, max_size=3),
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize(
    "style", [each for each in STYLES if each is not qwen_coder], ids=lambda style: style.__name__
)
@given(calls=CALLS)
def test_any_arguments_come_back_from_any_style(style, calls):
    """Whatever JSON can say in arguments is read as it was written."""
    _, found = read_calls(style(calls), NAMES)
    assert meant(found) == calls


WORDS = [
    *"{}[]()\"'\\,:=;<>`\n \tf1",
    '"name"',
    '"arguments"',
    '{"name": "f", "arguments": {"a": 1}}',
    '{"name": "g", "arguments": {"a": 1}}',
    "f(a=1)",
    "[f(a=1)]",
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<|python_tag|>",
    "```json",
    "```",
    "```tool_code",
    "<function=f>",
    "<parameter=a>",
    "</parameter>",
    "</function>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "Hello.",
    "\ud800",
    "\x00",
]


@example(["[", "TOOL_CALLS", "]", '{"name": "f", "arguments": {}}'], [])
@given(
    st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=14), st.lists(st.integers(0))
)
def test_text_is_read_alike_in_any_pieces(words, cuts):
    """Whatever a model writes, reading never fails, and pieces say what the whole says."""
    text = "".join(words)
    whole = read_calls(text, NAMES)
    at = sorted({cut % (len(text) + 1) for cut in cuts})
    pieces = [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]
    assert read_in_pieces(pieces, NAMES) == whole
    assert read_in_pieces(text, NAMES) == whole
    shown, calls = whole
    if not calls:
        assert shown == text


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=14))
def test_without_functions_all_is_text(words):
    """Where there is no tool, nothing is a call and nothing is lost."""
    text = "".join(words)
    assert read_calls(text, ()) == (text, ())


CALL = '{"name": "f", "arguments": {"a": 1}}'
ONE = ToolCall("", "f", '{"a": 1}')


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Let me look.\n\n<tool_call>{CALL}</tool_call>\nDone.", "Let me look.\nDone."),
        (f"I will call it:\n```json\n{CALL}\n```", "I will call it:"),
        (f"<tool_call>\n```json\n{CALL}\n```\n</tool_call>", ""),
        (f"  {CALL}\n", ""),
        (f"{CALL}\nDone.\n", "Done.\n"),
        ('[TOOL_CALLS]f[CALL_ID]x1[ARGS]{"a": 1}', ""),
        ("<|tool_call_start|>[f(a=1)]<|tool_call_end|>ok", "ok"),
        ('<|tool_call|>[{"name": "f", "arguments": {"a": 1}}]<|/tool_call|>', ""),
        ('{"function": "f", "parameters": {"a": 1}}', ""),
        ("<function=f><parameter=a>1</parameter></tool_call>", ""),
        ('{"plan": 1}\n' + CALL, '{"plan": 1}'),
        ("```python\nprint(1)\n```\n" + CALL, "```python\nprint(1)\n```"),
        (f"<think>Hm.</think>{CALL}", "<think>Hm.</think>"),
        (CALL[:-1], ""),
        (f"<tool_call>{CALL[:-1]}</tool_call>", ""),
        (f"[{CALL}", ""),
        (f"[{CALL},]", ""),
        (f"[{CALL}, 1]", ", 1]"),
        (f"<tools>\n{CALL}\n</tools>", ""),
        (f"```xml\n<tool_call>\n{CALL}\n</tool_call>\n```\nDone.", "Done."),
        (f"```xml\n<tool_call>\n{CALL}\n</tool_call>\nDone.", "Done."),
        (f"<tool_call>{CALL}}}</tool_call>", ""),
        (f"{CALL}}}\nDone.", "Done."),
        ('<tool_call>{"f": {"a": 1}}</tool_call>', ""),
        ('<function=f>{"a": 1}</function>\n</tool_call>', ""),
        ('[TOOL_CALLS]f{"a": 1}', ""),
        ('{"name": "f", "arguments": {"a": 1}, "thought": "It is."}', ""),
        ('{"name": "functions.f", "arguments": {"a": 1}}', ""),
        ("[functions.f(a=1)]", ""),
        ('{"arguments": {"a": 1}, "name": "f"}', ""),
        ('{"tool": "f", "args": {"a": 1}}', ""),
        (f'{{"tool_calls": [{CALL}]}}', ""),
        (f'{{"function_call": {CALL}}}', ""),
        (f'{{"tool_calls": [{CALL}', ""),
        ('{"name": "f", "arguments": "{\\"a\\": 1}"}', ""),
        ("""{'name': 'f', 'arguments': {'a': 1}}""", ""),
        ('{"type": "function", "function": {"name": "f", "parameters": {"a": 1}}', ""),
    ],
)
def test_a_call_is_found_among_text(text, left):
    """What surrounds a call stays as text, without the space around the call."""
    shown, calls = read_calls(text, NAMES)
    assert [(call.name, call.arguments) for call in calls] == [(ONE.name, ONE.arguments)]
    assert shown == left


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ada", "arguments": {"a": 1}}',
        '{"name": "f", "age": 3, "arguments": {"a": 1}}',
        '```json\n{"name": "f", "age": 3}\n```',
        '```json\n{"name": "f"}\n```',
        '{"name": "f", "description": "It is...", "parameters": {"type": "object"}}',
        'Write {"name": "f", "arguments": {...}} on a line:\n{"name": "f", "arguments": {...}}',
        f"<think>I could write\n{CALL}\nor <tool_call>{CALL}</tool_call>.</think>\nNo.",
        f"<think>\n{CALL}",
        '{"name": "f", "arguments": {"a": hello}}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": "[1]"}',
        '{"name": 3, "arguments": {}}',
        '{"function": {"function": {"name": "f", "arguments": {}}}}',
        '<tool_call>{"f": 1}</tool_call>',
        '{"tool_calls": []}',
        '{"f": {"a": 1}}',
        '{"tool_calls": 3}',
        "[f(a=(1))]",
        "[f(a=1.5.5)]",
        "[f(a=007)]",
        "[f(a=1e999)]",
        "print(f(a=1))",
        "<tool_call>print(f(a=1)</tool_call>",
        '{"name": "f"}',
        '{"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}',
        '{"name": "f", "arguments": 3}',
        '{"name": "f", "arguments": "none"}',
        '{"name": "f", "arguments": {"a": NaN}}',
        '{"steps":\n[\n' + CALL + "\n]}",
        "[\n1,\n" + CALL + "\n]",
        f"It would be {CALL} then.",
        f"```python\n{CALL}\n```",
        "[g(a=1)]",
        "[f(a=b)]",
        "[f(1)]",
        "[f(a=__import__('os'))]",
        "f(a=1)",
        '<tool_call>{"name": "g", "arguments": {}}</tool_call>',
        CALL[:-2],
        "<function=f><parameter=a>1</parameter>",
        "[1] and {x}",
        '{"name": "f", "arguments": ' + "[" * 100 + "]" * 100 + "}",
    ],
)
def test_what_is_no_call_of_a_known_function_stays_as_it_is(text):
    """Other names, other keys, prose, code and cut calls are text, character for character."""
    assert read_calls(text, NAMES) == (text, ())


@pytest.mark.parametrize(
    ("written", "given"),
    [
        ("{'a': 'it\\'s \"so\"', 'b': True, 'c': None}", {"a": 'it\'s "so"', "b": True, "c": None}),
        ('{"a": true, "b": [1, 2,],}', {"a": True, "b": [1, 2]}),
        ('{"a": .5, "b": 5., "c": +1, "d": (1, "x"), "e": (1,), "f": ()}',
         {"a": 0.5, "b": 5.0, "c": 1, "d": [1, "x"], "e": [1], "f": []}),
        ('{"a": "two\nlines\t"}', {"a": "two\nlines\t"}),
        (r'{"a": "\d+\.\w", "b": "C:\users", "c": "\x41\U0001F600"}',
         {"a": r"\d+\.\w", "b": r"C:\users", "c": "A😀"}),
        (r'{"a": "\ud83d\ude00\u00e9\/"}', {"a": "😀é/"}),
        ('{"a":\u00a0{}}', {"a": {}}),
    ],
)  # fmt: skip
def test_slips_in_arguments_are_mended(written, given):
    """Python's words, quotes and commas, and stray backslashes, mean what they clearly mean."""
    _, calls = read_calls(f'<tool_call>{{"name": "f", "arguments": {written}}}</tool_call>', NAMES)
    assert meant(calls) == [("f", given)]


def test_positions_and_types_follow_the_schemas():
    """With schemas, positional arguments get their names and bare text its type."""
    schemas = {
        "f": {
            "properties": {
                "code": {"type": "string"},
                "n": {"type": "integer"},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            }
        }
    }
    assert meant(read_calls("[f('7', 7)]", schemas)[1]) == [("f", {"code": "7", "n": 7})]
    text = (
        "<function=f><parameter=code>7</parameter><parameter=n>7</parameter>"
        "<parameter=note>None</parameter></function>"
    )
    assert meant(read_calls(text, schemas)[1]) == [("f", {"code": "7", "n": 7, "note": None})]
    assert meant(read_calls(text, {"f"})[1]) == [("f", {"code": 7, "n": 7, "note": None})]


def test_text_is_shown_as_soon_as_it_can_be_no_call():
    """An answer in JSON streams on after its first foreign key; a call comes when it is whole."""
    reader = CallReader(NAMES)
    assert reader.feed("Hello, <b") == ("Hello, <b", ())
    assert reader.feed("\n{") == ("", ())
    assert reader.feed('"answer"') == ('\n{"answer"', ())
    assert reader.feed(": 4") == (": 4", ())
    assert reader.feed("2}") == ("2}", ())
    assert reader.feed(f"\n<tool_call>{CALL[:-2]}") == ("", ())
    assert reader.feed("}") == ("", (ONE,))
    assert reader.feed("}</tool_call>\n") == ("", ())
    assert reader.finish() == ("", ())
    with pytest.raises(ValueError, match="finished"):
        reader.feed("more")


@pytest.mark.parametrize(
    "piece",
    [
        "{",
        "[",
        '{"name":',
        "<tool_call>",
        "<",
        "```",
        "[f(a=[",
        "`",
        "f(",
        CALL,
        "<parameter=",
        " ",
    ],
)
def test_reading_takes_time_in_proportion_to_the_text(piece):
    """However hostile, ten times the text takes about ten times as long, letter by letter."""

    def seconds(times):
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            read_in_pieces(piece * times, NAMES)
            best = min(best, time.process_time() - start)
        return best

    few = max(1, 2000 // len(piece))
    assert seconds(few * 10) < 40 * seconds(few) + 0.05
