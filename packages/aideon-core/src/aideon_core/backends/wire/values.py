"""Reading parsed JSON of which nothing is certain, piece by piece."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from aideon_core.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NOTHING: Final[Mapping[str, Any]] = {}
_EXCERPT: Final = 200
_SHOWN_KEYS: Final = 8
# Escapes of characters that come in two halves.
_HALVES: Final = re.compile(r"\\u[dD][89a-fA-F]")


def parsed(data: str | bytes, what: str = "The answer") -> object:
    """The JSON in a body or an event.

    Args:
        data: what came over the wire.
        what: the subject of the error's sentence.

    Raises:
        ServerError: it is not JSON, or nested beyond reason.
    """
    if isinstance(data, bytes):
        data = data.decode("utf-8-sig", "replace")
    try:
        value = json.loads(data)
        return _mended(value) if "\\u" in data and _HALVES.search(data) else value
    except (ValueError, RecursionError) as error:
        raise ServerError(f"{what} is not JSON: {excerpt(data)!r}") from error


def _mended(value: object) -> object:
    # Half of a character escaped alone is no text: it could be neither printed nor sent on.
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))


def excerpt(data: str | bytes) -> str:
    """The beginning of something unreadable, as text for a message."""
    if isinstance(data, bytes):
        data = data[: 4 * _EXCERPT].decode("utf-8", "replace")
    return data[:_EXCERPT].strip()


def described(value: object) -> str:
    """What a value is, in a few words; never walks into it."""
    if isinstance(value, dict):
        keys = ", ".join(str(key)[:_EXCERPT] for key in list(value)[:_SHOWN_KEYS])
        return f"an object with {keys}" if keys else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return excerpt(str(value)) if isinstance(value, str) else f"{type(value).__name__} alone"


def mapping(value: object) -> Mapping[str, Any]:
    """The value when it is an object, an empty one otherwise."""
    return value if isinstance(value, dict) else _NOTHING


def text(value: object) -> str:
    """The value when it is text, no text otherwise."""
    return value if isinstance(value, str) else ""


def count(value: object) -> int | None:
    """The value when it is a whole number from 0 on, also one written ``12.0``."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    sound = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if sound else None  # type: ignore[return-value]


def our_choice(choices: object) -> Mapping[str, Any]:
    """The choice at index 0: the first answer, or the only one."""
    for each in choices if isinstance(choices, list) else ():
        if isinstance(each, dict) and not each.get("index"):
            return each
    return _NOTHING


def other_choices(choices: object, most: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The choices at the indexes from 1 to ``most`` - 1, as they stand."""
    for each in choices if isinstance(choices, list) else ():
        index = count(each.get("index")) if isinstance(each, dict) else None
        if index and index < most:
            yield index, each


def rows_of(body: object) -> list[Mapping[str, Any]]:
    """The rows of a list, which Together sends alone and OpenAI's format has in an object.

    Raises:
        ServerError: there is no list.
    """
    rows = body.get("data") if isinstance(body, dict) else body
    if not isinstance(rows, list):
        raise ServerError("The list is none.", hint="Check that the address is the API's own.")
    return [row for row in rows if isinstance(row, dict)]
