"""LangChain's own conformance tests, all of them."""

from __future__ import annotations

from importlib import import_module

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

    @pytest.fixture(autouse=True)
    def _admitted(self, monkeypatch):
        # LangChain loads only classes on a list of its own; others are admitted one by one,
        # with load(allowed_objects=[ChatAideon]). test_serdes takes no such argument.
        path = tuple(ChatAideon.lc_id())
        loading = import_module("langchain_core.load.load")
        monkeypatch.setitem(loading.ALL_SERIALIZABLE_MAPPINGS, path, path)
        monkeypatch.setattr(loading, "_default_class_paths_cache", {})

    @property
    def chat_model_class(self):
        return ChatAideon

    @property
    def chat_model_params(self):
        return _MODELS

    @property
    def init_from_env_params(self):
        return {"TOGETHER_API_KEY": "from-env"}, _MODELS, {"api_key": "from-env"}
