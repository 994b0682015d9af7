"""Thinking: in its own field, or inside the text between tags and then split from it."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from aideon_core.backends.wire.values import mapping, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aideon_core.types import Request

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"
_LINE_ENDS: Final = "\r\n"
# How much white space can belong to a tag: without a bound, a stream of nothing else would
# be held back, and joined anew with every frame.
_MOST_BEFORE_OPEN: Final = 64
_MOST_BEFORE_CLOSE: Final = 8
# The chat templates of these end in the opening tag whatever is asked, so that the model
# sends the closing one alone. Templates that can leave the tag out are not named: their
# servers split the thinking themselves.
_OPENED_BY_TEMPLATE: Final = re.compile(r"thinking-2507|maestro-reasoning", re.IGNORECASE)
# Around a closing tag that is talked about.
_QUOTES_BEFORE: Final = ("`", "'", '"', "(")
_PROSE_AFTER: Final = (" ", "`", "'", '"', ".", ",", ";", ":", "!", "?", ")")


def begins_thinking(model: str, request: Request | None) -> bool:
    """Whether the answer begins inside a thought that the chat template opened.

    A required form binds the model from its first token on, so that it cannot think.
    """
    form = mapping(request.response_format).get("type", "text") if request else "text"
    return form == "text" and _OPENED_BY_TEMPLATE.search(model) is not None


def reasoning_of(message: Mapping[str, Any]) -> str:
    """The thinking in the fields that engines have for it."""
    reasoning = message.get("reasoning") or message.get("reasoning_content")
    if reasoning:
        return text(reasoning)
    details = message.get("reasoning_details")
    if not isinstance(details, list):
        return ""
    pieces = map(mapping, details)
    return "".join(text(piece.get("text")) or text(piece.get("summary")) for piece in pieces)


def text_of(content: object) -> str:
    """Content as text, whether it came as text or in parts."""
    if not isinstance(content, list):
        return text(content)
    return "".join(text(mapping(part).get("text")) for part in content)


class _Place(Enum):
    BEFORE = auto()
    INSIDE = auto()
    AFTER = auto()
    ANSWER = auto()


class ThinkingSplitter:
    """Splits text that begins with a thought, in pieces cut anywhere.

    Only a tag at the very beginning counts: one in the middle was asked for. Line ends beside
    the tags belong to them. What may turn out to be part of a tag is held back.

    Args:
        opened: the thought has begun before the text has.
    """

    def __init__(self, *, opened: bool = False) -> None:
        self._opened = opened
        self._place = _Place.BEFORE
        self._fresh = True
        self._held = ""

    def thinks_elsewhere(self) -> None:
        """The engine has a field for thinking, so the template opened none in the text."""
        self._opened = False

    @property
    def inside(self) -> bool:
        """Whether what comes next may be a thought."""
        return self._place in (_Place.BEFORE, _Place.INSIDE)

    def split(self, content: str) -> tuple[str, str]:
        """The answer and the thought in the next piece."""
        if self._place is _Place.ANSWER:
            return content, ""
        answer, thought = self._held + content, ""
        self._held = ""
        if self._place is _Place.BEFORE:
            answer = self._begun(answer)
        if self._place is _Place.INSIDE:
            thought, answer = self._thought(answer)
        if self._place is _Place.AFTER:
            answer = answer.lstrip(_LINE_ENDS)
            self._place = _Place.ANSWER if answer else _Place.AFTER
        return answer, thought

    def rest(self) -> tuple[str, str]:
        """The answer and the thought held back, now that nothing follows."""
        held, self._held = self._held, ""
        if self._place is _Place.BEFORE and held:
            self._place = _Place.INSIDE if self._opened else _Place.ANSWER
        return ("", held) if self._place is _Place.INSIDE else (held, "")

    def _begun(self, content: str) -> str:
        begin = content.lstrip()
        close = len(content) - len(begin) <= _MOST_BEFORE_OPEN
        if close and begin.startswith(_OPEN):
            self._place = _Place.INSIDE
            return begin[len(_OPEN) :]
        if close and _OPEN.startswith(begin):
            self._held = content
            return ""
        self._place = _Place.INSIDE if self._opened else _Place.ANSWER
        return content

    def _thought(self, content: str) -> tuple[str, str]:
        """What is thought, and what follows the closing tag."""
        if self._fresh:
            content = content.lstrip(_LINE_ENDS)
            self._fresh = not content
        end = content.find(_CLOSE)
        if end >= 0:
            self._place = _Place.AFTER
            return content[: _without_line_ends(content, end)], content[end + len(_CLOSE) :]
        begun = content.rfind("<", max(0, len(content) - len(_CLOSE)))
        end = begun if begun >= 0 and _CLOSE.startswith(content[begun:]) else len(content)
        end = _without_line_ends(content, end)
        self._held = content[end:]
        return content[:end], ""


def _without_line_ends(content: str, end: int) -> int:
    """Where ``content[:end]`` ends without the line ends that belong to a tag."""
    first = max(0, end - _MOST_BEFORE_CLOSE)
    return first + len(content[first:end].rstrip(_LINE_ENDS))


def split_whole(content: str, *, opened: bool) -> tuple[str, str]:
    """The answer and the thought in the whole text of a message."""
    splitter = ThinkingSplitter(opened=opened or _closes_a_thought(content))
    answer, thought = splitter.split(content)
    more_answer, more_thought = splitter.rest()
    return answer + more_answer, thought + more_thought


def _closes_a_thought(content: str) -> bool:
    """Whether the text has a closing tag alone, as of a model whose template opened it.

    Only a whole text can tell: a stream has passed on the thought when the tag comes.
    """
    before, tag, after = content.partition(_CLOSE)
    return (
        bool(tag)
        and _OPEN not in before
        and bool(after.strip())
        and before.count("```") % 2 == 0
        and not before.endswith(_QUOTES_BEFORE)
        and not after.startswith(_PROSE_AFTER)
    )
