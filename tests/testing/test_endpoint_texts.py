"""POST /v1/embeddings and POST /v1/rerank."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import openai
import pytest
import together as together_sdk
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_testing.vectors import similarity, vector

if TYPE_CHECKING:
    from collections.abc import Iterator

EMBEDDINGS = "/v1/embeddings"
RERANK = "/v1/rerank"
E5 = "intfloat/multilingual-e5-large-instruct"
LLAMA_RANK = "Salesforce/Llama-Rank-v1"
ANIMALS = [
    {"title": "Panda", "text": "The giant panda is a bear endemic to China."},
    {"title": "Llama", "text": "The llama is a South American camelid, an animal of Peru."},
    {"title": "Camel", "text": "The Bactrian camel lives in Mongolia."},
]
QUERY = "What animals can I find near Peru?"


@pytest.fixture
def sdk(together) -> Iterator[together_sdk.Together]:
    """Together's SDK, talking to the server."""
    with together_sdk.Together(api_key="k", base_url=together.base_url, max_retries=0) as sdk:
        yield sdk


def test_both_sdks_read_the_same_embeddings(together, sdk):
    """OpenAI's SDK asks for base64 and, as from the API, takes the numbers it gets."""
    ours = sdk.embeddings.create(model=E5, input=["one", "two"])
    url = f"{together.base_url}/v1"
    with openai.OpenAI(api_key="k", base_url=url, max_retries=0) as openai_sdk:
        theirs = openai_sdk.embeddings.create(model=E5, input="one")
    assert [row.index for row in ours.data] == [0, 1]
    assert len(ours.data[0].embedding) == 1024
    assert theirs.data[0].embedding == ours.data[0].embedding


def test_embeddings_have_the_specs_keys_and_no_usage(client):
    """The API does not count the tokens of embeddings."""
    body = client.post(EMBEDDINGS, json={"model": E5, "input": "one"}).json()
    assert list(body) == ["object", "model", "data"]
    assert list(body["data"][0]) == ["object", "embedding", "index"]


def test_each_model_has_its_dimensions(client):
    """A vector is as long as the model's really are."""
    body = {"model": "BAAI/bge-base-en-v1.5", "input": "one"}
    assert len(client.post(EMBEDDINGS, json=body).json()["data"][0]["embedding"]) == 768


def test_a_question_is_nearest_to_the_text_that_answers_it():
    """Retrieval can be tested: what shares words is near, what shares none is far."""
    texts = [
        "Paris is the capital of France.",
        "Bananas are yellow when they are ripe.",
        "The Danube flows through ten countries.",
    ]
    question = vector("Which city is France's capital?", 1024)
    nearness = [similarity(question, vector(text, 1024)) for text in texts]
    assert nearness.index(max(nearness)) == 0
    assert nearness[0] > 2 * max(nearness[1:])


@settings(deadline=None)
@given(st.text(), st.integers(1, 64))
def test_a_vector_has_length_one_and_never_changes(text, dimensions):
    """Whatever the text, its vector is normalized and the same every time."""
    one = vector(text, dimensions)
    assert len(one) == dimensions
    assert math.isclose(math.hypot(*one), 1)
    assert one == vector(text, dimensions)


def test_a_text_too_long_for_the_model_is_cut(client):
    """What is beyond the model's 514 tokens makes no difference, and no error."""
    long = "word " * 600
    body = {"model": E5, "input": [long, long + "and more"]}
    one, other = client.post(EMBEDDINGS, json=body).json()["data"]
    assert one["embedding"] == other["embedding"]


@pytest.mark.parametrize(
    ("change", "status", "message", "param"),
    [
        ({"model": None}, 400, "Invalid request", "model"),
        ({"input": None}, 400, "Invalid request", "input"),
        ({"input": ""}, 400, "Input validation error", None),
        ({"input": []}, 400, "Input validation error", None),
        ({"input": ["a", ""]}, 400, "Input validation error", None),
        ({"input": [[1, 2]]}, 400, "Input validation error", None),
        ({"input": 1}, 400, "Input validation error", None),
        ({"model": "openai/gpt-oss-20b"}, 400, "Input validation error", None),
    ],
)
def test_inputs_that_are_no_texts_are_refused(client, change, status, message, param):
    """A body that will not do gets the API's error."""
    response = client.post(EMBEDDINGS, json={"model": E5, "input": "one"} | change)
    error = response.json()["error"]
    assert (response.status_code, error["message"], error["param"]) == (status, message, param)


def test_an_unknown_model_is_not_found(sdk):
    """Both endpoints say so in the words of chat."""
    with pytest.raises(together_sdk.NotFoundError, match="Unable to access model x/y"):
        sdk.embeddings.create(model="x/y", input="one")
    with pytest.raises(together_sdk.NotFoundError, match="Unable to access model x/y"):
        sdk.rerank.create(model="x/y", query="a", documents=["a"])


def test_the_sdk_reads_documents_in_the_order_of_relevance(sdk):
    """The document that shares most with the query comes first."""
    ranked = sdk.rerank.create(
        model=LLAMA_RANK, query=QUERY, documents=ANIMALS, return_documents=True, top_n=2
    )
    assert ranked.results[0].index == 1
    scores = [result.relevance_score for result in ranked.results]
    assert 1 >= scores[0] > scores[1] >= 0
    assert json.loads(ranked.results[0].document.text) == ANIMALS[1]


def test_documents_are_empty_unless_asked_for(client):
    """The body is the recorded one, an empty object for each document included."""
    response = client.post(
        RERANK, json={"model": LLAMA_RANK, "query": "b", "documents": ["a", "b"]}
    )
    body = response.json()
    assert list(body) == ["id", "object", "model", "results", "usage"]
    assert [result["document"] for result in body["results"]] == [{}, {}]
    assert body["results"][0]["index"] == 1
    assert body["usage"] == {"prompt_tokens": 4, "completion_tokens": 0, "total_tokens": 4}


def test_only_the_fields_named_are_compared(client):
    """rank_fields picks the keys, and the whole document still comes back."""
    documents = [{"title": "Peru", "text": "bear"}, {"title": "bear", "text": "Peru"}]
    body = {
        "model": LLAMA_RANK,
        "query": "Peru",
        "documents": documents,
        "rank_fields": ["text"],
        "return_documents": True,
    }
    results = client.post(RERANK, json=body).json()["results"]
    assert [result["index"] for result in results] == [1, 0]
    assert results[1]["document"] == {"text": '{"title":"Peru","text":"bear"}'}


@settings(deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=8))
def test_a_document_is_always_nearest_to_itself(documents):
    """No document outranks the one that the query repeats."""
    query = vector(documents[0], 4096)
    scores = [similarity(query, vector(document, 4096)) for document in documents]
    assert math.isclose(scores[0], max(scores))


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"query": None}, "query"),
        ({"documents": None}, "documents"),
        ({"max_chunks_per_doc": 3}, "max_chunks_per_doc"),
        ({"documents": []}, None),
        ({"documents": "a"}, None),
        ({"documents": ["a", {"text": "b"}]}, None),
        ({"documents": [1]}, None),
        ({"query": 1}, None),
        ({"top_n": 0}, None),
        ({"return_documents": "yes"}, None),
        ({"rank_fields": [1]}, None),
        ({"model": "openai/gpt-oss-20b"}, None),
    ],
)
def test_a_rerank_the_spec_does_not_allow_is_refused(client, change, param):
    """Parameters are checked, and one that does not exist is named."""
    body = {"model": LLAMA_RANK, "query": "a", "documents": ["a"]}
    response = client.post(RERANK, json=body | change)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def test_async_sdks_embed_as_well(together):
    """The async client reads the same body."""
    async with together_sdk.AsyncTogether(api_key="k", base_url=together.base_url) as sdk:
        embedded = await sdk.embeddings.create(model=E5, input="one")
    assert embedded.data[0].embedding == vector("one", 1024)
