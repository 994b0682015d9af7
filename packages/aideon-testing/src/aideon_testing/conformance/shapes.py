"""The shape of an answer: which fields are set, of which types, and where a stream has them.

Two backends may answer different things; what a caller's code relies on has to be the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Final, TypeAlias

from aideon_core.types import Completion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aideon_core.types import Chunk, ToolCallDelta
    from aideon_testing.conformance.subject import Answer

Shape: TypeAlias = Mapping[str, str]
"""What is set, by where it is; plain JSON. ``kind`` says what the model chose to give."""

# What a model thinks, what a provider adds of its own, and whether a price is known, are
# nobody's promise.
_FREE: Final = frozenset({"reasoning", "warnings", "extra", "text", "cost"})
_AT_THE_END: Final = ("finish_reason", "usage", "route")


def shape_of(answer: Answer) -> Shape:
    """The shape of one answer, whole or streamed."""
    completion = answer.completion
    shape = {"kind": "calls" if completion.tool_calls else "text"}
    for field in fields(Completion):
        if field.name not in _FREE:
            shape[field.name] = described(getattr(completion, field.name))
    if answer.chunks:
        shape["stream"] = "; ".join(_order(answer.chunks))
    return shape


def described(value: object) -> str:
    """A value by its type and what of it is set, never by what it says."""
    if value is None or value in ("", (), []):
        return "nothing"
    if isinstance(value, tuple):
        return f"tuple of {' or '.join(sorted({described(each) for each in value}))}"
    if hasattr(value, "__dataclass_fields__") and type(value).__module__ == "aideon_core.types":
        return _record(value)
    return type(value).__name__


def differences(mine: Mapping[str, Shape], theirs: Mapping[str, Shape]) -> list[str]:
    """Where two records of the same bodies differ, a line each.

    Where a model was free to call a tool and only one of the two did, there is nothing to
    compare. Bodies that only one record has, because the other refused them, are left out.
    """
    lines = []
    for name in mine.keys() & theirs.keys():
        one, other = mine[name], theirs[name]
        if one["kind"] == other["kind"]:
            lines += [
                f"{name}: {place} is {one.get(place, 'nothing')} here "
                f"and {other.get(place, 'nothing')} there"
                for place in sorted(one.keys() | other.keys())
                if one.get(place) != other.get(place)
            ]
    return sorted(lines)


def _record(value: object) -> str:
    # Counts and routes are whole or absent: what a field of theirs holds depends on the day.
    name = type(value).__name__
    if name in ("Usage", "Route"):
        return name
    names = [field.name for field in fields(value)]  # type: ignore[arg-type]
    # Nested answers, such as alternatives, keep what is free in an answer free.
    kept = [each for each in names if each not in _FREE and described(getattr(value, each))]
    held = [f"{each}: {described(getattr(value, each))}" for each in kept]
    return f"{name}({', '.join(held)})"


def _order(chunks: Sequence[Chunk]) -> Iterator[str]:
    """Where the facts of a stream came."""
    for name in _AT_THE_END:
        at = [index for index, chunk in enumerate(chunks) if getattr(chunk, name) is not None]
        place = "never" if not at else "last" if at == [len(chunks) - 1] else "elsewhere"
        yield f"{name} {place}"
    openers: dict[int, ToolCallDelta] = {}
    repeated: set[str] = set()
    for delta in (each for chunk in chunks for each in chunk.tool_calls):
        if delta.index in openers:
            repeated |= {name for name in ("id", "name") if getattr(delta, name)}
        openers.setdefault(delta.index, delta)
    if openers:
        opened = {
            name for each in openers.values() for name in ("id", "name") if getattr(each, name)
        }
        yield f"a call opens with {' and '.join(sorted(opened)) or 'nothing'}"
        yield f"and repeats {' and '.join(sorted(repeated)) or 'nothing'}"
