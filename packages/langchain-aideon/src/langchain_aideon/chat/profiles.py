"""What every model that may answer can do, as LangChain's model profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langchain_core.language_models import ModelProfile

    from aideon_core.backends.base import Backend
    from aideon_core.client_base import ClientBase
    from aideon_core.routing import Ability

T = TypeVar("T", bound=int)


class Met(dict[str, Any]):
    """A profile that was made here, and is made anew for a copy; one that was given stays."""


def reachable(client: ClientBase) -> list[Backend]:
    """The backends that the client's policy may ask; all, where a policy does not tell."""
    backends = list(client.backends.values())
    sides = getattr(client.policy, "sides", None)
    return [each for each in backends if sides is None or each.side in sides]


def of(backends: Sequence[Backend]) -> ModelProfile:
    """What every one of the backends can do; what is not known of one leaves its key out.

    ``max_input_tokens`` is the smallest context that is known, so that a conversation kept
    below it can be answered by each of them. A longer one still goes to those it fits into.
    """
    facts = [each.facts for each in backends]
    tools = _all_can(backends, "tools")
    images = _all_can(backends, "media") and _every(each.media for each in facts)
    met: dict[str, Any] = {
        "name": "|".join(each.model for each in backends),
        "max_input_tokens": _least(each.context_tokens for each in facts),
        "max_output_tokens": _least(each.output_tokens for each in facts),
        "text_inputs": True,
        "image_inputs": images,
        "image_url_inputs": images,
        "text_outputs": True,
        "reasoning_output": _every(each.reasoning for each in facts),
        "tool_calling": tools,
        "tool_choice": tools,
        "tool_call_streaming": tools,
        "structured_output": _all_can(backends, "json"),
        "temperature": True,
    }
    known = {key: value for key, value in met.items() if value is not None}
    return Met(known)  # type: ignore[return-value]


def _all_can(backends: Iterable[Backend], ability: Ability) -> bool:
    return all(ability in each.abilities for each in backends)


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _every(values: Iterable[bool | None]) -> bool | None:
    """Whether it holds for all; one that does not settles it, one that is unknown leaves it."""
    seen = set(values)
    if False in seen:
        return False
    return None if None in seen else True
