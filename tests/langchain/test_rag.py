"""Answers from documents: embeddings, a vector store and a chat model, on either side."""

from __future__ import annotations

from typing import Literal

import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.tools import create_retriever_tool
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import BaseModel

from aideon_core import AsyncClient, Client, Completion, EmbeddingModel
from aideon_core.embeddings import Embeddings
from aideon_testing.vectors import vector
from langchain_aideon import ChatAideon
from langchain_aideon.embeddings import AideonEmbeddings

from .sides import SIDES, calls, opened, routed

_BGE = "BAAI/bge-base-en-v1.5"
_TEXTS = {
    "camels": "Camels carry water in their blood, not in their humps.",
    "herons": "Herons stand still in shallow rivers and wait for fish.",
    "shares": "Shares of the railway fell on Monday.",
}
_QUESTION = "Where do camels carry their water?"
_PROMPT = ChatPromptTemplate.from_messages(
    [("system", "Answer from these notes only:\n{notes}"), ("user", "{question}")]
)


class SameModelHere:
    """The embedding model that the loopback serves, in this process."""

    name, side, model = "local", "local", "bge-base.gguf"

    def __init__(self):
        self.requests = []

    def unavailable(self):
        return None

    def embed(self, request):
        self.requests.append(request)
        return Embeddings(tuple(vector(text, 768) for text in request.texts))

    async def aembed(self, request):
        return self.embed(request)

    def close(self):
        pass

    async def aclose(self):
        pass


@pytest.fixture(params=SIDES)
async def sides(request, together):
    """Chat models that answer from one side, or each time from another."""
    async with opened(request.param, together) as opened_sides:
        yield opened_sides


@pytest.fixture
async def embeddings_on(together):
    """Build AideonEmbeddings of one model that is here, in the cloud, or in both."""
    clients = []

    def build(side):
        here = None if side == "cloud" else SameModelHere()
        there = None if side == "local" else _BGE
        client = Client(
            local=None,
            cloud=None,
            policy="cloud-first",
            embedding=EmbeddingModel(local=here, cloud=there, name=_BGE),
            api_key="loopback",
            base_url=together.base_url,
            max_retries=0,
        )
        clients.append(client)
        return AideonEmbeddings(client=client)

    yield build
    for client in clients:
        await AsyncClient.sharing(client).close()


@pytest.fixture
def store(sides, embeddings_on):
    """The notes in a vector store, embedded on the side that answers."""
    notes = InMemoryVectorStore(embeddings_on(sides.side))
    notes.add_documents(
        [Document(text, id=name, metadata={"name": name}) for name, text in _TEXTS.items()]
    )
    return notes


def answering(store, chat, *, notes=1):
    """The usual chain: find notes, put them into the prompt, answer."""
    found = store.as_retriever(search_kwargs={"k": notes}) | RunnableLambda(_joined)
    return {"notes": found, "question": RunnablePassthrough()} | _PROMPT | chat


def _joined(documents):
    return "\n".join(document.page_content for document in documents)


def test_a_question_is_answered_from_the_nearest_note(sides, store):
    """The note that belongs to the question, and no other, is in the prompt that is answered."""
    chain = answering(store, sides.chat(Completion("In their blood."))) | StrOutputParser()
    assert chain.invoke(_QUESTION) == "In their blood."
    system, user = (content for _, content in sides.last_turns())
    assert user == _QUESTION
    assert _TEXTS["camels"] in system
    assert _TEXTS["herons"] not in system


async def test_an_answer_streams_from_the_notes(sides, store):
    """The chain streams the answer's words, awaited, after an awaited search."""
    chain = answering(store, sides.chat(Completion("In their blood."))) | StrOutputParser()
    words = [word async for word in chain.astream(_QUESTION)]
    assert "".join(words) == "In their blood."
    assert len(words) > 1


def test_many_questions_are_answered_in_order(sides, store):
    """Batch answers each question, in order, from the side that had room for it."""
    chat = sides.chat(*[Completion("Noted.")] * 3)
    answers = answering(store, chat).batch(
        ["Camels?", "Herons?", "Shares?"], config={"max_concurrency": 1}
    )
    assert [answer.content for answer in answers] == ["Noted."] * 3
    assert routed(answers) == sides.answered_by(3)


def test_an_agent_looks_things_up(sides, store):
    """An agent whose tool is the store reads the note before it answers."""
    look_up = create_retriever_tool(
        store.as_retriever(search_kwargs={"k": 1}), "look_up", "Look something up in the notes."
    )
    chat = sides.chat(calls("look_up", '{"query": "herons"}'), Completion("In rivers."))
    messages = create_agent(chat, [look_up]).invoke({"messages": [("user", "Where are herons?")]})[
        "messages"
    ]
    assert messages[2].content == _TEXTS["herons"]
    assert messages[-1].content == "In rivers."
    assert routed(messages) == sides.answered_by(2)


async def test_notes_are_added_and_taken_away_awaited(sides, store):
    """What was added a moment ago is found, and what was deleted is not."""
    await store.aadd_documents([Document("Otters hold hands when they sleep.", id="otters")])
    (found,) = await store.asimilarity_search("sleeping otters", k=1)
    assert found.id == "otters"
    await store.adelete(["otters"])
    (found,) = await store.asimilarity_search("sleeping otters", k=1)
    assert found.id != "otters"


def test_an_index_made_in_the_cloud_is_searched_here(embeddings_on, together):
    """When the cloud is away, the same model here searches the index that the cloud made."""
    store = InMemoryVectorStore(embeddings_on("hybrid"))
    store.add_texts(list(_TEXTS.values()), ids=list(_TEXTS))
    assert len(together.requests) == 1
    with together.outage():
        ((found, score), _) = store.similarity_search_with_score(_QUESTION, k=2)
    assert found.id == "camels"
    assert score > 0.5


@pytest.mark.model
def test_a_real_small_model_names_its_source(local_model, embeddings_on, monkeypatch):
    """A real model that may only name a note that was found names one."""
    monkeypatch.setenv("AIDEON_HOME", str(local_model._home))
    store = InMemoryVectorStore(embeddings_on("local"))
    store.add_texts(list(_TEXTS.values()), ids=list(_TEXTS))

    class Answer(BaseModel):
        """An answer and the note it is from."""

        source: Literal["camels", "herons"]

    chat = ChatAideon(local=str(local_model.path), cloud=None, temperature=0, max_tokens=60)
    chain = answering(store, chat.with_structured_output(Answer), notes=2)
    assert chain.invoke(_QUESTION).source in {"camels", "herons"}
