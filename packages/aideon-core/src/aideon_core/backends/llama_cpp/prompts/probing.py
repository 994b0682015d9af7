"""What a chat template supports, found out by trying it on small conversations."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Final, TypeAlias

from aideon_core.backends.llama_cpp.prompts.adapting import Call, CallStyle, Support, Turn

if TYPE_CHECKING:
    from aideon_core.types import Json, Role

Holds: TypeAlias = Callable[[Sequence[Turn], Support], bool]
"""Whether a template shows all of a conversation, given what it is said to support."""

_USER, _ASSISTANT, _SYSTEM = Turn("user", "."), Turn("assistant", "."), Turn("system", ".")
_CALL: Final = Call("call_0", "f", "{}", {})
_CALLED: Final = Turn("assistant", calls=(_CALL,))
_RESULT: Final = Turn("tool", ".", call_id="call_0", name="f")
_OTHER: Final = replace(_CALL, id="call_1"), replace(_RESULT, call_id="call_1")


def probed(holds: Holds, *, given: bool, known: bool) -> Support:
    """Find out what a template supports.

    Args:
        holds: tries it.
        given: whether there are tools.
        known: whether it is known how the model writes calls. If not, tools are described to
            it, and what it is told of calls has to agree with that.
    """
    support = Support(parts=not holds((_USER,), Support()) and holds((_USER,), Support(parts=True)))
    if given and known and holds((_USER,), replace(support, tools=True)):
        support = replace(support, tools=True)
    pairs: dict[Role, tuple[Turn, ...]] = {
        "system": (_SYSTEM, _SYSTEM, _USER),
        "user": (_USER, _USER, _ASSISTANT, _USER),
        "assistant": (_USER, _ASSISTANT, _ASSISTANT, _USER),
    }
    result = (_USER, _ASSISTANT, _RESULT, _ASSISTANT, _USER)
    return replace(
        support,
        system=holds((_SYSTEM, _USER), support),
        later_system=holds((_USER, _ASSISTANT, _SYSTEM, _USER), support),
        assistant_first=holds((_ASSISTANT, _USER), support),
        repeats=frozenset(role for role, turns in pairs.items() if holds(turns, support)),
        calls=_style(holds, support) if known or not given else None,
        results=known and holds(result, support),
    )


def _style(holds: Holds, support: Support) -> CallStyle | None:
    end = (_RESULT, _ASSISTANT, _USER)
    for short_ids, null, as_text in product((False, True), repeat=3):
        style = CallStyle(as_text=as_text, null=null, short_ids=short_ids)
        tried = replace(support, calls=style)
        if holds((_USER, _CALLED, *end), tried):
            texted = replace(_CALLED, content=".")
            call, result = _OTHER
            both = replace(_CALLED, calls=(_CALL, call))
            return replace(
                style,
                with_text=holds((_USER, texted, *end), tried),
                several=holds((_USER, both, _RESULT, result, *end[1:]), tried),
            )
    return None


_KEY: Final = "zqkeyqz"
_TOOL: Final = "zqtoolqz"
_PARAMETER: Final = "zqparameterqz"
PROBE_TOOLS: Final[tuple[Json, ...]] = (
    {
        "type": "function",
        "function": {
            "name": _TOOL,
            "description": "zqdescriptionqz",
            "parameters": {
                "type": "object",
                "properties": {_PARAMETER: {"type": "string", "description": "zqstringqz"}},
                "required": [_PARAMETER],
            },
        },
    },
)
"""A tool to try a template with."""


def hollow(turns: Sequence[Turn]) -> tuple[list[Turn], tuple[str, ...]]:
    """The turns with marks for all they say, and the marks.

    A template that shows all marks would have shown all that was said.
    """
    marks: list[str] = []

    def mark() -> str:
        marks.append(f"zq{len(marks)}qz")
        return marks[-1]

    emptied = []
    for turn in turns:
        calls = []
        for call in turn.calls:
            value = {_KEY: mark()}
            calls.append(Call(call.id, mark(), json.dumps(value), value))
        content = mark() if turn.content.strip() else turn.content
        emptied.append(replace(turn, content=content, calls=tuple(calls)))
    return emptied, tuple(marks)


def shows(prompt: str, marks: Sequence[str], support: Support) -> bool:
    """Whether a prompt shows every mark, the tools if it was given them, and no Python.

    A template that wants arguments as text prints the value of them as Python would.
    """
    if support.tools:
        marks = (*marks, _TOOL, _PARAMETER)
    return all(mark in prompt for mark in marks) and f"'{_KEY}'" not in prompt
