"""``with_structured_output``: how a form is asked for, and how its answers are read."""

# ruff: noqa: ANN401 - schemas are classes or mappings, their answers instances or dicts

from __future__ import annotations

import json
import re
from collections.abc import Callable  # noqa: TC003 - pydantic reads it
from dataclasses import dataclass, is_dataclass
from functools import lru_cache, partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, get_args

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import (
    BaseGenerationOutputParser,
    JsonOutputKeyToolsParser,
    JsonOutputParser,
)
from langchain_core.outputs import ChatGeneration, Generation  # noqa: TC002 - pydantic reads them
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel, TypeAdapter
from pydantic.v1 import BaseModel as BaseModelV1

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.language_models import LanguageModelInput

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
    def of(cls, given: dict[str, Any] | type) -> Form:
        """The form of a class or a JSON Schema.

        Raises:
            ValueError: no JSON Schema can be made of it.
        """
        if isinstance(given, dict):
            of_tool = not _TOOL_KEYS.isdisjoint(given)
            schema = convert_to_json_schema(given) if of_tool else {"title": _NAME, **given}
            return cls(schema, schema)
        if not isinstance(given, type):
            raise ValueError(  # noqa: TRY004 - as LangChain does
                f"schema is {given!r} and has to be a class, a TypedDict or a JSON Schema"
            )
        if issubclass(given, BaseModelV1):
            return cls(convert_to_json_schema(cast("Any", given)), given, given.parse_obj)
        if issubclass(given, BaseModel):
            return cls(_adapted(given), given, partial(_validated, given), given)
        if is_dataclass(given):
            schema = _adapted(given)
            return cls(schema, schema, partial(_validated, given), given)
        return cls(*_of_typed_dict(given))

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
                return _CalledInstance(name=self.name, made=self.made)
            return JsonOutputKeyToolsParser(key_name=self.name, first_tool_only=True)
        if self.made is not None:
            return _Instance(made=self.made, or_calls=or_calls)
        return _Json(or_calls=or_calls)

    def _sent(self, *, strict: bool | None) -> dict[str, Any]:
        if not strict or "properties" not in self.schema:
            return dict(self.schema)
        return convert_to_json_schema(self.told, strict=True)


def read(
    model: Runnable[LanguageModelInput, AIMessage],
    parser: Runnable[Any, Any],
    *,
    include_raw: bool,
) -> Runnable[LanguageModelInput, Any]:
    """The model and what reads its answers; with ``include_raw``, the message and the error too."""
    if not include_raw:
        return model | parser
    parsed = RunnablePassthrough.assign(
        parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
    ).with_fallbacks(
        [RunnablePassthrough.assign(parsed=lambda _: None)], exception_key="parsing_error"
    )
    return RunnableMap(raw=model) | parsed


def _adapted(given: type) -> dict[str, Any]:
    return {"title": given.__name__, **_adapter(given).json_schema()}


@lru_cache(maxsize=128)
def _adapter(given: type) -> TypeAdapter[Any]:
    return TypeAdapter(given)


def _validated(given: type, value: Any) -> Any:
    # As JSON, which even a strict class reads a date or an enum from.
    return _adapter(given).validate_json(json.dumps(value))


def _of_typed_dict(given: type) -> tuple[dict[str, Any], Any]:
    try:
        return convert_to_json_schema(cast("Any", given)), given
    except TypeError:
        # LangChain cannot read Required and NotRequired.
        schema = _adapted(given)
        return schema, schema


class _Json(JsonOutputParser):
    """Reads dicts, as far as they have come."""

    or_calls: bool = False

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        if self.or_calls and _calls(result):
            return None
        return super().parse_result(result, partial=partial)


class _Instance(BaseGenerationOutputParser[Any]):
    """Reads instances."""

    made: Callable[[Any], Any]
    or_calls: bool = False

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        if self.or_calls and _calls(result):
            return None
        value = JsonOutputParser().parse_result(result, partial=partial)
        return _instance(self.made, value, result[0].text)


class _CalledInstance(BaseGenerationOutputParser[Any]):
    """Reads instances from calls of a tool; None where there is no call."""

    name: str
    made: Callable[[Any], Any]

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:  # noqa: ARG002
        message = cast("ChatGeneration", result[0]).message
        assert isinstance(message, AIMessage)
        for call in message.tool_calls:
            if call["name"] == self.name:
                return _instance(self.made, call["args"], str(call["args"]))
        for bad in message.invalid_tool_calls:
            raise OutputParserException(
                f"The arguments of {bad['name']!r} cannot be read: {bad['error']}",
                llm_output=bad["args"] or "",
            )
        return None


def _calls(result: list[Generation]) -> bool:
    message = getattr(result[0], "message", None)
    return isinstance(message, AIMessage) and bool(message.tool_calls) and not result[0].text


def _instance(made: Callable[[Any], Any], value: Any, text: str) -> Any:
    try:
        return made(value)
    except ValueError as error:
        raise OutputParserException(
            f"The answer does not fit the schema: {error}", llm_output=text
        ) from error
