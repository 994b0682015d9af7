"""Endpoints and the hardware they run on, in the first version of the API and the second."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import NAMESPACE_URL, uuid5

from aideon_testing import responses
from aideon_testing.endpoints.account import PROJECT
from aideon_testing.endpoints.lists import Query
from aideon_testing.faults import Failure
from aideon_testing.models import facts_of, is_own
from aideon_testing.routes import Route

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from aideon_testing.connection import HttpResponse
    from aideon_testing.routes import Call

# GPU, gigabytes of memory, how many of them, US cents an hour.
_HARDWARE: Final = (
    ("a100", 80, 1, 300),
    ("h100", 80, 1, 400),
    ("h200", 140, 8, 4000),
)
_ON: Final = "1x_nvidia_h100_80gb_sxm"


class Dedicated:
    """The endpoints of the models served: Together's are serverless, the caller's dedicated.

    Args:
        models: the ids served.
    """

    def __init__(self, models: Collection[str]) -> None:
        self._models = models

    def routes(self) -> Sequence[Route]:
        """The routes of these endpoints."""
        return (
            Route("GET", "/v1/endpoints", self._list),
            Route("POST", "/v1/endpoints", self._create),
            Route("GET", "/v1/endpoints/{id}", self._retrieve),
            Route("GET", "/v1/hardware", self._hardware),
            Route("GET", "/v2/projects/{project}/endpoints", self._list_of_project),
            Route("GET", "/v2/projects/{project}/endpoints/{id}", self._retrieve_of_project),
            Route("GET", "/v2/public/inference-instance-types", self._instance_types),
            Route("GET", "/v2/public/inference-instance-types/{id}", self._instance_type),
        )

    async def _list(self, call: Call) -> HttpResponse:
        query = Query(call)
        kind = query.choice("type", ("dedicated", "serverless"))
        usage = query.choice("usage_type", ("on-demand", "reserved"))
        rows = [_row(model) for model in self._models]
        if query.flag("mine") or usage is not None:
            # What is Together's is nobody's to reserve, and what is here is not reserved.
            rows = [row for row in rows if row["type"] == "dedicated" and usage != "reserved"]
        if kind is not None:
            rows = [row for row in rows if row["type"] == kind]
        return responses.answered(call.stamp, {"object": "list", "data": rows})

    async def _create(self, _: Call) -> HttpResponse:
        raise Failure.error(
            403,
            "Endpoints can no longer be created by this version of the API; use "
            "/v2/projects/{project_id}/endpoints.",
            code="endpoints_v1_create_access_disabled",
        )

    async def _retrieve(self, call: Call) -> HttpResponse:
        identity = call.parts["id"]
        for model in filter(is_own, self._models):
            row = _row(model)
            if row["id"] == identity:
                details = {
                    "display_name": facts_of(model).display_name,
                    "hardware": _ON,
                    "autoscaling": {"min_replicas": 1, "max_replicas": 1},
                }
                return responses.answered(call.stamp, row | details)
        raise _no_endpoint(identity)

    async def _hardware(self, call: Call) -> HttpResponse:
        # Whether there is any left is told only to those who name a model.
        left = {"availability": {"status": "available"}} if Query(call).text("model") else {}
        rows = [
            {
                "object": "hardware",
                "id": f"{count}x_nvidia_{gpu}_{memory}gb_sxm",
                "pricing": {"cents_per_minute": cents / 60},
                "specs": {
                    "gpu_type": f"{gpu}-{memory}gb",
                    "gpu_link": "sxm",
                    "gpu_memory": memory,
                    "gpu_count": count,
                },
                "updated_at": _moment(call.stamp.created),
                **left,
            }
            for gpu, memory, count, cents in _HARDWARE
        ]
        return responses.answered(call.stamp, {"object": "list", "data": rows})

    async def _list_of_project(self, call: Call) -> HttpResponse:
        rows = [_row_of_project(model, call) for model in filter(is_own, self._models)]
        return responses.answered(call.stamp, Query(call).page(rows))

    async def _retrieve_of_project(self, call: Call) -> HttpResponse:
        identity = call.parts["id"]
        for model in filter(is_own, self._models):
            row = _row_of_project(model, call)
            if row["id"] == identity:
                return responses.answered(call.stamp, row)
        raise _no_endpoint(identity)

    async def _instance_types(self, call: Call) -> HttpResponse:
        body = {"object": "list", "data": _instance_types(), "next_cursor": None}
        return responses.answered(call.stamp, body)

    async def _instance_type(self, call: Call) -> HttpResponse:
        identity = call.parts["id"]
        for row in _instance_types():
            if row["id"] == identity:
                return responses.answered(call.stamp, row)
        raise Failure.error(404, f"There is no instance type {identity}.")


def _row(model: str) -> dict[str, object]:
    own = is_own(model)
    return {
        "object": "endpoint",
        "id": f"endpoint-{uuid5(NAMESPACE_URL, model)}",
        "name": model,
        "model": model,
        "type": "dedicated" if own else "serverless",
        "owner": PROJECT["slug"] if own else "together",
        "state": "STARTED",
        "created_at": _moment(facts_of(model).created),
    }


def _row_of_project(model: str, call: Call) -> dict[str, object]:
    created = _moment(facts_of(model).created)
    identity = uuid5(NAMESPACE_URL, model).hex
    return {
        "id": f"ep_{identity[:24]}",
        "name": model,
        "projectId": call.parts["project"],
        "endpointType": "ENDPOINT_TYPE_DEDICATED",
        "visibility": "VISIBILITY_PRIVATE",
        "deployments": [],
        "trafficSplit": [],
        "etag": identity[24:],
        "createdAt": created,
        "updatedAt": created,
    }


def _instance_types() -> list[dict[str, object]]:
    return [
        {
            "id": f"{count}x-{gpu}-{memory}gb",
            "name": f"{count}x {gpu.upper()}",
            "description": f"{count} x NVIDIA {gpu.upper()} with {memory} GiB each",
            "gpuType": gpu.upper(),
            "gpuCount": count,
            "gpuMemoryGib": memory,
            "priceCentsPerHour": cents,
            "regions": [],
        }
        for gpu, memory, count, cents in _HARDWARE
    ]


def _no_endpoint(identity: str) -> Failure:
    return Failure.error(404, f"There is no endpoint {identity}.")


def _moment(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
