"""LangChain's own conformance tests, all of them."""

from __future__ import annotations

import pytest
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_aideon import ChatAideon

# test_serdes calls it; LangChain has called it a beta since 2023.
pytestmark = pytest.mark.filterwarnings("ignore:The function `load` is in beta")

_MODELS = {
    "local": "qwen2.5-coder-0.5b-instruct",
    "cloud": "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "policy": "local-first",
}


class TestChatAideonStandard(ChatModelUnitTests):
    """ChatAideon is the chat model LangChain expects."""

    @pytest.fixture(autouse=True)
    def _key(self, monkeypatch):
        monkeypatch.setenv("TOGETHER_API_KEY", "from-the-environment")

    @property
    def chat_model_class(self):
        return ChatAideon

    @property
    def chat_model_params(self):
        return _MODELS

    @property
    def model_override_value(self):
        return "openai/gpt-oss-20b"

    @property
    def init_from_env_params(self):
        return {"TOGETHER_API_KEY": "from-env"}, _MODELS, {"api_key": "from-env"}


class TestSeveralModelsStandard(TestChatAideonStandard):
    """A ChatAideon of several models a side is no less one."""

    @property
    def chat_model_params(self):
        return {
            "local": ["qwen2.5-coder-0.5b-instruct"],
            "cloud": ["meta-llama/Llama-3.3-70B-Instruct-Turbo", "openai/gpt-oss-20b"],
            "policy": "cloud-first",
            "n_ctx": 4096,
            "top_k": 40,
            "logit_bias": {7: 1.0},
        }

    @property
    def init_from_env_params(self):
        return {"TOGETHER_API_KEY": "from-env"}, self.chat_model_params, {"api_key": "from-env"}
