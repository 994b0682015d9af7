"""The chat wire as Together's engines speak it today: pure functions, no I/O.

Older engines say the same in other ways; each of those will be one more module like this.
"""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha1, sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aideon_core.types import Chunk, Completion, ToolCallDelta, Usage

JSON_TYPE = "application/json; charset=utf-8"
STREAM_TYPE = "text/event-stream;charset=utf-8"
DONE = b"data: [DONE]\n\n"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What one response says of itself in its headers and in every frame.

    ``created`` is when the request arrived, in seconds since 1970.
    """

    id: str
    created: float
    model: str = ""


def response_id(number: int) -> str:
    """The id of a server's ``number``-th response: prefix, engine pool and trace."""
    prefix = ""
    rest = number
    while rest or len(prefix) < 6:  # noqa: PLR2004 - the wire's own length
        rest, digit = divmod(rest, 36)
        prefix = _BASE36[digit] + prefix
    return f"o{prefix}-4YNCb4-{sha256(str(number).encode()).hexdigest()[:16]}"


def compact(value: object) -> bytes:
    """JSON without spaces, as frames and ``/v1/models`` have it."""
    # Half a surrogate pair cannot be UTF-8; the replacement is its JSON escape.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def pretty(value: object) -> bytes:
    """JSON indented by two spaces, as whole answers and errors have it."""
    return json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8", "backslashreplace")


def completion_body(stamp: Stamp, completion: Completion) -> dict[str, object]:
    """The body of an answer that is not streamed."""
    message: dict[str, object] = {
        "role": "assistant",
        "content": completion.text,
        "tool_calls": [
            _call(index, call.id, call.name, call.arguments)
            for index, call in enumerate(completion.tool_calls)
        ],
    }
    if completion.reasoning:
        message["reasoning"] = completion.reasoning
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": completion.finish_reason,
        "seed": None,
    }
    return {
        "id": stamp.id,
        "object": "chat.completion",
        "created": int(stamp.created),
        "model": stamp.model,
        "metadata": {"weight_version": "default"},
        "prompt": [],
        "choices": [choice],
        "usage": _usage(completion.usage),
    }


def opener(stamp: Stamp) -> bytes:
    """The first frame of a stream: a role, no text yet, and no ``usage`` key."""
    frame = _frame(stamp, [_choice()])
    del frame["usage"]
    return _event(frame)


def frames(stamp: Stamp, chunk: Chunk) -> Iterator[bytes]:
    """The frames that say what a chunk says: one for each thing in it, none if it is empty."""
    if chunk.reasoning:
        yield _event(_frame(stamp, [_choice(reasoning=chunk.reasoning)]))
    if chunk.text:
        yield _event(_frame(stamp, [_choice(text=chunk.text)]))
    for delta in chunk.tool_calls:
        yield _event(_frame(stamp, [_choice(call=delta)]))
    if chunk.finish_reason is not None:
        yield _event(_frame(stamp, [_choice(finish_reason=chunk.finish_reason)]))
    if chunk.usage is not None:
        # Sent unasked, without choices: clients that read choices[0] must meet it here.
        yield _event(_frame(stamp, [], chunk.usage))


def api_headers(stamp: Stamp, content: bytes | None, *, limits: bool = True) -> dict[str, str]:
    """The headers of an answer of the API itself.

    Args:
        stamp: the response's.
        content: the whole body, ``None`` for a stream.
        limits: whether to tell the rate limits, as all but a few errors do.
    """
    headers = {
        "access-control-allow-origin": "*",
        "cf-ray": f"{stamp.id.rpartition('-')[2]}-LHR",
        "content-type": STREAM_TYPE if content is None else JSON_TYPE,
        "vary": "accept-encoding",
        "x-api-received": _moment(stamp.created),
        "x-request-id": stamp.id,
    }
    if content is None:
        headers["cache-control"] = "no-cache, no-transform"
    else:
        headers["etag"] = _etag(content)
    if limits:
        # The wire sends retry-after with success as well; it is no sign of a limit.
        headers |= {
            "retry-after": "2",
            "x-ratelimit": "false",
            "x-ratelimit-limit": "10",
            "x-ratelimit-limit-tokens": "3000",
            "x-ratelimit-remaining": "19",
            "x-ratelimit-remaining-tokens": "3000",
            "x-ratelimit-reset": "2",
        }
    return headers


def call_headers(stamp: Stamp, *, ended: float | None = None) -> dict[str, str]:
    """The headers of an answer an engine gave; ``ended`` in seconds since 1970."""
    trace = sha256(stamp.id.encode()).hexdigest()
    parts = trace[:8], trace[8:12], trace[12:16], trace[16:20], trace[20:32]
    headers = {
        "x-amzn-trace-id": f"{'-'.join(parts)}-noamzn",
        "x-api-call-start": _moment(stamp.created),
        "x-inference-version": "v2",
    }
    if ended is not None:
        headers["x-api-call-end"] = _moment(ended)
    return headers


def web_headers() -> dict[str, str]:
    """The headers of ``/v1/models``, which a web application answers and not the API."""
    return {"access-control-allow-origin": "*", "content-type": "application/json"}


def _event(frame: Mapping[str, object]) -> bytes:
    return b"data: " + compact(frame) + b"\n\n"


def _frame(
    stamp: Stamp, choices: list[dict[str, object]], usage: Usage | None = None
) -> dict[str, object]:
    return {
        "id": stamp.id,
        "object": "chat.completion.chunk",
        "created": int(stamp.created),
        "choices": choices,
        "model": stamp.model,
        "usage": _usage(usage),
    }


def _choice(
    *,
    text: str = "",
    reasoning: str | None = None,
    call: ToolCallDelta | None = None,
    finish_reason: str | None = None,
) -> dict[str, object]:
    delta: dict[str, object] = {"token_id": None, "role": "assistant", "content": text}
    if call is not None:
        name, call_id = call.name or None, call.id or None
        delta["tool_calls"] = [_call(call.index, call_id, name, call.arguments)]
    delta["reasoning"] = reasoning
    return {
        "index": 0,
        "text": text,
        "logprobs": None,
        "finish_reason": finish_reason,
        "delta": delta,
    }


def _call(index: int, call_id: str | None, name: str | None, arguments: str) -> dict[str, object]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "index": index, "type": "function", "function": function}


def _usage(usage: Usage | None) -> dict[str, object] | None:
    if usage is None:
        return None
    counts: dict[str, object] = {
        "prompt_tokens": usage.input_tokens,
        "total_tokens": usage.total_tokens,
        "completion_tokens": usage.output_tokens,
    }
    if usage.cached_tokens:
        counts["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    return counts | {"reasoning_tokens": usage.reasoning_tokens}


def _etag(content: bytes) -> str:
    digest = b64encode(sha1(content, usedforsecurity=False).digest()).decode()
    return f'W/"{len(content):x}-{digest[:27]}"'


def _moment(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
