"""Models with a local side that answers from memory and a cloud side on loopback."""

from __future__ import annotations

import json

import pytest

from aideon_core import Client, Completion, TogetherBackend, ToolCall
from aideon_testing import FakeBackend
from langchain_aideon import ChatAideon


@pytest.fixture
async def hybrid(together):
    """Build a ChatAideon over a local fake and the loopback cloud, and hand out both."""
    built = []

    def build(*answers, policy="cloud-first", sides=("local", "cloud"), **fields):
        local = FakeBackend("local", side="local", answers=answers or [Completion(text="Here.")])
        cloud = TogetherBackend(
            "meta-llama/Llama-3.3-70B-Instruct-Turbo",
            base_url=together.base_url,
            api_key="loopback",
        )
        client = Client(
            local=local if "local" in sides else None,
            cloud=cloud if "cloud" in sides else None,
            policy=policy,
            embedding=None,
            max_retries=0,
        )
        built.append(ChatAideon(client=client, **fields))
        return built[-1], local

    yield build
    for chat in built:
        await chat._async_client.close()


@pytest.fixture
def calls():
    """Make a local answer that calls tools: a pair of name and arguments for each."""

    def make(*wanted):
        made = [
            ToolCall(id=f"call_{number}", name=name, arguments=json.dumps(arguments))
            for number, (name, arguments) in enumerate(wanted)
        ]
        return Completion(tool_calls=tuple(made))

    return make


@pytest.fixture(params=["invoke", "ainvoke"])
def run(request):
    """Run an agent, blocking and awaiting."""

    async def call(agent, given, config=None, **words):
        if request.param == "invoke":
            return agent.invoke(given, config, **words)
        return await agent.ainvoke(given, config, **words)

    return call
