"""Interceptors around the endpoints, each of which always gets a response."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aideon_testing import responses
from aideon_testing.faults import BrokenOff, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aideon_testing.connection import HttpRequest, HttpResponse
    from aideon_testing.interception import Interceptor, Proceed
    from aideon_testing.wire import Stamp

_logger = logging.getLogger(__name__)


async def settled(request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
    """The interceptor that makes an HTTP answer of whatever goes wrong."""
    try:
        return await proceed(request, stamp)
    except Failure as failure:
        return responses.failed(stamp, failure)
    except BrokenOff:
        return responses.broken(stamp)
    except Exception:
        # An answerer is anybody's code; the client must not hang because it has a bug.
        _logger.exception("The answerer failed on %s %s", request.method, request.path)
        return responses.failed(stamp, Failure.server_error())


def chain(interceptors: Iterable[Interceptor], endpoint: Proceed) -> Proceed:
    """Put interceptors around an endpoint.

    Args:
        interceptors: the outermost first. What the others raise reaches none of them: it is
            a response by then.
        endpoint: answers what all of them let pass.

    Returns:
        What answers a request and never raises.
    """
    proceed = _settling(endpoint)
    for interceptor in reversed(tuple(interceptors)):
        proceed = _settling(_around(interceptor, proceed))
    return proceed


def _settling(proceed: Proceed) -> Proceed:
    return _around(settled, proceed)


def _around(interceptor: Interceptor, proceed: Proceed) -> Proceed:
    async def answer(request: HttpRequest, stamp: Stamp) -> HttpResponse:
        return await interceptor(request, stamp, proceed)

    return answer
