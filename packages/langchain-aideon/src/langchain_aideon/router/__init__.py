"""Any chat models, or whole chains, as one: with Aideon's policies between them."""

from langchain_aideon.router.chat_model import AideonRouter
from langchain_aideon.router.legs import ChatModelLeg
from langchain_aideon.router.runnables import RunnableRouter

__all__ = ["AideonRouter", "ChatModelLeg", "RunnableRouter"]
