"""``POST /v1/embeddings``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aideon_testing import responses
from aideon_testing.endpoints.bodies import Body
from aideon_testing.faults import Failure
from aideon_testing.models import facts_of
from aideon_testing.routes import Route
from aideon_testing.vectors import vector

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from aideon_testing.connection import HttpResponse
    from aideon_testing.routes import Call

# The numbers in a vector where they are not 1024.
_DIMENSIONS: Final = {
    "BAAI/bge-base-en-v1.5": 768,
    "togethercomputer/m2-bert-80M-2k-retrieval": 768,
    "togethercomputer/m2-bert-80M-8k-retrieval": 768,
    "togethercomputer/m2-bert-80M-32k-retrieval": 768,
}


class Embeddings:
    """Vectors for texts; see ``aideon_testing.vectors`` for what they are worth.

    Args:
        models: the ids served.
    """

    def __init__(self, models: Collection[str]) -> None:
        self._models = models

    def routes(self) -> Sequence[Route]:
        """The routes of this endpoint."""
        return (Route("POST", "/v1/embeddings", self._create),)

    async def _create(self, call: Call) -> HttpResponse:
        body = Body(call.json())
        model = body.model(self._models, "embedding")
        body.required("input")
        texts = body.texts("input")
        if not texts or not all(texts):
            raise Failure.invalid_input()
        size, limit = _DIMENSIONS.get(model, 1024), facts_of(model).context_length
        # Vectors are lists of numbers even where a client asks for base64; clients take both.
        rows = [
            {"object": "embedding", "embedding": vector(text, size, limit=limit), "index": index}
            for index, text in enumerate(texts)
        ]
        return responses.answered(call.stamp, {"object": "list", "model": model, "data": rows})
