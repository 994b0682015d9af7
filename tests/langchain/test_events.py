"""What ChatAideon tells while it runs: batches, events of version 2 and of version 3."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from langchain.agents import create_agent
from langchain_core import exceptions
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_tests.utils.stream_lifecycle import assert_valid_event_stream

from aideon_core import Client, Completion, Usage
from aideon_testing import Failure, Match
from langchain_aideon import ChatAideon

from .sides import SIDES, calls, local, opened, routed

# LangGraph calls its side of version 3 experimental, each time it is used.
pytestmark = pytest.mark.filterwarnings("ignore:The v3 streaming protocol on Pregel")

_ASKED = {"messages": [("user", "Weather in Oslo?")]}
_CALL = calls("weather", '{"city": "Oslo"}')
_SAID = Completion("It rains in Oslo.", usage=Usage(12, 5))
_WORDS = ["It", " rains", " in", " Oslo", "."]


@tool
def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"Rain in {city}."


@pytest.fixture(params=SIDES)
async def sides(request, together):
    """Chat models that answer from one side, or each time from another."""
    async with opened(request.param, together) as opened_sides:
        yield opened_sides


def test_a_batch_is_answered_in_order(sides):
    """Batch gives each prompt its answer in order, each with its own route."""
    chat = sides.chat(Completion("One."), Completion("Two."), Completion("Three."))
    answers = chat.batch(["1", "2", "3"], config={"max_concurrency": 1})
    assert [answer.content for answer in answers] == ["One.", "Two.", "Three."]
    assert routed(answers) == sides.answered_by(3)


async def test_a_batch_is_answered_at_once(sides):
    """Abatch asks all prompts at the same time, and each gets one answer."""
    chat = sides.chat(*[Completion(text) for text in ("One.", "Two.", "Three.")])
    answers = await chat.abatch(["1", "2", "3"])
    assert Counter(answer.content for answer in answers) == Counter(["One.", "Two.", "Three."])
    assert Counter(routed(answers)) == Counter(sides.answered_by(3))


def test_one_of_a_batch_may_fail(chat_over, together):
    """A prompt that the cloud refuses fails alone, as one of LangChain's errors."""
    together.faults.next(Failure.invalid_input(), on=Match(where=_asks("2")))
    answers = chat_over().batch(["1", "2", "3"], return_exceptions=True)
    assert [answer.content for answer in (answers[0], answers[2])] == [
        "The loopback server heard: 1",
        "The loopback server heard: 3",
    ]
    assert isinstance(answers[1], exceptions.ModelInvalidRequestError)


def _asks(text):
    return lambda request: request.body["messages"][-1]["content"] == text


async def test_answers_come_as_they_are_ready(sides):
    """Abatch_as_completed gives every answer once, with the place of its prompt."""
    chat = sides.chat(*[Completion("Noted.")] * 3)
    places = [place async for place, _ in chat.abatch_as_completed(["1", "2", "3"])]
    assert sorted(places) == [0, 1, 2]


async def test_events_of_a_chat_model(sides):
    """Version 2 tells the start, every word, and the end with the whole message."""
    chat = sides.chat(_SAID)
    events = [event async for event in chat.astream_events("Weather?", version="v2")]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "on_chat_model_start"
    assert kinds[-1] == "on_chat_model_end"
    assert set(kinds[1:-1]) == {"on_chat_model_stream"}
    said = [event["data"]["chunk"].content for event in events[1:-1]]
    assert [word for word in said if word] == _WORDS
    whole = events[-1]["data"]["output"]
    assert whole.content == "It rains in Oslo."
    assert whole.usage_metadata["total_tokens"] > 0
    assert routed([whole]) == sides.answered_by(1)


async def test_events_of_a_chain(sides):
    """The events of a chain show the prompt, the words and the parsed answer."""
    chain = ChatPromptTemplate.from_template("Weather in {city}?") | sides.chat(_SAID)
    chain |= StrOutputParser()
    events = [event async for event in chain.astream_events({"city": "Oslo"}, version="v2")]
    kinds = Counter(event["event"] for event in events)
    assert kinds["on_prompt_end"] == kinds["on_chat_model_end"] == kinds["on_parser_end"] == 1
    assert kinds["on_chat_model_stream"] >= len(_WORDS)
    assert events[-1]["data"]["output"] == "It rains in Oslo."


async def test_events_of_an_agent(sides):
    """The events of an agent show two answers, the tool between them, and every word."""
    agent = create_agent(sides.chat(_CALL, _SAID), [weather])
    events = [event async for event in agent.astream_events(_ASKED, version="v2")]
    told = ("on_chat_model_end", "on_tool_start", "on_tool_end")
    assert [event["event"] for event in events if event["event"] in told] == [
        "on_chat_model_end",
        "on_tool_start",
        "on_tool_end",
        "on_chat_model_end",
    ]
    chunks = [event["data"]["chunk"] for event in events if event["event"].endswith("model_stream")]
    assert [chunk.content for chunk in chunks if chunk.content] == _WORDS


def test_version_3_of_a_chat_model(sides):
    """Version 3 tells blocks that open, grow and close, and keeps what is known of the answer."""
    stream = sides.chat(_SAID).stream_events("Weather?", version="v3")
    events = list(stream)
    assert_valid_event_stream(events)
    grown = [each["delta"] for each in events if each["event"] == "content-block-delta"]
    assert [delta["text"] for delta in grown] == _WORDS
    assert stream.output.text == "It rains in Oslo."
    assert stream.output.usage_metadata["total_tokens"] > 0
    assert routed([stream.output]) == sides.answered_by(1)


async def test_version_3_of_a_tool_call_awaited(sides):
    """Version 3 gives a called tool's arguments whole, as values."""
    chat = sides.chat(_CALL).bind_tools([weather])
    stream = await chat.astream_events("Weather?", version="v3")
    events = [event async for event in stream]
    assert_valid_event_stream(events)
    (call,) = (await stream.output).tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Oslo"})


def test_version_3_keeps_thoughts_apart():
    """Version 3 gives the thoughts of a model as a block of their own."""
    client = Client(local=local(Completion("Rain.", reasoning="Hm.")), cloud=None)
    stream = ChatAideon(client=client).stream_events("?", version="v3")
    assert "".join(stream.reasoning) == "Hm."
    assert "".join(stream.text) == "Rain."
    assert [block["type"] for block in stream.output.content_blocks] == ["reasoning", "text"]


def test_version_3_of_an_agent(sides):
    """A version 3 run gives each message of an agent with its words, and the state it ends in."""
    agent = create_agent(sides.chat(_CALL, _SAID), [weather])
    run = agent.stream_events(_ASKED, version="v3")
    said = [(list(message.text), message.output.tool_calls) for message in run.messages]
    assert [words for words, _ in said] == [[], _WORDS]
    assert [len(tool_calls) for _, tool_calls in said] == [1, 0]
    messages = run.output["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[-1].text == "It rains in Oslo."
    assert routed(messages) == sides.answered_by(2)


async def test_version_3_of_an_agent_awaited(sides):
    """A version 3 run does the same when it is awaited."""
    agent = create_agent(sides.chat(_CALL, _SAID), [weather])
    run = await agent.astream_events(_ASKED, version="v3")
    said = [[word async for word in message.text] async for message in run.messages]
    assert said == [[], _WORDS]
    assert (await run.output())["messages"][-1].text == "It rains in Oslo."


def test_the_model_is_asked_the_same_however_a_run_is_watched(sides):
    """Invoked, streamed or by version 3: the prompt of an agent's last step is the same."""
    agent = create_agent(sides.chat(_CALL, _SAID), [weather])
    agent.invoke(_ASKED)
    invoked = sides.last_turns()
    list(create_agent(sides.chat(_CALL, _SAID), [weather]).stream(_ASKED, stream_mode="messages"))
    streamed = sides.last_turns()
    run = create_agent(sides.chat(_CALL, _SAID), [weather]).stream_events(_ASKED, version="v3")
    assert run.output["messages"]
    assert len(invoked) == 3
    assert streamed == invoked
    assert sides.last_turns() == invoked


def test_callbacks_see_every_word_and_the_usage(sides):
    """A callback handler sees the words of a stream, and LangChain's own adds the usage up."""
    words = _Words()
    usage = UsageMetadataCallbackHandler()
    chat = sides.chat(_SAID, _SAID)
    for _ in range(2):
        list(chat.stream("Weather?", config={"callbacks": [words, usage]}))
    assert [word for word in words.seen if word] == _WORDS * 2
    assert sum(each["output_tokens"] for each in usage.usage_metadata.values()) == 10


class _Words(BaseCallbackHandler):
    def __init__(self):
        self.seen = []

    def on_llm_new_token(self, token, **_):
        self.seen.append(token)


@pytest.mark.model
def test_a_real_small_model_streams_a_form_by_version_3(local_model, monkeypatch):
    """A real model that may say one of two words says one, in valid version 3 events."""
    monkeypatch.setenv("AIDEON_HOME", str(local_model._home))
    chat = ChatAideon(local=str(local_model.path), cloud=None, temperature=0, max_tokens=60)
    schema = {"type": "object", "properties": {"sky": {"enum": ["grey", "blue"]}}}
    form = {"name": "sky", "schema": schema | {"required": ["sky"]}}
    bound = chat.bind(response_format={"type": "json_schema", "json_schema": form})
    stream = bound.stream_events("Which colour has the sky?", version="v3")
    events = list(stream)
    assert_valid_event_stream(events)
    assert json.loads(stream.output.text)["sky"] in {"grey", "blue"}
    assert stream.output.usage_metadata["output_tokens"] > 0
