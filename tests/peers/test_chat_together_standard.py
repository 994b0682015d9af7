"""LangChain's own integration tests, run with LangChain's own Together package, without a network.

The server is answered for by a good model, so a test that fails here fails because of ChatTogether,
and says where.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from langchain_together import ChatTogether
from tests.langchain.good_model import GoodModel, SeeingModelTests

from aideon_testing import LoopbackTogether

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def together() -> Iterator[LoopbackTogether]:
    """A server that a good model answers for."""
    with LoopbackTogether(GoodModel()) as server:
        yield server


# The suite sends a document without a name, and ChatTogether's parent would rather have one.
@pytest.mark.filterwarnings("ignore:OpenAI may require a filename:UserWarning")
class TestChatTogether(SeeingModelTests):
    """ChatTogether over the loopback server does what LangChain expects of a chat model."""

    @pytest.fixture(autouse=True)
    async def _server(self, together_env, monkeypatch):
        monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "aideon")
        # Nothing here is encrypted, and reading the certificates takes longer than a test.
        with httpx.Client(verify=False) as client:
            async with httpx.AsyncClient(verify=False) as async_client:
                self._clients = {"http_client": client, "http_async_client": async_client}
                yield

    @property
    def chat_model_class(self):
        return ChatTogether

    @property
    def chat_model_params(self):
        return {"model": "openai/gpt-oss-20b", "max_retries": 0, **self._clients}

    @property
    def model_override_value(self):
        return "openai/gpt-oss-120b"
