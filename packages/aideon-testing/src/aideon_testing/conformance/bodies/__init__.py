"""The bodies of the suite, a module for each area; they hold backends to form, not to wisdom."""

from aideon_testing.conformance.bodies.errors import ErrorBodies
from aideon_testing.conformance.bodies.output import OutputBodies
from aideon_testing.conformance.bodies.sampling import SamplingBodies
from aideon_testing.conformance.bodies.serving import ServingBodies
from aideon_testing.conformance.bodies.streaming import StreamingBodies
from aideon_testing.conformance.bodies.text import TextBodies
from aideon_testing.conformance.bodies.tools import ToolBodies


class Bodies(
    ErrorBodies,
    ServingBodies,
    OutputBodies,
    ToolBodies,
    SamplingBodies,
    StreamingBodies,
    TextBodies,
):
    """All bodies; plain text is proved first, because everything else stands on it."""


__all__ = ["Bodies"]
