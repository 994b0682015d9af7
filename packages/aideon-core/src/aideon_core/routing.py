"""Who can answer a request, who is best, and why: decided without I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from aideon_core.errors import AideonError, Excluded, Unsupported
from aideon_core.types import Considered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_core.types import Request, Side

Ability: TypeAlias = Literal[
    "tools",
    "json",
    "json_with_tools",
    "media",
    "logprobs",
    "top_k",
    "min_p",
    "repetition_penalty",
    "logit_bias",
    "n",
    "prefix",
]

_WANTS: dict[Ability, str] = {
    "tools": "call tools",
    "json": "hold to a response format",
    "json_with_tools": "call tools or hold to a form in one answer",
    "media": "read images, audio or files",
    "logprobs": "tell how likely its tokens were",
    "top_k": "sample by top_k",
    "min_p": "sample by min_p",
    "repetition_penalty": "apply a repetition_penalty",
    "logit_bias": "apply a logit_bias",
    "n": "give several answers at once",
    "prefix": "go on from a given beginning",
}
# Asked for by a parameter of the same name, when it is given at all.
_GIVEN: tuple[Ability, ...] = ("top_k", "min_p", "repetition_penalty", "logit_bias", "prefix")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend as routing sees it: what it can do, and why it cannot be asked, if so."""

    name: str
    side: Side
    model: str
    abilities: frozenset[Ability]
    unavailable: AideonError | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The candidates in the order to ask them, and all that were considered.

    ``sides`` are those the policy allows, the preferred one first.
    """

    policy: str
    sides: tuple[Side, ...]
    order: tuple[Candidate, ...]
    considered: tuple[Considered, ...]


def needs(request: Request) -> frozenset[Ability]:
    """What a backend must be able to do to answer this request."""
    found: set[Ability] = set()
    if request.tools and request.tool_choice != "none":
        found.add("tools")
    if (request.response_format or {}).get("type", "text") != "text":
        found.add("json")
    if request.logprobs:
        found.add("logprobs")
    if request.n is not None and request.n > 1:
        found.add("n")
    for name in _GIVEN:
        if getattr(request, name) is not None:
            found.add(name)
    parts = (m.content for m in request.messages if not isinstance(m.content, str))
    if any(part.get("type") != "text" for content in parts for part in content):
        found.add("media")
    return frozenset(found)


def decide(
    request: Request, candidates: Sequence[Candidate], *, policy: str, sides: Sequence[Side]
) -> Decision:
    """Rule out who cannot answer, and order the rest by side.

    Args:
        request: what is to be answered.
        candidates: every backend there is.
        policy: the policy's name, for the record.
        sides: the sides the policy allows, the preferred one first.
    """
    wanted = needs(request)
    verdicts = {c.name: _ruled_out(c, wanted, policy, sides) for c in candidates}
    eligible = [c for c in candidates if verdicts[c.name] is None]
    return Decision(
        policy=policy,
        sides=tuple(sides),
        order=tuple(sorted(eligible, key=lambda c: sides.index(c.side))),
        considered=tuple(Considered(c.name, c.side, c.model, verdicts[c.name]) for c in candidates),
    )


def _ruled_out(
    candidate: Candidate, wanted: frozenset[Ability], policy: str, sides: Sequence[Side]
) -> AideonError | None:
    if candidate.side not in sides:
        return Excluded(
            f"policy {policy!r} does not use the {candidate.side} side.", backend=candidate.name
        )
    if candidate.unavailable is not None:
        return candidate.unavailable
    if missing := sorted(wanted - candidate.abilities):
        return Unsupported(
            f"{candidate.model!r} cannot {' or '.join(_WANTS[m] for m in missing)} here.",
            hint="Allow a backend that can, or leave it out of the request.",
            backend=candidate.name,
            model=candidate.model,
        )
    return None


# A token is about four letters of a language that is written with few of them, and about one
# character of the others; each turn has a beginning and an end.
_LETTERS_PER_TOKEN = 4
_TOKENS_PER_TURN = 4
_TOKENS_PER_PICTURE = 1000


def estimated_tokens(request: Request) -> int:
    """About how many tokens the prompt of a request has, for whatever model."""
    count = sum(estimated(json.dumps(tool, ensure_ascii=False)) for tool in request.tools)
    for message in request.messages:
        count += _TOKENS_PER_TURN + estimated(message.text)
        count += sum(estimated(call.name + call.arguments) for call in message.tool_calls)
        if not isinstance(message.content, str):
            others = [part for part in message.content if part.get("type") != "text"]
            count += _TOKENS_PER_PICTURE * len(others)
    return count


def estimated(text: str) -> int:
    """About how many tokens a text has, for whatever model."""
    letters = sum(map(str.isascii, text))
    return -(-letters // _LETTERS_PER_TOKEN) + len(text) - letters
