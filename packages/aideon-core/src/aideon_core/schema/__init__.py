"""Answers with a form: the JSON Schema or regex that is sent, and the value that is read."""

from aideon_core.schema.output import Output
from aideon_core.schema.partial import Partial, partial

__all__ = ["Output", "Partial", "partial"]
