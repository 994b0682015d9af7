"""LangChain's own integration tests on a real model in this process, and nothing else."""

from __future__ import annotations

import pytest

from langchain_aideon import ChatAideon

from .good_model import TextModelTests

pytestmark = [pytest.mark.model, pytest.mark.slow]


class TestLocal(TextModelTests):
    """A text model on this machine does what LangChain expects of a chat model."""

    @pytest.fixture(autouse=True)
    def _model_at_hand(self, local_model, monkeypatch):
        self._path = local_model.path
        monkeypatch.setenv("AIDEON_HOME", str(local_model._home))

    @property
    def chat_model_class(self):
        return ChatAideon

    @property
    def chat_model_params(self):
        words = {"local": str(self._path), "cloud": None, "policy": "local-only"}
        return words | {"temperature": 0, "max_tokens": 200}

    @property
    def structured_output_kwargs(self):
        return {"method": "json_schema"}

    @property
    def model_override_value(self):
        """The same file by its name in the catalogue, so that nothing is loaded twice."""
        return "qwen2.5-coder-0.5b-instruct"

    @property
    def supported_usage_metadata_details(self):
        return {"invoke": ["cache_read_input"], "stream": ["cache_read_input"]}

    def invoke_with_cache_read_input(self, *, stream=False):
        """Ask the same twice: the second time the prompt is read already."""
        chat = self.chat_model_class(**self.chat_model_params)
        chat.invoke("Name a prime.")
        if not stream:
            return chat.invoke("Name a prime.")
        first, *others = chat.stream("Name a prime.")
        return sum(others, start=first)
