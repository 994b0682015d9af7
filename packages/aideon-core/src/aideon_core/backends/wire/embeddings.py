"""The embeddings endpoint of the OpenAI-style API: pure functions, both ways."""

from __future__ import annotations

import base64
import binascii
import struct
from typing import TYPE_CHECKING, Any

from aideon_core.backends.wire.facts import usage_of
from aideon_core.backends.wire.values import count, described, mapping, rows_of
from aideon_core.embeddings.values import Embeddings, unit
from aideon_core.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_core.types import Json

_FLOAT_BYTES = 4


def embeddings_body(texts: Sequence[str], model: str) -> dict[str, Any]:
    """The body of ``POST /v1/embeddings``: what every server takes, and Together nothing more."""
    return {"model": model, "input": list(texts)}


def embeddings_of(body: object, *, texts: int) -> Embeddings:
    """The vectors in an answer, in the order of the texts, each of length 1.

    Args:
        body: parsed JSON of which nothing is certain.
        texts: how many were sent.

    Raises:
        ServerError: there is not one sound vector for each text.
    """
    rows = rows_of(body)
    by_index: dict[int, Json] = {}
    for place, row in enumerate(rows):
        index = count(row.get("index"))
        by_index[place if index is None else index] = row
    if by_index.keys() != set(range(texts)) or len(rows) != texts:
        raise ServerError(f"The answer has {len(rows)} vectors for {texts} texts.")
    vectors = tuple(_vector(index, by_index[index].get("embedding")) for index in range(texts))
    if len({len(vector) for vector in vectors}) > 1:
        raise ServerError("The vectors of the answer have different numbers of dimensions.")
    return Embeddings(vectors, usage=usage_of(mapping(body).get("usage")))


def _vector(index: int, told: object) -> list[float]:
    try:
        # Some servers send base64 whether it was asked for or not.
        numbers = _decoded(told) if isinstance(told, str) else told
        if isinstance(numbers, list) and not any(isinstance(each, bool) for each in numbers):
            return unit(numbers)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ServerError(f"The vector of text {index} cannot be read: {described(told)}.")


def _decoded(told: str) -> list[float]:
    data = base64.b64decode(told, validate=True)
    if len(data) % _FLOAT_BYTES:
        raise binascii.Error(f"{len(data)} bytes are no floats")
    return list(struct.unpack(f"<{len(data) // _FLOAT_BYTES}f", data))
