"""Runs the bodies without pytest, and tells what came of each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from unittest import SkipTest

from aideon_testing.conformance.bodies import Bodies
from aideon_testing.conformance.promises import bodies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aideon_testing.conformance.promises import Body
    from aideon_testing.conformance.shapes import Shape
    from aideon_testing.conformance.subject import Subject

Outcome: TypeAlias = Literal["passed", "refused", "skipped", "failed"]
"""``refused`` keeps the promise too: the feature is absent, and asking for it is told so."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one body.

    Attributes:
        name: the promise with its case.
        area: what it is about.
        sentence: the promise in words.
        outcome: whether it is kept.
        seconds: how long it took.
        message: why it was skipped, or what came instead.
    """

    name: str
    area: str
    sentence: str
    outcome: Outcome
    seconds: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of all bodies, and the shapes of the answers in them.

    Attributes:
        model: the model that was examined.
        results: a row for each body.
        shapes: the shape of each answer, by the body it came in.
    """

    model: str
    results: tuple[Result, ...]
    shapes: Mapping[str, Shape]

    @property
    def failed(self) -> tuple[Result, ...]:
        """The promises that were not kept."""
        return tuple(each for each in self.results if each.outcome == "failed")

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        rows = [{name: getattr(each, name) for name in Result.__slots__} for each in self.results]
        shapes = {name: dict(shape) for name, shape in self.shapes.items()}
        return {"model": self.model, "results": rows, "shapes": shapes}


def examine(
    subject: Subject, *, only: str = "", told: Callable[[Result], None] | None = None
) -> Report:
    """Hold a subject to every body of the suite.

    Args:
        subject: what is examined.
        only: a part of the names of the bodies wanted, or an area.
        told: is given each result as it comes.
    """
    results = []
    for body in bodies(Bodies(), only):
        results.append(_result(body, subject))
        if told is not None:
            told(results[-1])
    model = ", ".join(each.model for each in subject.client.backends.values())
    return Report(model, tuple(results), dict(subject.shapes))


def _result(body: Body, subject: Subject) -> Result:
    started = time.perf_counter()
    outcome: Outcome = "passed"
    message = ""
    refused = len(subject.refused)
    try:
        body.prove(subject)
    except SkipTest as reason:
        outcome, message = "skipped", str(reason)
    except Exception as error:  # noqa: BLE001 - whatever came is the finding
        outcome, message = "failed", _told(error)
    else:
        if len(subject.refused) > refused:
            outcome = "refused"
    seconds = time.perf_counter() - started
    return Result(body.name, body.area, body.sentence, outcome, seconds, message)


def _told(error: Exception) -> str:
    kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
    return f"{kind}{error}"
