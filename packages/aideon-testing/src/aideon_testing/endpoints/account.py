"""``GET /v3/whoami`` and ``GET /v1/projects``: whose key it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aideon_testing import responses
from aideon_testing.endpoints.lists import Query
from aideon_testing.routes import Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_testing.connection import HttpResponse
    from aideon_testing.routes import Call

ORGANIZATION: Final = {"id": "org_loopback", "name": "Loopback"}
PROJECT: Final = {"id": "proj_loopback", "name": "Loopback", "slug": "loopback"}


class Account:
    """The one organization and the one project that every key belongs to."""

    def routes(self) -> Sequence[Route]:
        """The routes of these endpoints."""
        return (
            Route("GET", "/v3/whoami", self._whoami),
            Route("GET", "/v1/projects", self._projects),
        )

    async def _whoami(self, call: Call) -> HttpResponse:
        body = {
            "type": "project_api_key",
            "api_key": {"id": "key_loopback"},
            "organization": ORGANIZATION,
            "project": PROJECT,
        }
        return responses.answered(call.stamp, body)

    async def _projects(self, call: Call) -> HttpResponse:
        owner = {
            "organization_id": ORGANIZATION["id"],
            "organization_name": ORGANIZATION["name"],
        }
        return responses.answered(call.stamp, Query(call).page([PROJECT | owner]))
