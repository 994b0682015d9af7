"""What the parts of an answer have to be, whatever they say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema_rs

from aideon_core.schema.partial import Partial
from aideon_core.types import Completion
from aideon_testing.conformance.promises import Broken, hold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_core.types import Json
    from aideon_testing.conformance.subject import Answer


def check_text(completion: Completion) -> None:
    """Text came, and nothing but text."""
    hold(completion.text, f"No text came: {completion!r}")
    hold(not completion.tool_calls, f"Calls came unasked: {completion.tool_calls!r}")
    hold(
        completion.finish_reason in ("stop", "length"),
        f"A text ended with finish_reason {completion.finish_reason!r}.",
    )


def check_calls(completion: Completion, tools: Sequence[Json]) -> None:
    """Every call has an id of its own, a name among the tools', and valid arguments.

    The last call of an answer that ``max_tokens`` cut off may be cut as well.
    """
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    cut = completion.finish_reason == "length"
    hold(completion.tool_calls, f"No call came: {completion!r}")
    hold(
        completion.finish_reason in ("tool_calls", "length"),
        f"Calls ended with finish_reason {completion.finish_reason!r}.",
    )
    ids = [call.id for call in completion.tool_calls]
    hold(all(ids), f"A call has no id: {ids!r}")
    hold(len(set(ids)) == len(ids), f"Calls share an id: {ids!r}")
    for at, call in enumerate(completion.tool_calls):
        hold(call.name in schemas, f"{call.name!r} is none of the tools {sorted(schemas)}.")
        if not (cut and at == len(ids) - 1):
            check_json(call.arguments, schemas[call.name], f"The arguments of {call.name}")


def check_json(text: str, schema: Json, what: str) -> Any:  # noqa: ANN401 - JSON
    """The value of a text that is valid JSON of that schema."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Broken(f"{what} are no JSON: {text!r}") from error
    wrong = [each.message for each in jsonschema_rs.validator_for(dict(schema)).iter_errors(value)]
    hold(not wrong, f"{what} do not fit the schema: {text!r}: {'; '.join(wrong)}")
    return value


def check_form(completion: Completion, schema: Json) -> None:
    """The words are JSON of that schema, or the beginning of some that ``max_tokens`` cut off."""
    if completion.finish_reason != "length":
        check_json(completion.text, schema, "The answer's words")
        return
    # A schema that may go on for ever does so with a weak model.
    begun = Partial()
    begun.feed(completion.text)
    hold(begun.error is None, f"No JSON began: {completion.text!r}: {begun.error}")
    hold(begun.value is not None, f"No JSON began: {completion.text!r}")


def check_stream(answer: Answer) -> None:
    """What a stream tells once comes on its last chunk, and its pieces join to the answer."""
    hold(answer.chunks, "The stream had no chunk.")
    last = len(answer.chunks) - 1
    for name in ("finish_reason", "usage", "cost", "route"):
        at = [i for i, chunk in enumerate(answer.chunks) if getattr(chunk, name) is not None]
        expected = [] if getattr(answer.completion, name) is None else [last]
        hold(at == expected, f"{name} came on the chunks {at} of {last + 1}, not on the last.")
    joined = Completion.from_chunks(answer.chunks)
    for name in ("text", "reasoning", "tool_calls", "finish_reason", "usage", "id", "model"):
        one, other = getattr(joined, name), getattr(answer.completion, name)
        hold(one == other, f"The chunks join to {name} {one!r}, the answer has {other!r}.")


def check_deltas(answer: Answer) -> None:
    """The first piece of a call has its id and name, the others only more arguments."""
    seen: set[int] = set()
    for delta in (each for chunk in answer.chunks for each in chunk.tool_calls):
        if delta.index in seen:
            hold(not (delta.id or delta.name), f"A call was opened twice: {delta!r}")
        else:
            hold(delta.index == len(seen), f"Calls are not numbered in order: {delta!r}")
            hold(delta.id and delta.name, f"A call opened without id and name: {delta!r}")
        seen.add(delta.index)


def check_unicode(text: str) -> None:
    """A text is whole characters: nothing was cut in the middle of one."""
    hold("\ufffd" not in text, f"A character was lost: {text!r}")
    hold(not any("\ud800" <= each <= "\udfff" for each in text), f"Half a character: {text!r}")
