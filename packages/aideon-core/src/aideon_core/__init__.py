"""One model object that answers locally when it can and from Together AI when it must."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from aideon_core.backends.llama_cpp import LlamaCppBackend
from aideon_core.backends.openai_compatible import OpenAICompatibleBackend
from aideon_core.backends.together import TogetherBackend
from aideon_core.client import AsyncClient, Client
from aideon_core.config import Config
from aideon_core.errors import AideonError
from aideon_core.keys import KeyRing
from aideon_core.streams import AsyncStream, Stream
from aideon_core.tools import Tool, tool
from aideon_core.types import Chunk, Completion, Message, Route, TokenLogprob, ToolCall, Usage

if TYPE_CHECKING:
    from aideon_core.backends.llama_cpp.embedding.embedder import LlamaCppEmbedder
    from aideon_core.cache import Cache
    from aideon_core.embeddings import EmbeddingModel, Embeddings

__version__ = "0.1.0"

__all__ = [
    "AideonError",
    "AsyncClient",
    "AsyncStream",
    "Cache",
    "Chunk",
    "Client",
    "Completion",
    "Config",
    "EmbeddingModel",
    "Embeddings",
    "KeyRing",
    "LlamaCppBackend",
    "LlamaCppEmbedder",
    "Message",
    "OpenAICompatibleBackend",
    "Route",
    "Stream",
    "TogetherBackend",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "Usage",
    "tool",
]

# Programs that embed or keep nothing import nothing for it.
_LATER = {
    "Cache": "cache",
    "EmbeddingModel": "embeddings",
    "Embeddings": "embeddings",
    "LlamaCppEmbedder": "backends.llama_cpp.embedding.embedder",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
