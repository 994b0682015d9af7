"""LangChain's messages to Aideon's and back: pure functions."""

from __future__ import annotations

from langchain_aideon.messages.blocks import PROVIDER
from langchain_aideon.messages.inbound import to_messages
from langchain_aideon.messages.outbound import from_chunk, from_completion, response_metadata

__all__ = ["PROVIDER", "from_chunk", "from_completion", "response_metadata", "to_messages"]
