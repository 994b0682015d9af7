"""LangChain's own integration tests over the loopback Together, by each way to hold to a form."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from aideon_core import AsyncClient, Client, Usage
from aideon_testing import LoopbackTogether, Reply
from langchain_aideon import ChatAideon

from .good_model import GoodModel, SeeingModelTests

# It sees, hears and thinks.
_MODEL = "moonshotai/Kimi-K2.6"
_DETAILS = ["reasoning_output", "cache_read_input"]


@pytest.fixture
def together():
    """A server that a good model answers for."""
    with LoopbackTogether(GoodModel()) as server:
        yield server


class OverLoopback(SeeingModelTests):
    """The suite with every flag on that a cloud model can honour.

    JSON mode has its own test in it. The others do not say which JSON they want, so they are for
    the methods that tell the model.
    """

    words = MappingProxyType({"local": None, "policy": "cloud-only"})

    @pytest.fixture(autouse=True)
    async def _server(self, together_env, monkeypatch):
        monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "aideon")
        self._together = together_env
        self._client = Client(cloud=_MODEL, max_retries=0, **self.words)
        yield
        await AsyncClient.sharing(self._client).close()

    @property
    def chat_model_class(self):
        return ChatAideon

    @property
    def chat_model_params(self):
        return {"client": self._client}

    @property
    def model_override_value(self):
        return "openai/gpt-oss-120b"

    @property
    def supported_usage_metadata_details(self):
        return {"invoke": _DETAILS, "stream": _DETAILS}

    def invoke_with_reasoning_output(self, *, stream=False):
        self._together.script.reply(Reply("Five.", reasoning="Two and three."))
        return self._asked("2 + 3?", stream=stream)

    def invoke_with_cache_read_input(self, *, stream=False):
        self._together.script.reply(Reply("Five.", usage=Usage(3, 9, 2)))
        return self._asked("2 + 3?", stream=stream)

    def _asked(self, prompt, *, stream):
        chat = self.chat_model_class(**self.chat_model_params)
        if not stream:
            return chat.invoke(prompt)
        first, *others = chat.stream(prompt)
        return sum(others, start=first)


class TestByJsonSchema(OverLoopback):
    """ChatAideon over the cloud does what LangChain expects, its answers held to a schema."""

    @property
    def structured_output_kwargs(self):
        return {"method": "json_schema"}


class TestByFunctionCalling(OverLoopback):
    """ChatAideon over the cloud does what LangChain expects, its answers made by a tool call."""

    @property
    def structured_output_kwargs(self):
        return {"method": "function_calling"}


class TestInPlaceOfALocalModel(OverLoopback):
    """With local-first and its model not pulled, the cloud does what LangChain expects."""

    words = MappingProxyType({"local": "qwen2.5-coder-0.5b-instruct", "policy": "local-first"})
