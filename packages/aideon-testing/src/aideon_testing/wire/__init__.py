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
from typing import Literal, TypeAlias

JSON_TYPE = "application/json; charset=utf-8"
STREAM_TYPE = "text/event-stream;charset=utf-8"
DONE = b"data: [DONE]\n\n"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"

Reached: TypeAlias = Literal["api", "router", "engine", "model"]
"""How far a request came: each of them leaves headers in the answer, and those before it."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What one response says of itself in its headers and in every frame.

    Attributes:
        id: the response's.
        created: when the request arrived, in seconds since 1970.
        model: the one that answers.
        rate: the limit that holds for the request, in requests a second.
        dynamic: whether the limits that follow the account's recent use are told too.
        pictures: whether the part of the API answers that makes pictures; it counts no
            tokens and traces nothing.
    """

    id: str
    created: float
    model: str = ""
    rate: float = 10.0
    dynamic: bool = True
    pictures: bool = False

    @property
    def tokens(self) -> int:
        """The limit of tokens a second."""
        if self.pictures:
            return 0
        return 3000 if self.rate >= 10 else 1000  # noqa: PLR2004 - the wire's own tiers


def response_id(number: int) -> str:
    """The id of a server's ``number``-th response: prefix, engine pool and trace."""
    trace = sha256(str(number).encode()).hexdigest()[:16]
    return f"o{_base36(number).zfill(6)}-4YNCb4-{trace}"


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
        headers |= limit_headers(stamp)
    return headers


def call_headers(
    stamp: Stamp, *, reached: Reached = "model", ended: float | None = None
) -> dict[str, str]:
    """The headers that the way to a model leaves; ``ended`` in seconds since 1970."""
    headers = {}
    if reached != "api" and not stamp.pictures:
        trace = sha256(stamp.id.encode()).hexdigest()
        parts = trace[:8], trace[8:12], trace[12:16], trace[16:20], trace[20:32]
        headers["x-amzn-trace-id"] = f"{'-'.join(parts)}-noamzn"
    if reached in ("engine", "model"):
        headers["x-image-version" if stamp.pictures else "x-inference-version"] = "v2"
    if reached == "model":
        headers["x-api-call-start"] = _moment(stamp.created)
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


def web_headers(content: bytes) -> dict[str, str]:
    """The headers of ``/v1/models``, which a web application answers and not the API."""
    digest = int.from_bytes(sha1(content, usedforsecurity=False).digest()[:7])
    return {
        "access-control-allow-origin": "*",
        "content-type": "application/json",
        "etag": f'"{_base36(digest).zfill(11)}{_base36(len(content))}"',
        "vary": "Accept-Encoding",
    }


def limit_headers(stamp: Stamp) -> dict[str, str]:
    """The limits of a request that is within them."""
    rate, tokens = stamp.rate, str(stamp.tokens)
    reset = str(max(2, math.ceil(1 / rate)))
    headers = {
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
    if stamp.dynamic:
        # No account on record had earned more than the least.
        headers |= {"x-ratelimit-limit-dynamic": "1", "x-ratelimit-remaining-dynamic": "0"}
    return headers


def _base36(number: int) -> str:
    digits = ""
    while number or not digits:
        number, digit = divmod(number, 36)
        digits = _BASE36[digit] + digits
    return digits


def _etag(content: bytes) -> str:
    digest = b64encode(sha1(content, usedforsecurity=False).digest()).decode()
    return f'W/"{len(content):x}-{digest[:27]}"'


def _moment(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
