"""What of a JSON Schema llguidance enforces while an answer is written, and what it does not.

The schema goes in whole, and llguidance says what it left out; what it would enforce wrongly
or refuses is taken out before. Taking out can only make a schema take more.
"""

from __future__ import annotations

import copy
import json
import re
from collections import deque
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import unquote

from llguidance import LLMatcher, LLTokenizer

from aideon_core.backends.llama_cpp.forms.patterns import ecma
from aideon_core.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Node: TypeAlias = dict[str, Any]
Schema: TypeAlias = Node | bool

_ONE: Final = ("additionalProperties", "items", "additionalItems")
_MANY: Final = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_NAMED: Final = ("properties", "patternProperties")
_DEFINED: Final = ("$defs", "definitions")
_COUNTS: Final = (
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
)
_BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
# Each constrains a value by itself, so that what is wrong with it shows in a schema of its own.
_LEAVES: Final = ("pattern", *_COUNTS, *_BOUNDS, "const", "enum")
# They say something only beside another keyword, which is told of already.
_COMPANIONS: Final = frozenset(
    {"then", "else", "minContains", "maxContains", "$dynamicAnchor", "$recursiveAnchor"}
)
_NOTHING: Final[dict[str, tuple[Any, ...]]] = {
    "uniqueItems": (False,),
    "propertyNames": (True, {}),
    "unevaluatedItems": (True, {}),
    "unevaluatedProperties": (True, {}),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "dependencies": ({},),
}
_MOST_TOLD_APART: Final = 64
_LARGEST_EXACT: Final = 2**53
_KEYWORD: Final = re.compile(r'"([^"]*)"')
_OLD: Final = re.compile(r"draft-0[3467]/")


@dataclass(frozen=True, slots=True)
class Held:
    """A schema that llguidance enforces as a whole, and what was left out of another one."""

    schema: Node
    left: tuple[str, ...]


@lru_cache(maxsize=256)
def enforceable(text: str, *, flexible: bool = False) -> Held:
    """The closest schema that can be enforced while an answer is written.

    Args:
        text: the JSON Schema as JSON.
        flexible: leave out what only describes, as a text that another model began may not
            keep to it.

    Raises:
        BadRequest: it is no JSON Schema, refers to something outside of it, or takes no value.
    """
    schema = json.loads(text)
    _check(schema)
    if isinstance(schema, bool):
        schema = {} if schema else {"enum": []}
    work = _Work(schema)
    work.normalise(describes=not flexible)
    wrong, warnings = _tried(work.schema)
    for mend in (work.drop_formats, work.drop_leaves, work.drop_overlaps, work.drop_beside_refs):
        if wrong and (mend != work.drop_beside_refs or wrong.startswith("circular")):
            mend()
            wrong, warnings = _tried(work.schema)
    if wrong.startswith("Unsatisfiable schema"):
        raise BadRequest(
            f"No value can be of the form asked for: {_line(wrong)}.",
            hint="Look for bounds that exclude each other, or an empty enum.",
            param="response_format",
        )
    if wrong:
        return Held(_part(work.schema, "type"), ("#",))
    work.report(warnings)
    return Held(work.schema, tuple(dict.fromkeys(work.left)))


def refusal(text: str) -> str:
    """Why llguidance cannot use a grammar, in one line; empty if it can."""
    failed, told = LLMatcher.validate_grammar_with_warnings(text, _bytes())
    return _line(told[0]) if failed else ""


def _line(message: str) -> str:
    """The first line of a message, or of the part that says what is wrong in it."""
    return message.rpartition("error: ")[2].strip().splitlines()[0].rstrip(".")


def _check(schema: Schema) -> None:
    import jsonschema_rs

    try:
        jsonschema_rs.validator_for(schema, validate_formats=False, offline=True)
    except ValueError as error:
        said = error.message if isinstance(error, jsonschema_rs.ValidationError) else str(error)
        raise BadRequest(
            f"It is no JSON Schema that can be used: {said}",
            hint="A $ref has to lead to a place inside the schema, such as #/$defs/name.",
            param="response_format",
        ) from error


@lru_cache(maxsize=1)
def _bytes() -> LLTokenizer:
    """The smallest vocabulary: with one, limits show that without it come up only later."""
    return LLTokenizer(_Bytes(), n_vocab=257, eos_token=256, slices=[])  # type: ignore[arg-type]


class _Bytes:
    is_tokenizer_wrapper = True
    bos_token_id = None
    eos_token_id = 256
    special_token_ids = ()
    tokens = (*(bytes([byte]) for byte in range(256)), b"\xff<end>")

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def _tried(schema: Node) -> tuple[str, list[str]]:
    """What llguidance refuses a schema for, and what it warns of."""
    text = LLMatcher.grammar_from_json_schema(schema, overrides={"lenient": True})
    failed, told = LLMatcher.validate_grammar_with_warnings(text, _bytes())
    return (told[0], []) if failed else ("", told)


class _Work:
    """A schema that parts are taken out of."""

    def __init__(self, schema: Node) -> None:
        self.schema = schema
        self.left: list[str] = []
        # Whether pointers are not always read from the root, so that places are not known.
        self._is_scattered = False

    def _nodes(self) -> Iterator[tuple[str, Node]]:
        """Every subschema that the root reaches, with the JSON pointer to it."""
        waiting: deque[tuple[str, Any]] = deque([("#", self.schema)])
        seen: set[int] = set()
        while waiting:
            place, node = waiting.popleft()
            if not isinstance(node, dict) or id(node) in seen:
                continue
            seen.add(id(node))
            yield place, node
            waiting += _children(place, node)
            reference = node.get("$ref", "#")
            if _at(self.schema, reference) is not None:
                waiting.append((reference, _at(self.schema, reference)))
            elif reference != "#":
                waiting += _named("#", self.schema, _DEFINED)

    def _drop(self, place: str, node: Node, *keywords: str) -> None:
        for keyword in keywords:
            if keyword in node:
                del node[keyword]
                self.left.append(f"{place}/{keyword}")

    def normalise(self, *, describes: bool) -> None:
        """Say what the schema says in the forms that llguidance reads rightly."""
        old = _OLD.search(str(self.schema.get("$schema", "")))
        for place, node in list(self._nodes()):
            if old and "$ref" in node:
                for keyword in node.keys() - {"$ref", "$schema", *_DEFINED}:
                    del node[keyword]
            if not describes:
                node.pop("format", None)
            _restate(node)
            inexact = [name for name in (*_BOUNDS, "const", "enum") if _is_inexact(node.get(name))]
            self._drop(place, node, *inexact)
            # A name that is not declared may be written twice, and then it counts once.
            if node.get("minProperties", 0) > max(1, len(node.get("required", ()))) and (
                node.get("additionalProperties") is not False or "patternProperties" in node
            ):
                self.left.append(f"{place}/minProperties")
        self._is_scattered = any(map(_has_own_base, list(self._nodes())))
        if not self._is_scattered:
            self._inline_choices()

    def _inline_choices(self) -> None:
        """Put what a mere reference leads to in its place among others of a oneOf.

        llguidance tells no two references apart, and so not that only one of them can hold.
        """
        as_given = copy.deepcopy(self.schema)
        for _, node in list(self._nodes()):
            for at, choice in enumerate(node.get("oneOf", ())):
                if isinstance(choice, dict) and choice.keys() == {"$ref"}:
                    target = _at(as_given, choice["$ref"])
                    if isinstance(target, dict):
                        node["oneOf"][at] = copy.deepcopy(target)

    def drop_formats(self) -> None:
        """A format only describes, so nothing is left to check."""
        for _, node in self._nodes():
            node.pop("format", None)

    def drop_leaves(self) -> None:
        """Drop patterns, counts and bounds that llguidance cannot read or hold in memory."""
        for place, node in list(self._nodes()):
            leaves = _part(node, *_LEAVES)
            if not leaves or not _is_refused(leaves | _part(node, "type")):
                continue
            for keyword in leaves:
                if _is_refused(_part(node, keyword, "type")):
                    self._drop(place, node, keyword)
            if _is_refused(_part(node, *_LEAVES, "type")):
                self._drop(place, node, *_LEAVES)

    def drop_overlaps(self) -> None:
        """Drop patterns of names that cannot be read or told apart, and what depends on them."""
        for place, node in list(self._nodes()):
            patterns = dict.fromkeys(node.get("patternProperties", ()), True)
            if patterns and _is_refused({"patternProperties": patterns}):
                self._drop(place, node, "patternProperties", "additionalProperties")

    def drop_beside_refs(self) -> None:
        """Drop what stands beside a reference: together they may go in circles."""
        for place, node in list(self._nodes()):
            if "$ref" in node:
                constrains = {*_ONE, *_MANY, *_NAMED, *_LEAVES, "type", "required"}
                self._drop(place, node, *sorted(constrains & node.keys()))

    def report(self, warnings: Iterable[str]) -> None:
        """Note the places of what llguidance says that it left out."""
        for warning in warnings:
            kind, _, keys = warning.partition(": ")
            if kind == "Unimplemented keys":
                for keyword in set(_KEYWORD.findall(keys)) - _COMPANIONS:
                    self._note({keyword}, partial(_says_something, keyword))
            elif warning.startswith("oneOf"):
                self._note({"oneOf"}, self._overlaps)
            elif warning.startswith("min/maxProperties"):
                self._note({"minProperties", "maxProperties"})
            elif kind != "Unknown format":
                self.left.append("#")

    def _note(self, keywords: set[str], counts: Callable[[Node], bool] = lambda _: True) -> None:
        found = [(place, node) for place, node in self._nodes() if keywords & node.keys()]
        for place, node in found:
            if self._is_scattered or len(found) > _MOST_TOLD_APART or counts(node):
                self.left += [f"{place}/{keyword}" for keyword in sorted(keywords & node.keys())]
        if not found or self._is_scattered:
            self.left += [f"#/**/{keyword}" for keyword in sorted(keywords)]

    def _overlaps(self, node: Node) -> bool:
        wrong, warnings = _tried(_part(node, "oneOf") | _part(self.schema, *_DEFINED))
        return bool(wrong) or any(warning.startswith("oneOf") for warning in warnings)


def _children(place: str, node: Node) -> list[tuple[str, Any]]:
    found = [(f"{place}/{name}", node[name]) for name in _ONE if name in node]
    for name in _MANY:
        if isinstance(inner := node.get(name), list):
            found += [(f"{place}/{name}/{at}", each) for at, each in enumerate(inner)]
    return found + _named(place, node, _NAMED)


def _named(place: str, node: Node, keywords: Iterable[str]) -> list[tuple[str, Any]]:
    return [
        (f"{place}/{keyword}/{name.replace('~', '~0').replace('/', '~1')}", inner)
        for keyword in keywords
        for name, inner in node.get(keyword, {}).items()
    ]


def _at(schema: Any, pointer: str) -> Any:  # noqa: ANN401 - JSON
    """What a JSON pointer leads to, None where it leads nowhere."""
    if not pointer.startswith("#/"):
        return None
    for step in unquote(pointer).split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list) and name.isdecimal() and int(name) < len(schema):
            schema = schema[int(name)]
        elif isinstance(schema, dict):
            schema = schema.get(name)
        else:
            return None
    return schema


def _has_own_base(placed: tuple[str, Node]) -> bool:
    place, node = placed
    base = node.get("$id", node.get("id", "#"))
    return place != "#" and not str(base).startswith("#")


def _restate(node: Node) -> None:
    for keyword in _COUNTS:
        if isinstance(node.get(keyword), float):
            node[keyword] = int(node[keyword])
    if "pattern" in node:
        node["pattern"] = ecma(node["pattern"])
    if "patternProperties" in node:
        by_name = node["patternProperties"].items()
        node["patternProperties"] = {ecma(name): inner for name, inner in by_name}


def _part(node: Node, *keywords: str) -> Node:
    return {keyword: node[keyword] for keyword in keywords if keyword in node}


def _says_something(keyword: str, node: Node) -> bool:
    if keyword == "if":
        return bool({"then", "else"} & node.keys())
    return node[keyword] not in _NOTHING.get(keyword, ())


def _is_refused(schema: Node) -> bool:
    wrong, _ = _tried(schema)
    return bool(wrong) and not wrong.startswith("Unsatisfiable schema")


def _is_inexact(value: Any) -> bool:  # noqa: ANN401 - JSON
    """Whether there is a whole number in a value that llguidance, by floats, takes for another."""
    if isinstance(value, dict):
        return any(map(_is_inexact, value.values()))
    if isinstance(value, list):
        return any(map(_is_inexact, value))
    return isinstance(value, int) and abs(value) > _LARGEST_EXACT
