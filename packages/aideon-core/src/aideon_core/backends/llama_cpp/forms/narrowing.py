"""A model is not invited to make up properties that a schema allows but does not name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aideon_core.types import Json

# Where several schemas speak about one object, none of them can be closed alone.
_SPEAK_TOGETHER: Final = frozenset(
    {
        "allOf", "not", "if", "$dynamicRef", "$recursiveRef", "unevaluatedProperties",
        "dependentSchemas", "dependencies", "$id", "id",
    }
)  # fmt: skip
_ALTERNATIVES: Final = frozenset({"anyOf", "oneOf", "$ref"})
_SAY_WHAT_ELSE: Final = frozenset({"additionalProperties", "patternProperties", "propertyNames"})
_OF_SCHEMAS: Final = ("properties", "$defs", "definitions")


def narrowed(schema: Json) -> Json:
    """The schema with its objects closed to properties that it does not name.

    What fits the narrowed schema fits the one given. A schema in which closing one part could
    contradict another is left as it is, as is an object that says what else it may hold.
    """
    return schema if _is_entangled(schema) else _closed(schema)


def _is_entangled(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_is_entangled, value))
    if not isinstance(value, dict):
        return False
    if value.keys() & _SPEAK_TOGETHER or ("properties" in value and value.keys() & _ALTERNATIVES):
        return True
    return any(map(_is_entangled, value.values()))


def _closed(schema: Any) -> Any:  # noqa: ANN401 - a schema, or what stands in its place
    if not isinstance(schema, dict):
        return schema
    closed = {name: _part(name, value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.keys() & _SAY_WHAT_ELSE:
        closed["additionalProperties"] = False
    return closed


def _part(name: str, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if name in _OF_SCHEMAS and isinstance(value, dict):
        return _each(value)
    if name in ("anyOf", "oneOf", "prefixItems") and isinstance(value, list):
        return [_closed(each) for each in value]
    if name in ("items", "additionalProperties", "contains"):
        return _closed(value)
    return value


def _each(schemas: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _closed(schema) for name, schema in schemas.items()}
