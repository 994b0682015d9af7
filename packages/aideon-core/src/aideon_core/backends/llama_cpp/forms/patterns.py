"""Regexes of Python and of JSON Schema in the syntax of Rust, with their own meaning."""

from __future__ import annotations

import re
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any, Final

from aideon_core.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

_CATEGORIES: Final = {
    op.CATEGORY_DIGIT: r"\p{Nd}",
    op.CATEGORY_SPACE: r"\s\x1c-\x1f",
    op.CATEGORY_WORD: r"\p{L}\p{N}_",
}
_ASCII: Final = {
    op.CATEGORY_DIGIT: "0-9",
    op.CATEGORY_SPACE: r"\t-\r ",
    op.CATEGORY_WORD: "0-9A-Za-z_",
}
_NOT: Final = {
    op.CATEGORY_NOT_DIGIT: op.CATEGORY_DIGIT,
    op.CATEGORY_NOT_SPACE: op.CATEGORY_SPACE,
    op.CATEGORY_NOT_WORD: op.CATEGORY_WORD,
}
_UNABLE: Final = {
    op.ASSERT: "lookaround",
    op.ASSERT_NOT: "lookaround",
    op.GROUPREF: "a reference to a group",
    op.GROUPREF_IGNORE: "a reference to a group",
    op.GROUPREF_EXISTS: "a condition on a group",
    op.ATOMIC_GROUP: "an atomic group",
    op.POSSESSIVE_REPEAT: "a possessive repeat",
    op.AT: "an anchor or a word boundary inside of it",
}


def rust(pattern: str) -> str:
    """A regex that matches as a whole what ``re.fullmatch(pattern, ...)`` does.

    It has neither slashes nor line ends, so it may stand between slashes.

    Raises:
        BadRequest: it is no regex, or uses what cannot be enforced while an answer is written.
    """
    try:
        parsed = parser.parse(pattern)
    except (re.error, RecursionError) as error:
        raise BadRequest(
            f"{pattern!r} is no regex: {error}.",
            hint="Regexes are those of Python's re.",
            param="response_format",
        ) from error
    return _Writer(pattern).sequence(parsed, parsed.state.flags, first=True, last=True)


_ESCAPES: Final = re.compile(r"\\c[A-Za-z]|\\.|.", re.DOTALL)
_SPACE, _NOT_SPACE = r"\s", r"\S"
_ECMA_SPACE: Final = r"\t-\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"


def ecma(pattern: str) -> str:
    """A regex that finds what a ``pattern`` of a JSON Schema finds, by ECMA-262's reading."""
    written = []
    inside = False
    for piece in _ESCAPES.findall(pattern):
        if piece in (_SPACE, _NOT_SPACE):
            written.append(f"[{'^' if piece == _NOT_SPACE else ''}{_ECMA_SPACE}]")
        elif piece.startswith(r"\c"):
            written.append(f"\\x{ord(piece[-1]) % 32:02x}")
        elif inside and piece in "[&~":
            # Rust reads sets in sets, and what is common to two.
            written.append(f"\\{piece}")
        else:
            inside = piece == "[" or (inside and piece != "]")
            written.append(piece)
    return "".join(written)


class _Writer:
    """Writes a parsed regex anew."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    def sequence(self, items: Sequence[Any], flags: int, *, first: bool, last: bool) -> str:
        """Items in a row; ``first`` and ``last`` say whether they begin and end the text."""
        items = list(items)
        while first and items and _is_at(items[0], op.AT_BEGINNING, op.AT_BEGINNING_STRING):
            del items[0]
        while last and items and _is_at(items[-1], op.AT_END, op.AT_END_STRING):
            del items[-1]
        end = len(items) - 1
        return "".join(
            self._item(what, value, flags, first=first and at == 0, last=last and at == end)
            for at, (what, value) in enumerate(items)
        )

    def _item(self, what: Any, value: Any, flags: int, *, first: bool, last: bool) -> str:  # noqa: ANN401
        if what in _UNABLE or what is op.FAILURE:
            raise BadRequest(
                f"The regex {self._pattern!r} cannot be enforced: it uses "
                f"{_UNABLE.get(what, 'lookaround')}.",
                hint="Say it without, or ask for text and check it afterwards.",
                param="response_format",
            )
        if what is op.SUBPATTERN:
            _, added, dropped, inner = value
            inside = (flags | added) & ~dropped
            return f"(?:{self.sequence(inner, inside, first=first, last=last)})"
        if what is op.BRANCH:
            ways = (self.sequence(way, flags, first=first, last=last) for way in value[1])
            return f"(?:{'|'.join(ways)})"
        if what in (op.MAX_REPEAT, op.MIN_REPEAT):
            least, most, inner = value
            bound = "" if most == op.MAXREPEAT else str(most)
            return f"(?:{self.sequence(inner, flags, first=False, last=False)}){{{least},{bound}}}"
        text = self._character(what, value, flags)
        return f"(?i:{text})" if flags & re.IGNORECASE else text

    def _character(self, what: Any, value: Any, flags: int) -> str:  # noqa: ANN401
        if what is op.LITERAL:
            return _char(value)
        if what is op.NOT_LITERAL:
            return f"[^{_char(value)}]"
        if what is op.ANY:
            return "(?s:.)" if flags & re.DOTALL else r"[^\n]"
        assert what is op.IN, what
        members = list(value)
        negated = members[0][0] is op.NEGATE
        inside = "".join(_member(kind, code, flags) for kind, code in members[negated:])
        return f"[{'^' * negated}{inside}]"


def _is_at(item: Any, *places: Any) -> bool:  # noqa: ANN401
    return item[0] is op.AT and item[1] in places


def _member(what: Any, value: Any, flags: int) -> str:  # noqa: ANN401
    if what is op.LITERAL:
        return _char(value)
    if what is op.RANGE:
        return f"{_char(value[0])}-{_char(value[1])}"
    assert what is op.CATEGORY, what
    known = _ASCII if flags & re.ASCII else _CATEGORIES
    return f"[^{known[_NOT[value]]}]" if value in _NOT else f"[{known[value]}]"


def _char(code: int) -> str:
    char = chr(code)
    return char if char.isascii() and char.isalnum() else f"\\x{{{code:x}}}"
