"""The parameters of a function as a JSON Schema, and arguments that fit them."""

from __future__ import annotations

import inspect
import json
import sys
from collections import OrderedDict
from functools import cached_property, lru_cache, partial
from types import GenericAlias, SimpleNamespace
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    get_args,
    get_origin,
    get_type_hints,
)

from aideon_core.errors import BadArguments, ConfigError
from aideon_core.schema.mistakes import mistake, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic import BaseModel
    from pydantic.json_schema import GenerateJsonSchema
    from pydantic_core import ErrorDetails

_EMPTY: Final = inspect.Parameter.empty
_OTHERS: Final = "**"


class Parameters:
    """What a model may give to a function: its parameters but those that are bound already.

    Args:
        function: any callable.
        tool: what messages call it.

    Raises:
        ConfigError: it takes positional arguments without names, or its signature is not known.
    """

    def __init__(self, function: Callable[..., object], tool: str) -> None:
        self._tool = tool
        try:
            self._signature = inspect.signature(function)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"The parameters of the tool {tool!r} are not known: {error}.",
                hint="Wrap it in a function of your own.",
            ) from error
        bound = function.keywords if isinstance(function, partial) else {}
        self._named: dict[str, inspect.Parameter] = {}
        self._others: inspect.Parameter | None = None
        for name, parameter in self._signature.parameters.items():
            if parameter.kind is parameter.VAR_POSITIONAL:
                raise ConfigError(
                    f"The tool {tool!r} takes *{name}, and a model gives every argument by name.",
                    hint=f"Take a list instead, as in {name}: list[str].",
                )
            if parameter.kind is parameter.VAR_KEYWORD:
                self._others = parameter
            elif name not in bound:
                self._named[name] = parameter
        self._globals, self._locals = _namespaces(function, self._signature)

    def schema(self, descriptions: Mapping[str, str], *, closed: bool) -> dict[str, Any]:
        """The JSON Schema of an object that holds the arguments.

        Args:
            descriptions: what the parameters are, where their annotations do not say it.
            closed: whether the schema itself says that there are no others.

        Raises:
            ConfigError: an annotation leads nowhere, or pydantic knows no JSON for its type.
        """
        schema = self._model.model_json_schema(schema_generator=_generator())
        # The model's own name is nobody's business.
        del schema["title"]
        for name, known in self._fields():
            if name in descriptions:
                schema["properties"][known].setdefault("description", descriptions[name])
        if self._others is not None:
            others = schema["properties"].pop(_OTHERS)
            schema["additionalProperties"] = others["additionalProperties"]
        if closed:
            _close(schema)
        return schema

    def bind(self, arguments: str | Mapping[str, object]) -> inspect.BoundArguments:
        """The arguments, checked and converted, as the function is called with them.

        Args:
            arguments: the JSON text of an object, or the object.

        Raises:
            BadArguments: they do not fit; the message names the place.
        """
        from pydantic import ValidationError

        given = loaded(arguments, self._tool)
        fields = {known: name for name, known in self._fields()}
        others = {key: value for key, value in given.items() if key not in fields}
        if others and self._others is None:
            unknown = [mistake(given, [key], "there is no such argument") for key in others]
            raise self._misfit(unknown)
        sorted_out = {known: given[known] for known in fields if known in given}
        if self._others is not None:
            sorted_out[_OTHERS] = others
        try:
            if isinstance(arguments, str):
                read = self._model.model_validate_json(json.dumps(sorted_out))
            else:
                read = self._model.model_validate(sorted_out)
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_context=False, include_input=False)
            raise self._misfit(
                [
                    mistake(given, each["loc"][each["loc"][0] == _OTHERS :], _sentence(each))
                    for each in wrong
                ]
            ) from error
        values = {name: getattr(read, f"p{at}") for at, name in enumerate(self._named)}
        if self._others is not None:
            values[self._others.name] = getattr(read, "others")  # noqa: B009 - made at run time
        return inspect.BoundArguments(self._signature, OrderedDict(values))

    def _misfit(self, mistakes: list[str]) -> BadArguments:
        return BadArguments(f"The arguments do not fit {self._tool!r}. {told(mistakes)}")

    @cached_property
    def _model(self) -> type[BaseModel]:
        from pydantic import Field, create_model

        # Names of parameters may be names that models keep for themselves.
        fields = {f"p{at}": self._field(each) for at, each in enumerate(self._named.values())}
        if self._others is not None:
            others = GenericAlias(dict, (str, self._annotation(self._others)))
            fields["others"] = others, Field(alias=_OTHERS, default_factory=dict)
        made: type[BaseModel] = create_model("Arguments", **fields)  # type: ignore[call-overload]
        return made

    def _fields(self) -> Iterator[tuple[str, str]]:
        """The name of each parameter, and the one that a model knows it by."""
        for at, name in enumerate(self._named):
            yield name, self._model.model_fields[f"p{at}"].alias or name

    def _field(self, parameter: inspect.Parameter) -> tuple[Any, Any]:
        from pydantic import Field

        inner: Any
        annotation = self._annotation(parameter)
        inner, *metadata = (
            get_args(annotation) if get_origin(annotation) is Annotated else [annotation]
        )
        if parameter.default is None:
            # What may be left out for None may be given as null.
            inner = inner | None
        # An alias among the metadata comes later and wins.
        named = Annotated[(inner, Field(alias=parameter.name), *metadata)]
        return named, ... if parameter.default is _EMPTY else parameter.default

    def _annotation(self, parameter: inspect.Parameter) -> Any:  # noqa: ANN401 - a type
        from pydantic import PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter

        if parameter.annotation is _EMPTY:
            return Any
        holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
        try:
            hints = get_type_hints(holder, self._globals, self._locals, include_extras=True)
            annotation = hints[parameter.name]
            TypeAdapter(annotation).json_schema(schema_generator=_generator())
        except (
            AttributeError,
            NameError,
            SyntaxError,
            TypeError,
            PydanticUserError,
            PydanticUndefinedAnnotation,
        ) as error:
            raise ConfigError(
                f"The parameter {parameter.name!r} of the tool {self._tool!r} has the type "
                f"{parameter.annotation!r}, which cannot be made from JSON: "
                f"{str(error).splitlines()[0].rstrip('.')}.",
                hint="Annotate it with a type that pydantic reads and the function sees.",
            ) from error
        return annotation


def _namespaces(
    function: Callable[..., object], signature: inspect.Signature
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Where the names in annotations that are text are looked up."""
    written: Any = function
    while (inner := _inside(written)) is not None:
        written = inner
    module = sys.modules.get(written.__module__)
    space = getattr(written, "__globals__", vars(module) if module else {})
    names = {
        name
        for parameter in signature.parameters.values()
        if isinstance(parameter.annotation, str)
        for name in _names(parameter.annotation)
    }
    outer = getattr(written, "__qualname__", "").rpartition(".<locals>.")[0]
    for frame in _frames() if names and outer else ():
        # The function around it, if it is still running, knows the types it defined.
        if frame.f_code.co_qualname == outer and frame.f_globals is space:
            return space, {name: frame.f_locals[name] for name in names & frame.f_locals.keys()}
    return space, {}


def _inside(function: Any) -> Any:  # noqa: ANN401 - any callable
    if isinstance(function, partial):
        return function.func
    if inspect.ismethod(function):
        return function.__func__
    if hasattr(function, "__wrapped__"):
        return function.__wrapped__
    if inspect.isroutine(function) or inspect.isclass(function):
        return None
    return type(function).__call__


def _names(annotation: str) -> tuple[str, ...]:
    try:
        return compile(annotation, "<annotation>", "eval").co_names
    except SyntaxError:
        # Told of, with the parameter's name, once the annotation is needed.
        return ()


def _frames() -> Iterator[Any]:
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def loaded(arguments: str | Mapping[str, object], tool: str) -> dict[str, Any]:
    """The arguments as an object.

    Args:
        arguments: the JSON text of an object, or the object.
        tool: what messages call the function.

    Raises:
        BadArguments: they are no such text.
    """
    if not isinstance(arguments, str):
        return dict(arguments)
    try:
        # Line breaks inside strings are a slip of models, and so is JSON inside a string.
        given = json.loads(arguments.strip() or "{}", strict=False)
        if isinstance(given, str):
            given = json.loads(given, strict=False)
    except (ValueError, RecursionError) as error:
        raise BadArguments(f"The arguments of {tool!r} are no JSON: {error}.") from error
    if not isinstance(given, dict):
        raise BadArguments(f"The arguments of {tool!r} have to be a JSON object.")
    return given


def _sentence(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return f"{str(error['loc'][-1])!r} is required"
    return error["msg"]


@lru_cache(maxsize=1)
def _generator() -> type[GenerateJsonSchema]:
    from pydantic.json_schema import GenerateJsonSchema

    class Plain(GenerateJsonSchema):
        """Without the titles made of names, which cost tokens and say nothing."""

        def field_title_should_be_set(self, _: object) -> bool:
            return False

        def emit_warning(self, kind: Any, detail: str) -> None:  # noqa: ANN401 - theirs
            # A default that has no JSON is left out of the schema, and is no mistake.
            if kind != "non-serializable-default":
                super().emit_warning(kind, detail)

    return Plain


def _close(schema: dict[str, Any]) -> None:
    left: list[Any] = [schema]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            if isinstance(node.get("properties"), dict):
                node.setdefault("additionalProperties", False)
            left += node.values()
        elif isinstance(node, list):
            left += node
