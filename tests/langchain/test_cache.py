"""AideonCache under LangChain's models, and the client's own cache under ChatAideon."""

from __future__ import annotations

import json

import pytest
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
    GenerationChunk,
)
from pydantic import BaseModel

from aideon_core import AsyncClient, Client
from aideon_core.cache import Cache, MemoryStore
from aideon_core.errors import ConfigError
from langchain_aideon import ChatAideon
from langchain_aideon.cache import AideonCache

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


@pytest.fixture(params=["memory", "sqlite"])
def cache(request, tmp_path):
    cache = AideonCache(":memory:" if request.param == "memory" else tmp_path / "c.sqlite")
    yield cache
    cache.close()


@pytest.fixture
def everywhere(cache):
    """The cache as LangChain's global one."""
    before = get_llm_cache()
    set_llm_cache(cache)
    yield cache
    set_llm_cache(before)


@pytest.fixture
async def caching(together, tmp_path):
    """A ChatAideon over a client that keeps its answers itself."""
    client = Client(
        local=None,
        cloud=MODEL,
        policy="cloud-only",
        embedding=None,
        api_key="loopback",
        base_url=together.base_url,
        cache=tmp_path / "c.sqlite",
    )
    yield ChatAideon(client=client)
    await AsyncClient.sharing(client).close()


async def test_an_equal_invoke_is_answered_without_asking(chat_over, together, cache):
    """ChatAideon(cache=...) answers the second equal call from the cache, awaited or not."""
    together.script.say("2, 3 and 5.")
    chat = chat_over(cache=cache, temperature=0)
    first = chat.invoke("Name three primes.")
    again = chat.invoke("Name three primes.")
    awaited = await chat.ainvoke("Name three primes.")
    assert len(together.requests) == 1
    assert again.content == awaited.content == first.content
    assert again.response_metadata == first.response_metadata
    assert again.usage_metadata == {**first.usage_metadata, "total_cost": 0}
    chat.invoke("Name three others.")
    chat_over(cache=cache, temperature=1).invoke("Name three primes.")
    assert len(together.requests) == 3


async def test_the_global_cache_serves_every_model(chat_over, together, everywhere):
    """set_llm_cache(AideonCache(...)) serves chat models and plain ones, in batches too."""
    together.script.say("One.", "Two.")
    chat = chat_over()
    assert [each.content for each in chat.batch(["a"]) + chat.batch(["a"])] == ["One."] * 2
    assert (await chat.ainvoke("a")).content == "One."
    plain = FakeListLLM(responses=["first", "second"])
    assert plain.invoke("b") == plain.invoke("b") == "first"
    await everywhere.aclear()
    assert (await chat.ainvoke("a")).content == "Two."
    assert plain.invoke("b") == "second"


def test_policies_and_sides_are_kept_apart(chat_over, together, cache):
    """An answer given under one policy is not served under another by LangChain's cache."""
    together.script.say("One.", "Two.")
    assert chat_over(cache=cache).invoke("a").content == "One."
    assert chat_over(cache=cache, policy="cloud-first").invoke("a").content == "Two."


def test_langchain_never_asks_its_cache_for_a_stream(chat_over, together, cache):
    """LangChain's cache serves no stream, whichever it is: two streams are two requests."""
    chat = chat_over(cache=cache)
    for _ in range(2):
        list(chat.stream("Hello"))
    assert len(together.requests) == 2


async def test_a_client_with_a_cache_serves_streams(caching, together):
    """ChatAideon over Client(cache=...) streams the kept answer, blocking and awaiting."""
    together.script.say("2, 3 and 5.")
    first = caching.invoke("Name three primes.")
    chunks = list(caching.stream("Name three primes."))
    awaited = [chunk async for chunk in caching.astream("Name three primes.")]
    assert len(together.requests) == 1
    for pieces in (chunks, awaited):
        assert len(pieces) > 2
        whole = pieces[0]
        for piece in pieces[1:]:
            whole = whole + piece
        assert whole.content == first.content
        assert whole.usage_metadata == first.usage_metadata
        facts = whole.response_metadata
        assert facts["cost"] == "0"
        assert "from the cache, first given by together" in facts["route"]["reason"]
        json.dumps(facts)


class Primes(BaseModel):
    """Some primes."""

    primes: list[int]


GENERATIONS = [
    [Generation(text="plain", generation_info={"reason": "x", "lc": 1})],
    [GenerationChunk(text="piece")],
    [
        ChatGeneration(
            message=AIMessage(
                content=[{"type": "text", "text": "Héllo \ud800"}],
                id="run-1",
                tool_calls=[{"name": "f", "args": {"a": [1, None]}, "id": "c1"}],
                invalid_tool_calls=[{"name": "g", "args": "{", "id": "c2", "error": "cut"}],
                additional_kwargs={"lc": 1, "type": "constructor", "id": ["os", "system"]},
                response_metadata={"route": {"side": "cloud"}, "cost": "0.1"},
                usage_metadata={
                    "input_tokens": 1,
                    "output_tokens": 2,
                    "total_tokens": 3,
                    "input_token_details": {"cache_read": 1},
                },
            ),
            generation_info={"finish_reason": "stop", "logprobs": None},
        ),
        ChatGeneration(message=HumanMessage("two")),
    ],
    [ChatGenerationChunk(message=AIMessageChunk(content="c", chunk_position="last"))],
]


@pytest.mark.parametrize("generations", GENERATIONS)
def test_generations_come_back_as_they_were(cache, generations):
    """Every kind of generation is given back equal, of the same class, to its last field."""
    cache.update("p", "m", generations)
    found = cache.lookup("p", "m")
    assert found == generations
    assert [each.model_dump() for each in found] == [each.model_dump() for each in generations]
    assert [type(each) for each in found] == [type(each) for each in generations]
    # LangChain sets the cost of what it is given to nothing: what is kept must not change.
    found[0].generation_info = {"changed": True}
    assert cache.lookup("p", "m") == generations


def test_a_parsed_value_is_kept_as_plain_json(cache):
    """A pydantic value that a model put beside its answer comes back as JSON, as in LangChain."""
    message = AIMessage("x", additional_kwargs={"parsed": Primes(primes=[2])})
    cache.update("p", "m", [ChatGeneration(message=message)])
    (found,) = cache.lookup("p", "m")
    assert found.message.additional_kwargs == {"parsed": {"primes": [2]}}


@pytest.mark.parametrize(
    "generation",
    [
        Generation(text="x", generation_info={"odd": object()}),
        Generation(text="x", generation_info={"odd": (1, 2)}),
        ChatGeneration(message=ToolMessage("x", tool_call_id="1")),
    ],
)
def test_what_would_come_back_changed_is_not_kept(cache, generation):
    """An answer that JSON would change is asked for again, rather than given back changed."""
    cache.update("p", "m", [generation])
    assert cache.lookup("p", "m") is None


@pytest.mark.parametrize(
    "row",
    [
        b"",
        b"{}",
        b'[["Generation", {"text": "x"}]]',
        b'[["Client", {}, null, null]]',
        b'[["ChatGeneration", {}, "Runnable", {}]]',
        b'[["Generation", {"text": ["no", "text"]}, null, null]]',
        b'[["ChatGeneration", {}, "AIMessage", {"content": "x", "additional_kwargs": 5}]]',
        b"\xff\xfe",
    ],
)
def test_a_damaged_row_is_a_miss(cache, row):
    """What is no generation, or asks for another class to be made, is dropped and not found."""
    key = cache._cache.key("langchain", ["p", "m"])
    cache._cache.put(key, row)
    assert cache.lookup("p", "m") is None
    assert cache._cache.get(key) is None


def test_tenants_and_clients_share_a_store_and_no_answers(together):
    """One store may hold several tenants' answers and a client's; each clears its own."""
    store = MemoryStore(max_bytes=10**6)
    ada, bob = AideonCache(store=store, tenant="ada"), AideonCache(store=store, tenant="bob")
    ada.update("p", "m", [Generation(text="for Ada")])
    assert bob.lookup("p", "m") is None
    kept = Cache(store=store, tenant="ada")
    with Client(
        local=None,
        cloud=MODEL,
        policy="cloud-only",
        api_key="loopback",
        base_url=together.base_url,
        cache=kept,
    ) as client:
        client.chat("Hello")
        bob.clear()
        assert ada.lookup("p", "m") is not None
        ada.clear()
        assert ada.lookup("p", "m") is None
        client.chat("Hello")
        assert len(together.requests) == 1
    assert AideonCache(cache=kept).lookup("p", "m") is None
    with pytest.raises(ConfigError, match="says all of it"):
        AideonCache(ttl=3, cache=kept)


def test_answers_end_with_their_ttl():
    """After ttl seconds LangChain finds nothing."""
    now = [0.0]
    cache = AideonCache(cache=Cache(":memory:", ttl=60, clock=lambda: now[0]))
    cache.update("p", "m", [Generation(text="x")])
    now[0] = 59.0
    assert cache.lookup("p", "m") is not None
    now[0] = 60.0
    assert cache.lookup("p", "m") is None
