"""The least value that a JSON Schema or a regex allows: what a perfect model could say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aideon_core.types import Json

_WORD: Final = "Oslo"
_ATOM: Final = re.compile(
    r"(?:\\(?P<escaped>.)|\[(?P<members>[^\]]+)\]|(?P<literal>[^\\\[\](){}|*+?]))"
    r"(?:\{(?P<least>\d+)(?:,\d*)?\}|(?P<many>[*+?]))?"
)
_CLASSES: Final = {"d": "0", "w": "a", "s": " "}


def example(schema: Json, root: Json | None = None) -> Any:  # noqa: ANN401 - JSON
    """A value that is valid against a schema of the plain kind that tools have.

    Args:
        schema: may use types, enums, bounds, anyOf and references into itself.
        root: what references lead into, the schema itself when not given.
    """
    root = schema if root is None else root
    if "$ref" in schema:
        return example(_referred(schema["$ref"], root), root)
    for one_of in ("anyOf", "oneOf", "allOf"):
        if schema.get(one_of):
            return example(schema[one_of][0], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    return _of_kind(kind if isinstance(kind, str) else kind[0], schema, root)


def matching(pattern: str) -> str:
    """A text that a regex matches as a whole.

    Raises:
        ValueError: it has more than characters, sets and how often they come.
    """
    text, at = "", 0
    for atom in _ATOM.finditer(pattern):
        if atom.start() != at:
            break
        at = atom.end()
        escaped, members = atom["escaped"], atom["members"]
        one = (
            _CLASSES.get(escaped, escaped)
            if escaped
            else members[0]
            if members
            else atom["literal"]
        )
        text += one * (int(atom["least"]) if atom["least"] else int(atom["many"] not in ("*", "?")))
    if at != len(pattern):
        raise ValueError(f"{pattern!r} has more in it than this can match.")
    return text


def _of_kind(kind: str, schema: Json, root: Json) -> Any:  # noqa: ANN401 - JSON
    match kind:
        case "object":
            properties = schema.get("properties", {})
            return {name: example(properties[name], root) for name in schema.get("required", ())}
        case "array":
            return [example(schema.get("items", {}), root)] * schema.get("minItems", 0)
        case "string":
            return _WORD[: schema.get("maxLength")].ljust(schema.get("minLength", 0), "o")
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return True
        case _:
            return None


def _referred(reference: str, root: Json) -> Json:
    found: Any = root
    for step in reference.removeprefix("#/").split("/"):
        found = found[step.replace("~1", "/").replace("~0", "~")]
    return found  # type: ignore[no-any-return]
