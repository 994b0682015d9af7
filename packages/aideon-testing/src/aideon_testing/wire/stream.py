"""Chat answers as a stream of frames."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING

from aideon_core.types import Chunk, Completion, ToolCall, ToolCallDelta, Usage
from aideon_testing.dialects import Frame
from aideon_testing.wire import compact, shapes
from aideon_testing.wire.thinking import OPENING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aideon_core.types import TokenLogprob
    from aideon_testing.dialects import CallLayout, Dialect, Stream
    from aideon_testing.wire import Stamp

_ERROR = Frame(
    "id object created choices model",
    "index text error finish_reason delta",
    "token_id role content",
)
_BASIC_PLANE = "\uffff"
_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(slots=True)
class _Choice:
    """How far one choice has come."""

    index: int
    opened: bool = False
    reasoned: bool = False
    frames: int = 0
    held: Chunk | None = None
    calls: dict[int, list[ToolCallDelta]] = field(default_factory=dict)
    called: bool = False
    finish: Chunk | None = None
    prompt: Usage | None = None
    usage: Usage | None = None

    @property
    def cut(self) -> bool:
        """Whether a limit or a stop string ended it, and not the model."""
        finish = self.finish
        return finish is not None and (
            finish.finish_reason == "length" or "stop_reason" in finish.extra
        )


class StreamWriter:
    """Writes the frames of one stream.

    Args:
        stamp: the response's.
        dialect: the model's.
        stream: the layout to follow.
        choices: how many there will be.
        seed: the one asked for.
    """

    def __init__(
        self,
        stamp: Stamp,
        dialect: Dialect,
        stream: Stream,
        *,
        choices: int = 1,
        seed: object = None,
    ) -> None:
        self._dialect = dialect
        self._stream = stream
        self._choices = [_Choice(index) for index in range(choices)]
        self._seed = shapes.seed_number(dialect, seed, stamp.id)
        self._warnings: list[str] = []
        trace = sha256(stamp.id.encode()).hexdigest()
        self._top = {
            "id": f"chatcmpl-{trace[:32]}" if stream.engine_ids else stamp.id,
            "object": "chat.completion.chunk",
            "created": int(stamp.created),
            "model": stamp.model + stream.model_suffix,
        }

    def say(self, chunk: Chunk, index: int = 0) -> Iterator[bytes]:
        """The frames that say what a chunk says, as far as they can be sent already."""
        choice = self._choices[index]
        self._warnings += chunk.warnings
        yield from self._open(choice, chunk)
        if chunk.reasoning:
            tokens = () if chunk.text else chunk.logprobs
            yield from self._reason(choice, Chunk(reasoning=chunk.reasoning, logprobs=tokens))
        if chunk.text and not self._opens_thinking(chunk):
            yield from self._write(choice, Chunk(text=chunk.text, logprobs=chunk.logprobs))
        for delta in chunk.tool_calls:
            yield from self._call(choice, delta)
        if chunk.finish_reason is not None and choice.finish is None:
            choice.finish = chunk
            yield from self._send_calls(choice)
            if not self._counts_at_finish:
                yield from self._finish(choice, chunk)
        if chunk.usage is not None:
            yield from self._count(choice, chunk.usage)

    def end(self) -> Iterator[bytes]:
        """The frames held back because more could have followed."""
        for choice in self._choices:
            yield from self._send_calls(choice)
            yield from self._release(choice)
            if choice.finish is not None and choice.usage is None and self._counts_at_finish:
                yield from self._finish(choice, choice.finish)

    def failure(self, index: int = 0) -> bytes:
        """The frame that tells of a failure once the status has been sent."""
        # What JavaScript makes of an error that it is to write as text.
        told = {"error": "[object Object]", "finish_reason": "error"}
        return self._frame(self._choices[index], _ERROR, Chunk(), told)

    @property
    def _counts_at_finish(self) -> bool:
        return self._stream.usage_on in ("finish", "every")

    def _opens_thinking(self, chunk: Chunk) -> bool:
        return self._stream.thinking is not None and chunk.text == OPENING

    def _open(self, choice: _Choice, chunk: Chunk) -> Iterator[bytes]:
        thinking = self._stream.thinking
        if thinking is not None and self._opens_thinking(chunk):
            yield self._frame(choice, thinking, chunk, {"logprobs": 0, "token_id": _number(chunk)})
        if thinking is not None and not _speaks(chunk):
            return  # whether the model begins by thinking is not known yet
        if not choice.opened and self._stream.opener is not None:
            yield self._frame(choice, self._stream.opener, Chunk())
        choice.opened = True

    def _reason(self, choice: _Choice, chunk: Chunk) -> Iterator[bytes]:
        if self._stream.before_reasoning and not choice.reasoned:
            yield from self._write(choice, Chunk(text=self._stream.before_reasoning))
        choice.reasoned = True
        yield from self._write(choice, chunk)

    def _write(self, choice: _Choice, chunk: Chunk) -> Iterator[bytes]:
        yield from self._send_calls(choice)
        yield from self._release(choice)
        if self._stream.split_glyphs and max(chunk.text, default="") > _BASIC_PLANE:
            yield self._frame(choice, self._stream.text, Chunk())
        choice.held = chunk
        if self._stream.finish_rides == "never":
            yield from self._release(choice)

    def _release(self, choice: _Choice) -> Iterator[bytes]:
        if choice.held is not None:
            chunk, choice.held = choice.held, None
            choice.frames += 1
            yield self._frame(choice, self._stream.text, chunk, usage=self._running(choice))

    def _call(self, choice: _Choice, delta: ToolCallDelta) -> Iterator[bytes]:
        yield from self._release(choice)
        calls = self._stream.calls
        begins = delta.index not in choice.calls
        choice.calls.setdefault(delta.index, []).append(delta)
        if not calls.whole:
            layout = calls.first if begins else calls.more or calls.first
            call = ToolCall(delta.id, delta.name, delta.arguments)
            yield self._call_frame(choice, layout, call, delta.index)

    def _send_calls(self, choice: _Choice) -> Iterator[bytes]:
        """Send the calls that had to be whole, or the one that is sent a second time."""
        calls = self._stream.calls
        if calls.whole and choice.calls:
            deltas = [delta for of_one in choice.calls.values() for delta in of_one]
            whole = Completion.from_chunks([Chunk(tool_calls=tuple(deltas))]).tool_calls
            for index, call in zip(sorted(choice.calls), whole, strict=True):
                # A call that was cut is nothing to finish with.
                last = calls.finishes and call is whole[-1] and not choice.cut
                yield from self._whole_call(choice, call, index, "tool_calls" if last else None)
            choice.calls.clear()
        elif calls.corrupt and choice.calls and choice.finish is not None:
            again = max(choice.calls) + 1
            deltas = choice.calls[again - 1]
            arguments = "".join(delta.arguments for delta in deltas)
            other_id = f"call_{sha256(deltas[0].id.encode()).hexdigest()[:24]}"
            begun = replace(deltas[0], index=again, id=other_id, arguments="")
            for delta in (begun, ToolCallDelta(again, arguments=arguments[:-1])):
                yield from self._call(choice, delta)
            choice.calls.clear()

    def _whole_call(
        self, choice: _Choice, call: ToolCall, index: int, finish_reason: str | None
    ) -> Iterator[bytes]:
        calls = self._stream.calls
        if calls.opener is not None and not choice.called:
            yield self._frame(choice, calls.opener, Chunk())
        choice.called = True
        if calls.more is None:
            yield self._call_frame(choice, calls.first, call, index)
        else:
            yield self._call_frame(choice, calls.first, replace(call, arguments=""), index)
            yield self._call_frame(choice, calls.more, call, index, finish_reason)

    def _call_frame(
        self,
        choice: _Choice,
        layout: CallLayout,
        call: ToolCall,
        index: int,
        finish_reason: str | None = None,
    ) -> bytes:
        calls = self._stream.calls
        beside = calls.place == "choice"
        shape = [shapes.call_shape(layout, call, -1 if beside else index)]
        told = {
            "choice_calls" if beside else "delta_calls": shape,
            "finish_reason": finish_reason,
        }
        frame = calls.frame or self._stream.text
        return self._frame(choice, frame, Chunk(), told, self._running(choice))

    def _finish(self, choice: _Choice, finish: Chunk) -> Iterator[bytes]:
        if not self._rides(choice):
            yield from self._release(choice)
        piece, choice.held = choice.held or Chunk(logprobs=finish.logprobs), None
        reason = shapes.finish_word(self._dialect, finish.finish_reason, cut=choice.cut)
        stop = finish.extra.get("stop_reason") if choice.cut else self._stream.end_token
        for layout in self._stream.finish:
            told = {"finish_reason": reason, "matched_stop": stop, "stop_reason": stop}
            if layout is self._stream.finish[-1]:
                warnings = self._warnings if self._stream.usage_on == "finish" else ()
                yield self._frame(choice, layout, piece, told, self._total(), warnings)
            else:
                yield self._frame(choice, layout, piece, told)
            piece = Chunk()
            reason = "stop" if reason == "tool_calls" else reason

    def _rides(self, choice: _Choice) -> bool:
        match self._stream.finish_rides:
            case "length":
                return choice.finish is not None and choice.finish.finish_reason == "length"
            case "cut":
                return choice.cut
            case rides:
                return rides == "always"

    def _count(self, choice: _Choice, usage: Usage) -> Iterator[bytes]:
        if choice.finish is None:
            choice.prompt = usage
            return
        choice.usage = usage
        if self._counts_at_finish:
            yield from self._finish(choice, choice.finish)
        total = self._total()
        if total is not None and self._stream.usage_on in ("frame", "every"):
            yield self._event(Frame().top, [], total, self._warnings)

    def _running(self, choice: _Choice) -> Usage | None:
        if self._stream.usage_on != "every" or choice.prompt is None:
            return None
        return Usage(choice.prompt.input_tokens, choice.frames)

    def _total(self) -> Usage | None:
        usages = [choice.usage for choice in self._choices if choice.usage is not None]
        return shapes.usage_sum(usages) if len(usages) == len(self._choices) else None

    def _frame(
        self,
        choice: _Choice,
        layout: Frame,
        chunk: Chunk,
        told: Mapping[str, object] = _NOTHING,
        usage: Usage | None = None,
        warnings: Sequence[str] = (),
    ) -> bytes:
        tokens = shapes.told(self._dialect, chunk)
        values = {
            "index": choice.index,
            "role": "assistant",
            "text": chunk.text,
            "content": chunk.text or layout.content,
            "reasoning": chunk.reasoning or None,
            "token_id": _number(chunk) if self._stream.token_ids else None,
            "seed": self._seed if told.get("finish_reason") else None,
            **self._logprobs(tokens),
            **told,
        }
        delta = shapes.picked(layout.delta, {**values, "tool_calls": told.get("delta_calls")})
        values |= {"delta": delta, "tool_calls": told.get("choice_calls")}
        return self._event(layout.top, [shapes.picked(layout.choice, values)], usage, warnings)

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, object]:
        if not tokens:
            return {"logprobs": None}
        if not self._stream.logprobs:
            return {"logprobs": tokens[0].logprob, "top_logprobs": dict(tokens[0].top)}
        top = [
            [{"token": token, "logprob": logprob} for token, logprob in each.top] for each in tokens
        ]
        nothing = [None] * len(tokens)
        return {"logprobs": shapes.lists_shape(self._stream.logprobs, tokens, nothing, top)}

    def _event(
        self,
        layout: str,
        choices: Sequence[object],
        usage: Usage | None,
        warnings: Sequence[str],
    ) -> bytes:
        values = {
            **self._top,
            "choices": choices,
            "usage": shapes.usage_shape(self._stream.usage, usage) if usage else None,
            "warnings": shapes.warnings_shape(warnings),
        }
        return b"data: " + compact(shapes.picked(layout, values)) + b"\n\n"


def _speaks(chunk: Chunk) -> bool:
    return bool(chunk.text or chunk.reasoning or chunk.tool_calls or chunk.finish_reason)


def _number(chunk: Chunk) -> int:
    return shapes.token_number(chunk.text or chunk.reasoning)
