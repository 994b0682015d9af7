"""The function-calling benchmark judges calls as the leaderboard's own checker does."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest
from benchmarks import bfcl_rules
from hypothesis import given
from hypothesis import strategies as st

DATA = Path(__file__).parents[2].parent / "shared/data/bfcl"
CALLING = ("simple_python", "multiple", "parallel")

needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"the shared data is not at {DATA}")


def lines(name):
    path = DATA / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def all_cases():
    for category in CALLING:
        truths = {row["id"]: row["ground_truth"] for row in lines(f"{category}.answers")}
        for row in lines(category):
            yield category, row["id"], row["function"], truths[row["id"]]


CASES = tuple(all_cases())


def shown(case):
    return case[1]


def first(option):
    """The value an option stands for, nested options resolved to their first."""
    if isinstance(option, dict):
        return {key: first(values[0]) for key, values in option.items() if values[0] != ""}
    if isinstance(option, list):
        return [first(item) for item in option]
    return option


def right_call(truth, functions):
    """The first combination of what a truth allows."""
    ((name, options),) = truth.items()
    (function,) = (function for function in functions if function["name"] == name)
    required = function["parameters"]["required"]
    arguments = {}
    for key, values in options.items():
        value = next((each for each in values if each != ""), "") if key in required else values[0]
        if value != "":
            arguments[key] = first(value)
    return bfcl_rules.offered_name(name), arguments


def function(**properties):
    """A function of these parameters, ``x`` the one that is required."""
    required = [name for name in properties if name == "x"]
    parameters = {"type": "dict", "properties": properties, "required": required}
    return {"name": "pkg.f", "description": "", "parameters": parameters}


def judged(spec, options, value):
    """What is wrong with ``value`` for a parameter of that type and those right values."""
    truths = [{"pkg.f": {"x": options}}]
    return bfcl_rules.fault("simple_python", [function(x=spec)], [("pkg_f", {"x": value})], truths)


def of(kind, items=None):
    return {"type": kind, **({"items": {"type": items}} if items else {})}


RIGHT = [
    (of("string"), ["New York, NY"], "new york NY"),
    (of("string"), ["April 1, 2024"], "April 1 2024"),
    (of("string"), ["O'Hare"], 'o"hare'),
    (of("String"), ["m^2"], "m2"),
    (of("string"), ["a_b*c-d/e"], "abcde"),
    (of("any"), ["x"], "X"),
    (of("integer"), [5, 6], 6),
    (of("integer"), [5.0], 5),
    (of("float"), [5], 5),
    (of("float"), [5.0], 5),
    (of("float"), [0.5], 0.5),
    (of("boolean"), [True], True),
    (of("integer"), ["n"], "n"),
    (of("array", "integer"), [[1, 2]], [1, 2]),
    (of("array", "float"), [[1, 2]], [1, 2]),
    (of("tuple", "float"), [[1.5, 2.0]], [1.5, 2.0]),
    (of("array", "string"), [["Red Wine", "beer"]], ["red-wine", "Beer"]),
    (of("array", "array"), [[[0, 3], [4, 1]]], [[0, 3], [4, 1]]),
    (of("dict"), [{"a": ["One", "Two"], "b": ["", 3]}], {"a": "two"}),
    (of("dict"), ["", {"a": [1]}], {"a": 1}),
    (of("array", "dict"), [[{"a": [1]}, {"a": [2]}]], [{"a": 1}, {"a": 2}]),
    # An empty list says as much as none.
    (of("array", "integer"), [""], []),
]
WRONG = [
    (of("string"), ["New York"], "Boston"),
    (of("string"), ["5"], 5),
    (of("any"), ["x"], 5),
    (of("integer"), [5], 6),
    (of("integer"), [5], 5.0),
    # What stands for a value, such as a variable, is taken to the letter.
    (of("integer"), ["n"], "N"),
    (of("integer"), [1], True),
    (of("float"), [5.0], "5.0"),
    (of("float"), [1.0], True),
    (of("boolean"), [True], "true"),
    (of("boolean"), [True], 1),
    (of("string"), ["x"], None),
    (of("array", "integer"), [[1, 2]], [2, 1]),
    (of("array", "integer"), [[1, 2]], [1]),
    (of("array", "integer"), [[1, 2]], ["1", "2"]),
    # Whole numbers pass for floats only at the top, as the leaderboard has it.
    (of("array", "float"), [[1.5, 2.0]], [1.5, 2]),
    (of("array", "array"), [[[0, 3]]], [[3, 0]]),
    (of("dict"), [{"a": [1]}], {"a": 1, "b": 2}),
    (of("dict"), [{"a": [1], "b": [2]}], {"a": 1}),
    (of("dict"), [{"a": [1]}], {"a": 2}),
    (of("dict"), [""], {"a": 2}),
    (of("dict"), [""], {}),
    (of("array", "dict"), [[{"a": [1]}, {"a": [2]}]], [{"a": 2}, {"a": 1}]),
    (of("array", "dict"), [[{"a": [1]}, {"a": [2]}]], [{"a": 1}]),
]


@pytest.mark.parametrize(("spec", "options", "value"), RIGHT)
def test_values_that_say_the_same_are_right(spec, options, value):
    """Case, spaces and marks of a text do not count, nor do whole numbers for floats."""
    assert judged(spec, options, value) is None


@pytest.mark.parametrize(("spec", "options", "value"), WRONG)
def test_values_that_say_something_else_are_wrong(spec, options, value):
    """Another value, type, order or length is wrong, and the fault names the parameter."""
    assert "x is" in judged(spec, options, value)


@pytest.mark.parametrize(
    ("calls", "fault"),
    [
        ([], "0 calls in place of 1"),
        ([("pkg_f", {"x": 1}), ("pkg_f", {"x": 1})], "2 calls in place of 1"),
        ([("g", {"x": 1})], "g in place of pkg.f"),
        ([("pkg_f", {})], "no x, which is required"),
        ([("pkg_f", {"x": 1, "z": 1})], "z, which is not asked for"),
        ([("pkg_f", {"x": 1, "w": 1})], "w, which is not asked for"),
        ([("pkg_f", {"x": 1, "y": 3})], "y is 3 and not one of"),
        ([("pkg_f", {"x": 1})], None),
        ([("pkg_f", {"x": 1, "y": 2})], None),
    ],
)
def test_one_call_has_the_right_name_and_arguments(calls, fault):
    """Exactly one call, every required argument, none that is unknown or not wanted."""
    functions = [function(x=of("integer"), y=of("integer"), w=of("integer"))]
    found = bfcl_rules.fault(
        "simple_python", functions, calls, [{"pkg.f": {"x": [1], "y": ["", 2]}}]
    )
    assert (found is None) if fault is None else found.startswith(fault)


def test_an_argument_that_no_option_leaves_out_is_missed():
    """What is optional for the function may still be part of every right answer."""
    functions = [function(x=of("integer"), y=of("integer"))]
    truths = [{"pkg.f": {"x": [1], "y": [2]}}]
    fault = bfcl_rules.fault("simple_python", functions, [("pkg_f", {"x": 1})], truths)
    assert fault == "no y"


def test_of_several_functions_the_right_one_is_called():
    """A call of another function with the same arguments is wrong."""
    other = {**function(x=of("integer")), "name": "other"}
    functions = [other, function(x=of("integer"))]
    truths = [{"pkg.f": {"x": [1]}}]
    assert bfcl_rules.fault("multiple", functions, [("pkg_f", {"x": 1})], truths) is None
    assert bfcl_rules.fault("multiple", functions, [("other", {"x": 1})], truths) is not None


@given(st.lists(st.integers(), min_size=1, max_size=5).flatmap(
    lambda xs: st.tuples(st.just(xs), st.permutations(xs))
))  # fmt: skip
def test_parallel_calls_count_in_any_order_and_once_each(drawn):
    """Any order is right; one call more, one fewer, or one twice for another is wrong."""
    wanted, made = drawn
    truths = [{"pkg.f": {"x": [x]}} for x in wanted]
    calls = [("pkg_f", {"x": x}) for x in made]
    functions = [function(x=of("integer"))]
    assert bfcl_rules.fault("parallel", functions, calls, truths) is None
    assert bfcl_rules.fault("parallel", functions, calls[1:], truths) is not None
    assert bfcl_rules.fault("parallel", functions, [*calls, calls[0]], truths) is not None
    # A call can stand for one truth alone: one value that nobody wants leaves one unmatched.
    strange = ("pkg_f", {"x": max(made) + 1})
    assert bfcl_rules.fault("parallel", functions, [strange, *calls[1:]], truths) is not None


def test_where_no_function_helps_none_is_called():
    """Any call is wrong where none helps, and no call is right."""
    functions = [function(x=of("integer"))]
    assert bfcl_rules.fault("irrelevance", functions, [], []) is None
    assert bfcl_rules.fault("irrelevance", functions, [("pkg_f", {"x": 1})], []) is not None


@needs_data
@pytest.mark.parametrize("case", CASES, ids=shown)
def test_the_truths_of_the_data_are_right(case):
    """What the data gives as the answer is judged right, and fits the schema that is offered."""
    category, _, functions, truths = case
    calls = [right_call(truth, functions) for truth in truths]
    assert bfcl_rules.fault(category, functions, calls, truths) is None
    assert bfcl_rules.fault(category, functions, calls[::-1], truths) is None
    offered = {
        tool["function"]["name"]: tool["function"]["parameters"]
        for tool in bfcl_rules.tools(functions)
    }
    assert len(offered) == len(functions)
    for name, arguments in calls:
        jsonschema_rs.meta.validate(offered[name])
        jsonschema_rs.validate(offered[name], arguments)


@needs_data
@pytest.mark.parametrize("case", CASES, ids=shown)
def test_a_changed_truth_is_wrong(case):
    """A call with another name, an argument too many, or a value of no type is wrong."""
    category, _, functions, truths = case
    (name, arguments), *others = (right_call(truth, functions) for truth in truths)
    changed = [(f"{name}_", arguments), (name, {**arguments, "not a parameter": 1})]
    changed += [(name, {**arguments, key: None}) for key in arguments]
    changed += [
        (name, {**arguments, key: f"{value} and more"})
        for key, value in arguments.items()
        if isinstance(value, str)
    ]
    for call in changed:
        assert bfcl_rules.fault(category, functions, [call, *others], truths) is not None
    assert bfcl_rules.fault(category, functions, others, truths) is not None


def test_schemas_are_translated_throughout():
    """Types of Python and Java become JSON Schema's at every depth, and the rest stays."""
    spec = {
        "type": "dict",
        "properties": {
            "a": {"type": "tuple", "items": {"type": "float", "description": "d"}},
            "b": {"type": "HashMap", "properties": {"c": {"type": "String", "optional": True}}},
            "d": {"enum": ["e"]},
        },
        "required": ["a"],
    }
    assert bfcl_rules.json_schema(spec) == {
        "type": "object",
        "properties": {
            "a": {"type": "array", "items": {"type": "number", "description": "d"}},
            "b": {"type": "object", "properties": {"c": {"type": "string"}}},
            "d": {"type": "string", "enum": ["e"]},
        },
        "required": ["a"],
    }


def test_calls_between_tags_are_found():
    """Every call between tags is read; text around them, half a call and no call are not."""
    text = (
        'Sure.\n<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>\n'
        '<tool_call>{"name": "g", "arguments": {}}</tool_call>'
        "<tool_call>\nf(x=1)\n</tool_call><tool_call>[1]</tool_call>"
        '<tool_call>{"name": "f", "arguments": "x"}</tool_call>'
        '<tool_call>\n{"name": "f", "argum'
    )
    assert bfcl_rules.tagged_calls(text) == [("f", {"x": 1}), ("g", {})]
