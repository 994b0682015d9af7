"""Lists that are filtered and paged by the query of their address."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from aideon_testing.faults import Failure

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from aideon_testing.routes import Call

_PAGE = 100
_MOST_DIGITS = 9


class Query:
    """The parameters of an address; each method raises Failure when a value will not do.

    Args:
        call: the request.
    """

    def __init__(self, call: Call) -> None:
        self._values = dict(parse_qsl(call.request.query))

    def text(self, name: str) -> str:
        """A text, empty when it is not given."""
        return self._values.get(name, "")

    def choice(self, name: str, choices: Collection[str]) -> str | None:
        """One of several words, ``None`` when it is not given."""
        value = self._values.get(name)
        if value is not None and value not in choices:
            raise Failure.invalid_input()
        return value

    def flag(self, name: str) -> bool:
        """A yes or no, by default no."""
        return self.choice(name, ("true", "false")) == "true"

    def page(self, rows: Sequence[Mapping[str, object]]) -> dict[str, object]:
        """The part of a list that ``after`` and ``limit`` ask for, and where the next begins.

        The cursor is the id of the last row given.
        """
        limit = self._values.get("limit", f"{_PAGE}")
        digits = limit.isascii() and limit.isdigit() and len(limit) <= _MOST_DIGITS
        if not digits or int(limit) == 0:
            raise Failure.invalid_input()
        start = 0
        if (after := self._values.get("after")) is not None:
            ids = [row["id"] for row in rows]
            if after not in ids:
                raise Failure.invalid_input()
            start = ids.index(after) + 1
        end = start + int(limit)
        cursor = rows[end - 1]["id"] if end < len(rows) else None
        return {"data": rows[start:end], "next_cursor": cursor}
