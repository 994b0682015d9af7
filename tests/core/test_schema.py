"""Output types: what is sent for one, and how an answer is read as it."""

from __future__ import annotations

import enum
import gc
import json
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, create_model
from typing_extensions import TypedDict

from aideon_core.errors import BadRequest, InvalidOutput
from aideon_core.schema import Output
from aideon_core.types import Message


class Person(BaseModel):
    name: str
    age: int = Field(ge=0)


class Node(BaseModel):
    label: str
    inner: list[Node] = []


@dataclass
class Point:
    x: float
    y: float


class Row(TypedDict):
    id: int
    tags: list[str]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


PERSON_SCHEMA = {
    "title": "A person!",
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"$ref": "#/$defs/age"}},
    "required": ["name", "age"],
    "$defs": {"age": {"type": "integer", "minimum": 0}},
}


@pytest.mark.parametrize(
    ("output_type", "text", "value"),
    [
        (Person, '{"name": "Ada", "age": 36}', Person(name="Ada", age=36)),
        (
            Node,
            '{"label": "a", "inner": [{"label": "b"}]}',
            Node(label="a", inner=[Node(label="b")]),
        ),
        (Point, '{"x": 1, "y": 2.5}', Point(1.0, 2.5)),
        (Row, '{"id": 1, "tags": ["a"]}', {"id": 1, "tags": ["a"]}),
        (Colour, '"red"', Colour.RED),
        (Literal["yes", "no"], '"no"', "no"),
        (Person | Point, '{"x": 1, "y": 2}', Point(1.0, 2.0)),
        (list[Person], '[{"name": "Ada", "age": 36}]', [Person(name="Ada", age=36)]),
        (tuple[int, str], '[1, "a"]', (1, "a")),
        (Annotated[int, Field(gt=3)], "4", 4),
        (bool, " true\n", True),
        (Decimal, '"0.10000000000000000000000001"', Decimal("0.10000000000000000000000001")),
        (PERSON_SCHEMA, '{"name": "Ada", "age": 36}', {"name": "Ada", "age": 36}),
        (re.compile(r"\d{4}-\d\d"), " 2024-05\n", "2024-05"),
        ("json", "[1, null]", [1, None]),
        ("json", "null", None),
        (dict, '{"a": []}', {"a": []}),
        (dict[str, int], '{"a": 1}', {"a": 1}),
    ],
    ids=str,
)
def test_an_answer_is_read_as_the_type(output_type, text, value):
    """Python types, JSON Schemas, a regex and any JSON: the answer becomes the value."""
    assert Output.of(output_type).read(text) == value


WRAPPED = [
    '```json\n{"name": "Ada", "age": 36}\n```',
    '```\n{"name": "Ada", "age": 36}\n```',
    'Sure! Here it is:\n\n```json\n{"name": "Ada",\n "age": 36}\n```\nAnything else?',
    'The person is {"name": "Ada", "age": 36}.',
    'See [the text]: {"name": "Ada", "age": 36}',
    '<think>Maybe {"name": "Bob", "age": 1}?</think>\n{"name": "Ada", "age": 36}',
    'Or {"name": "Bob"}? No.</think>{"name": "Ada", "age": 36}',
    '3 words here: {"name": "Ada", "age": 36}',
]


@pytest.mark.parametrize("text", WRAPPED)
@pytest.mark.parametrize(
    "output_type", [Person, PERSON_SCHEMA, "json"], ids=["type", "schema", "any"]
)
def test_fences_and_words_around_the_only_json_are_left_out(output_type, text):
    """Models wrap JSON in fences and prose; where it is the only JSON there, it is the answer."""
    value = Output.of(output_type).read(text)
    assert (value.model_dump() if output_type is Person else value) == {"name": "Ada", "age": 36}


@pytest.mark.parametrize(("text", "value"), [("```\n42\n```", 42), ("So:\n```json\n7\n```\n", 7)])
def test_a_number_may_stand_in_a_fence(text, value):
    """A bare value in the one fence of an answer is the answer."""
    assert Output.of(int).read(text) == value


@pytest.mark.parametrize(
    ("output_type", "text", "said"),
    [
        (Person, '{"name": "Ada", "age": "old"}', ['$.age is "old"', "valid integer"]),
        (Person, '{"name": "Ada"}', ['$ is {"name": "Ada"}', "'age' is required"]),
        (Person, '{"name": "Ada", "age": -1}', ["$.age is -1", "greater than or equal to 0"]),
        (list[Person], '[{"name": 1, "age": 2}]', ["$[0].name is 1", "valid string"]),
        (dict[str, int], '{"a b": "x"}', ['$["a b"] is "x"', "valid integer"]),
        (int | list[str], '{"a": 1}', ['$ is {"a": 1}', "valid integer", "valid array"]),
        (Colour, '"green"', ['$ is "green"', "'red' or 'blue'"]),
        (PERSON_SCHEMA, '{"name": "Ada", "age": "old"}', ['$.age is "old"', 'type "integer"']),
        (PERSON_SCHEMA, '{"name": "Ada"}', ['$ is {"name": "Ada"}', '"age" is a required']),
        (PERSON_SCHEMA, '{"name": "Ada", "age": -1}', ["$.age is -1", "minimum of 0"]),
        ("json", '{"a": 1} or {"b": 2}', ["2 JSON values", '{"a": 1} and {"b": 2}']),
        ("json", "I cannot say.", ["no JSON", "I cannot say."]),
        ("json", '{"a": [1, {"b": "cut', ["breaks off inside $.a[1].b"]),
        ("json", '{"a": {"b": 1, "c', ["breaks off inside $.a."]),
        ("json", '{"a": [', ["breaks off inside $.a."]),
        ("json", '{"a": 1,}', ["not JSON", "property name", "'}'", "character 9"]),
        ("json", "  ", ["no text"]),
        (dict, "[1]", ["$ is [1]", "an object"]),
        (int, "42.", ["no JSON", "42."]),
        (int, "4" * 5000, ["no JSON"]),
        (str, '"\\ud800"', ["$ is"]),
        ({"type": "string"}, '"\\ud800"', ["$ cannot be checked"]),
        (re.compile(r"\d+"), "twelve", ['"twelve"', r"\d+"]),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_told_with_path_found_and_expected(output_type, text, said):
    """The error names where in the value, what was found and what was expected."""
    with pytest.raises(InvalidOutput) as raised:
        Output.of(output_type).read(text)
    assert [each for each in said if each not in str(raised.value)] == []


def test_of_many_mistakes_the_first_are_told():
    """An answer that is wrong everywhere makes a short message all the same."""
    with pytest.raises(InvalidOutput, match=r"\$\[0\] is .* And 95 more\.") as raised:
        Output.of(list[int]).read(json.dumps(["x" * 1000] * 100))
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(("output_type", "text"), [(int, "12"), (re.compile(r"\d+"), "12")])
def test_a_number_at_the_cut_end_is_not_taken(output_type, text):
    """Cut off after 12, the number may have been 123."""
    assert Output.of(output_type).read(text) is not None
    with pytest.raises(InvalidOutput):
        Output.of(output_type).read(text, cut=True)


def test_a_whole_object_counts_although_the_answer_was_cut():
    """Models of JSON mode fill the rest with spaces; the object before them is whole."""
    assert Output.of("json").read('{"a": 1}\n\n\n', cut=True) == {"a": 1}


def test_what_goes_over_the_wire_for_each_kind():
    """A type or a schema is a named json_schema, a regex a regex, any JSON a json_object."""
    assert Output.of(Person).response_format() == {
        "type": "json_schema",
        "json_schema": {"name": "Person", "schema": Person.model_json_schema(), "strict": True},
    }
    assert Output.of(PERSON_SCHEMA).response_format()["json_schema"] == {
        "name": "A_person",
        "schema": PERSON_SCHEMA,
        "strict": True,
    }
    assert Output.of(re.compile("a+")).response_format() == {"type": "regex", "pattern": "a+"}
    assert Output.of("json").response_format() == {"type": "json_object"}
    assert Output.of(dict).response_format() == {"type": "json_object"}


@given(st.text(max_size=100))
def test_every_name_suits_the_wire(title):
    """Whatever a schema is titled, its name has the letters and the length the API takes."""
    name = Output.of({"title": title, "type": "object"}).name
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)


def test_the_instruction_joins_the_system_message():
    """The form is told in a system message, after what is there; the user's words stay."""
    hello = Message("user", "Ada, 36")
    output = Output.of(Person)
    system, same = output.instruct([hello])
    assert (system.role, same) == ("system", hello)
    assert json.dumps(Person.model_json_schema()) in system.content
    joined, same = output.instruct([Message("system", "Be brief."), hello])
    assert joined.content == f"Be brief.\n\n{system.content}"
    assert same == hello
    parts = ({"type": "text", "text": "Be brief."},)
    joined, _ = output.instruct([Message("system", parts), hello])
    assert joined.content == (*parts, {"type": "text", "text": system.content})


def test_a_type_is_compiled_once():
    """The same type or schema gives the same object, and what is kept is bounded."""
    assert Output.of(list[Person]) is Output.of(list[Person])
    assert Output.of(dict(PERSON_SCHEMA)) is Output.of(json.loads(json.dumps(PERSON_SCHEMA)))
    assert Output.of(re.compile("a")) is Output.of(re.compile("a"))
    first = Output.of(create_model("First", a=(int, ...)))
    for number in range(200):
        Output.of({"title": f"n{number}"})
        Output.of(Literal[f"n{number}"])
    name = first.name
    del first
    gc.collect()
    kept = [each for each in gc.get_objects() if isinstance(each, Output)]
    assert len(kept) < 400
    assert name not in {each.name for each in kept}


def test_a_schema_changed_later_changes_nothing():
    """What the caller does to the mapping afterwards reaches no answer."""
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    output = Output.of(schema)
    schema["properties"]["a"] = {"type": "string"}
    assert output.schema == {"type": "object", "properties": {}}


def test_the_order_of_properties_is_the_order_asked_for():
    """Models write properties in the schema's order, so two orders are two schemas."""
    forms = [{"properties": {a: {}, b: {}}} for a, b in ("xy", "yx")]
    assert [list(Output.of(each).schema["properties"]) for each in forms] == [
        ["x", "y"],
        ["y", "x"],
    ]


def test_a_type_that_cannot_be_hashed_works_too():
    """Metadata without a hash is no obstacle."""
    assert Output.of(Annotated[int, Field(gt=0), ["note"]]).read("3") == 3


class NoWay:
    """A class that pydantic knows nothing of."""


@pytest.mark.parametrize(
    ("output_type", "said"),
    [
        (NoWay, "NoWay"),
        (5, "5"),
        ("Person", "'json'"),
        (list["Missing"], "Missing"),  # noqa: F821 - the point
        (re.compile(b"a"), "one of text"),
        (re.compile("a", re.IGNORECASE), "without flags"),
        ({"properties": {"a": {"type": "nope"}}}, '$.properties.a.type is "nope"'),
        ({"type": {1, 2}}, "no JSON"),
        ({"pattern": "("}, "regex"),
        ({"const": "\ud800"}, "surrogates"),
        ({"$ref": "#/$defs/missing"}, "/$defs/missing"),
        ({"$schema": "https://example.com/mine"}, "https://example.com/mine"),
    ],
    ids=str,
)
def test_what_can_be_no_output_type_is_refused_before_anything_is_sent(output_type, said):
    """A type nobody can read, a broken schema, a regex with flags: BadRequest, with a hint."""
    with pytest.raises(BadRequest, match=re.escape(said)) as raised:
        Output.of(output_type)
    assert raised.value.hint
    assert raised.value.param == "output_type"


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:{port}/a.json", "https://127.0.0.1:{port}/a.json#/x", "file:///etc/hosts"],
)
@pytest.mark.parametrize("deep", [False, True])
def test_a_remote_reference_is_refused_and_nobody_is_asked(address, deep):
    """A $ref that leads out of the document is an error; no connection is ever made for it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        ref = {"$ref": address.format(port=server.getsockname()[1])}
        schema = {"properties": {"a": {"items": ref}}} if deep else ref
        with pytest.raises(BadRequest, match="Retrieval is disabled") as raised:
            Output.of(schema)
        assert "inside the schema" in raised.value.hint
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_format_describes_and_is_not_checked():
    """As draft 2020-12 has it, "format" is a note; a Python type checks what it says."""
    from datetime import date

    text = '"tomorrow"'
    assert Output.of({"type": "string", "format": "date"}).read(text) == "tomorrow"
    with pytest.raises(InvalidOutput):
        Output.of(date).read(text)


def test_validators_are_imported_when_first_used():
    """Importing the core loads neither pydantic nor jsonschema-rs nor numpy."""
    script = (
        "import sys, aideon_core\n"
        "print([n for n in ('pydantic', 'jsonschema_rs', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
LEAVES = st.sampled_from(
    [
        (int, st.integers()),
        (float, st.floats(allow_nan=False, allow_infinity=False)),
        (str, TEXTS),
        (bool, st.booleans()),
        (Colour, st.sampled_from(Colour)),
        (Literal["a", "b"], st.sampled_from(["a", "b"])),
    ]
)


@st.composite
def _models(draw, inner):
    fields = draw(st.dictionaries(st.sampled_from("abcd"), inner, min_size=1))
    model = create_model("Made", **{name: (kind, ...) for name, (kind, _) in fields.items()})
    values = st.fixed_dictionaries({name: each for name, (_, each) in fields.items()})
    return model, values.map(lambda given: model(**given))


TYPES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(lambda each: (list[each[0]], st.lists(each[1], max_size=3))),
        inner.map(lambda each: (dict[str, each[0]], st.dictionaries(TEXTS, each[1], max_size=3))),
        inner.map(lambda each: (each[0] | None, st.none() | each[1])),
        st.tuples(inner, inner).map(
            lambda two: (tuple[two[0][0], two[1][0]], st.tuples(two[0][1], two[1][1]))
        ),
        _models(inner),
    ),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(TYPES, st.data())
def test_every_value_of_every_type_comes_back(made, data):
    """A value written as JSON is read as itself, and fits the JSON Schema that is sent."""
    python_type, values = made
    value = data.draw(values)
    text = TypeAdapter(python_type).dump_json(value).decode()
    output = Output.of(python_type)
    assert output.read(text) == value
    assert output.read(f"```json\n{text}\n```") == value
    assert Output.of(output.schema).read(text) == json.loads(text)
