"""What can go wrong, as values: errors of the API, of the network, of the bytes between.

Each is put into a running server by ``together.faults``; see Faults. A Failure can also be
scripted or raised.
"""

from aideon_testing.connection import BrokenOff, ConnectionReset, Transform
from aideon_testing.faults.bodies import DoneFrames, Gzip, Headers, LineEnds, Malformed, Oversized
from aideon_testing.faults.breaks import ContentLength, Cut, CutInside
from aideon_testing.faults.failures import Failure
from aideon_testing.faults.timing import Drip, Latency, Stall

__all__ = [
    "BrokenOff",
    "ConnectionReset",
    "ContentLength",
    "Cut",
    "CutInside",
    "DoneFrames",
    "Drip",
    "Failure",
    "Gzip",
    "Headers",
    "Latency",
    "LineEnds",
    "Malformed",
    "Oversized",
    "Stall",
    "Transform",
]
