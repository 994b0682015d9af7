"""Embeddings without a model: texts that share words and parts of words are near each other."""

from __future__ import annotations

import math
from zlib import crc32

from aideon_testing.script import pieces

_PART = 3


def vector(text: str, dimensions: int, *, limit: int | None = None) -> list[float]:
    """The place of a text among all texts, the same on every machine.

    Args:
        text: case does not matter.
        dimensions: how many numbers to give.
        limit: how many words and marks are read; the rest is ignored, as the API does it.

    Returns:
        Numbers from 0 to 1; the length of the vector is 1.
    """
    counts = [0.0] * dimensions
    for piece in pieces(text.casefold())[:limit] or [""]:
        word = f" {piece.strip()} "
        counts[crc32(word.encode("utf-8", "replace")) % dimensions] += 1
        # Parts of words bring "camel" and "camels" together, and let long words weigh more.
        for start in range(len(word) - _PART + 1):
            part = word[start : start + _PART].encode("utf-8", "replace")
            counts[crc32(part) % dimensions] += 1
    length = math.hypot(*counts)
    return [count / length for count in counts]


def similarity(one: list[float], other: list[float]) -> float:
    """How near two vectors are: 1 in the same place, 0 with nothing in common."""
    return sum(a * b for a, b in zip(one, other, strict=True))
