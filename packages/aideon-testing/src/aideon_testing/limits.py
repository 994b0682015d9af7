"""Rate limits that limit: a bucket of requests and a bucket of tokens for each key."""

from __future__ import annotations

import math
import re
import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aideon_testing import wire
from aideon_testing.faults import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from aideon_testing.connection import HttpRequest, HttpResponse
    from aideon_testing.interception import Proceed
    from aideon_testing.wire import Stamp

# Within a JSON string the quotes would be escaped, so no text can pretend to be usage.
_USAGE = re.compile(rb'"total_tokens":\s*(\d+)')
# Usage may be split between parts; this much of one is looked at again with the next.
_TAIL = 64
# Sums of floats fall short of the number they mean by less than this.
_ROUNDING = 1e-9


class ManualClock:
    """A clock that stands still until a test sets it.

    Args:
        now: what it shows at first, in seconds.
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def __call__(self) -> float:
        """What it shows."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What each key may use.

    Attributes:
        requests_per_second: may be a fraction; ``None`` does not limit requests.
        tokens_per_second: of input and output together. They are counted when an answer
            ends, so one answer may go over and the next request is refused. ``None`` does
            not limit tokens.
        burst: how many seconds' worth of requests may come at once; at least one may.
        clock: gives the time in seconds.
    """

    requests_per_second: float | None = None
    tokens_per_second: float | None = None
    burst: float = 2.0
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through.

        Raises:
            ValueError: a limit is not above zero.
        """
        for name in ("requests_per_second", "tokens_per_second", "burst"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, not {value}.")


UNLIMITED = RateLimits()
"""Refuses nothing."""


class Limiter:
    """Refuses requests over the limits, and tells all others what is left.

    Args:
        limits: for each key.
    """

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits
        self._accounts: dict[str, _Account] = {}

    @property
    def limits(self) -> RateLimits:
        """What each key may use; setting it lets all keys start anew."""
        return self._limits

    @limits.setter
    def limits(self, limits: RateLimits) -> None:
        self._limits, self._accounts = limits, {}

    async def intercept(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        """Answer a request, or refuse it with 429."""
        if self._limits == UNLIMITED:
            return await proceed(request, stamp)
        if request.key not in self._accounts:
            self._accounts[request.key] = _Account(self._limits)
        account = self._accounts[request.key]
        if wait := account.wait():
            raise account.refusal(wait, stamp)
        account.requests.take(1)
        response = await proceed(request, stamp)
        if response.header("x-ratelimit") is None:
            return response  # no answer of the API itself, so no limits to tell
        told = response.with_headers(account.headers(account.until_full()))
        return replace(told, body=_charged(response.body, account.tokens))


class _Bucket:
    """Fills at a rate up to a size; may be emptied below zero, and has to make up for it."""

    def __init__(self, rate: float, size: float, clock: Callable[[], float]) -> None:
        self.rate = rate
        self.size = size
        self._clock = clock
        self._level = size
        self._seen = clock()

    def level(self) -> float:
        now = self._clock()
        self._level = min(self.size, self._level + (now - self._seen) * self.rate)
        self._seen = now
        return self._level

    def take(self, amount: float) -> None:
        self._level = self.level() - amount

    def until(self, level: float) -> float:
        """Seconds until it is filled that far."""
        missing = level - self.level()
        return missing / self.rate if missing > _ROUNDING else 0.0


class _Account:
    def __init__(self, limits: RateLimits) -> None:
        requests, tokens = limits.requests_per_second, limits.tokens_per_second
        self.limits = limits
        size = math.inf if requests is None else max(requests * limits.burst, 1)
        self.requests = _Bucket(requests or 0, size, limits.clock)
        size = math.inf if tokens is None else max(tokens, 1)
        self.tokens = _Bucket(tokens or 0, size, limits.clock)

    def wait(self) -> int:
        """Seconds until the next request is let through, as the header has them."""
        return math.ceil(max(self.requests.until(1), self.tokens.until(1)) - _ROUNDING)

    def until_full(self) -> int:
        full = 0.0
        for bucket in (self.requests, self.tokens):
            if bucket.rate:
                full = max(full, bucket.until(bucket.size))
        return math.ceil(full - _ROUNDING)

    def refusal(self, wait: int, stamp: Stamp) -> Failure:
        """A 429; where there is no limit it says what a 200 says."""
        usual = Failure.rate_limited(
            retry_after=wait,
            requests_per_second=self.limits.requests_per_second or stamp.rate,
            tokens_per_second=self.limits.tokens_per_second or stamp.tokens,
        )
        told = {**wire.limit_headers(stamp), **self.headers(wait), "x-ratelimit": "true"}
        return usual.with_headers(told)

    def headers(self, reset: int) -> Mapping[str, str]:
        """The wire's headers, as far as there are limits to tell."""
        told = {"retry-after": str(reset), "x-ratelimit-reset": str(reset)}
        for suffix, bucket in (("", self.requests), ("-tokens", self.tokens)):
            if bucket.rate:
                left = max(math.floor(bucket.level() + _ROUNDING), 0)
                told[f"x-ratelimit-limit{suffix}"] = f"{bucket.rate:.10g}"
                told[f"x-ratelimit-remaining{suffix}"] = str(left)
        return told


async def _charged(
    parts: AsyncGenerator[bytes, None], bucket: _Bucket
) -> AsyncGenerator[bytes, None]:
    """Pass a body on and take the tokens it says were used from the bucket.

    A stream that does not come to that, since the client left it, costs a token a frame.
    """
    tail, frames = b"", 0
    used: int | None = None
    try:
        async with aclosing(parts):
            async for part in parts:
                seen = tail + part
                for told in _USAGE.finditer(seen):
                    used = int(told[1])
                tail = seen[-_TAIL:]
                frames += part.count(b"data: ")
                yield part
    finally:
        bucket.take(frames if used is None else used)
