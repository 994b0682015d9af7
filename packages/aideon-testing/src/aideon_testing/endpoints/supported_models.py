"""``GET /v2/supported-models``, and the models of a project."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from aideon_testing import responses
from aideon_testing.endpoints.account import ORGANIZATION
from aideon_testing.endpoints.lists import Query
from aideon_testing.faults import Failure
from aideon_testing.models import facts_of, is_own
from aideon_testing.routes import Route

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any

    from aideon_testing.connection import HttpResponse
    from aideon_testing.models import ModelFacts
    from aideon_testing.routes import Call

# What a model of each type does, reads and gives.
_ABILITIES: Final[Mapping[str, tuple[str | None, str, str]]] = {
    "chat": ("CHAT", "TEXT", "TEXT"),
    "language": ("CHAT", "TEXT", "TEXT"),
    "embedding": ("EMBEDDING", "TEXT", "TEXT"),
    "rerank": ("RERANKING", "TEXT", "TEXT"),
    "image": ("IMAGE_GENERATION", "TEXT", "IMAGE"),
    "audio": (None, "TEXT", "AUDIO"),
    "transcribe": (None, "AUDIO", "TEXT"),
}
_MODALITIES: Final = tuple(f"MODALITY_{name}" for name in ("TEXT", "IMAGE", "AUDIO", "VIDEO"))
_PRODUCTS: Final = tuple(
    f"PRODUCT_{name}" for name in ("SERVERLESS", "DEDICATED", "FINE_TUNING", "RESERVED")
)
_ADAPTERS: Final = tuple(f"ADAPTER_MODE_{name}" for name in ("FIXED", "DYNAMIC", "DISABLED"))


class SupportedModels:
    """The catalogue of the second version of the API.

    Args:
        models: the ids served.
    """

    def __init__(self, models: Collection[str]) -> None:
        self._models = models

    def routes(self) -> Sequence[Route]:
        """The routes of these endpoints."""
        return (
            Route("GET", "/v2/supported-models", self._list),
            Route("GET", "/v2/supported-models/{id}", self._retrieve),
            Route("GET", "/v2/projects/{project}/models", self._list_of_project),
        )

    async def _list(self, call: Call) -> HttpResponse:
        query = Query(call)
        search = query.text("search").casefold()
        product = query.choice("product", _PRODUCTS)
        modality = query.choice("modality", _MODALITIES)
        # No model here has a profile to deploy it by, so none is left by this filter.
        adapters = query.choice("adapterMode", _ADAPTERS)
        rows = [
            row
            for row in map(_row, self._models if adapters is None else ())
            if any(search in f"{row[name]}".casefold() for name in ("id", "name", "displayName"))
            and product in (None, *row["products"])
            and modality in (None, *row["inputModalities"])
        ]
        return responses.answered(call.stamp, query.page(rows))

    async def _retrieve(self, call: Call) -> HttpResponse:
        identity = call.parts["id"]
        for row in map(_row, self._models):
            if row["id"] == identity:
                return responses.answered(call.stamp, row)
        raise Failure.error(404, f"There is no supported model {identity}.")

    async def _list_of_project(self, call: Call) -> HttpResponse:
        rows = [
            {
                "id": _identity("ml", model),
                "name": model,
                "projectId": call.parts["project"],
                "organizationId": ORGANIZATION["id"],
                "visibility": "VISIBILITY_PRIVATE",
                "weights": {"type": "WEIGHTS_TYPE_DEFAULT"},
            }
            for model in filter(is_own, self._models)
        ]
        return responses.answered(call.stamp, Query(call).page(rows))


def _row(model: str) -> dict[str, Any]:
    facts = facts_of(model)
    capability, read, given = _ABILITIES[facts.type]
    created = datetime.fromtimestamp(facts.created, UTC).isoformat().replace("+00:00", "Z")
    row: dict[str, Any] = {
        "id": _identity("arch", model),
        "name": model,
        "displayName": facts.display_name,
        "displayType": facts.type,
        "publisher": facts.organization,
        "status": "SUPPORTED_MODEL_STATUS_SUPPORTED",
        "baseModel": "",
        "baseModelId": "",
        "capabilities": [f"CAPABILITY_{capability}"] if capability else [],
        "features": [f"FEATURE_{name}" for name in _features(facts)],
        "inputModalities": [f"MODALITY_{read}"],
        "outputModalities": [f"MODALITY_{given}"],
        "products": ["PRODUCT_DEDICATED" if is_own(model) else "PRODUCT_SERVERLESS"],
        "deploymentProfiles": [],
        "createdAt": created,
        "updatedAt": created,
    }
    if facts.context_length is not None:
        row["contextLength"] = f"{facts.context_length}"
    if not is_own(model):
        row["serverlessEndpoint"] = model
        row["pricing"] = _pricing(facts)
    return row


def _features(facts: ModelFacts) -> tuple[str, ...]:
    if facts.type != "chat":
        return ()
    features = ("TOOL_CALLING", "STRUCTURED_OUTPUT")
    return (*features, "REASONING") if facts.reasons else features


def _pricing(facts: ModelFacts) -> dict[str, float]:
    pricing = {"input": facts.input, "output": facts.output}
    if facts.cached_input is not None:
        pricing["cachedInput"] = facts.cached_input
    return pricing


def _identity(kind: str, model: str) -> str:
    return f"{kind}_{sha256(model.encode('utf-8', 'replace')).hexdigest()[:24]}"
