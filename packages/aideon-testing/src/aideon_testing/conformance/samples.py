"""The tools and forms the bodies ask for: small, bounded, and each with something of its own.

Texts and lists have a greatest length, so that a weak model that holds to the schema comes to
an end.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from aideon_core.types import Json


def _tool(name: str, description: str, parameters: dict[str, Any]) -> Json:
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def _object(**properties: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON Schemas
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _text(longest: int = 16) -> dict[str, Any]:
    return {"type": "string", "maxLength": longest}


def _number(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}


WEATHER: Final = _tool(
    "get_weather",
    "The weather in a city.",
    _object(city=_text(), unit={"type": "string", "enum": ["celsius", "fahrenheit"]}),
)
POPULATION: Final = _tool(
    "get_population", "How many people live in a city.", _object(city=_text())
)
CLOCK: Final = _tool("get_time", "The time of day.", _object())
ORDER: Final = _tool(
    "place_order",
    "Order things to an address.",
    _object(
        items={
            "type": "array",
            "minItems": 1,
            "maxItems": 2,
            "items": _object(
                name=_text(),
                count=_number(1, 9),
                size={"type": "string", "enum": ["small", "large"]},
            ),
        },
        address=_object(street=_text(), zip=_number(1000, 9999)),
        gift={"type": "boolean"},
    ),
)
TAGS: Final = _tool(
    "set_tags",
    "Set the tags of a page.",
    _object(tags={"type": "array", "items": _text(8), "minItems": 1, "maxItems": 3}),
)
MANY: Final = tuple(
    _tool(f"look_up_{subject}", f"Look up a {subject} by its number.", _object(id=_number(1, 99)))
    for subject in (
        *("customer", "invoice", "order", "parcel", "product", "refund"),
        *("shop", "supplier", "ticket", "user", "voucher", "warehouse"),
    )
)
TWO: Final = (WEATHER, POPULATION)


def named(tool: Json) -> dict[str, Any]:
    """The ``tool_choice`` that names a tool."""
    return {"type": "function", "function": {"name": tool["function"]["name"]}}


SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "object": _object(name=_text(), age=_number(0, 120)),
    "nested": _object(person=_object(name=_text(), home=_object(city=_text()))),
    "array": _object(
        primes={"type": "array", "items": _number(2, 97), "minItems": 1, "maxItems": 3}
    ),
    "enum": _object(color={"type": "string", "enum": ["red", "green", "blue"]}),
    "anyOf": _object(value={"anyOf": [_number(0, 9), {"type": "null"}]}),
    "ref": {
        "$defs": {"point": _object(x=_number(0, 9), y=_number(0, 9))},
        **_object(start={"$ref": "#/$defs/point"}, end={"$ref": "#/$defs/point"}),
    },
    "recursive": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": _text(8),
                    "children": {
                        "type": "array",
                        "items": {"$ref": "#/$defs/node"},
                        "maxItems": 1,
                    },
                },
                "required": ["name"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
}
PATTERN: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}"


class _Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class PersonModel(BaseModel):
    """A pydantic model."""

    name: Annotated[str, Field(max_length=16)]
    age: Annotated[int, Field(ge=0, le=120)]
    mood: _Mood


@dataclass
class PersonRecord:
    """A dataclass."""

    name: Annotated[str, Field(max_length=16)]
    age: Annotated[int, Field(ge=0, le=120)]


class PersonDict(TypedDict):
    """A TypedDict."""

    name: Annotated[str, Field(max_length=16)]
    mood: Literal["good", "bad"]


TYPES: Final[dict[str, tuple[type, type]]] = {
    "pydantic": (PersonModel, PersonModel),
    "dataclass": (PersonRecord, PersonRecord),
    "typeddict": (PersonDict, dict),
}
"""What is asked for as ``output_type``, and what a value of it is an instance of."""
