"""LangChain's own integration tests, run with LangChain's own Together package, without a network.

The server is answered for by a good model, so a test that fails here fails because of ChatTogether,
and says where.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import httpx
import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_together import ChatTogether
from tests.langchain.good_model import PIXEL, GoodModel

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
class TestChatTogether(ChatModelIntegrationTests):
    """ChatTogether over the loopback server does what LangChain expects of a chat model."""

    @pytest.fixture(autouse=True)
    async def _server(self, together_env, monkeypatch):
        monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "aideon")
        # Nothing here is encrypted, and reading the certificates takes longer than a test.
        with httpx.Client(verify=False) as client:
            async with httpx.AsyncClient(verify=False) as async_client:
                self._clients = {"http_client": client, "http_async_client": async_client}
                yield

    @pytest.fixture(autouse=True)
    def _pictures_at_hand(self, monkeypatch):
        """The suite gets its pictures and documents from other hosts."""
        monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(200, content=PIXEL))

    @pytest.fixture
    def vcr(self):
        """A recording that is never empty: the suite then measures a stream, over the server."""
        return SimpleNamespace(responses=["loopback"])

    @property
    def enable_vcr_tests(self):
        return True

    @property
    def chat_model_class(self):
        return ChatTogether

    @property
    def chat_model_params(self):
        return {"model": "openai/gpt-oss-20b", "max_retries": 0, **self._clients}

    @property
    def model_override_value(self):
        return "openai/gpt-oss-120b"

    @property
    def supports_json_mode(self):
        return True

    @property
    def supports_image_inputs(self):
        return True

    @property
    def supports_image_urls(self):
        return True

    @property
    def supports_image_tool_message(self):
        return True

    @property
    def supports_pdf_inputs(self):
        return True

    @property
    def supports_pdf_tool_message(self):
        return True

    @property
    def supports_audio_inputs(self):
        return True

    @property
    def supports_anthropic_inputs(self):
        return True
