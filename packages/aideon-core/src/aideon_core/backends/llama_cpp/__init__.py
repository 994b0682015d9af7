"""A GGUF model in this process, by llama.cpp."""

from aideon_core.backends.llama_cpp.backend import LlamaCppBackend

__all__ = ["LlamaCppBackend"]
