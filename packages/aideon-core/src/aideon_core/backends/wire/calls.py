"""Tool calls: whole, in pieces, in the old form, and numbered badly."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from aideon_core.backends.wire.values import count, mapping, text
from aideon_core.errors import ServerError
from aideon_core.types import ToolCall, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aideon_core.types import Completion

# Its streams repeat a call and cut the repetition off; its whole answers are sound.
_CORRUPT_IN_STREAMS: Final = re.compile(r"deepseek-v4", re.IGNORECASE)


def streams_corrupt_calls(model: str) -> bool:
    """Whether that model is known to send tool calls in streams that cannot be used."""
    return _CORRUPT_IN_STREAMS.search(model) is not None


def calls_are_whole(completion: Completion) -> bool:
    """Whether the arguments of every tool call are a JSON object, or left out."""
    return all(_is_whole(call.arguments) for call in completion.tool_calls)


def _is_whole(arguments: str) -> bool:
    if not arguments.strip():
        return True
    try:
        # Line breaks inside strings are a model's slip, and no sign of a call cut off.
        return isinstance(json.loads(arguments, strict=False), dict)
    except (ValueError, RecursionError):
        return False


def calls_of(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    """The tool calls of a whole message."""
    read = [_fields(each) for each in _listed(message)]
    return tuple(ToolCall(*fields) for fields in read if any(fields))


class CallNumbers:
    """Tells which call a piece in a stream belongs to; numbers the calls from 0 on."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._named: list[bool] = []
        self._by_index: dict[int, int] = {}
        self._by_id: dict[str, int] = {}

    def deltas(self, *holders: Mapping[str, Any]) -> tuple[ToolCallDelta, ...]:
        """The pieces in a delta, or beside it in its choice."""
        found: list[ToolCallDelta] = []
        for each in next((calls for holder in holders if (calls := _listed(holder))), []):
            call_id, name, arguments = _fields(each)
            if call_id or name or arguments:
                number = self._number(count(mapping(each).get("index")), call_id, name)
                found.append(ToolCallDelta(number, call_id, name, arguments))
        return tuple(found)

    def _number(self, index: int | None, call_id: str, name: str) -> int:
        if index is not None:
            number = self._by_index.get(index)
            # Some servers give parallel calls one number, others a new id to each piece.
            renewed = number is not None and name and call_id not in ("", self._ids[number])
            if number is None or (renewed and self._ids[number]):
                number = self._by_index[index] = self._new()
        else:
            # Numbered -1 or not at all: the id tells, and what has none continues the last.
            number = self._by_id.get(call_id, len(self._ids)) if call_id else self._last(name)
            if number == len(self._ids):
                self._new()
        self._ids[number] = self._ids[number] or call_id
        self._named[number] = self._named[number] or bool(name)
        if call_id:
            self._by_id.setdefault(call_id, number)
        return number

    def _last(self, name: str) -> int:
        begins = not self._ids or (name and self._named[-1])
        return len(self._ids) if begins else len(self._ids) - 1

    def _new(self) -> int:
        self._ids.append("")
        self._named.append(False)
        return len(self._ids) - 1


def _listed(holder: Mapping[str, Any]) -> list[Any]:
    calls = holder.get("tool_calls")
    if isinstance(calls, list) and calls:
        return calls
    legacy = holder.get("function_call")
    return [{"index": 0, "function": legacy}] if legacy else []


def _fields(call: object) -> tuple[str, str, str]:
    fields = mapping(call)
    function = mapping(fields.get("function"))
    arguments = function.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = _written(arguments)
    return text(fields.get("id")), text(function.get("name")), arguments or ""


def _written(arguments: object) -> str:
    try:
        return json.dumps(arguments, ensure_ascii=False)
    except RecursionError as error:
        raise ServerError("The arguments of a tool call are nested beyond reason.") from error
