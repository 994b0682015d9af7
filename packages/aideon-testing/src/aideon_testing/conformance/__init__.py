"""One conformance suite for everything that answers chat requests.

``ConformanceTests`` is the class to subclass in pytest, ``examine`` runs the same bodies
without it, and ``ObedientAnswers`` is a perfect model for a loopback server. Names load on
first use, so that only ``ConformanceTests`` needs pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aideon_testing.conformance.obedient import ObedientAnswers
    from aideon_testing.conformance.promises import FEATURES, Broken, Feature
    from aideon_testing.conformance.runner import Report, Result, examine
    from aideon_testing.conformance.shapes import Shape, differences
    from aideon_testing.conformance.subject import Answer, Subject
    from aideon_testing.conformance.suite import ConformanceTests

__all__ = [
    "FEATURES",
    "Answer",
    "Broken",
    "ConformanceTests",
    "Feature",
    "ObedientAnswers",
    "Report",
    "Result",
    "Shape",
    "Subject",
    "differences",
    "examine",
]

_HOMES = {
    "FEATURES": "promises",
    "Answer": "subject",
    "Broken": "promises",
    "ConformanceTests": "suite",
    "Feature": "promises",
    "ObedientAnswers": "obedient",
    "Report": "runner",
    "Result": "runner",
    "Shape": "shapes",
    "Subject": "subject",
    "differences": "shapes",
    "examine": "runner",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
