"""Function calling: every choice, whole and streamed, one call or several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aideon_core import tool
from aideon_core.errors import ToolLoopExceeded
from aideon_core.types import Message
from aideon_testing.conformance import samples
from aideon_testing.conformance.forms import check_calls, check_deltas, check_stream, check_text
from aideon_testing.conformance.promises import hold, promise
from aideon_testing.conformance.subject import HOWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_core.types import Completion, Json, ToolCall
    from aideon_testing.conformance.subject import Answer, Subject

_PROMPT: Final = "What is the weather in Oslo and in Rome, in celsius? Use the tools."
_PARALLEL: Final = ("parallel", "single")
_SHAPES: Final = {
    "nested": (samples.ORDER, "Order two small lamps to Main Street, 1234."),
    "array": (samples.TAGS, "Set the tags red and blue."),
    "enum": (samples.WEATHER, "What is the weather in Oslo?"),
    "no-arguments": (samples.CLOCK, "What time is it?"),
}


class ToolBodies:
    """Calls whose arguments are always valid, however they were chosen."""

    @promise("tools", how=HOWS, parallel=_PARALLEL)
    def test_auto(self, subject: Subject, how: str, parallel: str) -> None:
        """With "auto", either text comes or sound calls do."""
        completion = _asked(subject, how, parallel, "auto").completion
        _check_free(completion, samples.TWO)

    @promise(how=HOWS, parallel=_PARALLEL)
    def test_none(self, subject: Subject, how: str, parallel: str) -> None:
        """With "none", text comes and no call does."""
        check_text(_asked(subject, how, parallel, "none").completion)

    @promise("tools", "tool_choice", how=HOWS, parallel=_PARALLEL)
    def test_required(self, subject: Subject, how: str, parallel: str) -> None:
        """With "required", at least one call comes."""
        check_calls(_asked(subject, how, parallel, "required").completion, samples.TWO)

    @promise("tools", "tool_choice", how=HOWS, parallel=_PARALLEL)
    def test_named(self, subject: Subject, how: str, parallel: str) -> None:
        """With a named tool, exactly that tool is called."""
        choice = samples.named(samples.POPULATION)
        completion = _asked(subject, how, parallel, choice).completion
        check_calls(completion, samples.TWO)
        names = {call.name for call in completion.tool_calls}
        hold(names == {"get_population"}, f"get_population was due and {names} came.")

    @promise("tools", "tool_choice")
    def test_calls_are_streamed_in_deltas(self, subject: Subject) -> None:
        """A call opens with its index, id and name, and goes on with nothing but arguments."""
        answer = _asked(subject, "streamed", "parallel", "required")
        check_stream(answer)
        check_deltas(answer)

    @promise("tools", "tool_choice", shape=tuple(_SHAPES), how=HOWS)
    def test_arguments_fit(self, subject: Subject, shape: str, how: str) -> None:
        """Arguments fit their schema: nested, with arrays, with enums, with nothing in it."""
        wanted, prompt = _SHAPES[shape]
        choice = samples.named(wanted)
        answer = subject.ask(prompt, how, tools=[wanted], tool_choice=choice)
        check_calls(answer.completion, [wanted])

    @promise("tools", "tool_choice")
    def test_many_tools(self, subject: Subject) -> None:
        """A dozen tools can be offered at once."""
        prompt = "Look up the invoice number 12."
        answer = subject.ask(prompt, tools=samples.MANY, tool_choice="required")
        check_calls(answer.completion, samples.MANY)

    @promise("tools")
    def test_a_tool_with_unicode(self, subject: Subject) -> None:
        """Descriptions and enums in other scripts are taken, and arguments stay valid."""
        city = {"type": "string", "enum": ["Ærøskøbing", "東京", "🦔"]}
        odd = {
            "type": "function",
            "function": {
                "name": "besuche",
                "description": "Besuche eine Stadt «Grüße».",
                "parameters": {"type": "object", "properties": {"stadt": city}},
            },
        }
        answer = subject.ask("Besuche 東京.", tools=[odd], tool_choice="auto").completion
        _check_free(answer, [odd])

    @promise("tools", "tool_choice", how=HOWS)
    def test_results_are_told_back(self, subject: Subject, how: str) -> None:
        """A call and its result go back as messages, and an answer comes."""
        asked = subject.ask(_PROMPT, tools=samples.TWO, tool_choice="required").completion
        check_calls(asked, samples.TWO)
        turns = [
            Message("user", _PROMPT),
            Message("assistant", asked.text, tool_calls=_whole(asked)),
            *(Message("tool", "17", tool_call_id=call.id) for call in _whole(asked)),
        ]
        params: dict[str, Any] = {"tools": samples.TWO, "tool_choice": "none", "max_tokens": 40}
        check_text(subject.ask(turns, how, **params).completion)
        _check_free(subject.ask(turns, how, tools=samples.TWO).completion, samples.TWO)

    @promise("tools")
    def test_a_conversation_with_results_needs_no_tools(self, subject: Subject) -> None:
        """Calls and results of earlier turns are read where no tools are offered any more."""
        turns: list[Json] = [
            {"role": "user", "content": "What time is it?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "get_time", "arguments": "{}"},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "Noon."},
            {"role": "user", "content": "Thank you. And in one hour?"},
        ]
        # What is offered, not what was said, makes it a request with tools.
        subject.ask(turns[:1], tools=[samples.CLOCK], max_tokens=20)
        check_text(subject.ask(turns).completion)

    @promise("tools")
    def test_run_tools(self, subject: Subject) -> None:
        """Functions are called, told of and answered from, until there is an answer."""

        @tool
        def double(number: int) -> int:
            """Twice a number."""
            return 2 * number

        params: dict[str, Any] = {"temperature": 0.0, "max_tokens": 100}
        try:
            run = subject.client.run_tools("Double 21.", tools=[double], max_rounds=3, **params)
        except ToolLoopExceeded as error:
            turns = error.run.messages if error.run else ()
        else:
            turns = run.messages
        told = {turn.tool_call_id for turn in turns if turn.role == "tool"}
        asked = {call.id for turn in turns for call in turn.tool_calls}
        hold(told <= asked, f"Results for {told - asked} were told, and nobody asked for them.")

    @promise("tools", "tool_choice")
    def test_calls_of_async_clients(self, subject: Subject) -> None:
        """Awaiting clients get the same calls, whole and streamed."""
        for how in HOWS:
            params: dict[str, Any] = {"tools": samples.TWO, "tool_choice": "required"}
            answer = subject.ask_awaiting(_PROMPT, how, **params)
            check_calls(answer.completion, samples.TWO)


def _asked(subject: Subject, how: str, parallel: str, choice: str | Json) -> Answer:
    params: dict[str, Any] = {"tools": samples.TWO, "tool_choice": choice}
    if choice == "none":
        params["max_tokens"] = 40
    if parallel == "single":
        params["parallel_tool_calls"] = False
        if choice != "none":
            subject.needs("parallel_tool_calls")
    answer = subject.ask(_PROMPT, how, **params)
    calls = answer.completion.tool_calls
    hold(parallel == "parallel" or len(calls) <= 1, f"{len(calls)} calls came at once: {calls!r}")
    return answer


def _check_free(completion: Completion, tools: Sequence[Json]) -> None:
    if completion.tool_calls:
        check_calls(completion, tools)
    else:
        check_text(completion)


def _whole(completion: Completion) -> tuple[ToolCall, ...]:
    """The calls that nothing cut off; the first one, where a limit did."""
    return completion.tool_calls[: 1 if completion.finish_reason == "length" else None]
