"""``POST /v1/rerank``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from aideon_testing import responses
from aideon_testing.endpoints.bodies import Body
from aideon_testing.faults import Failure
from aideon_testing.routes import Route
from aideon_testing.script import pieces
from aideon_testing.vectors import similarity, vector

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from aideon_core.types import Json
    from aideon_testing.connection import HttpResponse
    from aideon_testing.routes import Call

_PARAMETERS: Final = {
    "model",
    "query",
    "documents",
    "top_n",
    "return_documents",
    "rank_fields",
}
_DIMENSIONS: Final = 4096


class Rerank:
    """Documents in the order of what they share with a query.

    Args:
        models: the ids served.
    """

    def __init__(self, models: Collection[str]) -> None:
        self._models = models

    def routes(self) -> Sequence[Route]:
        """The routes of this endpoint."""
        return (Route("POST", "/v1/rerank", self._create),)

    async def _create(self, call: Call) -> HttpResponse:
        values = call.json()
        body = Body(values)
        model = body.model(self._models, "rerank")
        if unknown := sorted(values.keys() - _PARAMETERS):
            raise Failure.error(400, "Input validation error", param=unknown[0])
        query = body.prompt("query")
        documents = _documents(body.required("documents"))
        top_n = body.integer("top_n", 1)
        returned = body.flag("return_documents")
        fields = body.texts("rank_fields")
        texts = [_text(document, fields) for document in documents]
        place = vector(query, _DIMENSIONS)
        scores = [similarity(place, vector(text, _DIMENSIONS)) for text in texts]
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        results = [
            {
                "index": index,
                "relevance_score": scores[index],
                "document": {"text": _whole(documents[index])} if returned else {},
            }
            for index in order[:top_n]
        ]
        answer = {
            "id": call.stamp.id,
            "object": "rerank",
            "model": model,
            "results": results,
            "usage": _usage(query, texts),
        }
        return responses.answered(call.stamp, answer)


def _documents(documents: object) -> list[str] | list[Json]:
    if isinstance(documents, list) and documents:
        for kind in (str, dict):
            if all(isinstance(document, kind) for document in documents):
                return documents
    raise Failure.invalid_input()


def _text(document: str | Json, fields: Collection[str]) -> str:
    """What of a document is compared with the query."""
    if isinstance(document, str):
        return document
    values = (value for name, value in document.items() if not fields or name in fields)
    return " ".join(value if isinstance(value, str) else _compact(value) for value in values)


def _whole(document: str | Json) -> str:
    return document if isinstance(document, str) else _compact(document)


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _usage(query: str, texts: Iterable[str]) -> dict[str, int]:
    # The model reads the query anew with every document.
    asked = len(pieces(query))
    tokens = sum(asked + len(pieces(text)) for text in texts)
    return {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
