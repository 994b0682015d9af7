"""A clean environment for each test, and an LLM over the loopback server."""

from __future__ import annotations

import pytest


@pytest.fixture
async def llm_over(together):
    """Build an AideonLLM whose cloud is the loopback server; its connections are closed after."""
    from llama_index.llms.aideon import AideonLLM

    built = []

    def build(**fields):
        words = {
            "local": None,
            "cloud": "openai/gpt-oss-20b",
            "policy": "cloud-only",
            "max_retries": 0,
        }
        address = {"api_key": "loopback", "base_url": together.base_url}
        built.append(AideonLLM(**(words | address | fields)))
        return built[-1]

    yield build
    for llm in built:
        await llm._async_client.close()
