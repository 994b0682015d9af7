"""One model object that answers locally when it can and from Together AI when it must."""

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

__version__ = "0.1.0"

__all__ = [
    "AideonError",
    "AsyncClient",
    "AsyncStream",
    "Chunk",
    "Client",
    "Completion",
    "Config",
    "KeyRing",
    "LlamaCppBackend",
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
