"""``GET /v1/models``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aideon_testing import responses
from aideon_testing.endpoints.lists import Query
from aideon_testing.faults import Failure
from aideon_testing.models import is_own, model_row
from aideon_testing.routes import Route

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from aideon_testing.connection import HttpResponse
    from aideon_testing.routes import Call


class Models:
    """What models there are.

    Args:
        models: the ids served.
    """

    def __init__(self, models: Collection[str]) -> None:
        self._models = models

    def routes(self) -> Sequence[Route]:
        """The routes of this endpoint."""
        return (Route("GET", "/v1/models", self._list, refusal=Failure.unauthorized),)

    async def _list(self, call: Call) -> HttpResponse:
        models = filter(is_own, self._models) if Query(call).flag("dedicated") else self._models
        return responses.listed([model_row(model) for model in models])
