"""LangChain over local models and Together AI: chat models, embeddings, a router and a cache.

Middleware for ``create_agent`` is in ``langchain_aideon.middleware``, which needs ``langchain``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from langchain_aideon.chat_models import ChatAideon

if TYPE_CHECKING:
    from langchain_aideon.cache import AideonCache
    from langchain_aideon.embeddings import AideonEmbeddings
    from langchain_aideon.router import AideonRouter, ChatModelLeg, RunnableRouter

__version__ = "0.1.0"

__all__ = [
    "AideonCache",
    "AideonEmbeddings",
    "AideonRouter",
    "ChatAideon",
    "ChatModelLeg",
    "RunnableRouter",
]

# Chains that only chat import nothing for the rest.
_LATER = {
    "AideonCache": "cache",
    "AideonEmbeddings": "embeddings",
    "AideonRouter": "router",
    "ChatModelLeg": "router",
    "RunnableRouter": "router",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
