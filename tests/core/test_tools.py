"""Tools made of functions: their schemas, and calls with what a model writes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import json
from typing import Annotated, Any, Literal

import jsonschema
import pydantic
import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st

from aideon_core import Client, Tool, tool
from aideon_core.errors import BadArguments, ConfigError
from aideon_core.tools.results import failure, text_of
from aideon_testing import FakeBackend


class Unit(enum.Enum):
    C = "celsius"
    F = "fahrenheit"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Place(pydantic.BaseModel):
    """A place on earth."""

    name: str
    at: Point | None = None


class Options(typing_extensions.TypedDict):
    days: int


def weather(city: str, unit: Unit = Unit.C, days: int | None = None) -> str:
    """Tell the weather of a city.

    Only for Europe.

    Args:
        city: the city,
            with its country.
        unit (Unit): of the temperature.
        days: how far ahead.

    Returns:
        What it will be like.
    """
    return f"{city} {unit.value} {days}"


def test_a_function_is_a_tool_by_its_annotations_and_docstring():
    """Name, types, defaults and descriptions all come from the function itself."""
    assert tool(weather).schema == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tell the weather of a city.\n\nOnly for Europe.",
            "parameters": {
                "$defs": {
                    "Unit": {"enum": ["celsius", "fahrenheit"], "title": "Unit", "type": "string"}
                },
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "the city, with its country."},
                    "unit": {
                        "$ref": "#/$defs/Unit",
                        "default": "celsius",
                        "description": "of the temperature.",
                    },
                    "days": {
                        "anyOf": [{"type": "integer"}, {"type": "null"}],
                        "default": None,
                        "description": "how far ahead.",
                    },
                },
                "required": ["city"],
            },
        },
    }


def numpy_style(a, b):
    """Add.

    Parameters
    ----------
    a, b : int
        A number.
    """


def sphinx_style(a, b):
    """Add.

    :param a: A number.
    :param int b: A number.
    """


@pytest.mark.parametrize("function", [numpy_style, sphinx_style])
def test_docstrings_may_be_of_any_style(function):
    """NumPy's and Sphinx's styles describe parameters as well as Google's."""
    made = Tool(function)
    assert made.description == "Add."
    assert made.parameters["properties"] == {
        "a": {"description": "A number."},
        "b": {"description": "A number."},
    }


def test_what_the_annotation_says_comes_before_the_docstring():
    """A Field's description and limits are used; the docstring fills what it leaves open."""

    def roll(sides: Annotated[int, pydantic.Field(ge=2, description="of the die")], times: int = 1):
        """Roll dice.

        Args:
            sides: nothing of interest
            times: how often
        """
        return sides * times

    properties = Tool(roll).parameters["properties"]
    assert properties["sides"] == {"type": "integer", "minimum": 2, "description": "of the die"}
    assert properties["times"]["description"] == "how often"
    with pytest.raises(BadArguments, match=r"\$\.sides is 1: .*greater than or equal to 2"):
        Tool(roll).call('{"sides": 1}')


def test_the_decorator_takes_arguments_and_leaves_a_function():
    """Name, description and strictness can be said; the function can still be called."""

    @tool(name="add", description="Adds.", strict=True)
    def plus(a: int, b: int = 1) -> int:
        """Something else."""
        return a + b

    function = plus.schema["function"]
    assert (function["name"], function["description"], function["strict"]) == ("add", "Adds.", True)
    assert function["parameters"]["additionalProperties"] is False
    assert plus(1, b=2) == 3
    assert plus.__name__ == "plus"
    assert plus.call('{"a": 3}') == 4


async def test_arguments_become_what_the_annotations_name():
    """Dataclasses, models, TypedDicts, enums, dates and literals arrive as such."""

    def plan(
        point: Point,
        place: Place,
        options: Options,
        unit: Unit,
        day: dt.date,
        kind: Literal["fast", "slow"],
        anything,
    ):
        return point, place, options, unit, day, kind, anything

    arguments = {
        "point": {"x": "1"},
        "place": {"name": "Oslo", "at": {"x": 1, "y": 2}},
        "options": {"days": 3},
        "unit": "fahrenheit",
        "day": "2026-11-22",
        "kind": "slow",
        "anything": [1],
    }
    expected = (
        Point(1, 0),
        Place(name="Oslo", at=Point(1, 2)),
        {"days": 3},
        Unit.F,
        dt.date(2026, 11, 22),
        "slow",
        [1],
    )
    assert Tool(plan).call(json.dumps(arguments)) == expected
    assert Tool(plan).call(arguments) == expected
    assert await Tool(plan).acall(json.dumps(arguments)) == expected


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ('{"place": {"name": 3}}', r"\$\.place\.name is 3: Input should be a valid string"),
        ('{"place": {"name": "a", "at": {"x": "b"}}}', r'\$\.place\.at\.x is "b"'),
        ("{}", "'place' is required"),
        ('{"place": {"name": "a"}, "colour": 1}', r"\$\.colour is 1: there is no such argument"),
        ("[1]", "have to be a JSON object"),
        ('{"place": {"na', "are no JSON"),
        ("[" * 100_000, "are no JSON"),
        ("1" * 10_000, "are no JSON"),
    ],
)
def test_wrong_arguments_are_refused_with_their_place(arguments, told):
    """What does not fit is named with the path to it, and the function is not called."""
    called = []

    @tool
    def show(place: Place):
        called.append(place)

    with pytest.raises(BadArguments, match=told):
        show.call(arguments)
    assert called == []


@pytest.mark.parametrize(
    "arguments", ['{"text": "a\nb"}', '"{\\"text\\": \\"a\\\\nb\\"}"', '  {"text": "a\\nb"}\n']
)
def test_slips_of_models_do_no_harm(arguments):
    """A raw line break in a string and JSON inside a string are read as they were meant."""
    assert Tool(lambda text: text, name="say").call(arguments) == "a\nb"


def test_empty_arguments_are_none():
    """A call without arguments may come as an empty text."""
    assert Tool(lambda: "now", name="now").call("") == "now"


class Shop:
    """Sells."""

    def __init__(self):
        self.sold = []

    @tool
    def sell(self, what: str, times: int = 1) -> int:
        """Sell something."""
        self.sold += [what] * times
        return len(self.sold)

    def refund(self, what: str) -> bool:
        return what in self.sold

    @tool
    @staticmethod
    def price(of: str) -> int:
        return len(of)

    def __call__(self, order: list[str]) -> int:
        """Take an order."""
        return len(order)


def test_methods_and_callables_are_tools():
    """A method knows its object, which is no parameter; so do objects that can be called."""
    shop = Shop()
    assert shop.sell.call('{"what": "tea", "times": 2}') == 2
    assert list(shop.sell.parameters["properties"]) == ["what", "times"]
    assert shop.sell.description == "Sell something."
    assert Tool(shop.refund).call('{"what": "tea"}') is True
    assert shop.sell("tea") == 3
    assert shop.price.call('{"of": "tea"}') == Shop.price.call('{"of": "tea"}') == 3
    assert (Tool(shop).name, Tool(shop).description) == ("Shop", "Take an order.")
    assert Tool(shop).call('{"order": ["a"]}') == 1
    assert Tool(Point).call('{"x": 1}') == Point(1)


def test_what_a_partial_holds_is_none_of_the_models_business():
    """Arguments that are bound already are neither shown nor taken."""

    def search(index: str, query: str, limit: int = 3, *, key: str = ""):
        return index, query, limit, key

    made = Tool(functools.partial(search, "books", key="secret"))
    assert made.name == "search"
    assert list(made.parameters["properties"]) == ["query", "limit"]
    assert "secret" not in json.dumps(made.schema)
    assert made.call('{"query": "q"}') == ("books", "q", 3, "secret")
    with pytest.raises(BadArguments, match="no such argument"):
        made.call('{"query": "q", "key": "mine"}')


def test_positional_and_other_arguments_find_their_place():
    """Positional-only parameters are given by name, and **others take any name but theirs."""

    def paint(shape, /, colour="red", **others: int):
        return shape, colour, others

    made = Tool(paint)
    assert made.parameters["additionalProperties"] == {"type": "integer"}
    assert made.call('{"shape": "o", "others": "1", "p0": 2}') == (
        "o",
        "red",
        {"others": 1, "p0": 2},
    )
    with pytest.raises(BadArguments, match=r'\$\.size is "big"'):
        made.call('{"shape": "o", "size": "big"}')


def test_parameters_may_have_any_name():
    """Names that pydantic's models keep for themselves, and private ones, are good names."""

    def odd(schema: str, model_config: int, _private: str, copy: str = "c", json: str = "j"):
        return schema, model_config, _private, copy, json

    arguments = {"schema": "s", "model_config": 1, "_private": "p"}
    assert Tool(odd).call(json.dumps(arguments)) == ("s", 1, "p", "c", "j")


def test_defaults_and_names_may_be_said_by_fields():
    """A Field as a default, or an alias in one, is what it is in a model."""

    def f(n: int = pydantic.Field(3, description="d"), from_: str = pydantic.Field(alias="from")):
        return n, from_

    made = Tool(f)
    assert made.parameters["properties"]["n"] == {
        "type": "integer",
        "default": 3,
        "description": "d",
    }
    assert made.parameters["required"] == ["from"]
    assert made.call('{"from": "Oslo"}') == (3, "Oslo")


def test_none_as_a_default_may_be_given():
    """A parameter that is None when left out takes null, whatever its annotation says."""

    def f(a: int = None, b: Annotated[int, pydantic.Field(ge=0)] = None):  # noqa: RUF013 - people write it
        return a, b

    assert Tool(f).call('{"a": null, "b": null}') == (None, None)


def test_a_default_may_be_anything():
    """A default without JSON is used, and left out of the schema."""
    missing = object()
    made = Tool(lambda a=missing: a, name="f")
    assert made.parameters["properties"] == {"a": {}}
    assert made.call() is missing


def test_types_defined_around_the_function_are_found():
    """Annotations as text may name types of the function around, even when it is over."""

    def make():
        @dataclasses.dataclass
        class Local:
            x: int

        def show(local: Local):
            return local.x

        return Tool(show)

    assert make().call('{"local": {"x": 7}}') == 7


def test_forward_references_may_be_defined_later():
    """An annotation is looked up when the tool is first used."""

    @tool
    def show(it: Later):  # noqa: F821 - defined below
        return it

    globals()["Later"] = Point
    assert show.call('{"it": {"x": 1}}') == Point(1)


def unnamed(*names: str): ...


def unknown(it: Nowhere): ...  # noqa: F821 - that is the point


def unreadable(it: json.JSONDecoder): ...


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Tool(lambda: 1), "'<lambda>'.*give name="),
        (lambda: Tool(weather, name="get weather"), "letters, digits and underscores"),
        (lambda: Tool(weather, name="get-weather"), "letters, digits and underscores"),
        (lambda: Tool(weather, name="v1.get"), "letters, digits and underscores"),
        (lambda: Tool(weather, name="a" * 65), "64"),
        (lambda: Tool(unnamed), r"takes \*names.*Take a list"),
        (lambda: Tool(max), "'max' are not known.*Wrap it"),
        (lambda: Tool(3), "3 is no tool"),
        (lambda: Tool(unknown).schema, "'it' of the tool 'unknown'.*'Nowhere' is not defined"),
        (lambda: Tool(unreadable).schema, "'it' of the tool 'unreadable'.*JSONDecoder"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_with_the_reason(make, told):
    """An error names the tool, the parameter, and what to do."""
    with pytest.raises(ConfigError, match=told):
        make()


TYPES = st.recursive(
    st.sampled_from([int, str, bool, float, Point, Place, Unit, dt.date, Literal["a", 1]]),
    lambda inner: st.one_of(
        inner.map(lambda each: list[each]),
        inner.map(lambda each: dict[str, each]),
        inner.map(lambda each: each | None),
    ),
    max_leaves=3,
)


@given(types=st.lists(TYPES, max_size=3))
def test_the_schema_of_any_signature_is_a_json_schema(types):
    """Whatever the types, the parameters are valid JSON Schema and open to the engines."""

    def f(**_: Any): ...

    f.__annotations__ = {f"a{at}": each for at, each in enumerate(types)}
    source = ", ".join(f.__annotations__)
    made = eval(f"lambda {source}: [{source}]")
    made.__annotations__ = f.__annotations__
    schema = Tool(made, name="f").parameters
    jsonschema.Draft202012Validator.check_schema(schema)
    assert list(schema["properties"]) == list(f.__annotations__)
    assert "additionalProperties" not in schema


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("as it is", "as it is"),
        (None, "null"),
        (Point(1, 2), '{"x":1,"y":2}'),
        (Place(name="Å"), '{"name":"Å","at":null}'),
        ([dt.date(2026, 1, 2), decimal.Decimal("1.50")], '["2026-01-02","1.50"]'),
        ({"unit": Unit.C, "raw": b"\xff"}, '{"unit":"celsius","raw":"_w=="}'),
        ({1}, "[1]"),
        (float("nan"), "NaN"),
        ("half \ud83d", "half ?"),
        (type("Odd", (), {"__str__": lambda _: "odd"})(), '"odd"'),
    ],
)
def test_results_become_text(result, text):
    """Text stays, everything else becomes JSON."""
    assert text_of(result) == text


def test_a_failure_is_told_briefly():
    """The model reads the type and the text of an exception, cut to a bounded length."""
    assert failure(LookupError("no such city")) == "LookupError: no such city"
    assert len(failure(ValueError("x" * 10_000))) == 1000


def test_chat_takes_functions_beside_schemas():
    """A function, a tool and an OpenAI-style dict reach the backend alike."""
    backend = FakeBackend("cloud", side="cloud")
    client = Client(local=None, cloud=backend)
    client.chat("Hi", tools=[weather, tool(Shop().refund), tool(weather).schema])
    sent = backend.requests[0].tools
    assert sent[0] == sent[2] == tool(weather).schema
    assert sent[1]["function"]["name"] == "refund"
