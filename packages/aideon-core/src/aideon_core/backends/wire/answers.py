"""Answers: whole, and frame by frame."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from aideon_core.backends.wire.calls import CallNumbers, calls_of
from aideon_core.backends.wire.facts import (
    BODY,
    CHOICE,
    MESSAGE,
    Extras,
    finish_of,
    usage_in,
    usage_of,
    warnings_of,
)
from aideon_core.backends.wire.failures import error_text
from aideon_core.backends.wire.logprobs import logprobs_of
from aideon_core.backends.wire.request import most_answers, wants_logprobs
from aideon_core.backends.wire.thinking import (
    ThinkingSplitter,
    begins_thinking,
    reasoning_of,
    split_whole,
    text_of,
)
from aideon_core.backends.wire.values import (
    described,
    excerpt,
    mapping,
    other_choices,
    our_choice,
    parsed,
    text,
)
from aideon_core.errors import ServerError
from aideon_core.types import Chunk, Completion, FinishReason, Request, TokenLogprob

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aideon_core.types import ToolCallDelta, Usage

_NO_DELTA: Final[Mapping[str, Any]] = {}
_NO_CHOICES: Final = ("error", "message", "detail", "errors")


def completion_of(body: object, *, model: str = "", request: Request | None = None) -> Completion:
    """Read a whole chat answer.

    Args:
        body: the parsed JSON.
        model: the model that was asked; the one in the body when not given.
        request: what was asked: an answer bound to a form does not begin with thinking, log
            probabilities nobody wanted are left out, and so are answers beyond the ``n``.

    Raises:
        ServerError: the body is not a chat completion, or reports an error.
    """
    fields = mapping(body)
    choices = fields.get("choices")
    choice = our_choice(choices)
    reported = _reported(fields, choice)
    if reported is not None or not isinstance(choice.get("message"), dict):
        raise ServerError(f"The answer is not a chat completion: {reported or described(body)}")
    named = text(fields.get("model"))
    answer = _choice_of(fields, choice, model or named, request)
    usage = usage_in(fields, choice)
    return replace(
        answer,
        usage=usage_of(usage),
        model=named or None,
        id=text(fields.get("id")) or None,
        warnings=warnings_of(fields.get("warnings")),
        alternatives=tuple(
            _choice_of({}, other, model or named, request)
            for _, other in sorted(dict(other_choices(choices, most_answers(request))).items())
            # Without one that failed the others are answers still.
            if _reported(fields, other) is None and isinstance(other.get("message"), dict)
        ),
    )


def _choice_of(
    body: Mapping[str, Any], choice: Mapping[str, Any], model: str, request: Request | None
) -> Completion:
    message = choice["message"]
    reasoning = reasoning_of(message)
    opened = not reasoning and begins_thinking(model, request)
    answer, thought = split_whole(text_of(message.get("content")), opened=opened)
    calls = calls_of(message) or calls_of(choice)
    extras = Extras()
    extras.note(body, choice, message, usage_in(body, choice))
    return Completion(
        text=answer,
        reasoning=reasoning + thought,
        tool_calls=calls,
        # One engine leaves the reason out of a finished answer.
        finish_reason=finish_of(choice.get("finish_reason"), extras) or _unsaid(bool(calls)),
        logprobs=logprobs_of(choice) if _keeps_logprobs(request) else (),
        extra=extras.taken(),
    )


class FrameReader:
    """Reads one answer from the data of server-sent events, one by one.

    Args:
        model: the model that was asked; the one in the first frame when not given.
        request: what was asked: an answer bound to a form does not begin with thinking, and log
            probabilities nobody wanted are left out.
        index: which of several answers it is; the facts about all come with the first.

    Attributes:
        finished: the answer is whole.
    """

    def __init__(self, model: str = "", request: Request | None = None, *, index: int = 0) -> None:
        self.finished = False
        self._index = index
        self._model = model
        self._repeated: dict[str, str] = {}
        self._request = request
        self._keeps_logprobs = _keeps_logprobs(request)
        self._splitter: ThinkingSplitter | None = None
        self._numbers = CallNumbers()
        self._extras = Extras()
        self._warned: set[str] = set()
        self._said = False
        self._called = False

    def read(self, data: str, event: str = "message") -> Chunk | None:
        """The chunk in one event, None where there is none.

        Args:
            data: the event's data.
            event: the event's name.

        Raises:
            ServerError: the event is not JSON, or reports an error.
        """
        if event == "error":
            raise ServerError(f"The stream reported an error: {_event_text(data)}")
        if data.startswith("[DONE]"):
            return self._done()
        if not data or data.isspace():
            return None
        frame = frame_in(data)
        return self.take(frame, our_choice(frame.get("choices")))

    def take(self, frame: Mapping[str, Any], choice: Mapping[str, Any]) -> Chunk:
        """The chunk in one frame.

        Args:
            frame: the parsed JSON.
            choice: this answer's part of it, empty where it has none.

        Raises:
            ServerError: the frame reports an error.
        """
        ended = choice.get("finish_reason")
        if (ended or not choice or "error" in choice or "error" in frame) and (
            reported := _reported(frame, choice)
        ) is not None:
            raise ServerError(f"The stream reported an error: {reported}")
        delta = self._delta(choice)
        answer, reasoning = self._split(frame, delta)
        calls = self._calls(delta, choice)
        if answer or reasoning or calls:
            self._said = True
        finish: FinishReason | None = None
        if ended:
            finish, answer, reasoning = self._finish(ended, answer, reasoning)
        logprobs = self._logprobs(choice, delta) if choice.get("logprobs") is not None else ()
        if self._index:
            self._noted({}, choice, delta)
            return Chunk(answer, reasoning, calls, finish, logprobs=logprobs, index=self._index)
        return Chunk(
            text=answer,
            reasoning=reasoning,
            tool_calls=calls,
            finish_reason=finish,
            usage=self._noted(frame, choice, delta),
            model=self._first("model", frame),
            id=self._first("id", frame),
            logprobs=logprobs,
            warnings=self._warnings(frame["warnings"]) if "warnings" in frame else (),
        )

    def _first(self, name: str, frame: Mapping[str, Any]) -> str | None:
        """What every frame repeats, when it is new."""
        value = text(frame.get(name))
        if value == self._repeated.get(name):
            return None
        self._repeated[name] = value
        return value or None

    def close(self) -> Chunk | None:
        """What was held back, once no event follows; None where nothing was.

        Text that could have been the beginning of a tag, and the fields without a name.
        """
        answer, reasoning = self._splitter.rest() if self._splitter else ("", "")
        extra = self._extras.taken()
        if not (answer or reasoning or extra):
            return None
        self._said = self._said or bool(answer or reasoning)
        return Chunk(text=answer, reasoning=reasoning, extra=extra, index=self._index)

    def _done(self) -> Chunk | None:
        last = self.close()
        # Some engines leave the reason out; nothing at all before the end is no answer.
        if self.finished or not self._said:
            return last
        self.finished = True
        last = last or Chunk(index=self._index)
        return replace(last, finish_reason=_unsaid(self._called))

    def _delta(self, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        delta = choice.get("delta")
        if delta is None and not self._said:
            # An answer in one piece, of a server that does not stream.
            delta = choice.get("message")
        return delta if isinstance(delta, dict) else _NO_DELTA

    def _split(self, frame: Mapping[str, Any], delta: Mapping[str, Any]) -> tuple[str, str]:
        content = delta.get("content")
        reasoning = reasoning_of(delta)
        if not content and not reasoning:
            return "", ""
        if self._splitter is None:
            model = self._model or text(frame.get("model"))
            self._splitter = ThinkingSplitter(opened=begins_thinking(model, self._request))
        if reasoning:
            self._splitter.thinks_elsewhere()
        if not content:
            return "", reasoning
        answer, thought = self._splitter.split(text_of(content))
        return answer, reasoning + thought

    def _calls(
        self, delta: Mapping[str, Any], choice: Mapping[str, Any]
    ) -> tuple[ToolCallDelta, ...]:
        if not (delta.get("tool_calls") or choice.get("tool_calls") or "function_call" in delta):
            return ()
        calls = self._numbers.deltas(delta, choice)
        self._called = self._called or bool(calls)
        return calls

    def _logprobs(
        self, choice: Mapping[str, Any], delta: Mapping[str, Any]
    ) -> tuple[TokenLogprob, ...]:
        if not self._keeps_logprobs:
            return ()
        return logprobs_of(choice, text_of(delta.get("content")) or reasoning_of(delta))

    def _noted(
        self, frame: Mapping[str, Any], choice: Mapping[str, Any], delta: Mapping[str, Any]
    ) -> Usage | None:
        usage = usage_in(frame, choice)
        known = frame.keys() <= BODY and choice.keys() <= CHOICE and delta.keys() <= MESSAGE
        if usage or not known:
            self._extras.note(frame, choice, delta, usage)
        return usage_of(usage) if usage else None

    def _finish(
        self, reason: object, answer: str, reasoning: str
    ) -> tuple[FinishReason | None, str, str]:
        """The reason, once, and the text of its frame with what was held back before it."""
        if self._splitter is not None:
            more_answer, more_reasoning = self._splitter.rest()
            answer, reasoning = answer + more_answer, reasoning + more_reasoning
        if self.finished:
            # Some engines send a second, different reason; the first one is the true one.
            return None, answer, reasoning
        self.finished = True
        return finish_of(reason, self._extras), answer, reasoning

    def _warnings(self, warnings: object) -> tuple[str, ...]:
        new = tuple(dict.fromkeys(warnings_of(warnings)))
        new = tuple(each for each in new if each not in self._warned)
        self._warned.update(new)
        return new


def frame_in(data: str) -> Mapping[str, Any]:
    """The JSON object that an event's data is.

    Raises:
        ServerError: it is none.
    """
    frame = parsed(data, "A frame of the stream")
    if not isinstance(frame, dict):
        raise ServerError(f"A frame of the stream is no object: {described(frame)}")
    return frame


def _event_text(data: str) -> str:
    try:
        return error_text(parsed(data)) or excerpt(data)
    except ServerError:
        return excerpt(data)


def _reported(body: Mapping[str, Any], choice: Mapping[str, Any]) -> str | None:
    """The text of an error that came with a good status; None where there is none."""
    if body.get("error"):
        return error_text(body["error"]) or "an error without a text"
    if choice.get("error") or choice.get("finish_reason") == "error":
        return error_text(choice.get("error")) or "an error without a text"
    if "choices" not in body and any(body.get(name) for name in _NO_CHOICES):
        return error_text(body) or "an error without a text"
    return None


def _keeps_logprobs(request: Request | None) -> bool:
    # One engine sends those of the first tokens without being asked.
    return request is None or wants_logprobs(request)


def _unsaid(called: bool) -> FinishReason:  # noqa: FBT001 - the one thing it is about
    return "tool_calls" if called else "stop"
