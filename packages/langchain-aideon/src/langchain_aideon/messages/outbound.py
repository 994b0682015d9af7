"""Our answers as LangChain's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import AIMessage, AIMessageChunk, InvalidToolCall
from langchain_core.messages import ToolCall as LangChainToolCall
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk

from langchain_aideon.messages.blocks import PROVIDER
from langchain_aideon.messages.carried import CarriedChunk, CarriedCompletion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aideon_core import Chunk, Completion, ToolCall, Usage
    from aideon_core.types import TokenLogprob

_RUN_IDS: Final = "lc_run"
_OF_LANGCHAIN: Final = frozenset({"usage_metadata", "response_metadata"})
_REPLACED: Final = "�"


def from_completion(completion: Completion) -> AIMessage:
    """A whole answer as LangChain's.

    The answer of a LangChain model is its own message again, a copy, with the route and the
    cost in its ``response_metadata``.
    """
    if isinstance(completion, CarriedCompletion) and completion.original is not None:
        return _original(completion, completion.original)
    valid, invalid = _tool_calls(completion.tool_calls)
    return AIMessage(
        content=completion.text,
        tool_calls=valid,
        invalid_tool_calls=invalid,
        additional_kwargs=_reasoning(completion.reasoning),
        usage_metadata=_usage(completion.usage),
        response_metadata=response_metadata(completion) | _logprobs(completion.logprobs),
    )


def from_chunk(chunk: Chunk) -> AIMessageChunk:
    """A piece of an answer as LangChain's; the one with the route is the last.

    A LangChain model's piece is its own chunk again. The last chunk of such a stream, which is
    ours, tells the usage and the metadata that its ``extra`` has as ``usage_metadata`` and
    ``response_metadata``, and the route and the cost besides.
    """
    if isinstance(chunk, CarriedChunk) and chunk.original is not None:
        return chunk.original
    usage, facts = _ending(chunk)
    return AIMessageChunk(
        content=chunk.text,
        tool_call_chunks=[
            tool_call_chunk(
                name=delta.name or None,
                args=delta.arguments,
                id=delta.id or None,
                index=delta.index,
            )
            for delta in chunk.tool_calls
        ],
        additional_kwargs=_reasoning(chunk.reasoning),
        usage_metadata=usage,
        response_metadata=facts | _logprobs(chunk.logprobs),
        chunk_position=None if chunk.route is None else "last",
    )


def _ending(chunk: Chunk) -> tuple[UsageMetadata | None, dict[str, Any]]:
    """The usage and the facts of the last chunk, and what every other tells as well.

    LangChain joins texts and adds numbers: what is told more than once is told wrongly.
    """
    if chunk.route is None:
        # Which translator reads a chunk is asked of each of them.
        return None, {"model_provider": PROVIDER}
    facts = response_metadata(chunk)
    if not _OF_LANGCHAIN & chunk.extra.keys():
        return _usage(chunk.usage), facts
    theirs = chunk.extra.get("response_metadata") or {}
    return chunk.extra.get("usage_metadata"), {**theirs, **_choice(facts)}


def response_metadata(answer: Completion | Chunk) -> dict[str, Any]:
    """The facts about a whole answer that other parts of LangChain look for, as plain JSON.

    ``model_name``, ``model_provider``, ``finish_reason``, ``cost`` (US dollars as text, None
    where it is unknown) and ``route`` are always there; the provider's ``id``, ``warnings``
    and ``extra`` where there are any.
    """
    facts: dict[str, Any] = {
        "model_name": answer.model,
        "model_provider": PROVIDER,
        "finish_reason": answer.finish_reason,
        "cost": None if answer.cost is None else format(answer.cost, "f"),
        "route": None if answer.route is None else answer.route.as_dict(),
    }
    if answer.id is not None:
        facts["id"] = answer.id
    if answer.warnings:
        facts["warnings"] = list(answer.warnings)
    if answer.extra:
        facts["extra"] = dict(answer.extra)
    return facts


def _choice(facts: dict[str, Any]) -> dict[str, Any]:
    """What a router knows of an answer, and the model that gave it does not."""
    return {name: facts[name] for name in ("cost", "route", "warnings") if name in facts}


def _original(completion: CarriedCompletion, original: AIMessage) -> AIMessage:
    ours = response_metadata(completion)
    kept = {name: ours[name] for name in ("model_name", "finish_reason")}
    own_id = None if (original.id or "").startswith(_RUN_IDS) else original.id
    return original.model_copy(
        update={
            "id": own_id,
            "usage_metadata": original.usage_metadata or _usage(completion.usage),
            # The provider stays theirs: their translator reads their content.
            "response_metadata": {**kept, **original.response_metadata, **_choice(ours)},
        }
    )


def _usage(usage: Usage | None) -> UsageMetadata | None:
    if usage is None:
        return None
    return UsageMetadata(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        input_token_details=InputTokenDetails(cache_read=usage.cached_tokens),
        output_token_details=OutputTokenDetails(reasoning=usage.reasoning_tokens),
    )


def _tool_calls(
    calls: Sequence[ToolCall],
) -> tuple[list[LangChainToolCall], list[InvalidToolCall]]:
    valid: list[LangChainToolCall] = []
    invalid: list[InvalidToolCall] = []
    for call in calls:
        arguments: object = None
        try:
            arguments = json.loads(call.arguments or "{}", strict=False)
            problem = "The arguments are not an object."
        except (ValueError, RecursionError) as error:
            problem = f"The arguments are not JSON: {error}."
        if isinstance(arguments, dict):
            valid.append(
                LangChainToolCall(
                    name=call.name, args=arguments, id=call.id or None, type="tool_call"
                )
            )
        else:
            invalid.append(
                InvalidToolCall(
                    name=call.name or None,
                    args=call.arguments,
                    id=call.id or None,
                    error=problem,
                    type="invalid_tool_call",
                )
            )
    return valid, invalid


def _reasoning(text: str) -> dict[str, Any]:
    return {"reasoning_content": text} if text else {}


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Log probabilities in OpenAI's shape, which LangChain joins over chunks as they are."""
    if not tokens:
        return {}
    content = [
        {
            **_token(each.token, each.logprob),
            "top_logprobs": [_token(token, logprob) for token, logprob in each.top],
        }
        for each in tokens
    ]
    return {"logprobs": {"content": content}}


def _token(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": _bytes(token)}


def _bytes(token: str) -> list[int] | None:
    # A token may be half a character; which half is not known any more.
    if _REPLACED in token:
        return None
    try:
        return list(token.encode())
    except UnicodeEncodeError:
        return None
