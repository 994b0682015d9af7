"""Log probabilities, in each of the formats engines have for them."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from aideon_core.backends.wire.values import mapping, text
from aideon_core.types import TokenLogprob

if TYPE_CHECKING:
    from collections.abc import Mapping

_LARGEST: Final = 1e9


def logprobs_of(choice: Mapping[str, Any], said: str = "") -> tuple[TokenLogprob, ...]:
    """The tokens of a choice with their log probabilities.

    Args:
        choice: one choice, whole or of a frame.
        said: the text of the frame: the token, where only a number stands for it.
    """
    logprobs = choice.get("logprobs")
    if isinstance(logprobs, dict):
        content = logprobs.get("content")
        found = _content(content) if isinstance(content, list) else _columns(logprobs)
        return tuple(each for each in found if each is not None)
    if (number := _number(logprobs)) is None:
        return ()
    top = _top(choice.get("top_logprobs"))
    # The engine's own spelling: the text has no token for the end of an answer.
    token = next((token for token, each in top if each == number), said)
    return (TokenLogprob(token, number, top),)


def _content(content: list[Any]) -> list[TokenLogprob | None]:
    rows = map(mapping, content)
    return [_one(row.get("token"), row.get("logprob"), row.get("top_logprobs")) for row in rows]


def _columns(logprobs: Mapping[str, Any]) -> list[TokenLogprob | None]:
    names = ("tokens", "token_logprobs", "top_logprobs")
    columns = (column if isinstance(column := logprobs.get(name), list) else [] for name in names)
    return [_one(*row) for row in zip_longest(*columns)]


def _one(token: object, logprob: object, top: object) -> TokenLogprob | None:
    number = _number(logprob)
    if number is None or not isinstance(token, str):
        return None
    return TokenLogprob(token, number, _top(top))


def _top(top: object) -> tuple[tuple[str, float], ...]:
    if isinstance(top, dict):
        pairs = list(top.items())
    elif isinstance(top, list):
        rows = map(mapping, top)
        pairs = [(text(row.get("token")), row.get("logprob")) for row in rows]
    else:
        return ()
    known = [(token, number) for token, each in pairs if (number := _number(each)) is not None]
    return tuple(sorted(known, key=lambda pair: -pair[1]))


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if -_LARGEST < value < _LARGEST or value == -float("inf") else None
