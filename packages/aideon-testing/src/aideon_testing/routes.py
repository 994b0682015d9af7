"""Which request goes to which endpoint."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from aideon_testing.faults import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_core.types import Json
    from aideon_testing.connection import HttpRequest, HttpResponse
    from aideon_testing.wire import Stamp

# The together SDK given a base URL that ends in /v1 asks for /v1/v1/... and /v1/v2/...
_REPEATED_V1: Final = re.compile(r"^(?:/v1)+(?=/v\d/)")
_PARAMETER: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Call:
    """A request at its endpoint.

    Attributes:
        request: as it came.
        stamp: what the response will say of itself.
        parts: the parts of the path that the route names, such as ``id``.
    """

    request: HttpRequest
    stamp: Stamp
    parts: Mapping[str, str]

    def json(self) -> Json:
        """The JSON object sent.

        Raises:
            Failure: 400, the content is anything else.
        """
        if (body := self.request.body) is None:
            raise Failure.invalid_input()
        return body


Handler: TypeAlias = Callable[[Call], Awaitable["HttpResponse"]]


def as_it_is(request: HttpRequest, stamp: Stamp) -> Stamp:  # noqa: ARG001 - as all have it
    """The stamp of a request for which the usual limits hold."""
    return stamp


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint.

    Attributes:
        method: the HTTP method.
        path: such as ``/v1/files/{id}``; a part in braces matches anything but a slash.
        handle: answers, or raises Failure or BrokenOff.
        refusal: what a request with a bad key gets; ``None`` asks for no key.
        limited: whether the rate limits hold for it.
        stamped: gives the stamp what is known of a request's limits before it is looked at.
    """

    method: str
    path: str
    handle: Handler
    refusal: Callable[[], Failure] | None = Failure.invalid_key
    limited: bool = True
    stamped: Callable[[HttpRequest, Stamp], Stamp] = as_it_is

    def match(self, path: str) -> Mapping[str, str] | None:
        """The parts of ``path`` by name, ``None`` when it is another route's."""
        pattern = _PARAMETER.sub(r"(?P<\1>[^/]+)", self.path)
        found = re.fullmatch(pattern, path)
        return found.groupdict() if found else None


def plain(path: str) -> str:
    """A path as routes have it: one ``/v1``, no slash at the end."""
    return _REPEATED_V1.sub("", path).rstrip("/")


def find(routes: Sequence[Route], request: HttpRequest) -> tuple[Route, Mapping[str, str]]:
    """The route of a request and the parts of its path; HEAD goes where GET goes.

    Raises:
        Failure: 404 or 405, nothing is served there, or not by that method.
    """
    path = plain(request.path)
    method = "GET" if request.method == "HEAD" else request.method
    there = [(route, parts) for route in routes if (parts := route.match(path)) is not None]
    for route, parts in there:
        if route.method == method:
            return route, parts
    if there:
        allowed = ", ".join(sorted({route.method for route, _ in there}))
        message = f"{request.method} is not allowed on {path}; use {allowed}."
        raise Failure.error(405, message, headers={"allow": allowed})
    served = ", ".join(f"{route.method} {route.path}" for route in routes)
    raise Failure.error(404, f"Nothing at {request.path}. This loopback server serves {served}.")
