"""Requests as the chat wire has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from aideon_core.errors import Unsupported

if TYPE_CHECKING:
    from aideon_core.types import Message, Request

_PASSED: Final = (
    "temperature",
    "top_p",
    "min_p",
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
        repetition_penalty: the parameter of that meaning.
        no_top_k: the ``top_k`` that is off.
        stream_options: whether token counts of a stream have to be asked for.
    """

    logprobs: Literal["integer", "openai"] = "openai"
    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    repetition_penalty: Literal["repetition_penalty", "repeat_penalty"] = "repetition_penalty"
    no_top_k: Literal[-1, 0] = 0
    stream_options: bool = True


TOGETHER: Final = RequestDialect(logprobs="integer", no_top_k=-1)
"""Together AI's own."""
OPENAI: Final = RequestDialect()
"""That of servers which follow OpenAI to the letter."""
VLLM: Final = RequestDialect(no_top_k=-1)
"""That of vLLM, of which older ones refuse a ``top_k`` of 0."""
LLAMA_CPP: Final = RequestDialect(repetition_penalty="repeat_penalty")
"""That of servers which name their samplers as llama.cpp does."""


def chat_body(
    request: Request, model: str, *, stream: bool, dialect: RequestDialect = TOGETHER
) -> dict[str, Any]:
    """The JSON body of POST /v1/chat/completions; parameters left at None are not sent.

    Raises:
        Unsupported: the answer is to go on from a prefix, for which the format has no place.
    """
    if request.prefix is not None:
        raise Unsupported(
            f"{model!r} cannot go on from a given beginning here.",
            hint="Leave prefix out, or ask a local model.",
        )
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
    body |= _sampling(request, dialect) | _logprobs(request, dialect)
    if stream:
        body["stream"] = True
        if dialect.stream_options:
            body["stream_options"] = {"include_usage": True}
    return body


def most_answers(request: Request | None) -> int:
    """How many answers were asked for."""
    return 1 if request is None else request.n or 1


def wants_logprobs(request: Request) -> bool:
    """Whether a request asks for log probabilities, by either parameter."""
    return bool(request.top_logprobs if request.logprobs is None else request.logprobs)


def _sampling(request: Request, dialect: RequestDialect) -> dict[str, Any]:
    """The parameters that are not passed on by their own names and values."""
    body: dict[str, Any] = {}
    if request.top_k is not None:
        body["top_k"] = request.top_k if request.top_k > 0 else dialect.no_top_k
    if request.repetition_penalty is not None:
        body[dialect.repetition_penalty] = request.repetition_penalty
    if request.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in request.logit_bias.items()}
    if (most := most_answers(request)) > 1:
        body["n"] = most
    return body


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
