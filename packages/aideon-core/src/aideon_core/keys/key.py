"""A key, and how one is told from text that cannot be one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, cast

from aideon_core.config import Secret
from aideon_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

_SHORTEST_MASKED = 8
_BETWEEN = re.compile(r"[\s,]+")


class Key(Secret):
    """A secret that knows where it came from; two keys with one value are the same key.

    Attributes:
        source: the variable, file or place it was read from, for messages.
    """

    __slots__ = ("source",)

    def __init__(self, value: str, source: str) -> None:
        super().__init__(value)
        self.source = source

    def __repr__(self) -> str:
        return f"Key('***', source={self.source!r})"

    @classmethod
    def checked(cls, text: Secret, source: str) -> Self:
        """The key that a text is, without the white space around it.

        Args:
            text: wrapped, so that no traceback finds it in a local variable.
            source: where it came from.

        Raises:
            ConfigError: it cannot be sent in a header, so it is no key.
        """
        if not _can_be_sent(text):
            raise ConfigError(
                f"The key from {source} is not one: "
                "it has to be text of plain printable characters.",
                hint="Copy it again; it is not repeated here.",
            )
        return cls(text.reveal().strip(), source)

    def masked(self, text: str) -> str:
        """The text without the key; a very short key may be a word of it, and stays."""
        shown = len(self.reveal()) < _SHORTEST_MASKED
        return text if shown else text.replace(self.reveal(), "***")


def keys_in(text: Secret, source: str) -> tuple[Key, ...]:
    """The keys of a text that holds several, with commas or white space between them.

    Raises:
        ConfigError: one of them cannot be a key.
    """
    parts = map(Secret, filter(None, _BETWEEN.split(text.reveal())))
    return tuple(Key.checked(part, source) for part in parts)


def wrapped(given: object) -> list[object]:
    """One thing or several as a list, with a Secret around every text.

    Called first thing with what a caller or a function gave, because a plain key in a local
    variable is shown by tracebacks that print those.
    """
    several = isinstance(given, Sequence | AbstractSet) and not isinstance(given, str | bytes)
    things = list(cast("Iterable[object]", given)) if several else [given]
    return [Secret(thing) if isinstance(thing, str) else thing for thing in things]


def _can_be_sent(text: Secret) -> bool:
    value = text.reveal().strip()
    return bool(value) and value.isascii() and value.isprintable()
