"""Grammars of answers: JSON of a schema, text of a regex, calls of tools.

A grammar is a plain value, made without a model. A `vocabulary.Vocabulary` compiles it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from aideon_core.backends.llama_cpp.forms.enforceable import enforceable, refusal
from aideon_core.backends.llama_cpp.forms.patterns import rust
from aideon_core.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping


MOST_CALLS: Final = 16
"""How many calls one answer may hold; without a bound a small model may never stop calling."""

# As json.dumps writes it, which is what models have read most.
_PLAIN: Final = {"key_separator": ": ", "item_separator": ", ", "whitespace_flexible": False}
# Space as others write it, in runs that end: a small model can stay in an open one for ever.
_FLEXIBLE: Final = {"whitespace_pattern": r"[ \t\r\n]{1,24}"}
# A name spelt with these would pass for another one than it is.
_SPELT: Final = {"json_allow_general_unicode_escapes": True}
_UNSPELT: Final = {"json_allowed_escapes": 'nrbtf\\"'}
_NAMELESS: Final = re.compile(r"\\u00[01]")


@dataclass(frozen=True, slots=True)
class Grammar:
    """What an answer may look like.

    Attributes:
        start: what a whole answer is, in llguidance's dialect of Lark.
        rules: the rules that ``start`` names, one a line.
        unenforced: what the grammar does not hold an answer to, and a validator has to: JSON
            pointers to the keywords, such as ``#/properties/tags/uniqueItems``, after the
            tool's name where it is of a tool; ``#`` stands for a schema as a whole.
    """

    start: str
    rules: str = ""
    unenforced: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The grammar in llguidance's dialect of Lark."""
        return f"start: {self.start}\n{self.rules}"


class CallFormat(Protocol):
    """How a model writes calls: a call is ``head``, its arguments as JSON, and ``tail``."""

    @property
    def begin(self) -> str:
        """What stands before the first call."""

    @property
    def head(self) -> str:
        """What stands before the arguments, with ``{name}`` for the tool's name."""

    @property
    def tail(self) -> str:
        """What stands after the arguments."""

    @property
    def separator(self) -> str:
        """What stands between two calls."""

    @property
    def end(self) -> str:
        """What stands after the last call."""


def json_schema(schema: Mapping[str, Any] | bool, *, flexible: bool = False) -> Grammar:  # noqa: FBT001 - a schema
    """JSON that a schema takes, its properties in the schema's order.

    A number may be written larger than any float; it is for a validator to refuse it.

    Args:
        schema: the JSON Schema, of the draft that its ``$schema`` names, or 2020-12.
        flexible: allow space as anyone may write it; else it is as ``json.dumps`` writes it.

    Raises:
        BadRequest: it is no JSON Schema, refers to something outside of it, or takes no value.
    """
    try:
        text = json.dumps(schema)
    except (RecursionError, TypeError, ValueError) as error:
        raise BadRequest(
            f"The schema cannot be written as JSON: {error}.",
            hint="A schema is made of dicts, lists, strings, numbers, booleans and None.",
            param="response_format",
        ) from error
    held = enforceable(text, flexible=flexible)
    spelt = flexible or _NAMELESS.search(text) is not None
    left = (*held.left, "#") if spelt else held.left
    return Grammar(_json(held.schema, flexible=flexible, spelt=spelt), unenforced=left)


def any_json(*, object_only: bool, flexible: bool = False) -> Grammar:
    """Any JSON value, or any JSON object."""
    schema = {"type": "object"} if object_only else {}
    return Grammar(_json(schema, flexible=flexible, spelt=flexible))


def regex(pattern: str) -> Grammar:
    """Text that a Python regex matches as a whole.

    Raises:
        BadRequest: it is no regex, or uses what no grammar can follow, such as lookahead.
    """
    start = f"/{rust(pattern)}/" if pattern else '""'
    if wrong := refusal(f"start: {start}"):
        raise BadRequest(
            f"The regex {pattern!r} cannot be enforced: {wrong}",
            hint="Make it smaller or simpler.",
            param="response_format",
        )
    return Grammar(start)


def calls(
    form: CallFormat,
    tools: Mapping[str, Mapping[str, Any]],
    *,
    parallel: bool,
    flexible: bool = False,
) -> Grammar:
    """One call or, if ``parallel``, up to `MOST_CALLS`, with arguments that the tools take.

    Args:
        form: how the model writes calls.
        tools: the JSON Schema of the arguments by the tool's name, at least one.
        parallel: allow several calls.
        flexible: as of `json_schema`, for the arguments.

    Raises:
        BadRequest: as of `json_schema`.
    """
    spaced = flexible and _JSON_LIKE.match(form.begin + form.head) is not None
    begin, tail, separator, end = (
        _literal(text, spaced=spaced) for text in (form.begin, form.tail, form.separator, form.end)
    )
    ways, unenforced = [], []
    for name, schema in tools.items():
        try:
            one = arguments(schema, "", flexible=flexible)
        except BadRequest as error:
            raise BadRequest(
                f"The parameters of the tool {name!r} cannot be used: {error.message}",
                hint=error.hint,
                param="tools",
            ) from error
        head = _literal(form.head.replace("{name}", name), spaced=spaced)
        ways.append(f"{head} {one.start} {tail}")
        unenforced += [name + place for place in one.unenforced]
    more = f"({separator} call){{0,{MOST_CALLS - 1}}}" if parallel else ""
    return Grammar(
        f"{begin} call {more} {end}",
        "call: " + "\n    | ".join(ways) + (_SPACED if spaced else ""),
        tuple(unenforced),
    )


def arguments(schema: Mapping[str, Any], after: str, *, flexible: bool = False) -> Grammar:
    """The arguments of one call as a JSON object, and the text that follows them.

    Raises:
        BadRequest: as of `json_schema`.
    """
    one = json_schema({"type": "object", **schema}, flexible=flexible)
    return Grammar(f"{one.start} {_literal(after)}", unenforced=one.unenforced)


def either(calling: Grammar, answering: Grammar) -> Grammar:
    """What one of two grammars takes; rules of `calls` may be in one of them only."""
    assert not (calling.rules and answering.rules)
    return Grammar(
        f"{calling.start} | {answering.start}",
        calling.rules or answering.rules,
        calling.unenforced + answering.unenforced,
    )


def _json(schema: dict[str, Any], *, flexible: bool, spelt: bool) -> str:
    options = {"lenient": True} | (_FLEXIBLE if flexible else _PLAIN)
    options |= _SPELT if spelt else _UNSPELT
    return f"%json {json.dumps(schema | {'x-guidance': options})}"


# What JSON is made of. llguidance reads the longest piece that it can: a text in one piece,
# such as '{"name": ', would hide every other object that begins like it.
_PIECES: Final = re.compile(r'[{}\[\]]|"[^"]*"|: |, |.', re.DOTALL)
_JSON_LIKE: Final = re.compile(r"\s*(\[\s*)?\{")
# What is around arguments is then read as the JSON beside it, with any space between pieces.
_SPACED: Final = f"""
%llguidance {{"ignore_once": true}}
%ignore /{_FLEXIBLE["whitespace_pattern"]}/"""


def _literal(text: str, *, spaced: bool = False) -> str:
    pieces = _PIECES.findall(text) if _JSON_LIKE.match(text) else [text]
    if spaced:
        pieces = [piece.strip() for piece in pieces]
    return " ".join(json.dumps(piece, ensure_ascii=False) for piece in pieces if piece)
