"""What the server serves: a request in, a response out."""

from __future__ import annotations

import itertools
import logging
import time
from typing import TYPE_CHECKING

from aideon_testing import responses, wire
from aideon_testing.endpoints.chat import Chat
from aideon_testing.endpoints.models import Models
from aideon_testing.faults import BrokenOff, Failure
from aideon_testing.routes import Call, find, passed_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_testing.answers import Answerer
    from aideon_testing.connection import HttpRequest, HttpResponse
    from aideon_testing.routes import Interceptor, Route
    from aideon_testing.wire import Stamp

_logger = logging.getLogger(__name__)


class Service:
    """Together's endpoints behind one key check.

    Args:
        answers: says what chat requests are answered with.
        models: the ids to serve.
        api_key: the only key accepted; ``None`` accepts any that is not empty.
        around: sees every request before the endpoints do, and every response after.

    Attributes:
        requests: every request that came, refused ones included, in order of arrival.
    """

    def __init__(
        self,
        answers: Answerer,
        models: Sequence[str],
        api_key: str | None,
        around: Interceptor = passed_on,
    ) -> None:
        self.requests: list[HttpRequest] = []
        self._api_key = api_key
        self._around = around
        self._numbers = itertools.count()
        chat = Chat(answers, models)
        endpoints = (chat, Models(models))
        self._routes = tuple(route for endpoint in endpoints for route in endpoint.routes())

    async def respond(self, request: HttpRequest) -> HttpResponse:
        """Answer a request; whatever goes wrong becomes an HTTP answer too."""
        self.requests.append(request)
        stamp = wire.Stamp(wire.response_id(next(self._numbers)), time.time())
        try:
            return await self._around(request, stamp, self._endpoint)
        except Failure as failure:
            return responses.failed(stamp, failure)
        except BrokenOff:
            return responses.broken(stamp)
        except Exception:
            # An answerer is anybody's code; the client must not hang because it has a bug.
            _logger.exception("The answerer failed on %s %s", request.method, request.path)
            return responses.failed(stamp, Failure.server_error())

    async def _endpoint(self, request: HttpRequest, stamp: Stamp) -> HttpResponse:
        route, parts = find(self._routes, request)
        self._admit(request, route)
        return await route.handle(Call(request, stamp, parts))

    def _admit(self, request: HttpRequest, route: Route) -> None:
        if route.refusal is None:
            return
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key or self._api_key not in (None, key):
            raise route.refusal()
