"""What a step of an agent may cost at most, and what one did cost."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from langchain.agents.structured_output import StructuredOutputError
from langchain_core.messages import AIMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from aideon_core import routing
from aideon_core.backends.openai_compatible import OpenAICompatibleBackend
from aideon_core.errors import (
    AllBackendsFailed,
    BadRequest,
    ConfigError,
    InvalidOutput,
    StreamInterrupted,
    TimedOut,
)
from aideon_core.request import build
from aideon_core.types import Usage
from langchain_aideon.messages import to_messages
from langchain_aideon.middleware import money, steps
from langchain_aideon.middleware.money import NOTHING, Cost, Prices
from langchain_aideon.router import capabilities
from langchain_aideon.router.legs import ChatModelLeg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain.agents.middleware import ModelRequest
    from langchain_core.messages import BaseMessage

    from aideon_core.backends.base import Backend

_LONGEST: Final = ("max_tokens", "max_completion_tokens")


def prompt_tokens(request: ModelRequest[Any]) -> int:
    """How many tokens a step sends: exact by a local vocabulary, else about so many."""
    system = [] if request.system_message is None else [request.system_message]
    messages = to_messages([*system, *request.messages])
    tools = [convert_to_openai_tool(tool) for tool in request.tools]
    # A form is sent as tools of its own or as a schema; it is as long either way.
    specs = getattr(request.response_format, "schema_specs", None) or [
        getattr(request.response_format, "schema_spec", None)
    ]
    form = sum(routing.estimated(json.dumps(spec.json_schema)) for spec in specs if spec)
    try:
        counted = steps.client_of(request).count_tokens(messages, tools=tools)
    except BadRequest:
        # The local template refuses what a cloud model may read.
        counted = routing.estimated_tokens(build(messages, tools=tools))
    return counted + form


def worst(request: ModelRequest[Any], own: Prices) -> Decimal:
    """The most that a step may cost: 0 where no cloud model may be asked.

    Raises:
        ConfigError: nobody knows the price of a model that may be asked, or how much it
            may write.
    """
    clouds = [each for each in steps.may_ask(request).values() if each.side == "cloud"]
    if not clouds:
        return NOTHING
    words, prompt = steps.words(request), prompt_tokens(request)
    limit = words.get("max_tokens", getattr(steps.unbound(request.model), "max_tokens", None))
    answers = words.get("n")
    costs = [_worst(each, prompt, limit, answers, own) for each in clouds]
    # An answer that cannot be read is asked for once more, and then elsewhere.
    return 2 * sum(costs, NOTHING) if words.get("output_type") is not None else max(costs)


def _worst(
    backend: Backend, prompt: int, max_tokens: int | None, answers: int | None, own: Prices
) -> Decimal:
    if isinstance(backend, ChatModelLeg):
        longest, several = _made_with(backend)
        max_tokens, answers = max_tokens or longest, answers or several
    written = money.most_tokens(backend.facts, prompt, max_tokens)
    if written is None:
        raise ConfigError(
            f"Nobody knows how much {backend.model!r} may write, so no budget can hold it.",
            hint="Set max_tokens on the agent's model.",
        )
    if backend.model not in own and _bills_nothing(backend):
        return NOTHING
    cost = money.price(
        _provider(backend), backend.model, Usage(prompt, written * (answers or 1)), own
    )
    if cost is None:
        raise ConfigError(
            f"Nobody knows the price of {backend.model!r}, so no budget can hold it.",
            hint="Say it: BudgetMiddleware(..., prices={"
            f'{backend.model!r}: ("0.10", "0.40")}}), dollars for a million tokens read and '
            "written.",
        )
    return cost


def _made_with(leg: ChatModelLeg) -> tuple[int | None, int | None]:
    """The longest answer that a model of another library gives by itself, and how many."""
    chat, bound = capabilities.wrapped(leg.runnable)
    said = {name: bound.get(name, getattr(chat, name, None)) for name in (*_LONGEST, "n")}
    return max(said[name] or 0 for name in _LONGEST) or None, said["n"]


def _bills_nothing(backend: Backend) -> bool:
    return isinstance(backend, OpenAICompatibleBackend) and backend._host.prices is None  # noqa: SLF001


def _provider(backend: Backend) -> str | None:
    """The provider's id in the price data; a backend of the user's own has none."""
    if isinstance(backend, OpenAICompatibleBackend):
        return backend._host.prices  # noqa: SLF001 - the same product
    return backend._prices if isinstance(backend, ChatModelLeg) else None  # noqa: SLF001


def of_answers(messages: Sequence[BaseMessage], most: Decimal, own: Prices) -> list[Cost]:
    """What each answer among the messages cost: as told, as counted, or the most it may be."""
    return [_of_answer(each, most, own) for each in messages if isinstance(each, AIMessage)]


def _of_answer(message: AIMessage, most: Decimal, own: Prices) -> Cost:
    told = message.response_metadata
    if (cost := told.get("cost")) is not None:
        return Cost(Decimal(cost))
    usage, model = message.usage_metadata, str(told.get("model_name"))
    if usage is not None and model in own:
        tokens = Usage(usage["input_tokens"], usage["output_tokens"])
        counted = money.price(None, model, tokens, own)
        assert counted is not None
        return Cost(counted)
    return Cost(most, estimated=True)


def of_failure(error: BaseException, most: Decimal, own: Prices) -> list[Cost]:
    """What a call that failed may have cost: of answers nobody could read, and of broken ones.

    What a host refuses it does not bill. What was cancelled may have been billed in full.
    """
    if not isinstance(error, Exception):
        return [Cost(most, estimated=True)]
    if isinstance(error, StructuredOutputError):
        return of_answers([error.ai_message], most, own)
    if isinstance(error, AllBackendsFailed):
        return [cost for cause in error.exceptions for cost in of_failure(cause, most, own)]
    if isinstance(error, InvalidOutput):
        told = error.completion.cost if error.completion is not None else None
        return [Cost(most, estimated=True) if told is None else Cost(told)]
    if isinstance(error, StreamInterrupted | TimedOut):
        return [Cost(most, estimated=True)]
    return []
