"""LangChain's conversations as ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from aideon_core import Message, ToolCall
from aideon_core.errors import BadRequest
from langchain_aideon.messages import foreign
from langchain_aideon.messages.carried import CarriedMessage
from langchain_aideon.messages.foreign import as_json
from langchain_aideon.messages.parts import parts_of, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from aideon_core.types import Json, Role

_CALLS: Final = frozenset(
    {"tool_use", "tool_call", "function_call", "custom_tool_call", "invalid_tool_call"}
)
# Of a stream that was added up: the message has them whole among its tool calls.
_PIECES: Final = frozenset({"tool_call_chunk", "server_tool_call_chunk"})
_ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
}


def to_messages(messages: Sequence[BaseMessage]) -> list[CarriedMessage]:
    """A LangChain conversation as Aideon's.

    Most messages become one turn. A tool's role takes text alone, so the pictures, the audio
    and the video of a tool message follow in a user's turn, after all the tools that answer
    the same assistant's turn; and a human message with Anthropic's ``tool_result`` blocks is
    the tool's turns first, then the user's. Files become their text. Reasoning is not sent
    back.

    Args:
        messages: the conversation; it is not changed.

    Returns:
        Turns that know the message they came from; see CarriedMessage.

    Raises:
        BadRequest: a message or a block that cannot be sent; it names both.
        MissingDependency: there is a PDF file, and pypdf is not installed.
    """
    turns: list[CarriedMessage] = []
    waiting: list[CarriedMessage] = []
    for at, message in enumerate(messages):
        found = _carried(message, _turns(message, f"messages[{at}]"))
        of_tools = [turn for turn in found if turn.role == "tool"]
        others = [turn for turn in found if turn.role != "tool"]
        if of_tools:
            # Nothing may stand between the tools that answer one turn.
            turns += of_tools
            waiting += others
        else:
            turns += waiting + others
            waiting = []
    return turns + waiting


def _carried(message: BaseMessage, turns: Iterable[Message]) -> list[CarriedMessage]:
    return [
        CarriedMessage(
            role=turn.role,
            content=turn.content,
            name=turn.name,
            tool_calls=turn.tool_calls,
            tool_call_id=turn.tool_call_id,
            original=message,
            said=turn.content,
            derived=at > 0,
        )
        for at, turn in enumerate(turns)
    ]


def _turns(message: BaseMessage, where: str) -> Iterable[Message]:
    match message:
        case HumanMessage():
            return _human(message, where)
        case SystemMessage():
            return [_plain("system", message, where)]
        case AIMessage():
            return [_assistant(message, where)]
        case ToolMessage():
            failed = message.status == "error"
            return _tool(
                message.content, message.tool_call_id, message.name, failed=failed, where=where
            )
        case ChatMessage():
            return [_of_own_role(message, where)]
        case _:
            raise _unsendable(where, type(message).__name__)


def _unsendable(where: str, kind: str) -> BadRequest:
    hints = {
        "FunctionMessage": "Make it a ToolMessage with the tool_call_id of the call it answers.",
        "RemoveMessage": "It is for a graph's state; leave it out of what a model is asked.",
    }
    return BadRequest(
        f"{where} is a {kind}, which no model can be sent.",
        hint=hints.get(kind, "Send system, human, AI and tool messages."),
        param=where,
    )


def _of_own_role(message: ChatMessage, where: str) -> Message:
    role = _ROLES.get(message.role.lower())
    if role is None:
        raise BadRequest(
            f"{where} is a ChatMessage with the role {message.role!r}.",
            hint=f"It takes one of {', '.join(_ROLES)}; a tool's answer is a ToolMessage.",
            param=where,
        )
    if role == "user":
        text = message.content
        said = text if isinstance(text, str) else parts_of(text, where) or ""
        return Message("user", said, name=message.name)
    return _plain(role, message, where)


def _plain(role: Role, message: BaseMessage, where: str) -> Message:
    text = _only_text(parts_of(message.content, where), where, joint="\n")
    return Message(role, text, name=message.name)


def _only_text(parts: Iterable[Json], where: str, *, joint: str) -> str:
    texts: list[str] = []
    for part in parts:
        if part["type"] != "text":
            refuse(
                where,
                part["type"],
                "where models read text alone",
                "Put it into a HumanMessage.",
            )
        texts.append(part["text"])
    return joint.join(texts)


def _human(message: HumanMessage, where: str) -> Iterator[Message]:
    if isinstance(message.content, str):
        yield Message("user", message.content, name=message.name)
        return
    rest: list[Json] = []
    asked: list[str | dict[Any, Any]] = []
    answered = False
    for block in message.content:
        if isinstance(block, str) or block.get("type") != "tool_result":
            asked.append(block)
            continue
        answered = True
        result, *pictures = _result(block, where)
        yield result
        rest += [part for turn in pictures for part in turn.content if isinstance(part, dict)]
    rest += parts_of(asked, where)
    if rest or not answered:
        yield Message("user", tuple(rest) or "", name=message.name)


def _result(block: Mapping[str, Any], where: str) -> Iterator[Message]:
    call = block.get("tool_use_id")
    if not isinstance(call, str):
        refuse(where, "tool_result", "without a tool_use_id", "Name the call that it answers.")
    failed = block.get("is_error") is True
    return _tool(block.get("content") or "", call, None, failed=failed, where=where)


def _tool(
    content: str | list[str | dict[Any, Any]],
    call: str,
    name: str | None,
    *,
    failed: bool,
    where: str,
) -> Iterator[Message]:
    parts = (
        [{"type": "text", "text": content}]
        if isinstance(content, str)
        else parts_of(content, where)
    )
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    media = [part for part in parts if part["type"] != "text"]
    # Most tools that fail say so; a model must not take another's error for a result.
    if failed and not text.lstrip().lower().startswith("error"):
        text = f"Error: {text}".rstrip()
    if media:
        note = "[What it shows follows in the next message of the user.]"
        text = f"{text}\n{note}" if text else note
    yield Message("tool", text, name=name, tool_call_id=call)
    if media:
        told = f"[From the tool {name}, call {call}:]" if name else f"[From tool call {call}:]"
        yield Message("user", ({"type": "text", "text": told}, *media))


def _assistant(message: AIMessage, where: str) -> Message:
    said: list[str | dict[Any, Any]] = []
    calls = list(_tool_calls(message))
    known = {call.id for call in calls}
    for given in foreign.blocks_of(message):
        block = _unwrapped(given)
        kind = "" if isinstance(block, str) else str(block.get("type"))
        if isinstance(block, str):
            said.append(block)
        elif kind in _CALLS:
            if _id_of(block) not in known:
                calls.append(_call_of(block, where))
        elif (line := foreign.told(block)) is not None:
            # A line of its own, whatever stands before it.
            begun = bool(line and said) and not str(said[-1]).endswith("\n")
            said.append("\n" + line if begun else line)
        elif kind not in _PIECES:
            said.append(block)
    text = _only_text(parts_of(said, where), where, joint="")
    return Message("assistant", text, name=message.name, tool_calls=tuple(calls))


def _unwrapped(given: str | Mapping[Any, Any]) -> str | dict[Any, Any]:
    block = given if isinstance(given, str) else dict(given)
    if isinstance(block, dict) and block.get("type") == "non_standard":
        value = block.get("value")
        return value if isinstance(value, dict) else block
    return block


def _tool_calls(message: AIMessage) -> Iterator[ToolCall]:
    for call in message.tool_calls:
        yield ToolCall(call["id"] or "", call["name"], as_json(call["args"]))
    for bad in message.invalid_tool_calls:
        yield ToolCall(bad["id"] or "", bad["name"] or "", bad["args"] or "")


def _call_of(block: Mapping[str, Any], where: str) -> ToolCall:
    """A call that is told in the content, for a message that has no others."""
    name = block.get("name")
    if not isinstance(name, str):
        refuse(where, block["type"], "without a name", "Name the tool that is called.")
    given = block.get("input") or block.get("args") or block.get("arguments") or {}
    return ToolCall(_id_of(block), name, given if isinstance(given, str) else as_json(given))


def _id_of(call: Mapping[str, Any]) -> str:
    return str(call.get("call_id") or call.get("id") or "")
