"""The rules of the Berkeley Function Calling Leaderboard for its Python categories.

What its checker asks of the calls that a model made is asked here, its oddities included, so
that figures can be compared. The functions are pure, and know nothing of who made the calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Json: TypeAlias = Mapping[str, Any]
Call: TypeAlias = tuple[str, Mapping[str, Any]]
"""A function's name, as it was offered, and the arguments."""

Options: TypeAlias = Sequence[Any]
"""The values that are right; the empty text among them says that none is right too."""

_SCHEMA_TYPES = {
    "string": "string char String any Any",
    "integer": "integer byte short long Bigint",
    "number": "number float double",
    "boolean": "boolean bool",
    "array": "array list tuple Array ArrayList Queue Stack",
    "object": "object dict HashMap Hashtable",
}
_SCHEMA_TYPE = {name: kind for kind, names in _SCHEMA_TYPES.items() for name in names.split()}
_KINDS: Mapping[str, type] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
    "object": dict,
}
_NO_KEYWORDS = frozenset({"optional"})
_OVERLOOKED = re.compile(r"[ ,./_*^-]")
_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)


def tools(functions: Sequence[Json]) -> list[dict[str, Any]]:
    """The functions of a case as OpenAI's API takes them."""
    return [
        {
            "type": "function",
            "function": {
                "name": offered_name(function["name"]),
                "description": function["description"],
                "parameters": json_schema(function["parameters"]),
            },
        }
        for function in functions
    ]


def offered_name(name: str) -> str:
    """The name a model is told: OpenAI's API takes no dots."""
    return name.replace(".", "_")


def json_schema(spec: Json) -> dict[str, Any]:
    """JSON Schema for the types of the data, which are Python's, Java's and its own."""
    schema = {key: value for key, value in spec.items() if key not in _NO_KEYWORDS}
    schema["type"] = _schema_type(spec)
    if "properties" in spec:
        schema["properties"] = {k: json_schema(v) for k, v in spec["properties"].items()}
    if "items" in spec:
        schema["items"] = json_schema(spec["items"])
    return schema


def tagged_calls(text: str) -> list[Call]:
    """The calls a Hermes-style model wrote between its tags; what is no call is left out."""
    found: list[Call] = []
    for written in _TAGGED.findall(text):
        try:
            read = json.loads(written)
        except ValueError:
            continue
        if isinstance(read, dict) and isinstance(read.get("name"), str):
            arguments = read.get("arguments")
            if isinstance(arguments, dict):
                found.append((read["name"], arguments))
    return found


def fault(
    category: str, functions: Sequence[Json], calls: Sequence[Call], truths: Sequence[Json]
) -> str | None:
    """What is wrong with the calls, None where they are a right answer.

    Args:
        category: as the data's files are named; only ``irrelevance`` has a rule of its own.
        functions: what was offered, as the data has it.
        calls: what the model made of it.
        truths: the right calls: the name of each, with the options for each argument.
    """
    if category == "irrelevance":
        return "a call where none helps" if calls else None
    if len(calls) != len(truths):
        return f"{len(calls)} calls in place of {len(truths)}"
    by_name = {function["name"]: function for function in functions}
    left = list(calls)
    for truth in truths:
        ((name, options),) = truth.items()
        # In any order, each call once; what matches first is taken, as the leaderboard does.
        faults = [_call_fault(call, by_name[name], options) for call in left]
        if None not in faults:
            return faults[0]
        del left[faults.index(None)]
    return None


def _call_fault(call: Call, function: Json, options: Mapping[str, Options]) -> str | None:
    name, arguments = call
    if name != offered_name(function["name"]):
        return f"{name} in place of {function['name']}"
    parameters = function["parameters"]
    for missing in parameters.get("required") or ():
        if missing not in arguments:
            return f"no {missing}, which is required"
    for key, value in arguments.items():
        spec = parameters["properties"].get(key)
        if spec is None or key not in options:
            return f"{key}, which is not asked for"
        if not _is_right(value, spec, options[key]):
            return f"{key} is {value!r} and not one of {options[key]!r}"
    for key, values in options.items():
        if key not in arguments and "" not in values:
            return f"no {key}"
    return None


def _is_right(value: object, spec: Json, options: Options) -> bool:
    kind = _kind(spec)
    if kind is float and type(value) is int:
        value = float(value)
    told = _kind_of_first(options)
    if type(value) not in (kind, told):
        return False
    inner = _kind(spec["items"]) if kind is list and "items" in spec else None
    if type(value) is kind and inner is not None:
        assert isinstance(value, list)
        if not any(_has_kind(value, option, inner) for option in options):
            return False
    # Right values of another type than the parameter's are taken as they stand.
    return value in options if told not in (None, kind) else _is_among(options, value, inner)


def _is_among(options: Options, value: object, inner: type | None) -> bool:
    if isinstance(value, dict):
        return any(_is_dict(value, option) for option in options)
    if isinstance(value, list) and inner is dict:
        return any(_are_dicts(value, option) for option in options)
    if isinstance(value, list):
        return _plain_items(value) in [_plain_items(option) for option in options]
    return _plain(value) in [_plain(option) for option in options]


def _has_kind(values: Sequence[object], option: object, kind: type) -> bool:
    """Whether the items have the type declared or that of the option; no float may be whole."""
    if not isinstance(option, list):
        return True
    return all(type(item) in (kind, _kind_of_first(option)) for item in values)


def _is_dict(value: Mapping[str, object], option: Any) -> bool:  # noqa: ANN401 - JSON
    if option == "":
        return False
    return all(
        key in option and _plain(item) in [_plain(each) for each in option[key]]
        for key, item in value.items()
    ) and all(key in value or "" in items for key, items in option.items())


def _are_dicts(values: Sequence[Any], option: Sequence[Any]) -> bool:
    return len(values) == len(option) and all(map(_is_dict, values, option))


def _plain_items(option: Sequence[object]) -> list[object]:
    return [_plain(item) for item in option]


def _plain(value: object) -> object:
    """Text without case, spaces and most marks, so that 'April 1, 2024' is 'april 1 2024'."""
    if not isinstance(value, str):
        return value
    return _OVERLOOKED.sub("", value).lower().replace("'", '"')


def _schema_type(spec: Json) -> str:
    return _SCHEMA_TYPE[spec.get("type", "string")]


def _kind(spec: Json) -> type:
    return _KINDS[_schema_type(spec)]


def _kind_of_first(options: Options) -> type | None:
    return next((type(option) for option in options if option != ""), None)
