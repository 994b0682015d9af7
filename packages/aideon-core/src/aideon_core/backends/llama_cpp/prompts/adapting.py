"""Conversations in the form that a chat template takes.

Templates differ in what they show and what they refuse: some know no system turn, some want
user and assistant to take turns strictly, some drop tool calls or want their ids to be nine
letters. What one supports is found out by trying it on small conversations, and what it does
not support is said by means of what it does. Nothing else is changed, and no text is lost.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from aideon_core.backends.llama_cpp.prompts.formats import described, result_told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aideon_core.backends.llama_cpp.prompts.formats import CallFormat
    from aideon_core.types import Json, Message, Role


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call: its arguments as ``text``, and the ``value`` of that, None if it has none."""

    id: str
    name: str
    text: str
    value: Any


@dataclass(frozen=True, slots=True)
class Turn:
    """A message, its content as text."""

    role: Role
    content: str = ""
    name: str | None = None
    calls: tuple[Call, ...] = ()
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class CallStyle:
    """How a template takes the calls of an assistant turn.

    Attributes:
        as_text: it wants arguments as JSON text, not as the value of that.
        null: it wants a turn without text to have no content, not an empty one.
        short_ids: it takes ids of nine letters and digits alone.
        with_text: it shows the text of the turn too.
        several: it takes more than one in a turn.
    """

    as_text: bool = False
    null: bool = False
    short_ids: bool = False
    with_text: bool = True
    several: bool = True


@dataclass(frozen=True, slots=True)
class Support:
    """What a template shows of a conversation; the defaults are the least that is thinkable.

    Attributes:
        tools: the tools it is given.
        parts: content as a list of parts, and as nothing else.
        system: a system turn at the beginning.
        later_system: a system turn elsewhere.
        assistant_first: an assistant turn that nothing comes before.
        repeats: roles that may have two turns in a row.
        calls: calls and their results; None where it does not.
        results: results even so.
    """

    tools: bool = False
    parts: bool = False
    system: bool = False
    later_system: bool = False
    assistant_first: bool = False
    repeats: frozenset[Role] = frozenset()
    calls: CallStyle | None = None
    results: bool = False


# What an assistant answers who speaks first.
_GREETING: Final = Turn("user", "Hello.")
_NINE: Final = re.compile(r"[a-zA-Z0-9]{9}")


def turns_of(messages: Sequence[Message], say: Callable[[str], str] = str) -> list[Turn]:
    """Messages as turns: every call has an id, and every result the id and name of its call.

    Args:
        messages: the conversation.
        say: puts what a message says into the form for the template.
    """
    turns: list[Turn] = []
    waiting: dict[str, str] = {}
    count = 0
    for message in messages:
        calls: list[Call] = []
        for call in message.tool_calls:
            written = call.arguments if call.arguments.strip() else "{}"
            call_id = say(call.id) or f"call_{count}"
            calls.append(Call(call_id, say(call.name), say(written), _value(written, say)))
            count += 1
        if calls:
            waiting = {call.id: call.name for call in calls}
        result_of, name = (each and say(each) for each in (message.tool_call_id, message.name))
        if message.role == "tool":
            result_of = result_of or next(iter(waiting), None)
            name = name or waiting.get(result_of or "")
            waiting.pop(result_of or "", None)
        turns.append(Turn(message.role, say(message.text), name, tuple(calls), result_of))
    return turns


def said(turns: Sequence[Turn]) -> Iterator[Any]:
    """All that is said in the turns, as texts and JSON values."""
    for turn in turns:
        yield from (turn.content, turn.name, turn.call_id)
        for call in turn.calls:
            yield from (call.id, call.name, call.text, call.value)


def _value(text: str, say: Callable[[str], str]) -> Any:  # noqa: ANN401 - any JSON value
    try:
        value = json.loads(text)
        # Half a character can be escaped, and in a prompt nothing is.
        json.dumps(value, ensure_ascii=False).encode()
        return _said(value, say)
    except (ValueError, RecursionError):
        return None


def _said(value: Any, say: Callable[[str], str]) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return say(value)
    if isinstance(value, list):
        return [_said(each, say) for each in value]
    if isinstance(value, dict):
        return {say(name): _said(each, say) for name, each in value.items()}
    return value


def adapted(
    turns: Sequence[Turn], support: Support, call_format: CallFormat, tools: Sequence[Json] = ()
) -> list[Turn]:
    """The conversation by means of what a template supports.

    Args:
        turns: the conversation.
        support: what the template supports.
        call_format: how calls are written where the template does not write them.
        tools: what the model can call; described to it where the template does not.
    """
    if tools and not support.tools:
        turns = _with_system(turns, described(tools, call_format))
    if support.calls:
        turns = list(_called(turns, support.calls))
    else:
        turns = [_told(turn, call_format) for turn in turns]
        turns = turns if support.results else list(_results_told(turns))
    turns = list(_as_user(turns, support))
    first = next((turn.role for turn in turns if turn.role != "system"), "user")
    if first == "assistant" and not support.assistant_first:
        at = next(at for at, turn in enumerate(turns) if turn.role == first)
        turns.insert(at, _GREETING)
    return _joined(turns, support.repeats)


def _with_system(turns: Sequence[Turn], text: str) -> list[Turn]:
    if turns and turns[0].role == "system":
        return [_join(turns[0], Turn("system", text)), *turns[1:]]
    return [Turn("system", text), *turns]


def _called(turns: Sequence[Turn], style: CallStyle) -> Iterator[Turn]:
    """Calls and results for a template that takes them, in its style."""
    rest = list(turns)
    while rest:
        turn = rest.pop(0)
        if turn.calls and turn.content and not style.with_text:
            yield replace(turn, calls=())
            turn = replace(turn, content="")
        if len(turn.calls) < 2 or style.several:  # noqa: PLR2004 - several
            yield turn
            continue
        # One after the other, each with its results.
        for call in turn.calls:
            yield replace(turn, content=turn.content, calls=(call,))
            turn = replace(turn, content="")
            while (at := _answer_to(call, rest)) is not None:
                yield rest.pop(at)


def _answer_to(call: Call, turns: Sequence[Turn]) -> int | None:
    for at, turn in enumerate(turns):
        if turn.role != "tool":
            return None
        if turn.call_id == call.id:
            return at
    return None


def _told(turn: Turn, call_format: CallFormat) -> Turn:
    """A turn with its calls as text."""
    if not turn.calls:
        return turn
    written = call_format.written((call.name, call.text) for call in turn.calls)
    content = f"{turn.content}\n{written}" if turn.content else written
    return replace(turn, content=content, calls=())


def _results_told(turns: Sequence[Turn]) -> Iterator[Turn]:
    """Results as text, those in a row as one user turn."""
    for of_tool, group in groupby(turns, lambda turn: turn.role == "tool"):
        if of_tool:
            results = (result_told(turn.content, turn.name) for turn in group)
            yield Turn("user", "\n".join(results))
        else:
            yield from group


def _as_user(turns: Sequence[Turn], support: Support) -> Iterator[Turn]:
    """System turns that the template does not know, at the head of the user turn after them."""
    told: Turn | None = None
    head = True
    for turn in turns:
        head = head and turn.role == "system"
        if turn.role == "system" and not (support.system if head else support.later_system):
            told = _join(told, replace(turn, role="user"))
        elif told is not None and turn.role == "user":
            yield _join(told, turn)
            told = None
        else:
            if told is not None:
                yield told
            told = None
            yield turn
    if told is not None:
        yield told


def _joined(turns: Sequence[Turn], repeats: frozenset[Role]) -> list[Turn]:
    joined: list[Turn] = []
    for turn in turns:
        same = joined and joined[-1].role == turn.role and turn.role != "tool"
        if same and turn.role not in repeats:
            joined[-1] = _join(joined[-1], turn)
        else:
            joined.append(turn)
    return joined


def _join(first: Turn | None, second: Turn) -> Turn:
    if first is None:
        return second
    content = "\n\n".join(text for text in (first.content, second.content) if text)
    return replace(
        second, content=content, name=second.name or first.name, calls=first.calls + second.calls
    )


def values(turns: Sequence[Turn], support: Support) -> list[dict[str, Any]]:
    """The turns as a template gets them."""
    return [_turn(turn, support, support.calls or CallStyle()) for turn in turns]


def _turn(turn: Turn, support: Support, style: CallStyle) -> dict[str, Any]:
    content: object = turn.content
    if turn.calls and not turn.content and style.null:
        content = None
    elif support.parts:
        content = [{"type": "text", "text": turn.content}]
    value: dict[str, Any] = {"role": turn.role, "content": content}
    if turn.name is not None:
        value["name"] = turn.name
    if turn.call_id is not None:
        value["tool_call_id"] = _id(turn.call_id, style)
    if turn.calls:
        value["tool_calls"] = [
            {
                "id": _id(call.id, style),
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call, style)},
            }
            for call in turn.calls
        ]
    return value


def _arguments(call: Call, style: CallStyle) -> Any:  # noqa: ANN401 - any JSON value
    return call.text if style.as_text or call.value is None else call.value


def _id(call_id: str, style: CallStyle) -> str:
    if not style.short_ids or _NINE.fullmatch(call_id):
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:9]
