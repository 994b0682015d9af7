"""Middleware for LangChain's ``create_agent``: each step's route, privacy, and money."""

try:
    import langchain.agents.middleware  # noqa: F401 - said here, once, for every module below
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "langchain":
        raise
    raise ImportError(
        "langchain_aideon.middleware needs the package langchain, which is not installed. "
        "Run: pip install 'langchain-aideon[agents]'",
        name=error.name,
    ) from error

from langchain_aideon.middleware.budget import BudgetMiddleware
from langchain_aideon.middleware.money import BudgetExceeded
from langchain_aideon.middleware.privacy import PrivacyMiddleware
from langchain_aideon.middleware.routing import AideonRoutingMiddleware
from langchain_aideon.middleware.rules import (
    Choice,
    Condition,
    after_tool,
    after_tools,
    first_step,
    messages_over,
    state_is,
)

__all__ = [
    "AideonRoutingMiddleware",
    "BudgetExceeded",
    "BudgetMiddleware",
    "Choice",
    "Condition",
    "PrivacyMiddleware",
    "after_tool",
    "after_tools",
    "first_step",
    "messages_over",
    "state_is",
]
