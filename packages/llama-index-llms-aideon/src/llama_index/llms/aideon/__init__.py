"""LlamaIndex LLM that answers locally when it can and from Together AI when it must."""

from llama_index.llms.aideon.base import AideonLLM

__version__ = "0.1.0"

__all__ = ["AideonLLM"]
