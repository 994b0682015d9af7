"""CrewAI kept off the network, and an LLM over the loopback server."""

from __future__ import annotations

import os
from tempfile import mkdtemp

import pytest

# CrewAI reads these while it is imported, which is before any fixture runs.
os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "CREWAI_STORAGE_DIR": mkdtemp(prefix="crewai-"),
    "CREWAI_TESTING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "OTEL_SDK_DISABLED": "true",
}


@pytest.fixture
async def llm_over(together):
    """Build an AideonLLM whose cloud is the loopback server; its connections are closed after."""
    from crewai_aideon import AideonLLM

    built = []

    def build(**fields):
        words = {"local": None, "cloud": "openai/gpt-oss-20b", "policy": "cloud-only"}
        address = {"api_key": "loopback", "base_url": together.base_url}
        built.append(AideonLLM(**(words | address | fields)))
        return built[-1]

    yield build
    for llm in built:
        await llm._async_client.close()


@pytest.fixture
def events():
    """Every event of an LLM call, in the order of arrival."""
    from crewai.events import crewai_event_bus
    from crewai.events.types import llm_events

    heard = []
    with crewai_event_bus.scoped_handlers():
        for kind in (
            llm_events.LLMCallStartedEvent,
            llm_events.LLMCallCompletedEvent,
            llm_events.LLMCallFailedEvent,
            llm_events.LLMStreamChunkEvent,
            llm_events.LLMThinkingChunkEvent,
        ):
            crewai_event_bus.on(kind)(lambda _, event: heard.append(event))
        yield heard
        crewai_event_bus.flush()


@pytest.fixture
def settled(events):
    """Wait for the event bus, whose handlers run in threads, and give the events."""
    from crewai.events import crewai_event_bus

    def wait():
        crewai_event_bus.flush()
        return sorted(events, key=lambda event: event.emission_sequence or 0)

    return wait
