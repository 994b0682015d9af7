"""Which requests meet which faults, and when."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import repeat
from random import Random
from typing import TYPE_CHECKING, Self, TypeAlias

from aideon_testing.chain import settled
from aideon_testing.interception import Intercepts
from aideon_testing.routes import plain

if TYPE_CHECKING:
    from types import TracebackType

    from aideon_testing.connection import HttpRequest, HttpResponse
    from aideon_testing.interception import Proceed
    from aideon_testing.wire import Stamp


_Plan: TypeAlias = Iterator[Sequence[Intercepts]]


@dataclass(frozen=True, slots=True)
class Match:
    """Requests by what they are; what is ``None`` matches all.

    Attributes:
        method: the HTTP method.
        path: a pattern such as ``*/chat/completions`` or ``/v1/files/*``; ``/v1/v1`` counts as
            one ``/v1``.
        model: the model asked for.
        key: the API key used.
        where: says of a request whether it matches; runs in the server's thread.
    """

    method: str | None = None
    path: str | None = None
    model: str | None = None
    key: str | None = None
    where: Callable[[HttpRequest], bool] | None = None

    def __call__(self, request: HttpRequest) -> bool:
        """Whether the request matches in all respects."""
        return (
            self.method in (None, request.method)
            and (self.path is None or fnmatchcase(plain(request.path), self.path))
            and (self.model is None or (request.body or {}).get("model") == self.model)
            and self.key in (None, request.key)
            and (self.where is None or self.where(request))
        )


EVERYTHING = Match()
"""Matches every request."""


class Injection:
    """Faults that are in a server until they are spent or removed.

    As a context manager it removes them at the end of the block.

    Attributes:
        met: how many requests have met the faults so far.
    """

    def __init__(self, faults: Faults, plan: _Plan, on: Match) -> None:
        self.met = 0
        self._faults = faults
        self._plan = plan
        self._on = on

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Take the faults out; doing so twice does nothing."""
        self._faults.remove(self)

    def due(self, request: HttpRequest) -> Sequence[Intercepts]:
        """What this request is to meet, in the order of nesting."""
        if not self._on(request):
            return ()
        planned = next(self._plan, None)
        if planned is None:
            self.remove()
            return ()
        self.met += bool(planned)
        return planned


class Faults:
    """The faults in a running server; may be changed at any time, from any thread.

    Several faults in one call, or in several calls for the same request, nest: the first is
    the outermost, and changes what the ones after it answer. A fault that answers by itself,
    as a Failure does, leaves those after it to a later request. ``on`` says which requests
    are meant, and only those count.
    """

    def __init__(self) -> None:
        self._injections: list[Injection] = []
        self._lock = threading.Lock()

    def next(self, *faults: Intercepts, times: int = 1, on: Match = EVERYTHING) -> Injection:
        """Put faults before the next request, or the next ``times``.

        Raises:
            TypeError: one is no fault.
            ValueError: there are none, or ``times`` is less than 1.
        """
        _check(faults)
        if times < 1:
            raise ValueError(f"Faults cannot come {times} times: times is at least 1.")
        return self._add(repeat(faults, times), on)

    def always(self, *faults: Intercepts, on: Match = EVERYTHING) -> Injection:
        """Put faults before every request until they are removed.

        Raises:
            TypeError: one is no fault.
            ValueError: there are none.
        """
        _check(faults)
        return self._add(repeat(faults), on)

    def every(self, nth: int, *faults: Intercepts, on: Match = EVERYTHING) -> Injection:
        """Put faults before each ``nth`` request: 3 spares two and hits the third.

        Raises:
            TypeError: one is no fault.
            ValueError: there are none, or ``nth`` is less than 1.
        """
        _check(faults)
        if nth < 1:
            raise ValueError(f"There is no request number {nth}: nth counts from 1.")
        return self._add(_every(nth, faults), on)

    def randomly(
        self, probability: float, *faults: Intercepts, seed: int = 0, on: Match = EVERYTHING
    ) -> Injection:
        """Put faults before requests by chance, the same ones for the same ``seed``.

        Raises:
            TypeError: one is no fault.
            ValueError: there are none, or ``probability`` is not between 0 and 1.
        """
        _check(faults)
        if not 0 <= probability <= 1:
            raise ValueError(f"A probability is between 0 and 1, not {probability}.")
        return self._add(_randomly(probability, faults, seed), on)

    def sequence(self, *faults: Intercepts | None, on: Match = EVERYTHING) -> Injection:
        """Put one fault before each of the next requests, in order; ``None`` spares one.

        Raises:
            TypeError: one is no fault.
            ValueError: there are none.
        """
        _check([fault for fault in faults if fault is not None])
        return self._add(iter([() if fault is None else (fault,) for fault in faults]), on)

    def remove(self, injection: Injection) -> None:
        """Take an injection out; one that is not in does nothing."""
        with self._lock:
            self._injections = [one for one in self._injections if one is not injection]

    def clear(self) -> None:
        """Take all faults out."""
        with self._lock:
            self._injections = []

    async def intercept(self, request: HttpRequest, stamp: Stamp, proceed: Proceed) -> HttpResponse:
        """Answer a request through the faults that are due."""
        # Drawn one by one: what an outer fault answers itself costs the inner ones nothing.
        due = (fault for injection in self._injections for fault in injection.due(request))
        return await _through(due, request, stamp, proceed)

    def _add(self, plan: _Plan, on: Match) -> Injection:
        injection = Injection(self, plan, on)
        with self._lock:
            self._injections = [*self._injections, injection]
        return injection


def _check(faults: Sequence[object]) -> None:
    """Refuse what is no fault where it is written down, not in the client under test."""
    if not faults:
        raise ValueError("There is no fault to put: give one, such as Failure.unavailable().")
    for fault in faults:
        if isinstance(fault, type) or not isinstance(fault, Intercepts):
            name = getattr(fault, "__qualname__", None)
            hint = f"call it: {name}()" if name else "give one, such as Failure.unavailable()"
            raise TypeError(f"{fault!r} is no fault; {hint}.")


async def _through(
    faults: Iterator[Intercepts], request: HttpRequest, stamp: Stamp, proceed: Proceed
) -> HttpResponse:
    fault = next(faults, None)
    if fault is None:
        return await proceed(request, stamp)

    async def inner(request: HttpRequest, stamp: Stamp) -> HttpResponse:
        return await _through(faults, request, stamp, proceed)

    async def outer(request: HttpRequest, stamp: Stamp) -> HttpResponse:
        return await fault.intercept(request, stamp, inner)

    return await settled(request, stamp, outer)


def _every(nth: int, faults: Sequence[Intercepts]) -> _Plan:
    while True:
        yield from repeat((), nth - 1)
        yield faults


def _randomly(probability: float, faults: Sequence[Intercepts], seed: int) -> _Plan:
    chance = Random(seed)  # noqa: S311 - no secret
    while True:
        yield faults if chance.random() < probability else ()
