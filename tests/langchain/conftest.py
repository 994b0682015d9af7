"""A clean environment for each test: no key, no settings, no models of this machine's user."""

from __future__ import annotations

import pytest


@pytest.fixture
async def chat_over(together):
    """Build a ChatAideon whose cloud is the loopback server; its connections are closed after."""
    from langchain_aideon import ChatAideon

    built = []

    def build(**fields):
        words = {
            "local": None,
            "cloud": "meta-llama/Llama-3.3-70B-Instruct-Turbo",
            "policy": "cloud-only",
            "max_retries": 0,
        }
        address = {"api_key": "loopback", "base_url": together.base_url}
        built.append(ChatAideon(**(words | address | fields)))
        return built[-1]

    yield build
    for chat in built:
        await chat._async_client.close()
