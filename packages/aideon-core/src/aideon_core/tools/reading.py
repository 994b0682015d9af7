"""Calls that a model wrote as text, in the ways that models write them.

Understood are ``<tool_call>`` and its like around JSON or Python (Qwen, Hermes, Phi, Granite,
LFM), ``[TOOL_CALLS]`` (Mistral), ``<|python_tag|>`` and bare JSON (Llama 3), JSON and
``tool_code`` in fences (Gemma, and small models of every family), ``[f(a=1)]`` (Llama 4),
``<function=f>`` with JSON or with parameters (Llama 3, Qwen3-Coder), and DeepSeek's own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

from aideon_core.tools.pieces import Pieces
from aideon_core.tools.values import call, calls, parsed, unquoted, value

if TYPE_CHECKING:
    from aideon_core.tools.pieces import Reading
    from aideon_core.types import Json, ToolCall

_CLOSERS: Final = {
    "<tool_call>": "</tool_call>",
    "<tool_calls>": "</tool_calls>",
    "<function_call>": "</function_call>",
    "<|tool_call|>": "<|/tool_call|>",
    "<|tool_call_start|>": "<|tool_call_end|>",
    "<|python_tag|>": "<|eom_id|>",
    "[TOOL_CALLS]": "[/TOOL_CALLS]",
}
_FENCE: Final = "```"
_FENCED: Final = frozenset({"", "json", "tool_call", "tool_calls", "tool_code"})
_FUNCTION: Final = "<function="
# DeepSeek's tokens have a wide bar, as its template writes them.
_SECTION, _SECTION_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"  # noqa: RUF001 - theirs
_BEGIN, _END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"  # noqa: RUF001 - theirs
_SEPARATOR = "<｜tool▁sep｜>"  # noqa: RUF001 - theirs
_OPENERS: Final = (*_CLOSERS, _FENCE, _FUNCTION, _SECTION, _BEGIN)

_PLAIN: Final = re.compile(r"[^<\[{`]*")
_NAME: Final = re.compile(r"[\w.-]*")
_KEY: Final = re.compile(r"\w*")
_NO_TAG: Final = re.compile(r"[^<]*")
_NO_END: Final = re.compile(r"[^>\n]*")


def read_calls(text: str, names: Collection[str]) -> tuple[str, tuple[ToolCall, ...]]:
    """Take the tool calls out of a model's text.

    A call of a name that is not among ``names`` is text. Bare JSON and Python count where
    they begin a line, outside of code blocks. Space before a call goes with it, as does what
    is left at both ends; a text without calls stays as it is.

    Args:
        text: what the model wrote, whole. One cut off by a limit may end in half a call,
            which stays text.
        names: the functions there are. A mapping from them to the JSON Schemas of their
            parameters also tells the types of parameters that are written without quotes,
            and the names of those written by position.

    Returns:
        The text without the calls, and the calls, whose ids are empty unless the model
        wrote some.
    """
    reader = CallReader(names)
    (before, found), (after, last) = reader.feed(text), reader.finish()
    return before + after, found + last


class CallReader:
    """Reads calls from text that arrives in pieces; see ``read_calls``.

    However the text is cut, the results joined are those of ``read_calls``.

    Args:
        names: the functions there are, or a mapping from them to their parameters' schemas.
    """

    def __init__(self, names: Collection[str]) -> None:
        schemas = names if isinstance(names, Mapping) else {name: {} for name in names}
        self._text = Pieces()
        self._reading = _read(self._text, schemas)
        next(self._reading)

    def feed(self, piece: str) -> tuple[str, tuple[ToolCall, ...]]:
        """Take the next piece.

        Returns:
            The text that is now certain to be no part of a call, and the calls that are whole.

        Raises:
            ValueError: the text was finished before.
        """
        if self._text.closed:
            raise ValueError("The text was finished; a new one takes a new CallReader.")
        self._text.add(piece)
        next(self._reading)
        return self._text.results()

    def finish(self) -> tuple[str, tuple[ToolCall, ...]]:
        """The text is over; gives what was held back."""
        self._text.closed = True
        next(self._reading, None)
        return self._text.results()


def _read(text: Pieces, names: Mapping[str, Json]) -> Reading[None]:
    in_code = False
    while True:
        yield from text.run(_PLAIN)
        first = yield from text.peek()
        if not first:
            return
        begins_line = text.begins_line
        text.keep()
        opener = yield from text.literal(*_OPENERS)
        if opener == _FENCE:
            in_code = not in_code and (yield from _opens_code(text, names))
        elif opener == _FUNCTION:
            if found := (yield from _function(text, names)):
                text.found(*found)
        elif opener in (_SECTION, _BEGIN):
            yield from _section(text, names, opener)
        elif opener:
            yield from _items(text, names, closer=_CLOSERS[opener])
        elif first in "{[" and begins_line and not in_code:
            yield from _items(text, names, bare=True)
        else:
            text.skip()
        text.show()


def _opens_code(text: Pieces, names: Mapping[str, Json]) -> Reading[bool]:
    """Read a fence, and calls if it holds any; tells whether the code goes on."""
    language = yield from text.run(_NAME)
    return language not in _FENCED or not (yield from _items(text, names, closer=_FENCE))


def _items(
    text: Pieces, names: Mapping[str, Json], *, closer: str = "", bare: bool = False
) -> Reading[bool]:
    """Read calls up to what is none; tells whether there were any and the closer came."""
    found: tuple[ToolCall, ...] = ()
    closers = [closer] if closer else []
    yield from text.spaces()
    if closer in _CLOSERS.values() and (yield from text.literal(_FENCE)):
        # Some put a fence inside their tags.
        yield from text.run(_NAME)
        closers.append(_FENCE)
    while True:
        yield from text.spaces()
        if found:
            if closers and (ended := (yield from text.literal(*closers))):
                text.found()
                if ended == closer:
                    return True
                continue
            yield from text.literal(";", ",", "[TOOL_CALLS]")
            yield from text.spaces()
        found = yield from _item(text, names, bare=bare)
        if not found:
            return False
        text.found(*found)


def _item(text: Pieces, names: Mapping[str, Json], *, bare: bool) -> Reading[tuple[ToolCall, ...]]:
    first = yield from text.peek()
    start = text.mark()
    if first == "[":
        text.skip()
        yield from text.spaces()
        inner = yield from text.peek()
        if inner.isidentifier():
            return (yield from _list(text, names))
        text.back(start)
    if first in ("{", "["):
        whole = yield from value(text, bare=bare)
        return calls(text.since(start), names, bare=bare) if whole and not text.shows else ()
    if bare:
        return ()
    if first == "<" and (yield from text.literal(_FUNCTION)):
        return (yield from _function(text, names))
    name = yield from text.run(_NAME)
    printed = name == "print" and name not in names and (yield from text.literal("("))
    if printed:
        name = yield from text.run(_NAME)
    found = yield from _named(text, name, names)
    if printed:
        yield from text.spaces()
        found = found if (yield from text.literal(")")) else ()
    return found


def _list(text: Pieces, names: Mapping[str, Json]) -> Reading[tuple[ToolCall, ...]]:
    found: list[ToolCall] = []
    while True:
        yield from text.spaces()
        if found and (yield from text.literal("]")):
            return tuple(found)
        name = yield from text.run(_NAME)
        added = yield from _python(text, name, names)
        if not added:
            return ()
        found += added
        yield from text.spaces()
        if not (yield from text.literal(",")) and (yield from text.peek()) != "]":
            return ()


def _named(text: Pieces, name: str, names: Mapping[str, Json]) -> Reading[tuple[ToolCall, ...]]:
    """Read the arguments after a name: Python's, or JSON, with Mistral's marks before it."""
    if name not in names:
        return ()
    if (yield from text.peek()) == "(":
        return (yield from _python(text, name, names))
    call_id = ""
    if (yield from text.literal("[CALL_ID]")):
        call_id = yield from text.run(_NAME)
    yield from text.literal("[ARGS]")
    return (yield from _object(text, name, names, call_id=call_id))


def _object(
    text: Pieces, name: str, names: Mapping[str, Json], *, call_id: str = ""
) -> Reading[tuple[ToolCall, ...]]:
    yield from text.spaces()
    start = text.mark()
    if (yield from text.peek()) != "{" or not (yield from value(text)):
        return ()
    try:
        read = call(name, parsed(text.since(start)), names, call_id=call_id)
    except ValueError:
        return ()
    return (read,) if read else ()


def _python(text: Pieces, name: str, names: Mapping[str, Json]) -> Reading[tuple[ToolCall, ...]]:
    if name not in names or not (yield from text.literal("(")):
        return ()
    arguments: dict[str, object] = {}
    positions = iter(names[name].get("properties") or ())
    while True:
        yield from text.spaces()
        if (yield from text.literal(")")):
            read = call(name, arguments, names)
            return (read,) if read else ()
        start = text.mark()
        key: str | None = yield from text.run(_KEY)
        yield from text.spaces()
        if not key or not (yield from text.literal("=")):
            text.back(start)
            key = next(positions, None)
        yield from text.spaces()
        start = text.mark()
        if key is None or not (yield from value(text)):
            return ()
        try:
            arguments[key] = parsed(text.since(start))
        except ValueError:
            return ()
        yield from text.spaces()
        if not (yield from text.literal(",")) and (yield from text.peek()) != ")":
            return ()


def _function(text: Pieces, names: Mapping[str, Json]) -> Reading[tuple[ToolCall, ...]]:
    """Read on after ``<function=``."""
    name = yield from text.run(_NAME)
    if name not in names or not (yield from text.literal(">")):
        return ()
    yield from text.spaces()
    if (yield from text.peek()) == "{":
        found = yield from _object(text, name, names)
        end = text.mark()
        yield from text.spaces()
        if not (yield from text.literal("</function>")):
            text.back(end)
        return found
    arguments: dict[str, object] = {}
    properties = names[name].get("properties") or {}
    while not (yield from text.literal("</function>", "</tool_call>")):
        if not (yield from text.literal("<parameter=")):
            return ()
        key = yield from text.run(_NO_END)
        start = text.mark()
        if not (yield from text.literal(">")) or not (yield from _up_to(text, "</parameter>")):
            return ()
        written = text.since(start)[1 : -len("</parameter>")]
        written = written.removeprefix("\n").removesuffix("\n")
        arguments[key] = unquoted(written, properties.get(key) or {})
        yield from text.spaces()
    read = call(name, arguments, names)
    return (read,) if read else ()


def _up_to(text: Pieces, end: str) -> Reading[bool]:
    while True:
        yield from text.run(_NO_TAG)
        if not (yield from text.peek()):
            return False
        if (yield from text.literal(end)):
            return True
        text.skip()


def _section(text: Pieces, names: Mapping[str, Json], opener: str) -> Reading[None]:
    """Read DeepSeek's calls, one after the other."""
    while opener:
        yield from text.spaces()
        if opener == _SECTION and not (yield from text.literal(_BEGIN)):
            return
        name = yield from text.run(_NAME)
        if not (yield from text.literal(_SEPARATOR)):
            return
        yield from text.spaces()
        if (yield from text.peek()) != "{":
            # The older form has the kind of the call first, and its arguments in a fence.
            name = yield from text.run(_NAME)
            yield from text.spaces()
            yield from text.literal("```json")
        found = yield from _object(text, name, names)
        if not found:
            return
        for end in (_FENCE, _END):
            yield from text.spaces()
            yield from text.literal(end)
        text.found(*found)
        yield from text.spaces()
        opener = yield from text.literal(_BEGIN, _SECTION_END)
        if opener == _SECTION_END:
            text.found()
            return
