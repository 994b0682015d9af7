"""``with_structured_output``: what a form is, and how it is asked for."""

# ruff: noqa: ANN401 - schemas are classes or mappings, their answers instances or dicts

from __future__ import annotations

import json
import re
from collections.abc import Callable  # noqa: TC003 - pydantic reads it
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    TypeAlias,
    cast,
    get_args,
    get_origin,
)

from langchain_core.output_parsers import JsonOutputKeyToolsParser
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel, PydanticUserError, TypeAdapter
from pydantic.v1 import BaseModel as BaseModelV1

from aideon_core.schema.validators import rooted
from langchain_aideon.chat import reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.runnables import Runnable

Method: TypeAlias = Literal["json_schema", "function_calling", "json_mode"]
"""How an answer of a form is asked for."""

# A schema with one of these is a tool's, not a JSON Schema.
_TOOL_KEYS: Final = frozenset({"function", "input_schema", "name", "toolSpec"})
_NAME: Final = "answer"
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_NAME: Final = 64


def check(method: str, *, strict: bool | None, tools: Sequence[Any] | None) -> None:
    """Refuse a method there is none of, and what a method does not take.

    Raises:
        ValueError: says which.
    """
    if method not in get_args(Method):
        raise ValueError(f"method is {method!r} and has to be one of {', '.join(get_args(Method))}")
    if strict is not None and method == "json_mode":
        raise ValueError("strict= is about a schema, and method='json_mode' sends none")
    if tools and method != "json_schema":
        raise ValueError(f"tools= goes with method='json_schema', not with {method!r}")


@dataclass(frozen=True, slots=True)
class Form:
    """A schema of any kind.

    Attributes:
        schema: it as a JSON Schema with a title.
        told: it as LangChain's callbacks can read it.
        made: makes an instance of its class from plain JSON; None where answers are dicts.
        output_type: the class, where the core can check with it.
    """

    schema: dict[str, Any]
    told: Any
    made: Callable[[Any], Any] | None = None
    output_type: type | None = None

    @classmethod
    def of(cls, given: Any) -> Form:
        """The form of a class, another type or a JSON Schema.

        Raises:
            ValueError: no JSON Schema can be made of it.
        """
        if isinstance(given, dict):
            schema = _of_mapping(given)
            return cls(schema, schema)
        if not isinstance(given, type):
            schema = _adapted(given)
            return cls(schema, schema, partial(_validated, given))
        if issubclass(given, BaseModelV1):
            return cls(convert_to_json_schema(cast("Any", given)), given, given.parse_obj)
        if hasattr(given, "__required_keys__"):  # a TypedDict, from typing or its extensions
            return cls(*_of_typed_dict(given))
        schema = _adapted(given)
        # Whoever resolves the references of a recursive schema has to cut it off somewhere.
        flat = issubclass(given, BaseModel) and given.__name__ not in schema.get("$defs", {})
        return cls(schema, given if flat else schema, partial(_validated, given), given)

    @property
    def name(self) -> str:
        """What the form is called on the wire: its title, of the letters that a name may have."""
        return _NOT_IN_NAMES.sub("_", str(self.schema["title"])).strip("_")[:_LONGEST_NAME] or _NAME

    def traced(self, method: Method, *, strict: bool | None) -> dict[str, Any]:
        """The form as LangChain's callbacks tell of it."""
        kwargs: dict[str, Any] = {"method": method}
        if method != "json_mode":
            kwargs["strict"] = strict
        return {"kwargs": kwargs, "schema": self.told}

    def tool(self, *, strict: bool | None) -> dict[str, Any]:
        """The form as a tool.

        Raises:
            ValueError: its values are no objects, and arguments are.
        """
        parameters = self._sent(strict=strict)
        if "properties" not in parameters:
            raise ValueError(
                f"The schema {self.name!r} has no properties, so no tool can take it; "
                "method='json_schema' can"
            )
        del parameters["title"]
        function: dict[str, Any] = {"name": self.name}
        if description := parameters.pop("description", ""):
            function["description"] = description
        function["parameters"] = parameters
        if strict is not None:
            function["strict"] = strict
        return {"type": "function", "function": function}

    def asked(self, *, strict: bool | None) -> dict[str, Any]:
        """The form as the parameters of a call.

        Those of a class are checked as the class checks, with its own validators, unless
        strict mode has its own word on it.
        """
        named: dict[str, Any] = {"name": self.name, "schema": self._sent(strict=strict)}
        if strict is not None:
            named["strict"] = strict
        asked: dict[str, Any] = {"response_format": {"type": "json_schema", "json_schema": named}}
        if strict is None and self.output_type is not None:
            asked["output_type"] = self.output_type
        return asked

    def parser(self, method: Method, *, or_calls: bool = False) -> Runnable[Any, Any]:
        """What reads the answers of a method.

        Answers that are dicts grow in a stream; instances come once, whole and valid.

        Args:
            method: how the answers were asked for.
            or_calls: the model may call tools instead, which reads as None.
        """
        if method == "function_calling":
            if self.made is not None:
                return reading.CalledInstance(name=self.name, made=self.made)
            return JsonOutputKeyToolsParser(key_name=self.name, first_tool_only=True)
        if self.made is not None:
            return reading.Instance(made=self.made, or_calls=or_calls)
        return reading.Json(or_calls=or_calls)

    def _sent(self, *, strict: bool | None) -> dict[str, Any]:
        if not strict or "properties" not in self.schema:
            return dict(self.schema)
        return convert_to_json_schema(self.told, strict=True)


def _of_mapping(given: dict[str, Any]) -> dict[str, Any]:
    """A JSON Schema with a title, of one, of a tool's, or of OpenAI's ``response_format``."""
    named = given.get("json_schema", given)
    if isinstance(named, dict) and isinstance(schema := named.get("schema"), dict):
        root = rooted(schema)
        return {**root, "title": named.get("name") or root.get("title", _NAME)}
    if "properties" in given or _TOOL_KEYS.isdisjoint(given):
        kept = {key: value for key, value in rooted(given).items() if key != "name"}
        return {"title": given.get("name", _NAME), **kept}
    return convert_to_json_schema(given)


def _adapted(given: Any) -> dict[str, Any]:
    try:
        schema = _adapter(given).json_schema()
    except (PydanticUserError, NameError, TypeError) as error:
        raise ValueError(
            f"schema is {given!r} and has to be a class, a TypedDict, a JSON Schema or another "
            f"type that pydantic reads, such as list[Person]: {error}"
        ) from error
    return {"title": getattr(given, "__name__", _NAME), **rooted(schema)}


@lru_cache(maxsize=128)
def _adapter(given: Any) -> TypeAdapter[Any]:
    # Of a function pydantic would read arguments, and call it with an answer.
    if not isinstance(given, type) and get_origin(given) is None:
        raise TypeError("it is no type")
    return TypeAdapter(given)


def _validated(given: Any, value: Any) -> Any:
    # As JSON, which even a strict class reads a date or an enum from.
    return _adapter(given).validate_json(json.dumps(value))


def _of_typed_dict(given: Any) -> tuple[dict[str, Any], Any]:
    try:
        schema = convert_to_json_schema(given)
    except TypeError:
        # LangChain cannot read Required and NotRequired.
        schema = _adapted(given)
        return schema, schema
    # Nor total=False, and where there is no docstring it takes that of dict.
    required = [key for key in schema.pop("required", ()) if key in given.__required_keys__]
    if given.__doc__ in (None, dict.__doc__):
        schema.pop("description", None)
    return (schema | {"required": required} if required else schema), given
