"""Requests as the chat wire has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from aideon_core.types import Message, Request

_PASSED: Final = (
    "temperature",
    "top_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
)


@dataclass(frozen=True, slots=True)
class RequestDialect:
    """Where servers of OpenAI's chat format differ in what they are asked.

    Attributes:
        logprobs: how log probabilities are asked for: ``"openai"`` is ``logprobs: true`` with
            ``top_logprobs``, ``"integer"`` is ``logprobs`` as the number of alternatives.
        max_tokens: the parameter that limits the answer.
        stream_options: whether token counts of a stream have to be asked for.
    """

    logprobs: Literal["integer", "openai"] = "openai"
    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stream_options: bool = True


TOGETHER: Final = RequestDialect(logprobs="integer")
"""Together AI's own."""
OPENAI: Final = RequestDialect()
"""That of servers which follow OpenAI to the letter."""


def chat_body(
    request: Request, model: str, *, stream: bool, dialect: RequestDialect = TOGETHER
) -> dict[str, Any]:
    """The JSON body of POST /v1/chat/completions; parameters left at None are not sent."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
    }
    for name in _PASSED:
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.max_tokens is not None:
        body[dialect.max_tokens] = request.max_tokens
    if request.stop:
        body["stop"] = list(request.stop)
    if request.tools:
        body["tools"] = list(request.tools)
    else:
        # A choice among no tools is refused by some engines and means nothing to the others.
        body.pop("tool_choice", None)
        body.pop("parallel_tool_calls", None)
    body |= _logprobs(request, dialect)
    if stream:
        body["stream"] = True
        if dialect.stream_options:
            body["stream_options"] = {"include_usage": True}
    return body


def wants_logprobs(request: Request) -> bool:
    """Whether a request asks for log probabilities, by either parameter."""
    return bool(request.top_logprobs if request.logprobs is None else request.logprobs)


def _logprobs(request: Request, dialect: RequestDialect) -> dict[str, Any]:
    if not wants_logprobs(request):
        return {}
    if dialect.logprobs == "integer":
        # 0 asks for none at all, even of the tokens in the answer.
        return {"logprobs": request.top_logprobs or 1}
    alternatives = request.top_logprobs
    return {"logprobs": True} | ({} if alternatives is None else {"top_logprobs": alternatives})


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
