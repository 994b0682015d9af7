"""What the middleware here know of a step: whose model it asks, where that may go, and why."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, TypeVar

from langchain.agents.middleware import ModelResponse
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableBinding

from aideon_core.errors import ConfigError
from aideon_core.policy import Prefer, named
from langchain_aideon.chat.base import ClientChatModel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from langchain.agents.middleware import ModelRequest
    from langchain_core.messages import BaseMessage

    from aideon_core import Client
    from aideon_core.backends.base import Backend
    from aideon_core.policy import Policy
    from aideon_core.types import Side

T = TypeVar("T")

LOCAL_ONLY: Final = "local-only"
_BOTH: Final[tuple[Side, ...]] = ("local", "cloud")


def client_of(request: ModelRequest[Any]) -> Client:
    """The client behind a step's model.

    Raises:
        ConfigError: the model is no ChatAideon, no AideonRouter and no binding of one.
    """
    model = unbound(request.model)
    if not isinstance(model, ClientChatModel):
        raise ConfigError(
            f"The agent's model is a {type(model).__name__}, which has no local and cloud side "
            "to choose between.",
            hint="Give create_agent a ChatAideon, or an AideonRouter over your own models.",
        )
    return model._client  # noqa: SLF001 - the same package


def unbound(model: object) -> object:
    """The model under whatever was bound to it."""
    while isinstance(model, RunnableBinding):
        model = model.bound
    return model


def words(request: ModelRequest[Any]) -> dict[str, Any]:
    """What the model is called with: bound words first, those of the step over them."""
    bound: dict[str, Any] = {}
    model: object = request.model
    while isinstance(model, RunnableBinding):
        bound = {**model.kwargs, **bound}
        model = model.bound
    return {**bound, **request.model_settings}


def policy_of(request: ModelRequest[Any]) -> Policy:
    """The rule that this step goes by."""
    policy = words(request).get("policy")
    return client_of(request).policy if policy is None else named(policy)


def may_ask(request: ModelRequest[Any]) -> dict[str, Backend]:
    """The backends that this step may end up at, by name.

    Raises:
        ConfigError: the step asks for a model that does not exist.
    """
    client, policy = client_of(request), policy_of(request)
    # A policy of the user's own may use either side.
    sides = policy.sides if isinstance(policy, Prefer) else _BOTH
    # What a call with model= would ask is the client's to know.
    asked = client._asked(words(request).get("model"))  # noqa: SLF001 - the same product
    return {name: each for name, each in asked.items() if each.side in sides}


def has_local(request: ModelRequest[Any]) -> bool:
    """Whether the step's model has a local side, ready or not."""
    return any(each.side == "local" for each in client_of(request).backends.values())


def is_local(request: ModelRequest[Any]) -> bool:
    """Whether something before has already kept this step on this machine."""
    policy = request.model_settings.get("policy")
    return getattr(policy, "name", policy) == LOCAL_ONLY


def kept_local(request: ModelRequest[Any]) -> ModelRequest[Any]:
    """The step, allowed to ask local models alone; a cloud model asked for is forgotten."""
    settings = {**request.model_settings, "policy": LOCAL_ONLY}
    if (model := words(request).get("model")) is not None:
        found = client_of(request)._asked(model)  # noqa: SLF001 - as above
        settings["model"] = model if any(b.side == "local" for b in found.values()) else None
    return request.override(model_settings=settings)


def explained(response: ModelResponse[Any], **facts: str) -> ModelResponse[Any]:
    """The response whose answers tell these facts in their routes."""
    result = [
        _with_facts(message, facts) if isinstance(message, AIMessage) else message
        for message in response.result
    ]
    return ModelResponse(result=result, structured_response=response.structured_response)


def route_of(message: BaseMessage) -> Mapping[str, Any]:
    """The route that an answer tells; empty for what is no answer of a client's."""
    route: Mapping[str, Any] = message.response_metadata.get("route") or {}
    return route


def _with_facts(message: AIMessage, facts: Mapping[str, str]) -> AIMessage:
    route = {**route_of(message), **facts}
    metadata = {**message.response_metadata, "route": route}
    return message.model_copy(update={"response_metadata": metadata})


def at_once(value: T | Awaitable[T], what: str) -> T:
    """What a function gave to a blocking agent.

    Raises:
        ConfigError: it is a coroutine.
    """
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise ConfigError(
            f"{what} is an async function, and the agent was called with invoke or stream.",
            hint="Call ainvoke or astream, or give a plain function.",
        )
    return value


async def awaited(value: T | Awaitable[T]) -> T:
    """What a function gave, now or later."""
    return await value if inspect.isawaitable(value) else value
