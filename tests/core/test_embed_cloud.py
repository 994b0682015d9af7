"""Embeddings over real HTTP, against the loopback server."""

from __future__ import annotations

import math

import pytest

from aideon_core import AsyncClient, Client, TogetherBackend
from aideon_core.config import Config
from aideon_core.errors import (
    AuthError,
    ContextTooLong,
    NotFound,
    Offline,
    TimedOut,
)
from aideon_testing import Failure
from aideon_testing.faults import Latency
from aideon_testing.vectors import similarity, vector

E5 = "intfloat/multilingual-e5-large-instruct"
BGE = "BAAI/bge-base-en-v1.5"


class Blocking:
    """Embeds through a Client."""

    kind = Client

    def __init__(self, server, **words):
        words = {"local": None, "api_key": "k", "base_url": server.base_url} | words
        self.client = self.kind(**words)

    async def embed(self, *args, **params):
        return self.client.embed(*args, **params)

    async def close(self):
        self.client.close()


class Awaiting(Blocking):
    """Embeds through an AsyncClient."""

    kind = AsyncClient

    async def embed(self, *args, **params):
        return await self.client.embed(*args, **params)

    async def close(self):
        await self.client.close()


@pytest.fixture(params=[Blocking, Awaiting])
async def ask(request, together):
    made = []

    def make(**words):
        made.append(request.param(together, **words))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def test_a_together_client_embeds_without_further_ado(ask, together):
    """Where the cloud is Together's, embed uses its embedding model on the same key."""
    vectors = await ask(cloud="openai/gpt-oss-20b").embed(["one", "two"])
    assert (vectors.dimension, vectors.model) == (1024, E5)
    assert vectors[1] == pytest.approx(vector("two", 1024))
    assert math.hypot(*vectors[0]) == pytest.approx(1)
    assert together.requests[-1].body == {"model": E5, "input": ["one", "two"]}


@pytest.mark.parametrize("cloud", ["openai/gpt-oss-20b", None])
async def test_a_model_by_name(ask, cloud):
    """embedding= names another model; address and key are the client's."""
    vectors = await ask(cloud=cloud, embedding=BGE).embed("one")
    assert (vectors.dimension, vectors.model) == (768, BGE)
    assert vectors.route.model == BGE


async def test_what_is_not_told_is_unknown(ask):
    """Together tells no tokens of embeddings, so usage and cost are None and not 0."""
    vectors = await ask(embedding=BGE).embed("one")
    assert (vectors.usage, vectors.cost) == (None, None)


async def test_many_texts_are_sent_in_batches_and_come_back_in_order(ask, together):
    """150 texts are three requests and one result."""
    texts = [f"text number {n}" for n in range(150)]
    vectors = await ask(embedding=BGE).embed(texts)
    assert len(vectors) == 150
    assert similarity(vectors[149], vector(texts[149], 768)) == pytest.approx(1)
    assert [len(request.body["input"]) for request in together.requests] == [64, 64, 22]


async def test_a_batch_that_fails_is_sent_again_alone(ask, together):
    """A server error in the middle costs one more request, not all of them."""
    together.faults.sequence(None, Failure.unavailable())
    vectors = await ask(embedding=BGE).embed(["a"] * 100)
    assert len(vectors) == 100
    assert [len(request.body["input"]) for request in together.requests] == [64, 36, 36]


@pytest.mark.parametrize(
    ("failure", "kind"),
    [(Failure.invalid_key(), AuthError), (Failure.unknown_model(BGE), NotFound)],
)
async def test_refusals_are_the_errors_of_chat(ask, together, failure, kind):
    """A refused key and an unknown model are the same errors as for chat, naming the model."""
    together.faults.always(failure)
    with pytest.raises(kind) as caught:
        await ask(embedding=BGE).embed("one")
    assert (caught.value.backend, caught.value.model) == ("together", BGE)


async def test_a_server_that_refuses_long_texts_is_understood(ask, together):
    """Where a server says that a text is too long, the error says which, as near as it can."""
    together.faults.always(Failure.over_context(limit=512, input_tokens=600, max_tokens=0))
    client = ask(embedding=BGE)
    with pytest.raises(ContextTooLong, match=r"Text 0 is too long.*600"):
        await client.embed("one")
    with pytest.raises(ContextTooLong, match=r"One of the texts 0 to 1 .*512"):
        await client.embed(["one", "two"])


async def test_a_deadline_is_held(ask, together):
    """A server slower than the deadline ends in TimedOut."""
    together.faults.always(Latency(5.0))
    with pytest.raises(TimedOut):
        await ask(embedding=BGE).embed("one", deadline=0.2)


async def test_offline_sends_nothing(ask, together):
    """AIDEON_OFFLINE holds for embeddings too."""
    with pytest.raises(Offline):
        await ask(embedding=BGE, config=Config(offline=True)).embed("one")
    assert together.requests == []


async def test_a_backend_is_an_embedding_model_too(ask, together):
    """A backend of the caller's own, with its key and address, embeds with its model."""
    backend = TogetherBackend(BGE, api_key="k", base_url=together.base_url)
    vectors = await ask(cloud=None, embedding=backend, api_key=None, base_url=None).embed("one")
    assert vectors.model == BGE


async def test_another_host_bills_nothing(ask):
    """A client of embeddings alone is one too; vectors of a host without prices cost 0."""
    vectors = await ask(cloud=None, embedding=f"vllm:{BGE}").embed("one")
    assert (vectors.cost, vectors.route.backend) == (0, "vllm")
