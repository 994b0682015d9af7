"""Calls that a model wrote as text, in the ways that models write them.

Understood are ``<tool_call>`` and its like around JSON or Python (Qwen, Hermes, Phi, Granite,
LFM), ``[TOOL_CALLS]`` (Mistral), ``<|python_tag|>`` and bare JSON (Llama 3), JSON and
``tool_code`` in fences (Gemma, and small models of every family), ``[f(a=1)]`` (Llama 4),
``<function=f>`` with JSON or with parameters (Llama 3, Qwen3-Coder), and DeepSeek's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

from aideon_core.tools.objects import read_arguments, read_described
from aideon_core.tools.pieces import Pieces
from aideon_core.tools.values import call, named, read_value, unquoted
from aideon_core.types import ToolCall

if TYPE_CHECKING:
    from aideon_core.tools.pieces import Reading
    from aideon_core.types import Json

_CLOSERS: Final = {
    "<tool_call>": "</tool_call>",
    "<tool_calls>": "</tool_calls>",
    "<tools>": "</tools>",
    "<function_call>": "</function_call>",
    "<|tool_call|>": "<|/tool_call|>",
    "<|tool_call_start|>": "<|tool_call_end|>",
    "<|python_tag|>": "<|eom_id|>",
    "[TOOL_CALLS]": "[/TOOL_CALLS]",
}
_FENCE: Final = "```"
_TAGS: Final = tuple(opener for opener in _CLOSERS if opener.startswith("<"))
_FENCED: Final = frozenset({"", "json", "xml", "tool_call", "tool_calls", "tool_code"})
# What is in these need not be meant as a call.
_ANY_FENCED: Final = frozenset({"", "json", "xml"})
_THOUGHTS, _THOUGHTS_END = "<think>", "</think>"
_FUNCTION: Final = "<function="
# DeepSeek's tokens have a wide bar, as its template writes them.
_SECTION, _SECTION_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"  # noqa: RUF001 - theirs
_BEGIN, _END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"  # noqa: RUF001 - theirs
_SEPARATOR = "<｜tool▁sep｜>"  # noqa: RUF001 - theirs
_OPENERS: Final = (*_CLOSERS, _FENCE, _FUNCTION, _SECTION, _BEGIN, _THOUGHTS)

_PLAIN: Final = re.compile(r"[^<\[{`]*")
_NAME: Final = re.compile(r"[\w.-]*")
_KEY: Final = re.compile(r"\w*")
_NO_TAG: Final = re.compile(r"[^<]*")
_NO_END: Final = re.compile(r"[^>\n]*")


def read_calls(text: str, names: Collection[str]) -> tuple[str, tuple[ToolCall, ...]]:
    """Take the tool calls out of a model's text.

    A call of a name that is not among ``names`` is text, and so is all between ``<think>`` and
    ``</think>``. Bare JSON and Python count where they begin a line, outside of code blocks;
    there, as in fences, an object that tells anything else before the arguments is no call.
    A call in JSON counts from the end of its arguments on, even if brackets or tags around it
    are never closed. Space before a call goes with it, as does what is left at both ends; a
    text without calls stays as it is.

    Args:
        text: what the model wrote, whole. One cut off by a limit may end in half a call,
            which stays text.
        names: the functions there are. A mapping from them to the JSON Schemas of their
            parameters also tells the types of parameters that are written without quotes,
            and the names of those written by position.

    Returns:
        The text without the calls, and the calls. Their arguments are the JSON that the model
        wrote, with its slips mended; their ids are empty unless the model wrote some before
        the arguments.
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
        self._reading = read(self._text, schemas)
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
        return self._results()

    def finish(self) -> tuple[str, tuple[ToolCall, ...]]:
        """The text is over; gives what was held back."""
        self._text.closed = True
        next(self._reading, None)
        return self._results()

    def _results(self) -> tuple[str, tuple[ToolCall, ...]]:
        events = self._text.events()
        return (
            "".join(each for each in events if isinstance(each, str)),
            tuple(each for each in events if isinstance(each, ToolCall)),
        )


def read(text: Pieces, names: Mapping[str, Json]) -> Reading[None]:
    """Read all that comes, showing text and finding calls of these functions."""
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
        elif opener == _THOUGHTS:
            # Models rehearse their calls there.
            text.show()
            yield from _up_to(text, _THOUGHTS_END)
            text.begins_line = True
        elif opener == _FUNCTION:
            # Some leave out the tag around it, but not its end.
            if (yield from _function(text, names)):
                yield from _ended(text, "</tool_call>")
        elif opener in (_SECTION, _BEGIN):
            yield from _section(text, names, opener)
        elif opener:
            yield from _items(text, names, closer=_CLOSERS[opener])
        elif first in "{[" and begins_line and not in_code:
            yield from _items(text, names, bare=True, strict=True)
        else:
            text.skip()
        text.show()


def _opens_code(text: Pieces, names: Mapping[str, Json]) -> Reading[bool]:
    """Read a fence, and calls if it holds any; tells whether the code goes on."""
    language = yield from text.run(_NAME)
    if language not in _FENCED:
        return True
    yield from text.spaces()
    tagged = False
    while tag := (yield from text.literal(*_TAGS)):
        tagged = yield from _items(text, names, closer=_CLOSERS[tag])
        if not tagged:
            return True
        yield from text.spaces()
    if tagged:
        return not (yield from _ended(text, _FENCE))
    strict = language in _ANY_FENCED
    return not (yield from _items(text, names, closer=_FENCE, strict=strict))


def _ended(text: Pieces, closer: str) -> Reading[bool]:
    """Read what closes calls, if it is there."""
    end = text.mark()
    yield from text.spaces()
    if (yield from text.literal(closer)):
        text.found()
        return True
    text.back(end)
    return False


def _items(
    text: Pieces,
    names: Mapping[str, Json],
    *,
    closer: str = "",
    bare: bool = False,
    strict: bool = False,
) -> Reading[bool]:
    """Read calls up to what is none; tells whether there were any and the closer came."""
    some = False
    closers = [closer] if closer else []
    yield from text.spaces()
    if closer in _CLOSERS.values() and (yield from text.literal(_FENCE)):
        # Some put a fence inside their tags.
        yield from text.run(_NAME)
        closers.append(_FENCE)
    while True:
        yield from text.spaces()
        if some:
            if closers and (ended := (yield from text.literal(*closers))):
                text.found()
                if ended == closer:
                    return True
                continue
            mark = yield from text.literal(";", ",", "}", "[TOOL_CALLS]")
            if mark == "}":
                # Small models lose count of their brackets.
                text.found()
                continue
            if mark == "[TOOL_CALLS]":
                bare = strict = False
            yield from text.spaces()
        if not (yield from _item(text, names, bare=bare, strict=strict)):
            return False
        some = True


def _item(text: Pieces, names: Mapping[str, Json], *, bare: bool, strict: bool) -> Reading[bool]:
    first = yield from text.peek()
    if first == "[":
        start = text.mark()
        text.skip()
        yield from text.spaces()
        inner = yield from text.peek()
        if inner.isidentifier():
            return (yield from _list(text, names))
        text.back(start)
    if first in ("{", "["):
        return (yield from read_described(text, names, strict=strict))
    if bare:
        return False
    if first == "<" and (yield from text.literal(_FUNCTION)):
        return (yield from _function(text, names))
    name = yield from text.run(_NAME)
    if name == "print" and name not in names and (yield from text.literal("(")):
        return (yield from _printed(text, names))
    return (yield from _named(text, name, names))


def _list(text: Pieces, names: Mapping[str, Json]) -> Reading[bool]:
    found: list[ToolCall] = []
    while True:
        yield from text.spaces()
        if found and (yield from text.literal("]")):
            text.found(*found)
            return True
        name = yield from text.run(_NAME)
        added = yield from _python(text, name, names)
        if added is None:
            return False
        found.append(added)
        yield from text.spaces()
        if not (yield from text.literal(",")) and (yield from text.peek()) != "]":
            return False


def _printed(text: Pieces, names: Mapping[str, Json]) -> Reading[bool]:
    name = yield from text.run(_NAME)
    found = yield from _python(text, name, names)
    yield from text.spaces()
    if found is None or not (yield from text.literal(")")):
        return False
    text.found(found)
    return True


def _named(text: Pieces, written: str, names: Mapping[str, Json]) -> Reading[bool]:
    """Read the arguments after a name: Python's, or JSON, with Mistral's marks before it."""
    if (yield from text.peek()) == "(":
        found = yield from _python(text, written, names)
        if found is not None:
            text.found(found)
        return found is not None
    if (name := named(written, names)) is None:
        return False
    call_id = ""
    if (yield from text.literal("[CALL_ID]")):
        call_id = yield from text.run(_NAME)
    yield from text.literal("[ARGS]")
    yield from text.spaces()
    return (yield from read_arguments(text, name, call_id=call_id))


def _python(text: Pieces, written: str, names: Mapping[str, Json]) -> Reading[ToolCall | None]:
    name = named(written, names)
    if name is None or not (yield from text.literal("(")):
        return None
    arguments: dict[str, object] = {}
    positions = iter(names[name].get("properties") or ())
    while True:
        yield from text.spaces()
        if (yield from text.literal(")")):
            return call(name, arguments)
        start = text.mark()
        key: str | None = yield from text.run(_KEY)
        yield from text.spaces()
        if not key or not (yield from text.literal("=")):
            text.back(start)
            key = next(positions, None)
        yield from text.spaces()
        value = yield from read_value(text)
        if key is None or value is None:
            return None
        arguments[key] = json.loads(value)
        yield from text.spaces()
        if not (yield from text.literal(",")) and (yield from text.peek()) != ")":
            return None


def _function(text: Pieces, names: Mapping[str, Json]) -> Reading[bool]:
    """Read on after ``<function=``."""
    name = named((yield from text.run(_NAME)), names)
    if name is None or not (yield from text.literal(">")):
        return False
    yield from text.spaces()
    if (yield from text.peek()) == "{":
        if not (yield from read_arguments(text, name)):
            return False
        yield from _ended(text, "</function>")
        return True
    arguments: dict[str, object] = {}
    properties = names[name].get("properties") or {}
    while not (yield from text.literal("</function>", "</tool_call>")):
        if not (yield from text.literal("<parameter=")):
            return False
        key = yield from text.run(_NO_END)
        start = text.mark()
        if not (yield from text.literal(">")) or not (yield from _up_to(text, "</parameter>")):
            return False
        written = text.since(start)[1 : -len("</parameter>")]
        written = written.removeprefix("\n").removesuffix("\n")
        arguments[key] = unquoted(written, properties.get(key) or {})
        yield from text.spaces()
    text.found(call(name, arguments))
    return True


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
        written = yield from text.run(_NAME)
        if not (yield from text.literal(_SEPARATOR)):
            return
        yield from text.spaces()
        if (yield from text.peek()) != "{":
            # The older form has the kind of the call first, and its arguments in a fence.
            written = yield from text.run(_NAME)
            yield from text.spaces()
            yield from text.literal("```json")
            yield from text.spaces()
        name = named(written, names)
        if name is None or not (yield from read_arguments(text, name)):
            return
        for end in (_FENCE, _END):
            yield from text.spaces()
            yield from text.literal(end)
        text.found()
        yield from text.spaces()
        opener = yield from text.literal(_BEGIN, _SECTION_END)
        if opener == _SECTION_END:
            text.found()
            return
