"""What stands between requests and their answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from aideon_testing.connection import HttpRequest, HttpResponse
    from aideon_testing.wire import Stamp

Proceed: TypeAlias = Callable[["HttpRequest", "Stamp"], Awaitable["HttpResponse"]]
Interceptor: TypeAlias = Callable[["HttpRequest", "Stamp", Proceed], Awaitable["HttpResponse"]]
"""Stands between the connection and the endpoints: answers itself, or proceeds."""


@runtime_checkable
class Intercepts(Protocol):
    """Something that stands between requests and their answers: a fault, or recordings."""

    async def intercept(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        """Answer a request, or change what ``proceed`` answers, or when."""


async def passed_on(request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
    """The interceptor that does nothing."""
    return await proceed(request, stamp)
