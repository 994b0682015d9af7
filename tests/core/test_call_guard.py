"""Tool calls that a stream corrupts never reach the caller as they are."""

from __future__ import annotations

import json

import pytest

from aideon_core import AsyncClient, Client, Completion, TogetherBackend
from aideon_core.backends.call_guard import CallGuard
from aideon_core.errors import ServerError, StreamInterrupted
from aideon_core.types import Chunk, Request, ToolCall, ToolCallDelta, Usage
from aideon_testing import LoopbackTogether
from aideon_testing.engines import dialect_of

CORRUPT = "deepseek-ai/DeepSeek-V4-Pro"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
ASKED = Request((), tools=(TOOL,))


def call(index, arguments, name=""):
    return Chunk(tool_calls=(ToolCallDelta(index, f"id{index}" if name else "", name, arguments),))


SOUND = [Chunk(text="Let me see."), call(0, "", "f"), call(0, '{"n": 1}')]
CUT = [*SOUND, call(1, "", "f"), call(1, '{"n": ')]
END = Chunk(finish_reason="tool_calls", usage=Usage(10, 5))


def through(guard, chunks):
    return [passed for chunk in chunks for passed in guard.passed(chunk)]


def test_sound_calls_pass_as_they_come():
    """A stream whose calls are whole is passed on piece by piece."""
    guard = CallGuard(ASKED, holds=False)
    assert through(guard, [*SOUND, END]) == [*SOUND, END]
    assert not guard.saw_corrupt_calls


def test_corrupt_calls_end_the_stream_with_an_error():
    """A call that is cut off is an error before the end is told, and is remembered."""
    guard = CallGuard(ASKED, holds=False)
    through(guard, CUT)
    with pytest.raises(ServerError, match=r"not whole.*'\{\"n\": '"):
        through(guard, [END])
    assert guard.saw_corrupt_calls


def test_an_answer_that_ran_into_its_limit_is_not_corrupt():
    """max_tokens may cut a call off; that is no fault of the server."""
    guard = CallGuard(ASKED, holds=False)
    chunks = [*CUT, Chunk(finish_reason="length")]
    assert through(guard, chunks) == chunks


def test_calls_held_back_pass_when_they_are_whole():
    """A model known for corrupt calls gives text at once and its calls at the end."""
    guard = CallGuard(ASKED, holds=True)
    assert through(guard, [*SOUND, END]) == SOUND[:1]
    assert not guard.asks_again
    assert guard.sound == [*SOUND[1:], END]


def test_calls_held_back_are_replaced_when_they_are_not():
    """Corrupt calls give way to those of a whole answer, and both answers are billed."""
    guard = CallGuard(ASKED, holds=True)
    shown = through(guard, [*CUT, END])
    assert guard.asks_again
    again = Completion(
        tool_calls=(ToolCall("a", "f", '{"n": 1}'),), finish_reason="tool_calls", usage=Usage(10, 3)
    )
    answer = Completion.from_chunks([*shown, *guard.mended(again)])
    assert answer.text == "Let me see."
    assert answer.tool_calls == again.tool_calls
    assert answer.usage == Usage(20, 8)


def test_prose_never_takes_the_place_of_a_call():
    """When the whole answer calls nothing, that is an error and not a text in its place."""
    guard = CallGuard(ASKED, holds=True)
    through(guard, [*CUT, END])
    with pytest.raises(ServerError, match="had none"):
        list(guard.mended(Completion(text="It is sunny.", finish_reason="stop")))


def test_without_tools_nothing_is_looked_at():
    """A request without tools passes whatever comes."""
    guard = CallGuard(Request(()), holds=True)
    assert through(guard, [*CUT, END]) == [*CUT, END]


async def collected(kind, server, model, **words):
    backend = TogetherBackend(model, api_key="k", base_url=server.base_url)
    client = kind(local=None, cloud=backend, max_retries=0)
    if kind is Client:
        with client:
            return Completion.from_chunks(client.stream("Root of 132413?", tools=[TOOL]))
    chunks = [chunk async for chunk in client.stream("Root of 132413?", tools=[TOOL])]
    await client.close()
    return Completion.from_chunks(chunks)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_model_known_for_it_streams_sound_calls(together, kind):
    """DeepSeek-V4-Pro's streams are corrupt on the wire and sound at the caller."""
    for _ in range(2):
        together.script.call("f", number=132413)
    answer = await collected(kind, together, CORRUPT)
    assert [json.loads(each.arguments) for each in answer.tool_calls] == [{"number": 132413}]
    assert answer.finish_reason == "tool_calls"
    assert [request.body.get("stream", False) for request in together.requests] == [True, False]


def test_an_unknown_model_is_learned():
    """The first corrupt stream of a model is an error, the next one is mended."""
    other = "acme/other-model"
    with LoopbackTogether(models=[other], dialects={other: dialect_of(CORRUPT)}) as server:
        backend = TogetherBackend(other, api_key="k", base_url=server.base_url)
        with Client(local=None, cloud=backend, max_retries=0) as client:
            for _ in range(3):
                server.script.call("f", number=1)
            with pytest.raises(StreamInterrupted) as raised:
                list(client.stream("Now?", tools=[TOOL]))
            answer = Completion.from_chunks(client.stream("Now?", tools=[TOOL]))
    assert isinstance(raised.value.__cause__, ServerError)
    assert [json.loads(each.arguments) for each in answer.tool_calls] == [{"number": 1}]
