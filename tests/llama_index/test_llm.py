"""AideonLLM over the loopback server and over backends that answer from memory."""

from __future__ import annotations

import json
import pickle
from base64 import b64decode
from decimal import Decimal

import pytest
from llama_index.core import Document, SummaryIndex
from llama_index.core.base.llms.types import AudioBlock, ImageBlock, TextBlock
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import ChatMessage

from aideon_core import Client, Completion, Message, Usage
from aideon_core.errors import BadRequest, ConfigError, NotGguf, RateLimited, UnknownModel
from aideon_testing import Failure, FakeBackend, Reply
from llama_index.llms.aideon import AideonLLM
from llama_index.llms.aideon.messages import to_messages

_ASKED = [ChatMessage(role="system", content="Be brief."), ChatMessage("Name two primes.")]


class Heard(BaseEventHandler):
    """Writes down the names of LlamaIndex's events."""

    names: list[str] = []  # noqa: RUF012 - pydantic copies it

    @classmethod
    def class_name(cls):
        return "Heard"

    def handle(self, event, **_):
        if event.class_name().startswith("LLM"):
            self.names.append(event.class_name())


@pytest.fixture
def heard():
    handler = Heard()
    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(handler)
    yield handler.names
    dispatcher.event_handlers.remove(handler)


def test_complete_answers_with_usage_and_route(llm_over, together):
    """A completion says what it took, and who gave it and why, as plain JSON."""
    together.script.say("2 and 3.")
    answer = llm_over().complete("Name two primes.")
    assert answer.text == "2 and 3."
    assert answer.raw["model"] == "openai/gpt-oss-20b"
    assert answer.raw["usage"]["total_tokens"] > answer.raw["usage"]["prompt_tokens"] > 0
    assert answer.additional_kwargs["completion_tokens"] > 0
    assert answer.additional_kwargs["route"]["side"] == "cloud"
    assert answer.raw["route"]["explain"].startswith("cloud: openai/gpt-oss-20b answered")
    json.dumps(answer.raw)


def test_chat_sends_the_conversation(llm_over, together):
    """A conversation arrives turn by turn, with the parameters given."""
    together.script.say("2, 3.")
    answer = llm_over(temperature=0.5, stop=["END"]).chat(_ASKED, max_tokens=9)
    assert answer.message.content == "2, 3."
    assert answer.message.role == "assistant"
    body = together.requests[0].body
    assert [turn["role"] for turn in body["messages"]] == ["system", "user"]
    assert (body["temperature"], body["stop"], body["max_tokens"]) == (0.5, ["END"], 9)


def test_several_answers_are_refused(llm_over, together):
    """A response has a place for one answer, so several are not paid for and dropped."""
    llm = llm_over()
    for ask in (llm.chat, lambda messages, n: list(llm.stream_chat(messages, n=n))):
        with pytest.raises(BadRequest, match="n at 1"):
            ask(_ASKED, n=2)
    assert not together.requests


def test_streams_grow(llm_over, together):
    """Each piece of a stream carries its delta and all the text so far."""
    together.script.say("Two and three.", "Two and three.")
    llm = llm_over()
    for pieces in (
        [(piece.text, piece.delta) for piece in llm.stream_complete("Primes?")],
        [(piece.message.content or "", piece.delta) for piece in llm.stream_chat(_ASKED)],
    ):
        assert len(pieces) > 2
        assert pieces[-1][0] == "Two and three."
        so_far = ""
        for text, delta in pieces:
            so_far += delta
            assert text == so_far


def test_a_stream_ends_with_the_facts(llm_over, together):
    """The last piece of a stream tells the usage and the route, once."""
    together.script.say("Two and three.")
    pieces = list(llm_over().stream_chat(_ASKED))
    assert [bool(piece.raw.get("usage")) for piece in pieces].count(True) == 1
    assert pieces[-1].raw["finish_reason"] == "stop"
    assert pieces[-1].additional_kwargs["route"]["side"] == "cloud"


async def test_async_calls_say_the_same(llm_over, together):
    """The four awaited methods answer as the four others do."""
    together.script.say("One.", "Two.", "Three.", "Four.")
    llm = llm_over()
    assert (await llm.acomplete("1?")).text == "One."
    assert (await llm.achat(_ASKED)).message.content == "Two."
    completed = [piece async for piece in await llm.astream_complete("3?")]
    chatted = [piece async for piece in await llm.astream_chat(_ASKED)]
    assert completed[-1].text == "Three."
    assert chatted[-1].message.content == "Four."
    assert "".join(piece.delta for piece in chatted) == "Four."


def test_an_index_can_be_queried(llm_over, together):
    """A SummaryIndex answers from its documents, with no other model and no download."""
    together.script.say("At dawn.")
    texts = ["The heron fishes at dawn.", "The owl hunts at night.", "The swift never lands."]
    index = SummaryIndex.from_documents([Document(text=text) for text in texts])
    answer = index.as_query_engine(llm=llm_over()).query("When does the heron fish?")
    assert str(answer) == "At dawn."
    assert len(answer.source_nodes) == 3
    asked = "".join(str(turn["content"]) for turn in together.requests[0].body["messages"])
    assert all(text in asked for text in texts)


def test_events_come_in_order_and_once(llm_over, together, heard):
    """Start, progress and end of each call are reported, and no call twice."""
    together.script.say("One.", "Two.")
    llm = llm_over()
    llm.complete("1?")
    assert heard == ["LLMCompletionStartEvent", "LLMCompletionEndEvent"]
    heard.clear()
    pieces = list(llm.stream_chat(_ASKED))
    progress = ["LLMChatInProgressEvent"] * len(pieces)
    assert heard == ["LLMChatStartEvent", *progress, "LLMChatEndEvent"]


def test_tokens_are_counted_by_llama_index(llm_over, together):
    """LlamaIndex's token counter reads the true usage, streamed or not."""
    together.script.reply(*[Reply("Two.", usage=Usage(7, 2))] * 2)
    counter = TokenCountingHandler(tokenizer=str.split)
    llm = llm_over(callback_manager=CallbackManager([counter]))
    llm.chat(_ASKED)
    list(llm.stream_chat(_ASKED))
    assert counter.prompt_llm_token_count == 14
    assert counter.completion_llm_token_count == 4


def test_thoughts_are_kept_apart(llm_over, together):
    """A model's reasoning comes as thinking, not as text."""
    together.script.reply(*[Reply("Five.", reasoning="Two and three.")] * 2)
    llm = llm_over()
    whole = llm.chat(_ASKED)
    assert whole.message.blocks[0].content == "Two and three."
    assert whole.message.content == "Five."
    thoughts = [p.additional_kwargs.get("thinking_delta", "") for p in llm.stream_chat(_ASKED)]
    assert "".join(thoughts) == "Two and three."


def test_a_local_model_answers_first():
    """A ready client brings its own backends, and a local answer costs nothing."""
    said = Completion("Here.", usage=Usage(2, 1), cost=Decimal(0))
    local = FakeBackend("local", side="local", model="tiny", answers=[said])
    cloud = FakeBackend("cloud", side="cloud", model="huge")
    llm = AideonLLM(client=Client(local=local, cloud=cloud, policy="local-first"))
    answer = llm.complete("Where?")
    assert (answer.text, answer.raw["cost"]) == ("Here.", "0")
    assert answer.raw["route"]["side"] == "local"
    assert (llm.metadata.model_name, llm.policy) == ("tiny|huge", "local-first")
    assert cloud.requests == []


def test_errors_are_aideons_own(llm_over, together):
    """A refusal raises the core's error with its route, whole or streamed."""
    together.script.fail(Failure.rate_limited(), Failure.rate_limited())
    llm = llm_over()
    with pytest.raises(RateLimited) as caught:
        llm.complete("Hello?")
    assert caught.value.route.attempts
    with pytest.raises(RateLimited):
        list(llm.stream_complete("Hello?"))


def test_mistakes_are_told_by_the_constructor(tmp_path):
    """A wrong model, policy, file or parameter is an error before the first call."""
    impostor = tmp_path / "model.gguf"
    impostor.write_text("not a model")
    for fields, error in [
        ({"local": "no-such-model"}, UnknownModel),
        ({"local": str(impostor)}, NotGguf),
        ({"policy": "lokal-first"}, ConfigError),
        ({"local": None, "cloud": None}, ConfigError),
        ({"temprature": 0}, ValueError),
        ({"client": Client(), "cloud": None}, ConfigError),
    ]:
        with pytest.raises(error):
            AideonLLM(**fields)


def test_the_key_shows_nowhere():
    """A key is in no dump, no repr and no event of the LLM."""
    llm = AideonLLM(api_key="canary-key")
    shown = [repr(llm), str(llm), str(llm.to_dict()), llm.to_json(), str(llm.to_payload())]
    assert not any("canary-key" in text for text in shown)


def test_a_dump_makes_the_same_llm_again():
    """to_dict() and from_dict() keep models, policy and parameters, "no cloud" included."""
    llm = AideonLLM(cloud=None, policy="local-only", temperature=0.5, context_window=4096)
    again = AideonLLM.from_dict(llm.to_dict())
    assert (again.cloud, again.policy, again.temperature) == (None, "local-only", 0.5)
    assert again.metadata == llm.metadata
    assert again.metadata.context_window == 4096
    assert not again.metadata.is_function_calling_model


def test_blocks_go_in_openais_form():
    """Text goes as text, images as data, and what cannot be sent is refused."""
    pixels = b"\x89PNG\r\n\x1a\n and so on"
    image = ImageBlock(image=pixels, image_mimetype="image/png")
    (plain, mixed) = to_messages(
        [
            ChatMessage(role="assistant", content="Hello."),
            ChatMessage(role="user", blocks=[TextBlock(text="What is this?"), image]),
        ]
    )
    assert plain == Message("assistant", "Hello.")
    text, picture = mixed.content
    assert text == {"type": "text", "text": "What is this?"}
    head, _, data = picture["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    assert b64decode(data) == pixels
    with pytest.raises(BadRequest, match="AudioBlock"):
        to_messages([ChatMessage(role="user", blocks=[AudioBlock(audio=b"AAAA")])])


def test_a_pickle_has_the_words_and_not_the_key():
    """Sent to another process, the LLM is made anew there from its words and that key."""
    llm = AideonLLM(api_key="canary-key", temperature=0.25, policy="cloud-first")
    pickled = pickle.dumps(llm)
    assert b"canary-key" not in pickled
    copy = pickle.loads(pickled)
    assert (copy.temperature, copy.policy) == (0.25, "cloud-first")
    assert copy.metadata == llm.metadata
