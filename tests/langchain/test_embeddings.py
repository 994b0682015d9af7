"""AideonEmbeddings, in process and over real HTTP against the loopback server."""

from __future__ import annotations

import asyncio
import copy
import math
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core import exceptions as langchain_exceptions
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import BaseModel, SecretStr, ValidationError

from aideon_core import Client, EmbeddingModel, errors
from aideon_core.config import Config
from aideon_core.embeddings import Embeddings
from aideon_testing import Failure
from aideon_testing.faults import Latency
from aideon_testing.vectors import vector
from langchain_aideon.embeddings import AideonEmbeddings

BGE = "BAAI/bge-base-en-v1.5"
E5 = "intfloat/multilingual-e5-large-instruct"
WIDTH = 32
TEXTS = ["Camels carry water.", "Shares fell on Monday.", "A kitten naps."]


class Blocking:
    """Asks by the blocking methods."""

    @staticmethod
    async def documents(embeddings, texts):
        return embeddings.embed_documents(texts)

    @staticmethod
    async def query(embeddings, text):
        return embeddings.embed_query(text)


class Awaiting:
    """Asks by the awaiting methods."""

    @staticmethod
    async def documents(embeddings, texts):
        return await embeddings.aembed_documents(texts)

    @staticmethod
    async def query(embeddings, text):
        return await embeddings.aembed_query(text)


@pytest.fixture(params=[Blocking, Awaiting])
def ask(request):
    return request.param


@pytest.fixture
async def over(together):
    """Build AideonEmbeddings over the loopback server; connections are closed after."""
    built = []

    def build(**fields):
        words = {"policy": "local-first", "max_retries": 0, "api_key": "k"}
        address = {"base_url": together.base_url}
        built.append(AideonEmbeddings(**(words | address | fields)))
        return built[-1]

    yield build
    for each in built:
        await each._async_client.close()


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """The path of a tiny model with random weights; needs the local engine."""
    from ..core.test_embed_local import write_bert  # noqa: TID252 - tests are not installed

    path = tmp_path_factory.mktemp("models") / "bert.gguf"
    write_bert(path)
    return str(path)


@pytest.fixture
def minilm():
    """The path of a small real model, where there is one."""
    from ..core.test_embed_local import MINILM  # noqa: TID252 - tests are not installed

    if not MINILM.exists():
        pytest.skip("the shared model is not here")
    return str(MINILM)


class SameModelHere:
    """The model that the loopback serves, in this process, and sometimes out of order."""

    name, side, model = "local", "local", "bge-base.gguf"

    def __init__(self, *, works=True):
        self.works = works
        self.requests = []

    def unavailable(self):
        return None

    def embed(self, request):
        self.requests.append(request)
        if not self.works:
            raise errors.LoadFailed("out of memory")
        return Embeddings(tuple(vector(text, 768) for text in request.texts))

    async def aembed(self, request):
        return self.embed(request)

    def close(self):
        pass

    async def aclose(self):
        pass


@pytest.fixture
async def in_both(together):
    """Build AideonEmbeddings with one model in both places, from a ready client."""
    built = []

    def build(here, policy="local-first", **fields):
        model = EmbeddingModel(local=here, cloud=BGE)
        words = {"api_key": "k", "base_url": together.base_url, "max_retries": 0}
        client = Client(local=None, cloud=None, policy=policy, embedding=model, **words)
        built.append(AideonEmbeddings(client=client, **fields))
        return built[-1]

    yield build
    for each in built:
        await each._async_client.close()


# What is asked and what comes back.


async def test_a_vector_of_python_floats_for_each_text_in_order(ask, over, together):
    """Documents have their vectors in order, a query has the vector of its text."""
    embeddings = over(model=BGE)
    vectors = await ask.documents(embeddings, TEXTS)
    assert vectors == [pytest.approx(vector(text, 768)) for text in TEXTS]
    assert {type(number) for each in vectors for number in each} == {float}
    assert await ask.query(embeddings, TEXTS[1]) == vectors[1]
    assert together.requests[0].body == {"model": BGE, "input": TEXTS}
    assert embeddings.dimension == 768


async def test_without_words_it_is_what_langchain_together_embeds_with(ask, over, together):
    """The model that TogetherEmbeddings takes when not told otherwise is the one taken here."""
    embeddings = over()
    await ask.query(embeddings, "one")
    assert (embeddings.model, embeddings.model_identity, together.requests[0].body["model"]) == (
        E5,
        E5,
        E5,
    )


async def test_no_texts_ask_nobody(ask, over, together, monkeypatch):
    """An empty list has an empty list of vectors, the network switched off or not."""
    assert await ask.documents(over(), []) == []
    monkeypatch.setenv("AIDEON_OFFLINE", "1")
    assert await ask.documents(over(), []) == []
    assert together.requests == []


@pytest.mark.parametrize("prefix", ["", "passage: "])
@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["a", ""], "Text 1 is empty"),
        (["a", "b", None], "Text 2 is a NoneType"),
        ("abc", "texts is a str"),
        ({"a": 1}, "texts is a dict"),
    ],
)
async def test_what_is_no_text_is_named_and_nothing_is_sent(
    ask, over, together, texts, said, prefix
):
    """An empty chunk is an error that says which, with a prefix before it or not."""
    with pytest.raises(langchain_exceptions.ModelInvalidRequestError, match=said) as caught:
        await ask.documents(over(document_prefix=prefix), texts)
    assert isinstance(caught.value, errors.BadRequest)
    assert together.requests == []


@pytest.mark.parametrize("text", ["", ["two", "texts"], None])
async def test_a_query_is_one_text(ask, over, together, text):
    """A list in the place of a query is refused, and not answered with its first text."""
    with pytest.raises(errors.BadRequest, match="Text 0"):
        await ask.query(over(), text)
    assert together.requests == []


async def test_prefixes_are_put_before_documents_and_queries(ask, over, together):
    """Models that want to know what a text is are told so."""
    embeddings = over(model=BGE, query_prefix="query: ", document_prefix="passage: ")
    await ask.documents(embeddings, ["a", "b"])
    await ask.query(embeddings, "c")
    sent = [request.body["input"] for request in together.requests]
    assert sent == [["passage: a", "passage: b"], ["query: c"]]


async def test_many_texts_are_few_requests(ask, over, together):
    """150 texts are three requests, where TogetherEmbeddings sends 150, and stay in order."""
    texts = [f"text number {n}" for n in range(150)]
    vectors = await ask.documents(over(model=BGE), texts)
    assert vectors[149] == pytest.approx(vector(texts[149], 768))
    assert [len(request.body["input"]) for request in together.requests] == [64, 64, 22]


async def test_a_batch_that_fails_is_sent_again_alone(ask, over, together):
    """A failure in the middle costs one request more, and no text is embedded twice."""
    together.faults.sequence(None, Failure.rate_limited(retry_after=0))
    vectors = await ask.documents(over(model=BGE, max_retries=1), ["a"] * 100)
    assert len(vectors) == 100
    assert [len(request.body["input"]) for request in together.requests] == [64, 36, 36]


async def test_shorter_vectors(ask, over, together):
    """dimensions= gives the first numbers, of length 1 again, without telling the server."""
    embeddings = over(model=BGE, matryoshka=True, dimensions=200)
    cut = await ask.query(embeddings, TEXTS[0])
    first = vector(TEXTS[0], 768)[:200]
    assert cut == pytest.approx([number / math.hypot(*first) for number in first])
    assert embeddings.dimension == 200
    assert together.requests[0].body == {"model": BGE, "input": [TEXTS[0]]}


async def test_more_numbers_than_a_vector_has_are_refused(ask, over):
    """dimensions= above the model's own is an error, and never a vector shorter than asked."""
    with pytest.raises(errors.BadRequest, match="768"):
        await ask.query(over(model=BGE, matryoshka=True, dimensions=1000), "a")


# Failures.


async def test_a_429_is_waited_out_as_long_as_it_says(ask, over, together):
    """Retry-After is kept, and the answer comes after it."""
    together.faults.sequence(Failure.rate_limited(retry_after=1))
    started = asyncio.get_running_loop().time()
    assert await ask.query(over(model=BGE, max_retries=1), "a") == pytest.approx(vector("a", 768))
    assert asyncio.get_running_loop().time() - started > 0.9


async def test_a_429_without_end_ends(ask, over, together):
    """After max_retries the caller hears of the limit, as LangChain's error and Aideon's."""
    together.faults.always(Failure.rate_limited(retry_after=0))
    with pytest.raises(langchain_exceptions.ModelRateLimitError) as caught:
        await ask.query(over(model=BGE, max_retries=2), "a")
    assert isinstance(caught.value, errors.RateLimited)
    assert caught.value.route.attempts[0].backend == "together"
    assert len(together.requests) == 3


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure.invalid_key(), langchain_exceptions.ModelAuthenticationError),
        (Failure.unknown_model(BGE), langchain_exceptions.ModelNotFoundError),
        (Failure.server_error(), langchain_exceptions.ModelAPIError),
        (
            Failure.over_context(limit=512, input_tokens=600, max_tokens=0),
            langchain_exceptions.ContextOverflowError,
        ),
    ],
)
async def test_failures_are_langchains_errors(ask, over, together, failure, kind):
    """What a server refuses is the error that LangChain has for it, and Aideon's at once."""
    together.faults.always(failure)
    with pytest.raises(kind) as caught:
        await ask.documents(over(model=BGE), ["a"])
    assert isinstance(caught.value, errors.AideonError)


async def test_a_missing_key_is_told_by_the_first_call(ask, over):
    """Without a key an object can be made, and asking says which variable to set."""
    with pytest.raises(langchain_exceptions.ModelAuthenticationError, match="TOGETHER_API_KEY"):
        await ask.query(over(api_key=None), "a")


async def test_a_deadline_is_held(ask, over, together):
    """A server slower than the deadline is LangChain's timeout."""
    together.faults.always(Latency(5.0))
    with pytest.raises(langchain_exceptions.ModelTimeoutError):
        await ask.query(over(deadline=0.2), "a")


async def test_offline_nothing_is_sent(ask, over, together, monkeypatch, bert):
    """AIDEON_OFFLINE holds for the cloud and leaves the local side at work."""
    monkeypatch.setenv("AIDEON_OFFLINE", "1")
    with pytest.raises(errors.Offline):
        await ask.query(over(model=BGE), "a")
    both = over(local=bert, cloud=BGE, policy="cloud-first")
    assert len(await ask.query(both, "a")) == WIDTH
    assert together.requests == []


# One model, wherever it is.


async def test_a_file_embeds_in_process(ask, bert, together):
    """A .gguf file needs no key and no network."""
    embeddings = AideonEmbeddings(model=bert)
    one, other = await ask.documents(embeddings, ["abc", "xyz"])
    assert one == await ask.query(embeddings, "abc") != other
    assert (embeddings.dimension, embeddings.model_identity) == (WIDTH, "bert.gguf")


async def test_a_text_too_long_is_named_by_its_index(ask, bert):
    """The index is that of the caller's list; truncate=True reads the beginning instead."""
    texts = ["abc"] * 70 + ["a" * 100]
    with pytest.raises(langchain_exceptions.ContextOverflowError, match="Text 70 is 102 tokens"):
        await ask.documents(AideonEmbeddings(model=bert), texts)
    assert len(await ask.documents(AideonEmbeddings(model=bert, truncate=True), texts)) == 71


@pytest.mark.parametrize("policy", ["local-first", "cloud-first"])
async def test_an_index_made_by_one_side_is_searched_by_the_other(in_both, together, ask, policy):
    """One model in both places: where a side fails, the other finds what it had embedded."""
    here = SameModelHere()
    embeddings = in_both(here, policy)
    store = InMemoryVectorStore(embeddings)
    store.add_documents([Document(text) for text in TEXTS])
    assert len(together.requests) == (policy == "cloud-first")
    here.works = policy == "cloud-first"
    if here.works:
        together.faults.always(Failure.unavailable())
    asked = len(together.requests), len(here.requests)
    found = store.similarity_search_by_vector(await ask.query(embeddings, "carry camels"), k=1)
    assert [each.page_content for each in found] == [TEXTS[0]]
    # Each side was asked once: the first in vain, the other for its answer.
    assert (len(together.requests), len(here.requests)) == (asked[0] + 1, asked[1] + 1)


async def test_a_model_said_to_be_in_one_place_is_asked_there_alone(ask, over, together, bert):
    """No other model stands in: a failing cloud is an error, whatever is on this machine."""
    with together.outage(), pytest.raises(langchain_exceptions.ModelConnectionError):
        await ask.query(over(model=BGE), "a")


async def test_another_model_cannot_stand_in(ask, over, together, bert):
    """A side whose vectors have another size is refused, though words say it is the same."""
    embeddings = over(local=bert, cloud=BGE, policy="cloud-first")
    assert len(await ask.query(embeddings, "a")) == 768
    with (
        together.outage(),
        pytest.raises(langchain_exceptions.ModelError, match="not the same model") as caught,
    ):
        await ask.query(embeddings, "a")
    assert isinstance(caught.value, errors.AllBackendsFailed)
    assert len(await ask.query(embeddings, "a")) == 768


async def test_a_pickle_still_refuses_another_model(ask, over, together, bert, monkeypatch):
    """What an object has given out holds for its pickles, in a process that knows nothing."""
    embeddings = over(local=bert, cloud=BGE)
    assert len(await ask.query(embeddings, "a")) == WIDTH
    monkeypatch.setenv("TOGETHER_API_KEY", "k")
    there = pickle.loads(pickle.dumps(embeddings)).model_copy()
    assert there.dimension == WIDTH
    there._client.space.embedders.pop("local")
    with pytest.raises(langchain_exceptions.ModelAPIError, match="768 numbers.*had 32 before"):
        await ask.query(there, "a")
    await there._async_client.close()


def test_fingerprints_are_equal_where_vectors_can_be_compared(bert):
    """Model, dimensions and document_prefix decide; sides, policy, query_prefix and key do not."""
    one = AideonEmbeddings(model=BGE)
    same = [
        AideonEmbeddings(local=bert, cloud=BGE, policy="cloud-only"),
        AideonEmbeddings(model=bert, name=BGE),
        AideonEmbeddings(model=BGE, query_prefix="query: ", api_key="k"),
        AideonEmbeddings(client=Client(local=None, cloud=None, embedding=BGE)),
        pickle.loads(pickle.dumps(one)),
        copy.deepcopy(one),
    ]
    assert {each.fingerprint for each in same} == {one.fingerprint}
    other = [
        AideonEmbeddings(model=E5),
        AideonEmbeddings(model=bert),
        AideonEmbeddings(model=BGE, document_prefix="passage: "),
        AideonEmbeddings(model=BGE, dimensions=5, matryoshka=True),
        AideonEmbeddings(model="ollama:nomic-embed-text:v1.5"),
    ]
    prints = {each.fingerprint for each in (*other, one)}
    assert len(prints) == 6
    assert all(re.fullmatch(r"[A-Za-z0-9.-]+", each) for each in prints)


def test_an_index_of_another_model_is_refused():
    """check_fingerprint passes the object's own and says of another what to do."""
    ours, theirs = AideonEmbeddings(model=BGE), AideonEmbeddings(model=E5)
    ours.check_fingerprint(ours.fingerprint)
    with pytest.raises(errors.ConfigError, match=rf"{theirs.fingerprint}.*make it anew"):
        ours.check_fingerprint(theirs.fingerprint)


def test_a_cache_keeps_models_apart(over, together):
    """LangChain's cache of vectors, by fingerprint, asks once for a text and model."""
    embeddings = pytest.importorskip("langchain_classic.embeddings", reason="not installed")
    from langchain_core.stores import InMemoryByteStore

    store = InMemoryByteStore()

    def cached(model):
        one = over(model=model)
        return embeddings.CacheBackedEmbeddings.from_bytes_store(
            one, store, namespace=one.fingerprint, key_encoder="sha256"
        )

    first = cached(BGE).embed_documents(TEXTS)
    assert cached(BGE).embed_documents(TEXTS) == first
    assert len(cached(E5).embed_documents(TEXTS)[0]) == 1024
    assert [request.body["model"] for request in together.requests] == [BGE, E5]


async def test_a_real_model_finds_what_is_meant(ask, minilm):
    """A store over a small local model finds a text that shares no word with the question."""
    embeddings = AideonEmbeddings(model=minilm)
    store = InMemoryVectorStore(embeddings)
    store.add_texts(TEXTS)
    found = store.similarity_search_by_vector(await ask.query(embeddings, "a sleeping cat"), k=1)
    assert found[0].page_content == TEXTS[2]


# The object.


def test_nothing_is_loaded_and_nothing_is_sent_before_the_first_text(over, together, bert):
    """Making one costs no model and no connection."""
    embeddings = over(local=bert, cloud=BGE)
    assert embeddings.dimension is None
    assert embeddings._client.space.embedders["local"]._worker is None
    assert together.requests == []


@pytest.mark.parametrize(
    ("fields", "kind", "said"),
    [
        ({"model": "nowhere/model.gguf"}, errors.UnknownModel, "nowhere/model.gguf"),
        ({"model": __file__, "local": __file__}, errors.ConfigError, "local="),
        ({"local": __file__}, errors.NotGguf, "test_embeddings.py"),
        ({"model": "olama:nomic"}, errors.ConfigError, "ollama"),
        ({"policy": "local"}, errors.ConfigError, "local"),
        ({"base_url": "nowhere"}, errors.ConfigError, "nowhere"),
        ({"max_retries": -1}, errors.ConfigError, "max_retries"),
        ({"dimensions": 5}, errors.ConfigError, "matryoshka=True"),
        ({"dimensions": 0, "matryoshka": True}, errors.BadRequest, "dimensions"),
        ({"deadline": 0}, errors.BadRequest, "deadline"),
    ],
)
def test_wrong_words_are_told_at_once(fields, kind, said):
    """A model, file or setting that cannot be is an error where the object is made."""
    with pytest.raises(kind, match=said):
        AideonEmbeddings(**fields)


def test_a_mistyped_word_is_refused_and_what_it_held_is_not_shown():
    """A word it does not have is an error, which does not print the key it may hold."""
    with pytest.raises(ValidationError, match="together_key") as caught:
        AideonEmbeddings(together_key="the-secret")
    assert "the-secret" not in str(caught.value)


def test_no_key_is_shown_dumped_or_pickled(together):
    """A key is in no repr, dump or pickle, whether it was given or found."""
    embeddings = AideonEmbeddings(model=BGE, api_key="the-secret", base_url=together.base_url)
    assert embeddings.api_key == SecretStr("the-secret")
    shown = [repr(embeddings), str(embeddings.model_dump()), embeddings.model_dump_json()]
    shown += [repr(embeddings._client), str(pickle.dumps(embeddings))]
    assert not [each for each in shown if "the-secret" in each]


def test_an_address_is_shown_without_its_password():
    """A user and a password in base_url are used, and not printed."""
    embeddings = AideonEmbeddings(model=BGE, base_url="http://ada:the-secret@127.0.0.1:9/v1")
    assert "http://127.0.0.1:9/v1" in repr(embeddings)
    assert "the-secret" not in f"{embeddings!r} {embeddings}"
    assert "base_url=None" in repr(AideonEmbeddings(model=BGE))


async def test_a_pickle_reads_the_key_where_it_is_needed(together_env, ask):
    """An unpickled object asks as its original did, with the environment's key."""
    embeddings = AideonEmbeddings(model=BGE, document_prefix="passage: ")
    there = pickle.loads(pickle.dumps(embeddings))
    assert there.model_dump() == embeddings.model_dump()
    assert await ask.documents(there, ["a"]) == [pytest.approx(vector("passage: a", 768))]
    await there._async_client.close()


def test_a_ready_client_is_not_pickled():
    """Connections and a loaded model do not travel, and the error says what does."""
    embeddings = AideonEmbeddings(client=Client(local=None, cloud=None, embedding=BGE))
    with pytest.raises(TypeError, match="words"):
        pickle.dumps(embeddings)


async def test_a_deep_copy_shares_what_is_open(ask, over, together):
    """Copies work like their original, over the same client and with its key."""
    embeddings = over(model=BGE)
    for each in (copy.deepcopy(embeddings), copy.copy(embeddings), embeddings.model_copy()):
        assert each._client is embeddings._client
        assert each == embeddings
        assert await ask.query(each, "a") == pytest.approx(vector("a", 768))


def test_words_survive_a_dump():
    """What model_dump_json writes makes the same object, inside another model too."""

    class Settings(BaseModel):
        embeddings: AideonEmbeddings

    embeddings = AideonEmbeddings(cloud=BGE, name="bge-base", query_prefix="query: ")
    again = AideonEmbeddings.model_validate_json(embeddings.model_dump_json())
    assert again.model_dump() == embeddings.model_dump()
    assert again.fingerprint == embeddings.fingerprint
    settings = Settings.model_validate({"embeddings": embeddings.model_dump()})
    assert settings.embeddings.fingerprint == embeddings.fingerprint


async def test_a_model_once_said_does_not_change(ask, over, together):
    """Assigning is refused; model_copy(update=...) makes an object that does what it says."""
    embeddings = over(model=BGE)
    with pytest.raises(ValidationError, match="frozen"):
        embeddings.model = E5
    other = embeddings.model_copy(update={"model": E5})
    assert len(await ask.query(other, "a")) == 1024
    assert other.api_key == embeddings.api_key
    assert len(await ask.query(embeddings, "a")) == 768
    await other._async_client.close()


async def test_together_s_key_is_not_sent_to_another_host(ask, over, together, monkeypatch):
    """The key in TOGETHER_API_KEY is Together's; a key that was given goes where it is said."""
    monkeypatch.setenv("TOGETHER_API_KEY", "togethers-own")
    words = {"policy": "cloud-only", "max_retries": 0, "base_url": together.base_url}
    free = AideonEmbeddings(model=f"ollama:{BGE}", **words)
    # The loopback wants a key, and there is none that may be sent.
    with pytest.raises(errors.AuthError):
        await ask.query(free, "a")
    await free._async_client.close()
    await ask.query(over(model=f"vllm:{BGE}", api_key="vllms-own"), "a")
    sent = [request.headers.get("authorization", "") for request in together.requests]
    assert len(sent) == 2
    assert "togethers-own" not in sent[0]
    assert "vllms-own" in sent[1]


def test_a_key_changed_in_the_environment_is_the_next_one_sent(together_env, monkeypatch):
    """A key that is rotated while the process runs needs no new object."""
    embeddings = AideonEmbeddings(model=BGE)
    monkeypatch.setenv("TOGETHER_API_KEY", "the-new-one")
    embeddings.embed_query("a")
    assert "the-new-one" in together_env.requests[-1].headers["authorization"]
    embeddings._client.close()


async def test_a_ready_client_is_asked(ask, in_both):
    """client= takes the place of the words, and what they would say can be read from it."""
    here = SameModelHere()
    embeddings = in_both(here, "local-only", query_prefix="query: ")
    assert await ask.query(embeddings, "a") == vector("query: a", 768)
    assert (embeddings.model, embeddings.policy, embeddings.api_key) == (BGE, "local-only", None)
    again = embeddings.model_copy(update={"query_prefix": ""})
    assert again._client is embeddings._client
    assert await ask.query(again, "a") == vector("a", 768)


def test_a_client_that_cannot_embed_is_refused_at_once():
    """A client without an embedding model, and words that contradict one, are errors."""
    with pytest.raises(errors.ConfigError, match="no embedding model"):
        AideonEmbeddings(client=Client(local=None, cloud="ollama:llama3.2"))
    client = Client(local=None, cloud=None, policy="cloud-only", embedding=BGE)
    with pytest.raises(errors.ConfigError, match="client= already says what local, policy"):
        AideonEmbeddings(client=client, local="x.gguf", policy="local-first")
    with pytest.raises(ValidationError, match="client"):
        AideonEmbeddings(client="a client")


async def test_a_notebook_may_call_the_blocking_methods(over):
    """Inside a running event loop the blocking methods work as elsewhere."""
    assert over(model=BGE).embed_query("a") == pytest.approx(vector("a", 768))


async def test_many_at_once(over, bert, together):
    """Threads and tasks share one object, and each gets the vector of its own text."""
    texts = [chr(ord("a") + n) * (n + 1) for n in range(16)]
    for embeddings in (over(model=BGE), AideonEmbeddings(model=bert)):
        alone = embeddings.embed_documents(texts)
        assert await asyncio.gather(*map(embeddings.aembed_query, texts)) == alone
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(embeddings.embed_query, texts)) == alone


def test_every_event_loop_is_served(over, together, bert):
    """One object serves asyncio.run after asyncio.run, as scripts and web workers do."""

    async def once(embeddings):
        try:
            return await embeddings.aembed_query("abc")
        finally:
            await embeddings._async_client.close()

    for embeddings in (over(model=BGE), AideonEmbeddings(model=bert)):
        assert asyncio.run(once(embeddings)) == asyncio.run(once(embeddings))


def test_the_policy_is_the_configured_one(monkeypatch, tmp_path):
    """Left out, policy comes from the settings, as for ChatAideon."""
    path = tmp_path / "aideon.toml"
    path.write_text('policy = "cloud-only"')
    monkeypatch.setenv("AIDEON_CONFIG", str(path))
    assert AideonEmbeddings().policy == Config.load().policy == "cloud-only"
