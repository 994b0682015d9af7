"""LangChain chat model that answers locally when it can and from Together AI when it must."""

from langchain_aideon.chat_models import ChatAideon

__version__ = "0.1.0"

__all__ = ["ChatAideon"]
