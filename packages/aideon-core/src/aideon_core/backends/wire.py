"""The OpenAI-style chat format as Together speaks it: pure functions, both ways."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aideon_core.errors import ServerError
from aideon_core.types import (
    Chunk,
    Completion,
    FinishReason,
    Message,
    Request,
    ToolCall,
    ToolCallDelta,
    Usage,
)

_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_PASSED = (
    "temperature",
    "top_p",
    "max_tokens",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
)


def chat_body(request: Request, model: str, *, stream: bool) -> dict[str, Any]:
    """The JSON body of POST /v1/chat/completions; parameters left at None are not sent."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
    }
    for name in _PASSED:
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.stop:
        body["stop"] = list(request.stop)
    if request.tools:
        body["tools"] = list(request.tools)
    else:
        # A choice among no tools is refused by some engines and means nothing to the others.
        body.pop("tool_choice", None)
        body.pop("parallel_tool_calls", None)
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return body


def _message(message: Message) -> dict[str, Any]:
    content = message.content
    wire: dict[str, Any] = {
        "role": message.role,
        "content": content if isinstance(content, str) else list(content),
    }
    if message.name is not None:
        wire["name"] = message.name
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        wire["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    return wire


def completion_of(body: object) -> Completion:
    """Read a whole chat answer.

    Raises:
        ServerError: the body is not a chat completion.
    """
    choice = _first(_object(body).get("choices"))
    message = choice.get("message")
    if not isinstance(body, Mapping) or not isinstance(message, Mapping):
        reported = error_text(body) if _object(body).get("error") else repr(body)
        raise ServerError(f"The answer is not a chat completion: {reported[:200]}")
    calls = _calls(message.get("tool_calls"))
    return Completion(
        text=_text(message.get("content")),
        reasoning=_text(message.get("reasoning")) or _text(message.get("reasoning_content")),
        tool_calls=tuple(ToolCall(call.id, call.name, call.arguments) for call in calls),
        # One engine leaves the reason out of a finished answer.
        finish_reason=_finish(choice) or "stop",
        usage=usage_of(body.get("usage")),
        model=_text(body.get("model")) or None,
        id=_text(body.get("id")) or None,
    )


@dataclass(slots=True)
class FrameReader:
    """Reads the data of server-sent events one by one; ``finished`` once the answer is whole."""

    finished: bool = False
    _begun: bool = False

    def read(self, data: str) -> Chunk | None:
        """The chunk in one event, None where there is none.

        Raises:
            ServerError: the event is not JSON, or reports an error.
        """
        if data.startswith("[DONE]"):
            # Some engines leave the reason out; nothing at all before the end is no answer.
            if self._begun and not self.finished:
                self.finished = True
                return Chunk(finish_reason="stop")
            return None
        if not data.strip():
            return None
        try:
            frame = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ServerError(
                f"The stream sent a frame that is not JSON: {data[:200]!r}"
            ) from error
        if not isinstance(frame, Mapping):
            raise ServerError(f"The stream sent a frame that is no object: {data[:200]!r}")
        choice = _first(frame.get("choices"))
        if frame.get("error") or choice.get("finish_reason") == "error":
            reported = error_text(frame if frame.get("error") else choice)
            raise ServerError(f"The stream reported an error: {reported}")
        delta = _object(choice.get("delta"))
        finish = _finish(choice)
        self.finished = self.finished or finish is not None
        chunk = Chunk(
            text=_text(delta.get("content")),
            reasoning=_text(delta.get("reasoning")) or _text(delta.get("reasoning_content")),
            tool_calls=_calls(delta.get("tool_calls") or choice.get("tool_calls")),
            finish_reason=finish,
            usage=usage_of(frame.get("usage")),
            model=_text(frame.get("model")) or None,
            id=_text(frame.get("id")) or None,
        )
        self._begun = self._begun or bool(chunk.text or chunk.reasoning or chunk.tool_calls)
        return chunk


def usage_of(usage: object) -> Usage | None:
    """Token counts in any of the shapes engines send; None where they send none."""
    counts = _object(usage)
    if _count(counts.get("prompt_tokens")) is None:
        return None
    prompt, output = (
        _object(counts.get(f"{kind}_tokens_details")) for kind in ("prompt", "completion")
    )
    return Usage(
        input_tokens=counts["prompt_tokens"],
        output_tokens=_count(counts.get("completion_tokens")) or 0,
        cached_tokens=_count(counts.get("cached_tokens"))
        or _count(prompt.get("cached_tokens"))
        or 0,
        reasoning_tokens=_count(counts.get("reasoning_tokens"))
        or _count(output.get("reasoning_tokens"))
        or 0,
    )


def error_text(body: object) -> str:
    """The message in an error body of any of the shapes seen: nested, object, string."""
    error = _object(body).get("error", body)
    while isinstance(error, Mapping):
        error = error.get("message", "")
    return str(error or "").strip()


def _finish(choice: Mapping[str, Any]) -> FinishReason | None:
    reason = _text(choice.get("finish_reason"))
    return _FINISH.get(reason, "stop") if reason else None


def _calls(calls: object) -> tuple[ToolCallDelta, ...]:
    if not isinstance(calls, list):
        return ()
    return tuple(_call(_object(call), position) for position, call in enumerate(calls))


def _call(call: Mapping[str, Any], position: int) -> ToolCallDelta:
    function = _object(call.get("function"))
    index = call.get("index")
    return ToolCallDelta(
        # One engine numbers its calls -1.
        index=index if isinstance(index, int) and index >= 0 else position,
        id=_text(call.get("id")),
        name=_text(function.get("name")),
        arguments=_text(function.get("arguments")),
    )


def _count(value: object) -> int | None:
    sound = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if sound else None  # type: ignore[return-value]


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _first(items: object) -> Mapping[str, Any]:
    return _object(items[0]) if isinstance(items, list) and items else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
