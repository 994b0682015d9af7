"""Answers as LangChain's messages: content, blocks, usage, metadata; whole and in pieces."""

from __future__ import annotations

import json
import operator
from decimal import Decimal
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.block_translators import get_translator
from langchain_core.tools import tool

from aideon_core import Chunk, Completion, ToolCall, Usage
from aideon_core.types import Considered, Route, TokenLogprob, ToolCallDelta
from aideon_testing import Reply
from langchain_aideon.messages import PROVIDER, from_chunk, from_completion
from langchain_aideon.messages.carried import CarriedChunk, CarriedCompletion

ROUTE = Route("p", "r", (Considered("b", "cloud", "m"),), backend="b", side="cloud", model="m")
CALL = ToolCall("c1", "weather", '{"city": "Oslo"}')
SPOKEN = Reply("Let me see. It rains.", reasoning="They ask for the weather.", tool_calls=(CALL,))


@tool
def weather(city: str) -> str:
    """Tell the weather in a city."""
    return city


def kinds(message):
    return [block["type"] for block in message.content_blocks]


def added_up(chunks):
    return reduce(operator.add, chunks)


# Whole answers


def test_everything_about_an_answer_is_told():
    """Text, reasoning, calls, usage with details, and every fact are where LangChain looks."""
    answer = from_completion(
        Completion(
            text="It rains.",
            reasoning="Hm.",
            tool_calls=(CALL,),
            finish_reason="tool_calls",
            usage=Usage(10, 5, cached_tokens=4, reasoning_tokens=2),
            cost=Decimal("0.0000012"),
            model="m",
            id="abc",
            warnings=("No seed here.",),
            extra={"system_fingerprint": "fp"},
            route=ROUTE,
        )
    )
    assert answer.content == "It rains."
    assert answer.additional_kwargs == {"reasoning_content": "Hm."}
    assert answer.tool_calls == [
        {"name": "weather", "args": {"city": "Oslo"}, "id": "c1", "type": "tool_call"}
    ]
    assert answer.usage_metadata == {
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 15,
        "input_token_details": {"cache_read": 4},
        "output_token_details": {"reasoning": 2},
    }
    assert answer.response_metadata == {
        "model_name": "m",
        "model_provider": "aideon",
        "finish_reason": "tool_calls",
        "cost": "0.0000012",
        "route": ROUTE.as_dict(),
        "id": "abc",
        "warnings": ["No seed here."],
        "extra": {"system_fingerprint": "fp"},
    }
    json.dumps(answer.response_metadata)


def test_what_is_not_known_is_none_and_what_is_not_there_is_left_out():
    """An unknown cost is None, not 0, and there are no empty fields besides."""
    facts = from_completion(Completion(text="Hi.")).response_metadata
    assert facts["cost"] is None
    assert facts.keys() == {"model_name", "model_provider", "finish_reason", "cost", "route"}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("[1]", "not an object"),
        ('{"a": ', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("1", "not an"),
    ],
)
def test_arguments_that_are_no_object_are_an_invalid_call(arguments, problem):
    """A call that cannot be run is told as invalid, with what the model wrote and why."""
    answer = from_completion(Completion(tool_calls=(ToolCall("c1", "f", arguments),)))
    (bad,) = answer.invalid_tool_calls
    assert answer.tool_calls == []
    assert (bad["id"], bad["name"], bad["args"]) == ("c1", "f", arguments)
    assert problem in bad["error"]


def test_logprobs_have_openais_shape():
    """Each token has its logprob, its bytes and the likeliest others."""
    tokens = (TokenLogprob("é", -0.5, (("é", -0.5), ("e", -1.0))), TokenLogprob("\ufffd", -1.0))
    content = from_completion(Completion(logprobs=tokens)).response_metadata["logprobs"]["content"]
    assert content == [
        {
            "token": "é",
            "logprob": -0.5,
            "bytes": [195, 169],
            "top_logprobs": [
                {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
                {"token": "e", "logprob": -1.0, "bytes": [101]},
            ],
        },
        {"token": "\ufffd", "logprob": -1.0, "bytes": None, "top_logprobs": []},
    ]


# In pieces

ARGUMENTS = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=2)
CALLS = st.builds(
    ToolCall,
    id=st.text("abc123", min_size=1, max_size=5),
    name=st.text("fgh", min_size=1, max_size=3),
    arguments=ARGUMENTS.map(json.dumps) | st.just(""),
)
TOKENS = st.builds(
    TokenLogprob,
    token=st.text(max_size=3),
    logprob=st.floats(-9, 0),
    top=st.lists(st.tuples(st.text(max_size=2), st.floats(-9, 0)), max_size=2).map(tuple),
)
ANSWERS = st.builds(
    Completion,
    text=st.text(max_size=20),
    reasoning=st.text(max_size=20),
    tool_calls=st.lists(CALLS, max_size=3).map(tuple),
    finish_reason=st.sampled_from(["stop", "length", "tool_calls"]),
    usage=st.none() | st.builds(Usage, *[st.integers(0, 99)] * 4),
    cost=st.none() | st.decimals(0, 1, places=9),
    model=st.just("m"),
    id=st.none() | st.just("id-1"),
    logprobs=st.lists(TOKENS, max_size=4).map(tuple),
    warnings=st.lists(st.text(max_size=5), max_size=2).map(tuple),
    extra=st.dictionaries(st.sampled_from(["a", "b"]), st.integers() | st.text(max_size=3)),
    route=st.just(ROUTE),
)


def cut(draw, whole):
    """Pieces of a text, cut anywhere."""
    places = sorted(draw(st.sets(st.integers(0, len(whole)), max_size=3)))
    return [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]


@st.composite
def streams(draw):
    """An answer, and a stream of it as the core gives one."""
    answer = draw(ANSWERS)
    chunks = [Chunk(reasoning=piece) for piece in cut(draw, answer.reasoning)]
    chunks += [Chunk(text=piece) for piece in cut(draw, answer.text)]
    for index, call in enumerate(answer.tool_calls):
        first, *rest = cut(draw, call.arguments)
        deltas = [ToolCallDelta(index, call.id, call.name, first)]
        deltas += [ToolCallDelta(index, arguments=piece) for piece in rest]
        chunks += [Chunk(tool_calls=(delta,)) for delta in deltas]
    chunks += [Chunk(logprobs=piece) for piece in cut(draw, answer.logprobs)]
    last = Chunk(
        finish_reason=answer.finish_reason,
        usage=answer.usage,
        cost=answer.cost,
        model=answer.model,
        id=answer.id,
        warnings=answer.warnings,
        extra=answer.extra,
        route=answer.route,
    )
    return answer, [*chunks, last]


def comparable(message):
    return {
        name: getattr(message, name)
        for name in (
            "content",
            "additional_kwargs",
            "tool_calls",
            "invalid_tool_calls",
            "usage_metadata",
            "response_metadata",
        )
    } | {"blocks": [{k: v for k, v in b.items() if k != "index"} for b in message.content_blocks]}


@given(streams())
def test_pieces_add_up_to_the_whole_answer(stream):
    """However an answer was cut, its chunks add up to the message it would be in one piece."""
    answer, chunks = stream
    assert comparable(added_up(map(from_chunk, chunks))) == comparable(from_completion(answer))


@given(streams())
def test_what_is_told_once_is_told_last(stream):
    """Usage, names and facts are on the last chunk, which says that it is."""
    *pieces, last = map(from_chunk, stream[1])
    assert last.chunk_position == "last"
    for piece in pieces:
        assert piece.usage_metadata is None
        assert piece.chunk_position is None
        assert piece.response_metadata.keys() <= {"model_provider", "logprobs"}


# Blocks


def test_a_translator_is_registered():
    """LangChain finds ours by the provider that our messages name."""
    assert get_translator(PROVIDER) is not None


def test_blocks_of_an_answer_are_reasoning_text_and_calls():
    """A whole answer has a block for each thing it says, in the order it was said."""
    answer = from_completion(Completion(text="Hi.", reasoning="Hm.", tool_calls=(CALL,)))
    assert answer.content_blocks == [
        {"type": "reasoning", "reasoning": "Hm."},
        {"type": "text", "text": "Hi."},
        {"type": "tool_call", "id": "c1", "name": "weather", "args": {"city": "Oslo"}},
    ]
    assert from_completion(Completion()).content_blocks == []


def test_content_that_was_put_into_blocks_is_read_as_it_is():
    """A message of ours whose content someone made a list of blocks keeps them."""
    answer = from_completion(Completion(text="Hi.")).model_copy(
        update={"content": [{"type": "text", "text": "Ho."}]}
    )
    assert answer.content_blocks == [{"type": "text", "text": "Ho."}]


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_an_answer_says_the_same_in_either_form(chat_over, together, version):
    """Invoke and stream, in v0 and in v1, give the same blocks, usage and metadata."""
    together.script.reply(SPOKEN, SPOKEN)
    chat = chat_over(output_version=version).bind_tools([weather])
    whole = chat.invoke("Weather?")
    pieces = list(chat.stream("Weather?"))
    joined = added_up(pieces)
    assert kinds(whole) == kinds(joined) == ["reasoning", "text", "tool_call"]
    said = {block["type"]: block for block in joined.content_blocks}
    assert said["reasoning"]["reasoning"] == "They ask for the weather."
    assert said["text"]["text"] == "Let me see. It rains."
    assert said["tool_call"]["args"] == {"city": "Oslo"}
    assert len([piece for piece in pieces if piece.usage_metadata]) == 1
    assert joined.tool_calls == whole.tool_calls
    assert joined.usage_metadata == whole.usage_metadata
    facts = joined.response_metadata
    assert facts["model_name"] == "meta-llama/Llama-3.3-70B-Instruct-Turbo"
    assert facts["model_provider"] == "aideon"
    assert facts["finish_reason"] == "tool_calls"
    assert facts["route"]["side"] == "cloud"
    assert isinstance(joined.content, list if version == "v1" else str)


def test_tool_calls_stream_as_blocks(chat_over, together):
    """In v1, the pieces of a call are blocks of one index that no other block has."""
    together.script.reply(SPOKEN)
    chat = chat_over(output_version="v1").bind_tools([weather])
    blocks = [block for piece in chat.stream("Weather?") for block in piece.content]
    indexes = {kind: {b["index"] for b in blocks if b["type"] == kind} for kind in
               ("reasoning", "text", "tool_call_chunk")}  # fmt: skip
    assert all(len(found) == 1 for found in indexes.values())
    assert len(set.union(*indexes.values())) == 3


def test_two_calls_are_two_blocks(chat_over, together):
    """Parallel calls are not mixed, in neither form."""
    calls = (CALL, ToolCall("c2", "weather", '{"city": "Rome"}'))
    together.script.reply(Reply(tool_calls=calls), Reply(tool_calls=calls))
    for version in ("v0", "v1"):
        chat = chat_over(output_version=version).bind_tools([weather])
        joined = added_up(chat.stream("Weather?"))
        found = [block["args"] for block in joined.content_blocks if block["type"] == "tool_call"]
        assert found == [{"city": "Oslo"}, {"city": "Rome"}]


def test_an_answer_in_blocks_can_be_sent_back(chat_over, together):
    """The next turn carries a v1 answer's text and calls, and not its reasoning."""
    together.script.reply(SPOKEN)
    chat = chat_over(output_version="v1").bind_tools([weather])
    answer = chat.invoke("Weather?")
    chat.invoke([answer, ("user", "And?")])
    (sent, _) = together.requests[1].body["messages"]
    assert sent["content"] == "Let me see. It rains."
    assert [call["id"] for call in sent["tool_calls"]] == ["c1"]


def test_logprobs_come_when_asked_for(chat_over, together):
    """A stream's log probabilities join to those of the whole answer, and only when asked."""
    together.script.say("Red fox.", "Red fox.", "Red fox.")
    chat = chat_over()
    whole = chat.invoke("Name one.", logprobs=True)
    joined = added_up(chat.stream("Name one.", logprobs=True))
    tokens = [token["token"] for token in whole.response_metadata["logprobs"]["content"]]
    assert "".join(tokens).startswith("Red fox.")
    assert joined.response_metadata["logprobs"] == whole.response_metadata["logprobs"]
    assert "logprobs" not in chat.invoke("Name one.").response_metadata


def test_langchains_own_counter_counts(chat_over, together):
    """UsageMetadataCallbackHandler sees each answer once, under the model that gave it."""
    together.script.say("One.", "One.")
    chat, counter = chat_over(), UsageMetadataCallbackHandler()
    whole = chat.invoke("Count.", config={"callbacks": [counter]})
    list(chat.stream("Count.", config={"callbacks": [counter]}))
    (counted,) = counter.usage_metadata.values()
    assert counted["total_tokens"] == 2 * whole.usage_metadata["total_tokens"]


@pytest.mark.parametrize("version", ["v0", "v1"])
async def test_events_carry_the_pieces(chat_over, together, version):
    """astream_events gives every piece and ends with the whole answer."""
    together.script.reply(SPOKEN)
    chat = chat_over(output_version=version).bind_tools([weather])
    events = [event async for event in chat.astream_events("Weather?", version="v2")]
    pieces = [e["data"]["chunk"] for e in events if e["event"] == "on_chat_model_stream"]
    (end,) = [e["data"]["output"] for e in events if e["event"] == "on_chat_model_end"]
    assert kinds(end) == ["reasoning", "text", "tool_call"]
    assert added_up(pieces).content_blocks == end.content_blocks


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@pytest.mark.parametrize("version", ["v0", "v1"])
def test_events_of_the_third_kind_are_blocks(chat_over, together, version):
    """stream_events v3 tells one reasoning, one text and one tool call, then the message."""
    together.script.reply(SPOKEN)
    chat = chat_over(output_version=version).bind_tools([weather])
    stream = chat.stream_events("Weather?", version="v3")
    events = list(stream)
    ended = [e["content"]["type"] for e in events if e["event"] == "content-block-finish"]
    assert ended == ["reasoning", "text", "tool_call"]
    message = stream.output
    assert message.tool_calls[0]["args"] == {"city": "Oslo"}
    assert message.usage_metadata["output_tokens"] > 0
    assert message.response_metadata["model_name"] == "meta-llama/Llama-3.3-70B-Instruct-Turbo"


# Answers of LangChain's other models


THEIRS = AIMessage(
    [{"type": "text", "text": "Hi."}],
    id="msg_1",
    response_metadata={"model_provider": "openai", "model_name": "gpt", "stop": "x"},
    usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
)


def test_another_models_answer_is_its_own_message():
    """It keeps its content, id, usage and provider, and gains the route and the cost."""
    carried = CarriedCompletion(
        text="Hi.", model="alias", finish_reason="stop", route=ROUTE, original=THEIRS
    )
    answer = from_completion(carried)
    assert (answer.content, answer.id, answer.usage_metadata) == (
        THEIRS.content,
        "msg_1",
        THEIRS.usage_metadata,
    )
    assert answer.response_metadata == {
        "model_provider": "openai",
        "model_name": "gpt",
        "stop": "x",
        "finish_reason": "stop",
        "cost": None,
        "route": ROUTE.as_dict(),
    }
    assert "route" not in THEIRS.response_metadata


def test_another_models_answer_takes_what_it_lacks_from_us():
    """Without a name, a usage or an id of its own it has those we know, and no run's id."""
    bare = AIMessage("Hi.", id="lc_run-1")
    carried = CarriedCompletion(
        text="Hi.", model="alias", usage=Usage(1, 2), route=ROUTE, original=bare
    )
    answer = from_completion(carried)
    assert answer.id is None
    assert answer.response_metadata["model_name"] == "alias"
    assert "model_provider" not in answer.response_metadata
    assert answer.usage_metadata["total_tokens"] == 3


def test_another_models_stream_is_its_own_chunks():
    """Its pieces come as they are, and the last chunk adds what it told of the whole."""
    piece = AIMessageChunk("Hi.", response_metadata={"model_provider": "openai"})
    chunks = [
        CarriedChunk(text="Hi.", original=piece),
        Chunk(
            finish_reason="stop",
            usage=Usage(1, 2),
            model="alias",
            route=ROUTE,
            extra={
                "usage_metadata": THEIRS.usage_metadata,
                "response_metadata": {"model_name": "gpt", "model_provider": "openai"},
            },
        ),
    ]
    first, last = map(from_chunk, chunks)
    assert first is piece
    whole = first + last
    assert whole.usage_metadata == THEIRS.usage_metadata
    assert whole.response_metadata == {
        "model_provider": "openai",
        "model_name": "gpt",
        "cost": None,
        "route": ROUTE.as_dict(),
    }
    assert whole.chunk_position == "last"
