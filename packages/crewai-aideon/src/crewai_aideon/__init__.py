"""CrewAI LLM that answers locally when it can and from Together AI when it must."""

from crewai_aideon.llm import AideonLLM

__version__ = "0.1.0"

__all__ = ["AideonLLM"]
