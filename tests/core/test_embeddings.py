"""Embeddings without a model: arguments, wire format, the plan, and one model at a time."""

from __future__ import annotations

import base64
import math
import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideon_core import AsyncClient, Client, Usage
from aideon_core.backends.wire.embeddings import embeddings_body, embeddings_of
from aideon_core.embeddings import EmbeddingModel, EmbeddingRequest, Embeddings
from aideon_core.embeddings.plan import embedding
from aideon_core.errors import (
    AllBackendsFailed,
    BadRequest,
    ConfigError,
    ConnectFailed,
    ContextTooLong,
    Excluded,
    RateLimited,
    ServerError,
    TimedOut,
)
from aideon_core.policy import Embed, Failed, Ok, Sleep
from aideon_core.routing import Candidate, decide
from aideon_core.types import Request

NUMBERS = st.floats(-1, 1, width=32).filter(lambda x: x == 0 or abs(x) > 1e-6)
VECTORS = st.lists(NUMBERS, min_size=3, max_size=3).filter(any)
SIDES = ("local", "cloud")


class FakeEmbedder:
    """Gives each text the vector of its length and some more numbers, or raises."""

    def __init__(self, name="cloud", *, side="cloud", model="m", size=4, fails=()):
        self.name, self.side, self.model, self.size = name, side, model, size
        self.fails = list(fails)
        self.requests = []
        self.closed = False

    def unavailable(self):
        return None

    def embed(self, request):
        self.requests.append(request)
        if self.fails and (error := self.fails.pop(0)) is not None:
            raise error
        return found(*request.texts, size=self.size)

    async def aembed(self, request):
        return self.embed(request)

    def close(self):
        self.closed = True

    async def aclose(self):
        self.close()


def found(*texts, size=4):
    vectors = [[float(len(text)), *([1.0] * (size - 1))] for text in texts]
    return Embeddings(
        tuple([n / math.hypot(*v) for n in v] for v in vectors),
        usage=Usage(len(texts), 0),
        cost=Decimal(1),
    )


class Sync:
    """Embeds through a Client."""

    def __init__(self, embedding, **words):
        self.client = Client(local=None, embedding=embedding, **words)

    async def embed(self, *args, **params):
        return self.client.embed(*args, **params)

    async def close(self):
        self.client.close()


class Async(Sync):
    """Embeds through an AsyncClient."""

    def __init__(self, embedding, **words):
        self.client = AsyncClient(local=None, embedding=embedding, **words)

    async def embed(self, *args, **params):
        return await self.client.embed(*args, **params)

    async def close(self):
        await self.client.close()


@pytest.fixture(params=[Sync, Async])
def make(request):
    return request.param


async def test_vectors_are_in_the_order_of_the_texts(make):
    """A vector for each text, at the text's own index, with model, usage, cost and route."""
    embedder = FakeEmbedder()
    vectors = await make(embedder).embed(["a", "bbb", "cc"])
    assert list(vectors) == list(found("a", "bbb", "cc"))
    assert (vectors.dimension, len(vectors), vectors.model) == (4, 3, "m")
    assert vectors.usage == Usage(3, 0)
    assert vectors.cost == 1
    assert vectors.route.backend == "cloud"
    assert vectors[1:] == vectors.vectors[1:]
    assert "numbers" in repr(vectors)
    assert len(repr(vectors)) < 100


async def test_no_texts_have_no_vectors(make):
    """An empty list is answered with an empty result, and nobody is asked."""
    embedder = FakeEmbedder()
    nothing = await make(embedder).embed([])
    assert (len(nothing), nothing.dimension, nothing.cost) == (0, 0, 0)
    assert embedder.requests == []


@pytest.mark.parametrize(
    ("texts", "params", "said"),
    [
        (["a", ""], {}, "Text 1 is empty"),
        (["a", 5], {}, "Text 1 is a int"),
        (["a", "b\ud800"], {}, "Text 1 has half a character at 1"),
        (b"abc", {}, "texts is a bytes"),
        ({"a": 1}, {}, "texts is a dict"),
        (7, {}, "texts is a int"),
        ("a", {"deadline": 0}, "deadline"),
        ("a", {"truncate": "yes"}, "truncate"),
        ("a", {"dimensions": 0}, "dimensions"),
        ("a", {"dimensions": 2}, "trained for shorter"),
    ],
)
async def test_wrong_arguments_are_refused_before_anything_is_sent(make, texts, params, said):
    """A wrong argument is a BadRequest that says which, and no embedder is asked."""
    embedder = FakeEmbedder()
    with pytest.raises(BadRequest, match=said):
        await make(embedder).embed(texts, **params)
    assert embedder.requests == []


async def test_a_client_without_an_embedding_model_says_so(make):
    """Chat models embed nothing: a client of others than Together's needs embedding=."""
    for embedding_word in ({}, {"embedding": None}):
        client = type(make(FakeEmbedder()).client)(cloud="ollama:llama3.2", **embedding_word)
        with pytest.raises(ConfigError, match="no embedding model"):
            client.space.plan(client.policy, "a")


async def test_a_model_in_both_places_falls_back(make):
    """Where the caller says that one model is in two places, one side stands in for the other."""
    local = FakeEmbedder("local", side="local", fails=[ConnectFailed("down")])
    cloud = FakeEmbedder(model="org/m")
    vectors = await make(EmbeddingModel(local=local, cloud=cloud)).embed("abc")
    assert vectors.route.side == "cloud"
    assert "fell back" in vectors.route.reason
    assert vectors.model == "org/m"


async def test_vectors_of_another_size_are_never_mixed_in(make):
    """A side whose vectors have another size is not the same model, and is refused."""
    local = FakeEmbedder("local", side="local", fails=[None, ConnectFailed("down")])
    client = make(EmbeddingModel(local=local, cloud=FakeEmbedder(size=8)))
    assert (await client.embed("abc")).dimension == 4
    with pytest.raises(AllBackendsFailed, match="not the same model"):
        await client.embed("abc")


async def test_a_policy_rules_sides_out(make):
    """Texts of a local-only client never leave the machine."""
    with pytest.raises(Excluded):
        await make(FakeEmbedder(), policy="local-only").embed("abc")


async def test_shorter_vectors_are_for_models_trained_so(make):
    """dimensions= cuts and brings back to length 1, where the model is said to be for it."""
    client = make(EmbeddingModel(cloud=FakeEmbedder(), matryoshka=True))
    whole = (await client.embed("abc"))[0]
    cut = await client.embed("abc", dimensions=2)
    assert cut.dimension == 2
    assert cut[0] == pytest.approx([n / math.hypot(*whole[:2]) for n in whole[:2]])
    with pytest.raises(BadRequest, match="have 4"):
        await client.embed("abc", dimensions=5)


async def test_close_closes_the_embedders(make):
    """Closing a client lets go of its embedding model."""
    embedder = FakeEmbedder()
    await make(embedder).close()
    assert embedder.closed


@pytest.mark.parametrize("target", [object(), 5, EmbeddingModel])
def test_what_is_no_model_is_refused(target):
    """embedding= takes a name, a path, an embedder or an EmbeddingModel, and says so."""
    with pytest.raises(ConfigError, match="embedding="):
        Client(local=None, embedding=target)


def test_a_model_has_to_be_somewhere():
    """An EmbeddingModel without a place is a mistake found at once."""
    with pytest.raises(ConfigError, match="nowhere"):
        EmbeddingModel()


@given(st.lists(st.text("ab", min_size=1, max_size=5), max_size=300))
def test_batches_hold_every_text_once_in_order(texts):
    """However many texts there are, the batches are all of them, in order, none too large."""
    request = EmbeddingRequest.of(texts)
    batches = list(request.batches())
    assert [text for batch in batches for text in batch.texts] == texts
    assert all(0 < len(batch.texts) <= 64 for batch in batches)
    assert [b.first for b in batches] == [64 * n for n in range(len(batches))]


def test_long_texts_are_sent_in_smaller_batches():
    """A batch is also bounded by its characters, and a huge text goes alone."""
    batches = list(EmbeddingRequest.of(["x" * 100_000] * 3 + ["y" * 900_000, "z"]).batches())
    assert [len(batch.texts) for batch in batches] == [2, 1, 1, 1]


# The plan, as a conversation.


def begin(texts, *, sides=SIDES, deadline=None, retries=2):
    candidates = [Candidate(side, side, f"{side}-m", frozenset()) for side in sides]
    decision = decide(Request(()), candidates, policy="test", sides=SIDES)
    request = EmbeddingRequest.of(texts, deadline=deadline)
    return embedding(decision, request, model="m", max_retries=retries)


def finish(plan, outcome):
    with pytest.raises(StopIteration) as done:
        plan.send(outcome)
    return done.value.value


def test_a_retry_goes_on_with_the_batch_that_failed():
    """What was embedded and paid for is not sent again."""
    texts = ["a"] * 64 + ["bb"] * 64
    plan = begin(texts, sides=("cloud",))
    first = next(plan)
    second = plan.send(Ok(found(*first.request.texts), 1.0))
    assert isinstance(plan.send(Failed(RateLimited("slow down"), 1.0)), Sleep)
    again = plan.send(Ok(None, 0.5))
    assert again == second
    whole = finish(plan, Ok(found(*again.request.texts), 1.0))
    assert list(whole) == list(found(*texts))
    assert [type(each.error) for each in whole.route.attempts] == [RateLimited, type(None)]
    assert whole.usage == Usage(128, 0)
    assert whole.cost == 2


def test_the_other_side_begins_anew():
    """All vectors of one answer are computed by one side."""
    texts = ["a"] * 64 + ["bb"]
    plan = begin(texts)
    first = next(plan)
    plan.send(Ok(found(*first.request.texts)))
    step = plan.send(Failed(ServerError("broken")))
    assert step == Embed("cloud", first.request)
    plan.send(Ok(found(*step.request.texts)))
    whole = finish(plan, Ok(found("bb")))
    assert whole.route.side == "cloud"
    assert list(whole) == list(found(*texts))


def test_a_text_too_long_for_the_model_is_not_tried_elsewhere():
    """The same model reads no more in the other place, where it might be cut in silence."""
    plan = begin(["a"])
    next(plan)
    with pytest.raises(ContextTooLong):
        plan.send(Failed(ContextTooLong("Text 0 is too long")))


def test_a_deadline_bounds_all_batches():
    """Each batch is given what the ones before have left, and waits do not outlast it."""
    plan = begin(["a"] * 65, sides=("cloud",), deadline=10.0)
    step = next(plan)
    assert step.request.deadline == 10.0
    step = plan.send(Ok(found(*step.request.texts), 4.0))
    assert step.request.deadline == 6.0
    with pytest.raises(TimedOut):
        plan.send(Failed(TimedOut("late"), 6.0))


def test_retries_are_counted_for_each_batch():
    """A long job is not given up for one failure now and then."""
    plan = begin(["a"] * 64 * 4, sides=("cloud",), retries=1)
    step = next(plan)
    for _ in range(3):
        assert isinstance(plan.send(Failed(ServerError("broken"))), Sleep)
        assert plan.send(Ok(None)) == step
        step = plan.send(Ok(found(*step.request.texts)))
    plan.send(Failed(ServerError("broken")))
    plan.send(Ok(None))
    with pytest.raises(ServerError):
        plan.send(Failed(ServerError("broken")))


# The wire.


def row(index, vector):
    return {"object": "embedding", "index": index, "embedding": vector}


def test_the_body_has_what_together_knows_and_no_more():
    """Model and input are the only fields of the published request."""
    assert embeddings_body(("a", "b"), "org/m") == {"model": "org/m", "input": ["a", "b"]}


@given(st.lists(VECTORS, min_size=1, max_size=5), st.randoms(), st.booleans())
def test_rows_in_any_order_and_either_encoding_are_read_alike(vectors, random, encoded):
    """The index of a row counts, not its place; base64 floats are floats; lengths become 1."""
    told = [base64.b64encode(struct.pack("<3f", *v)).decode() if encoded else v for v in vectors]
    rows = [row(index, each) for index, each in enumerate(told)]
    random.shuffle(rows)
    read = embeddings_of({"data": rows, "usage": {"prompt_tokens": 7}}, texts=len(vectors))
    assert read.usage == Usage(7, 0)
    for ours, theirs in zip(read, vectors, strict=True):
        assert math.hypot(*ours) == pytest.approx(1)
        assert ours == pytest.approx([n / math.hypot(*theirs) for n in theirs])


def test_usage_that_is_not_told_is_unknown():
    """Together counts no tokens of embeddings: None, and never 0."""
    assert embeddings_of({"data": [row(0, [1.0])]}, texts=1).usage is None


@pytest.mark.parametrize(
    "rows",
    [
        [row(0, [1.0])],
        [row(0, [1.0]), row(0, [1.0])],
        [row(0, [1.0]), row(2, [1.0])],
        [row(0, [1.0]), row(1, [1.0]), row(1, [1.0])],
        [row(0, [1.0]), row(1, [1.0, 2.0])],
        [row(0, [1.0]), row(1, [0.0])],
        [row(0, [1.0]), row(1, [])],
        [row(0, [1.0]), row(1, [math.nan])],
        [row(0, [1.0]), row(1, ["x"])],
        [row(0, [1.0]), row(1, [True])],
        [row(0, [1.0]), row(1, "AAA")],
        [row(0, [1.0]), row(1, "AAAA")],
        [row(0, [1.0]), row(1, None)],
        [row(0, [1.0]), row(1, [10**400])],
        None,
    ],
)
def test_an_answer_without_a_sound_vector_for_each_text_is_an_error(rows):
    """A missing, doubled, empty or unreadable vector never lands at another text's index."""
    with pytest.raises(ServerError):
        embeddings_of({"data": rows}, texts=2)
