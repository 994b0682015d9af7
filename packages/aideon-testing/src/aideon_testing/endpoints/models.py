"""``GET /v1/models``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aideon_testing import responses
from aideon_testing.endpoints.lists import Query
from aideon_testing.faults import Failure
from aideon_testing.models import is_own, model_row
from aideon_testing.routes import Route

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from aideon_testing.connection import HttpResponse
    from aideon_testing.routes import Call

# The web application's pages have one address for people and for programs.
_VARY: Final = "rsc, next-router-state-tree, next-router-prefetch, next-router-segment-prefetch"


class Models:
    """What models there are.

    Args:
        models: the ids served.
    """

    def __init__(self, models: Collection[str]) -> None:
        self._models = models

    def routes(self) -> Sequence[Route]:
        """The routes of this endpoint."""
        # A web application answers here, before which no limiter stands.
        return (Route("GET", "/v1/models", self._list, Failure.unauthorized, limited=False),)

    async def _list(self, call: Call) -> HttpResponse:
        models = filter(is_own, self._models) if Query(call).flag("dedicated") else self._models
        listed = responses.listed([model_row(model) for model in models])
        return listed.with_headers({"vary": _VARY})
