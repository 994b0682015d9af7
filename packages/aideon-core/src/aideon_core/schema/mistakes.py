"""What is wrong with a value, where in it, and what was expected there."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MOST_TOLD: Final = 5
_MOST_SHOWN: Final = 80
_PLAIN: Final = re.compile(r"[A-Za-z_]\w*")


def shown(value: object) -> str:
    """A value as JSON, cut to what fits into a message."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


def path_of(steps: Iterable[str | int]) -> str:
    """The way to a value, such as ``$.people[0].age``."""
    path = "$"
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        elif _PLAIN.fullmatch(step):
            path += f".{step}"
        else:
            path += f"[{json.dumps(step, ensure_ascii=False)}]"
    return path


def mistake(value: Any, steps: Iterable[str | int], expected: str) -> str:  # noqa: ANN401 - JSON
    """One mistake in a sentence: where, what was found and what was expected.

    Args:
        value: the whole value.
        steps: the way to the wrong part; names that lead nowhere in the value are left out,
            as those of a union's members.
        expected: the validator's sentence.
    """
    way: list[str | int] = []
    for step in steps:
        there = (
            value
            if isinstance(value, dict)
            else range(len(value))
            if isinstance(value, list)
            else ()
        )
        if step in there:
            value = value[step]
            way.append(step)
    return f"{path_of(way)} is {shown(value)}: {expected.rstrip('.')}."


def told(mistakes: Sequence[str]) -> str:
    """The mistakes in one text; of many, the first ones and how many there are."""
    left = len(mistakes) - _MOST_TOLD
    more = f" And {left} more." if left > 0 else ""
    return " ".join(mistakes[:_MOST_TOLD]) + more
