"""LangChain's own integration tests, all of them, on a router over two ChatTogethers.

ChatTogether passes the same tests alone, so one that fails here fails because of the router.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from langchain_together import ChatTogether

from aideon_testing import LoopbackTogether
from langchain_aideon.router import AideonRouter

from .good_model import GoodModel, SeeingModelTests

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def together() -> Iterator[LoopbackTogether]:
    """A server that a good model answers for."""
    with LoopbackTogether(GoodModel()) as server:
        yield server


# The suite sends a document without a name, and ChatTogether's parent would rather have one.
@pytest.mark.filterwarnings("ignore:OpenAI may require a filename:UserWarning")
class TestRouterOverTwoChatTogethers(SeeingModelTests):
    """A router over two ChatTogethers does what LangChain expects of a chat model."""

    @pytest.fixture(autouse=True)
    async def _server(self, together_env, monkeypatch):
        monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "aideon")
        # Nothing here is encrypted, and reading the certificates takes longer than a test.
        with httpx.Client(verify=False) as client:
            async with httpx.AsyncClient(verify=False) as async_client:
                given = {"http_client": client, "http_async_client": async_client}
                models = ("openai/gpt-oss-20b", "openai/gpt-oss-120b")
                self._legs = [ChatTogether(model=each, max_retries=0, **given) for each in models]
                yield

    @property
    def chat_model_class(self):
        return AideonRouter

    @property
    def chat_model_params(self):
        return {"cloud": self._legs, "policy": "cloud-only", "max_retries": 0}

    @property
    def model_override_value(self):
        return "openai/gpt-oss-120b"
