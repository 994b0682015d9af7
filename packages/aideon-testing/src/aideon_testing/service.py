"""What the server serves: a request in, a response out."""

from __future__ import annotations

import itertools
import time
from types import MappingProxyType
from typing import TYPE_CHECKING

from aideon_testing import wire
from aideon_testing.chain import chain
from aideon_testing.endpoints.account import Account
from aideon_testing.endpoints.audio import Audio
from aideon_testing.endpoints.batches import Batches
from aideon_testing.endpoints.chat import Chat
from aideon_testing.endpoints.completions import Completions
from aideon_testing.endpoints.dedicated import Dedicated
from aideon_testing.endpoints.embeddings import Embeddings
from aideon_testing.endpoints.file_store import FileStore
from aideon_testing.endpoints.files import Files
from aideon_testing.endpoints.images import Images
from aideon_testing.endpoints.models import Models
from aideon_testing.endpoints.part_uploads import PartUploads
from aideon_testing.endpoints.rerank import Rerank
from aideon_testing.endpoints.speech import Speech
from aideon_testing.endpoints.supported_models import SupportedModels
from aideon_testing.endpoints.uploads import Uploads
from aideon_testing.faults import Failure
from aideon_testing.injection import Faults
from aideon_testing.interception import passed_on
from aideon_testing.limits import UNLIMITED, Limiter
from aideon_testing.routes import Call, find

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aideon_testing.answers import Answerer
    from aideon_testing.connection import HttpRequest, HttpResponse
    from aideon_testing.dialects import Dialect
    from aideon_testing.interception import Interceptor, Proceed
    from aideon_testing.keys import Keys
    from aideon_testing.limits import RateLimits
    from aideon_testing.routes import Route
    from aideon_testing.wire import Stamp


class Service:
    """Together's endpoints, and what stands before them: faults, keys, limits, recordings.

    Args:
        answers: says what chat requests are answered with.
        models: the ids to serve.
        keys: the API keys accepted.
        limits: what each key may use.
        dialects: see Chat.
        around: sees every accepted request before the endpoints do, and every response after.

    Attributes:
        requests: every request that came, refused ones included, in order of arrival.
        faults: what goes wrong on purpose.
        keys: as given.
        limiter: what holds to the limits.
    """

    def __init__(
        self,
        answers: Answerer,
        models: Sequence[str],
        keys: Keys,
        *,
        limits: RateLimits = UNLIMITED,
        dialects: Mapping[str, Dialect] = MappingProxyType({}),
        around: Interceptor = passed_on,
    ) -> None:
        self.requests: list[HttpRequest] = []
        self.faults = Faults()
        self.keys = keys
        self.limiter = Limiter(limits)
        self._numbers = itertools.count()
        chat = Chat(answers, models, dialects)
        store = FileStore()
        endpoints = (
            chat,
            Completions(answers, models),
            Embeddings(models),
            Rerank(models),
            Images(models),
            Speech(models),
            Audio(answers, models),
            Models(models),
            SupportedModels(models),
            Dedicated(models),
            Account(),
            Files(store),
            Uploads(store),
            PartUploads(store),
            Batches(store, self._endpoint),
        )
        self._routes = tuple(route for endpoint in endpoints for route in endpoint.routes())
        interceptors = (self.faults.intercept, self._admitted, self._limited, around)
        self._answer = chain(interceptors, self._endpoint)

    async def respond(self, request: HttpRequest) -> HttpResponse:
        """Answer a request; whatever goes wrong becomes an HTTP answer too."""
        self.requests.append(request)
        stamp = wire.Stamp(wire.response_id(next(self._numbers)), time.time())
        if (route := self._route(request)) is not None:
            stamp = route.stamped(request, stamp)
        return await self._answer(request, stamp)

    async def _admitted(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        route = self._route(request)
        if route is not None and route.refusal is not None:
            if not self.keys.accepts(request.key):
                raise route.refusal()
            if not self.keys.has_credit(request.key):
                raise Failure.out_of_credit()
        return await proceed(request, stamp)

    async def _limited(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        route = self._route(request)
        if route is None or not route.limited:
            return await proceed(request, stamp)
        return await self.limiter.intercept(request, stamp, proceed)

    def _route(self, request: HttpRequest) -> Route | None:
        try:
            return find(self._routes, request)[0]
        except Failure:
            return None  # there is no endpoint, which is what the client is to learn

    async def _endpoint(self, request: HttpRequest, stamp: Stamp) -> HttpResponse:
        route, parts = find(self._routes, request)
        return await route.handle(Call(request, stamp, parts))
