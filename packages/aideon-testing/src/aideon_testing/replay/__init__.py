"""Recorded exchanges as a source of answers: what a recorder wrote is served as it was."""

from __future__ import annotations

from aideon_testing.replay.exchange import Exchange, RecordedResponse
from aideon_testing.replay.files import UnreadableRecording
from aideon_testing.replay.recordings import Recordings

__all__ = ["Exchange", "RecordedResponse", "Recordings", "UnreadableRecording"]
