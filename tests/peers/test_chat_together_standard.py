"""LangChain's own integration tests, run with LangChain's own Together package, without a network.

The server is answered for by a good model: one that calls the tools it is to call and writes the
JSON it is to write, with what it reads in the prompt. So a test that fails here fails because of
ChatTogether, and says where.
"""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_together import ChatTogether

from aideon_core.types import ToolCall
from aideon_testing import LoopbackTogether, Reply, Script

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from aideon_core.types import Chunk, Json

# A 1x1 PNG; the suite's own picture lies on another host.
_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)


class GoodModel:
    """Does as it is asked, with the numbers and the quoted words of the last message."""

    async def answer(self, body: Json) -> AsyncGenerator[Chunk, None]:
        script = Script()
        script.reply(self._reply(body))
        async for chunk in script.answer(body):
            yield chunk

    def _reply(self, body: Json) -> Reply:
        prompt = _text(body["messages"][-1])
        tool = _tool_to_call(body)
        if tool is not None:
            written = json.dumps(_written(tool["parameters"], prompt), ensure_ascii=False)
            return Reply(tool_calls=(ToolCall("", tool["name"], written),))
        wanted = body.get("response_format") or {"type": "text"}
        if wanted["type"] == "json_schema":
            return Reply(json.dumps(_written(wanted["json_schema"]["schema"], prompt)))
        if wanted["type"] == "json_object":
            return Reply(json.dumps(dict.fromkeys(_quoted(prompt), prompt)))
        return Reply(f"You said: {prompt}")


def _tool_to_call(body: Json) -> Json | None:
    """The tool to call now: the one that is forced, else the first until it has answered."""
    tools = [tool["function"] for tool in body.get("tools") or ()]
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        return next(tool for tool in tools if tool["name"] == choice["function"]["name"])
    answered = body["messages"][-1]["role"] == "tool"
    if not tools or choice == "none" or (choice == "auto" and answered):
        return None
    return tools[0]


def _written(schema: Json, prompt: str) -> dict[str, Any]:
    """An object of the schema, with what the prompt says."""
    numbers = iter(re.findall(r"-?\d+", prompt))
    quoted = iter(_quoted(prompt))
    written = {}
    for name, field in schema.get("properties", {}).items():
        if field.get("type") in {"integer", "number"}:
            written[name] = int(next(numbers, 0))
        else:
            written[name] = next(quoted, prompt)
    return written


def _quoted(prompt: str) -> list[str]:
    return re.findall(r"'([^']+)'", prompt)


def _text(message: Json) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


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
        monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(200, content=_PIXEL))

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
