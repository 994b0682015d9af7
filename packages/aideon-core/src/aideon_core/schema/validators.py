"""What checks a value: pydantic for Python types, jsonschema-rs for JSON Schemas.

Both are imported when the first of its kind is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from aideon_core.errors import BadRequest, InvalidOutput
from aideon_core.schema.mistakes import mistake, told

Check: TypeAlias = Callable[[str, Any], Any]
"""Takes JSON as text and as plain types, gives the value, raises InvalidOutput."""


def of_type(python_type: object) -> tuple[dict[str, Any], Check]:
    """The JSON Schema of a Python type, and what makes values of it.

    Raises:
        BadRequest: pydantic knows no way from JSON to that type.
    """
    from pydantic import PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter
    from pydantic_core import PydanticSerializationError, ValidationError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(python_type)
        schema = rooted(adapter.json_schema())
    except (PydanticUserError, PydanticUndefinedAnnotation, PydanticSerializationError) as error:
        raise BadRequest(
            f"output_type is {python_type!r}, which cannot be made from JSON: "
            f"{str(error).splitlines()[0]}",
            hint="It takes pydantic models, dataclasses, TypedDicts, enums, Literals, unions and "
            "containers of them, a JSON Schema, a compiled regex, or 'json'.",
            param="output_type",
        ) from error

    def check(text: str, value: Any) -> Any:  # noqa: ANN401 - JSON in, the type out
        try:
            return adapter.validate_json(text)
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_context=False, include_input=False)
            mistakes = [mistake(value, each["loc"], _sentence(each)) for each in wrong]
            raise InvalidOutput(told(mistakes)) from error

    return schema, check


def _sentence(error: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails, a TypedDict
    if error["type"] == "missing":
        return f"The field {str(error['loc'][-1])!r} is required"
    return str(error["msg"])


def of_schema(schema: dict[str, Any]) -> Check:
    """What checks values against a JSON Schema, of the draft that its ``$schema`` names.

    The draft is 2020-12 where it names none. A ``format`` describes and is not checked, as
    that draft has it. Nothing outside of the schema is ever fetched.

    Raises:
        BadRequest: it is no JSON Schema, or refers to something outside of it.
    """
    import jsonschema_rs

    try:
        validator = jsonschema_rs.validator_for(
            schema, validate_formats=False, offline=True, mask="It"
        )
    except ValueError as error:
        wrong = str(error)
        if isinstance(error, jsonschema_rs.ValidationError):
            wrong = mistake(schema, error.instance_path, error.message)
        raise BadRequest(
            f"output_type is no JSON Schema that can be used: {wrong}",
            hint="A $ref has to lead to a place inside the schema, such as #/$defs/name.",
            param="output_type",
        ) from error

    def check(_: str, value: Any) -> Any:  # noqa: ANN401 - JSON
        try:
            mistakes = [
                mistake(value, each.instance_path, each.message)
                for each in validator.iter_errors(value)
            ]
        except ValueError as error:
            # Half a surrogate pair, which no JSON Schema can speak about.
            raise InvalidOutput(f"$ cannot be checked: {error}.") from error
        if mistakes:
            raise InvalidOutput(told(mistakes))
        return value

    return check


def rooted(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema itself, where pydantic has no more than a reference to a recursive class.

    Servers that take a schema as a tool's, or in strict mode, want an object at its root.
    """
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    root = schema.get("$defs", {}).get(name)
    if root is None:
        return schema
    return {**root, **{key: value for key, value in schema.items() if key != "$ref"}}
