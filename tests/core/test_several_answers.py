"""Several answers to one request: whole or streamed they are the same, and none costs another."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideon_core import AsyncClient, Client, Completion, TogetherBackend
from aideon_core.backends import wire
from aideon_core.backends.call_guard import CallGuard
from aideon_core.errors import InvalidOutput, ServerError, StreamInterrupted
from aideon_core.request import build
from aideon_core.types import Chunk, ToolCall, ToolCallDelta, Usage
from aideon_testing import FakeBackend, LoopbackTogether, Reply
from aideon_testing.fakes import Cut

MODEL = "openai/gpt-oss-20b"
PRICED = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
CORRUPT = "deepseek-ai/DeepSeek-V4-Pro"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
REPLIES = (
    Reply("one two", reasoning="Hm."),
    Reply("three", reasoning="Hm, hm."),
    Reply("four five six"),
)


@dataclass
class Person:
    name: str


def said(completion):
    """What each answer says and how it ended."""
    return [
        (each.text, each.reasoning, each.tool_calls, each.finish_reason, each.logprobs)
        for each in (completion, *completion.alternatives)
    ]


def client_of(kind, server, model=MODEL):
    backend = TogetherBackend(model, api_key="k", base_url=server.base_url)
    return kind(local=None, cloud=backend, max_retries=0)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("model", [MODEL, "Qwen/Qwen3-Next-80B-A3B-Thinking", "acme/unheard-of"])
async def test_whole_and_streamed_answers_are_the_same(kind, model):
    """Several answers say all they say in one piece and in pieces alike, from any engine."""
    with LoopbackTogether(models=[model]) as server:
        server.script.reply(*REPLIES, *REPLIES)
        client = client_of(kind, server, model)
        if kind is Client:
            whole = client.chat("Count.", n=3)
            stream = client.stream("Count.", n=3)
            chunks = list(stream)
            client.close()
        else:
            whole = await client.chat("Count.", n=3)
            stream = client.stream("Count.", n=3)
            chunks = [chunk async for chunk in stream]
            await client.close()
        assert [request.body["n"] for request in server.requests] == [3, 3]
    assert [each.text for each in (whole, *whole.alternatives)] == [r.text for r in REPLIES]
    assert said(stream.completion) == said(whole)
    assert stream.completion.usage.total_tokens == whole.usage.total_tokens
    assert Completion.from_chunks(chunks) == stream.completion


def test_usage_and_cost_are_of_all_together(together):
    """What n answers cost is told once, on the first of them."""
    together.script.reply(*REPLIES)
    with client_of(Client, together, PRICED) as client:
        several = client.chat("Count.", n=3)
        together.script.reply(REPLIES[0])
        alone = client.chat("Count.")
    assert several.usage.output_tokens > alone.usage.output_tokens
    assert several.usage.input_tokens == alone.usage.input_tokens
    assert several.cost > alone.cost
    assert [(each.usage, each.cost) for each in several.alternatives] == [(None, None)] * 2


def frames_of(index, text, reasoning, calls):
    """One answer as the frames of a server that sends inline thinking."""
    pieces = [{"content": part} for part in ("<think>", reasoning, "</think>", *text)]
    for number, (name, arguments) in enumerate(calls):
        function = {"name": name, "arguments": json.dumps(arguments)}
        pieces.append({"tool_calls": [{"index": number, "id": name, "function": function}]})
    choices = [{"index": index, "delta": delta} for delta in pieces]
    return [*choices, {"index": index, "delta": {}, "finish_reason": "length"}]


ANSWERS = st.lists(
    st.tuples(
        st.text("ab <\n", min_size=1),
        st.text("cd", min_size=1),
        st.lists(st.tuples(st.sampled_from("fg"), st.dictionaries(st.just("x"), st.integers()))),
    ),
    min_size=1,
    max_size=4,
)


@given(answers=ANSWERS, data=st.data())
def test_however_frames_mix_each_answer_is_whole(answers, data):
    """Frames of several answers in any order, alone or together, never mix what they say."""
    left = [frames_of(index, *answer) for index, answer in enumerate(answers)]
    alone = [
        folded([[choice | {"index": 0}] for choice in choices], build("Hi")) for choices in left
    ]
    frames = []
    while any(left):
        ready = [choices for choices in left if choices]
        chosen = data.draw(st.lists(st.sampled_from(range(len(ready))), min_size=1, unique=True))
        frames.append([ready[at].pop(0) for at in chosen])
    mixed = folded(frames, build("Hi", n=len(answers)))
    assert said(mixed) == [said(each)[0] for each in alone]


def folded(frames, request):
    reader = wire.AnswersReader("m", request)
    chunks = [c for choices in frames for c in reader.read(json.dumps({"choices": choices}))]
    assert reader.finished
    return Completion.from_chunks([*chunks, *reader.read("[DONE]"), *reader.close()])


@given(st.permutations([0, 1, 2]), st.sampled_from([None, 1, 2, 3]))
def test_whole_answers_are_told_apart_by_their_index(order, n):
    """Choices are answers by their index, wherever they stand, and those not asked for are none."""
    choices = [{"index": index, "message": {"content": f"{index}"}} for index in order]
    answer = wire.completion_of({"choices": choices}, request=build("Hi", n=n))
    texts = [each.text for each in (answer, *answer.alternatives)]
    assert texts == ["0", "1", "2"][: n or 1]


def test_a_stream_is_not_over_before_all_that_began(together):
    """The end of the first answer is not the end of the others."""
    reader = wire.AnswersReader("m", build("Hi", n=2))
    reader.read('{"choices": [{"index": 1, "delta": {"content": "x"}}]}')
    reader.read('{"choices": [{"index": 0, "delta": {"content": "y"}, "finish_reason": "stop"}]}')
    assert not reader.finished
    reader.read('{"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]}')
    assert reader.finished


def test_a_stream_that_breaks_in_an_alternative_is_broken():
    """Answers cut off are StreamInterrupted, with what was whole in its partial."""
    whole = Completion(text="a", alternatives=(Completion(text="b c d"),))
    far = FakeBackend("far", side="cloud", answers=[Cut(whole, after=3)])
    with Client(local=None, cloud=far) as client, pytest.raises(StreamInterrupted) as raised:
        list(client.stream("Hi", n=2))
    assert raised.value.partial.alternatives[0].text.startswith("b")


@pytest.mark.parametrize("stream", [False, True])
def test_answers_that_did_not_come_are_told(stream):
    """A backend that gives fewer answers than asked for is warned of, and its answers count."""
    far = FakeBackend("far", side="cloud", answers=[Completion(text="a")])
    with Client(local=None, cloud=far) as client:
        if stream:
            answer = Completion.from_chunks(client.stream("Hi", n=3))
        else:
            answer = client.chat("Hi", n=3)
    assert answer.text == "a"
    assert answer.warnings == ("3 answers were asked for, and 1 came.",)


def test_one_choice_that_failed_is_missing_and_no_more():
    """An error in one of several whole answers leaves the others."""
    choices = [
        {"index": 0, "message": {"content": "a"}},
        {"index": 1, "error": "boom", "finish_reason": "error", "message": {"content": ""}},
        {"index": 2, "message": {"content": "c"}},
    ]
    answer = wire.completion_of({"choices": choices}, request=build("Hi", n=3))
    assert [each.text for each in (answer, *answer.alternatives)] == ["a", "c"]


GOOD, OTHER, BAD = '{"name": "Ada"}', '{"name": "Eve"}', "I would rather not."


@pytest.mark.parametrize("stream", [False, True])
def test_every_answer_is_read(stream):
    """Each answer has its value; one that cannot be read has none, and a warning says so."""
    answers = [Completion(text=GOOD, alternatives=(Completion(text=OTHER), Completion(text=BAD)))]
    far = FakeBackend("far", side="cloud", answers=answers)
    with Client(local=None, cloud=far) as client:
        if stream:
            opened = client.stream("Who?", n=3, output_type=Person)
            warned = list(opened)[-1].warnings
            answer = opened.completion
            assert opened.value == {"name": "Ada"}
        else:
            answer = client.chat("Who?", n=3, output_type=Person)
            warned = answer.warnings
    assert answer.value == Person("Ada")
    assert [each.value for each in answer.alternatives] == [Person("Eve"), None]
    assert len(warned) == 1
    assert warned[0].startswith("Answer 3 has no value.")


def test_a_first_answer_is_repaired_alone():
    """When the first answer cannot be read, it alone is asked for again; the others stay."""
    wrong = Completion(text=BAD, usage=Usage(5, 5), alternatives=(Completion(text=OTHER),))
    right = Completion(text=GOOD, usage=Usage(9, 2))
    far = FakeBackend("far", side="cloud", answers=[wrong, right])
    with Client(local=None, cloud=far) as client:
        answer = client.chat("Who?", n=2, output_type=Person)
    assert [each.value for each in (answer, *answer.alternatives)] == [Person("Ada"), Person("Eve")]
    assert answer.usage == Usage(14, 7)
    assert [request.n for request in far.requests] == [2, None]


def test_an_unreadable_first_answer_keeps_the_others():
    """Where repair does not help either, the error has every answer."""
    wrong = Completion(text=BAD, alternatives=(Completion(text=OTHER),))
    far = FakeBackend("far", side="cloud", answers=[wrong, Completion(text=BAD)])
    with Client(local=None, cloud=far) as client, pytest.raises(InvalidOutput) as raised:
        client.chat("Who?", n=2, output_type=Person)
    assert raised.value.completion.alternatives[0].text == OTHER


def called(index, number, arguments, name=""):
    delta = ToolCallDelta(number, f"id{number}" if name else "", name, arguments)
    return Chunk(tool_calls=(delta,), index=index)


def test_corrupt_calls_are_mended_in_the_answer_they_are_in():
    """Of two answers the one with corrupt calls takes them from a whole one, the other stays."""
    guard = CallGuard(build("Now?", tools=[TOOL], n=3), holds=True)
    chunks = [
        Chunk(text="Fine.", index=2),
        Chunk(finish_reason="stop", index=2),
        called(0, 0, '{"n": 0}', "f"),
        called(1, 0, '{"n": ', "f"),
        Chunk(finish_reason="tool_calls", index=1),
        Chunk(finish_reason="tool_calls", usage=Usage(3, 3)),
    ]
    shown = [passed for chunk in chunks for passed in guard.passed(chunk)]
    assert shown == chunks[:2]
    assert guard.asks_again
    calls = [ToolCall("a", "f", json.dumps({"n": number})) for number in (7, 8)]
    first, second = (Completion(tool_calls=(call,), finish_reason="tool_calls") for call in calls)
    again = replace(first, usage=Usage(3, 4), alternatives=(second,))
    answer = Completion.from_chunks([*shown, *guard.mended(again)])
    assert [json.loads(each.arguments)["n"] for each in answer.tool_calls] == [0]
    assert answer.alternatives[0].tool_calls == second.tool_calls
    assert [each.finish_reason for each in answer.alternatives] == ["tool_calls", "stop"]
    assert answer.alternatives[1].text == "Fine."
    assert answer.usage == Usage(6, 7)
    with pytest.raises(ServerError, match="had none"):
        list(guard.mended(first))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_model_known_for_it_streams_several_sound_calls(together, kind):
    """Streams of n answers that are corrupt on the wire are sound at the caller."""
    for number in (1, 2, 1, 2):
        together.script.call("f", number=number)
    client = client_of(kind, together, CORRUPT)
    if kind is Client:
        answer = Completion.from_chunks(client.stream("Now?", tools=[TOOL], n=2))
        client.close()
    else:
        chunks = [chunk async for chunk in client.stream("Now?", tools=[TOOL], n=2)]
        answer = Completion.from_chunks(chunks)
        await client.close()
    calls = [call for each in (answer, *answer.alternatives) for call in each.tool_calls]
    assert [json.loads(call.arguments) for call in calls] == [{"number": 1}, {"number": 2}]


@pytest.mark.parametrize("abilities", [{"tools", "json"}, {"tools", "json", "json_with_tools"}])
def test_a_form_goes_along_with_tools_where_both_can_be(abilities):
    """A form beside tools is sent to a backend that leaves the model the choice, to no other."""
    answers = [Completion(text=GOOD)]
    far = FakeBackend("far", side="cloud", answers=answers, abilities=frozenset(abilities))
    with Client(local=None, cloud=far) as client:
        assert client.chat("Who?", output_type=Person, tools=[TOOL]).value == Person("Ada")
    assert (far.requests[0].response_format is not None) == ("json_with_tools" in abilities)
