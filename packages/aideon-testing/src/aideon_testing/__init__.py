"""A loopback Together AI server, scripted or backed by a GGUF model, and fakes for tests.

Names load on first use: pytest imports this package in every run, needed or not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aideon_testing.answers import Answerer
    from aideon_testing.connection import HttpRequest
    from aideon_testing.dialects import Dialect
    from aideon_testing.fakes import Cut, FakeBackend
    from aideon_testing.faults import BrokenOff, Failure
    from aideon_testing.gguf import GgufAnswers
    from aideon_testing.injection import Match
    from aideon_testing.limits import ManualClock, RateLimits
    from aideon_testing.models import DEFAULT_MODELS
    from aideon_testing.replay import Recordings
    from aideon_testing.script import Reply, Script
    from aideon_testing.server import LoopbackTogether

__all__ = [
    "DEFAULT_MODELS",
    "Answerer",
    "BrokenOff",
    "Cut",
    "Dialect",
    "Failure",
    "FakeBackend",
    "GgufAnswers",
    "HttpRequest",
    "LoopbackTogether",
    "ManualClock",
    "Match",
    "RateLimits",
    "Recordings",
    "Reply",
    "Script",
]

_HOMES = {
    "DEFAULT_MODELS": "models",
    "Answerer": "answers",
    "BrokenOff": "faults",
    "Cut": "fakes",
    "Dialect": "dialects",
    "Failure": "faults",
    "FakeBackend": "fakes",
    "GgufAnswers": "gguf",
    "HttpRequest": "connection",
    "LoopbackTogether": "server",
    "ManualClock": "limits",
    "Match": "injection",
    "RateLimits": "limits",
    "Recordings": "replay",
    "Reply": "script",
    "Script": "script",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
