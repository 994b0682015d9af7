"""The wire beneath every endpoint: ids, JSON and headers. Pure functions, no I/O.

How chat answers are written is in the modules beside this one.
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha1, sha256

JSON_TYPE = "application/json; charset=utf-8"
STREAM_TYPE = "text/event-stream;charset=utf-8"
DONE = b"data: [DONE]\n\n"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What one response says of itself in its headers and in every frame.

    ``created`` is when the request arrived, in seconds since 1970; ``rate`` is the limit that
    holds for it, in requests a second.
    """

    id: str
    created: float
    model: str = ""
    rate: float = 10.0


def response_id(number: int) -> str:
    """The id of a server's ``number``-th response: prefix, engine pool and trace."""
    prefix = ""
    rest = number
    while rest or len(prefix) < 6:  # noqa: PLR2004 - the wire's own length
        rest, digit = divmod(rest, 36)
        prefix = _BASE36[digit] + prefix
    return f"o{prefix}-4YNCb4-{sha256(str(number).encode()).hexdigest()[:16]}"


def compact(value: object) -> bytes:
    """JSON without spaces, as frames and ``/v1/models`` have it."""
    # Half a surrogate pair cannot be UTF-8; the replacement is its JSON escape.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def pretty(value: object) -> bytes:
    """JSON indented by two spaces, as whole answers and errors have it."""
    return json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8", "backslashreplace")


def api_headers(stamp: Stamp, content: bytes | None, *, limits: bool = True) -> dict[str, str]:
    """The headers of an answer of the API itself.

    Args:
        stamp: the response's.
        content: the whole body, ``None`` for a stream.
        limits: whether to tell the rate limits, as all but a few errors do.
    """
    headers = {
        "access-control-allow-origin": "*",
        "cf-ray": f"{stamp.id.rpartition('-')[2]}-LHR",
        "content-type": STREAM_TYPE if content is None else JSON_TYPE,
        "vary": "accept-encoding",
        "x-api-received": _moment(stamp.created),
        "x-request-id": stamp.id,
    }
    if content is None:
        headers["cache-control"] = "no-cache, no-transform"
    else:
        headers["etag"] = _etag(content)
    if limits:
        headers |= _limits(stamp.rate)
    return headers


def call_headers(stamp: Stamp, *, ended: float | None = None) -> dict[str, str]:
    """The headers of an answer an engine gave; ``ended`` in seconds since 1970."""
    trace = sha256(stamp.id.encode()).hexdigest()
    parts = trace[:8], trace[8:12], trace[12:16], trace[16:20], trace[20:32]
    headers = {
        "x-amzn-trace-id": f"{'-'.join(parts)}-noamzn",
        "x-api-call-start": _moment(stamp.created),
        "x-inference-version": "v2",
    }
    if ended is not None:
        headers["x-api-call-end"] = _moment(ended)
    return headers


def debug_headers(stamp: Stamp) -> dict[str, str]:
    """What an answer says of its way through the API to requests with ``x-together-debug: 1``."""
    trace = stamp.id.rpartition("-")[2]
    return {
        "x-together-traceid": trace,
        "x-cluster": "loopback",
        "x-engine-pod": f"loopback-{trace[:5]}",
    }


def web_headers() -> dict[str, str]:
    """The headers of ``/v1/models``, which a web application answers and not the API."""
    return {"access-control-allow-origin": "*", "content-type": "application/json"}


def _limits(rate: float) -> dict[str, str]:
    tokens = "3000" if rate >= 10 else "1000"  # noqa: PLR2004 - the wire's own tiers
    reset = str(max(2, math.ceil(1 / rate)))
    return {
        # The wire sends retry-after with success as well; it is no sign of a limit.
        "retry-after": reset,
        "x-ratelimit": "false",
        "x-ratelimit-limit": f"{rate:.10g}",
        "x-ratelimit-limit-tokens": tokens,
        # Twice the limit may come at once, and this request was one of them.
        "x-ratelimit-remaining": str(max(math.floor(2 * rate) - 1, 0)),
        "x-ratelimit-remaining-tokens": tokens,
        "x-ratelimit-reset": reset,
    }


def _etag(content: bytes) -> str:
    digest = b64encode(sha1(content, usedforsecurity=False).digest()).decode()
    return f'W/"{len(content):x}-{digest[:27]}"'


def _moment(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
