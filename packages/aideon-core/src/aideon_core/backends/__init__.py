"""Things that can answer: Together AI over HTTP, a GGUF model in process."""

from aideon_core.backends.base import Backend

__all__ = ["Backend"]
