"""``AideonRoutingMiddleware``: a policy for each step of an agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain.agents.middleware import AgentMiddleware

from aideon_core.errors import ConfigError
from aideon_core.policy import named
from langchain_aideon.middleware import rules, steps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain.agents.middleware import ModelRequest, ModelResponse

    from langchain_aideon.middleware.rules import Choice, Choose, Rules


class AideonRoutingMiddleware(AgentMiddleware[Any, Any, Any]):
    """Chooses for each model call of an agent by which policy it is answered.

    The choice and its reason are in the answer's ``response_metadata["route"]``, as ``policy``
    and ``rule``. A step that other middleware keeps local stays local, whatever the order, and
    then tells no rule.

    Args:
        choose: a function of the ModelRequest that gives a policy, a Choice, or None to leave
            the step as it is; it may be async where the agent is. Or rules: the first
            Condition that holds decides, and no rule leaves the step as it is.

    Raises:
        ConfigError: a policy that does not exist; at a call, a model that has no sides.

    Example:
        .. code-block:: python

            AideonRoutingMiddleware({first_step: "cloud-first", after_tools: "local-first"})
    """

    def __init__(self, choose: Choose | Rules) -> None:
        super().__init__()
        if not isinstance(choose, Mapping) and not callable(choose):
            raise ConfigError(
                f"choose is {choose!r}.", hint="It takes a function or a mapping of rules."
            )
        self._choose = rules.by_rules(choose) if isinstance(choose, Mapping) else choose
        self._name = getattr(choose, "__name__", type(choose).__name__)

    def wrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], ModelResponse[Any]],
    ) -> ModelResponse[Any]:
        """Ask by the policy chosen."""
        choice = self._choice(steps.at_once(self._choose(request), f"choose {self._name!r}"))
        routed = _routed(request, choice)
        return _told(handler(routed), choice)

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Ask by the policy chosen."""
        choice = self._choice(await steps.awaited(self._choose(request)))
        routed = _routed(request, choice)
        return _told(await handler(routed), choice)

    def _choice(self, chosen: rules.Chosen) -> Choice | None:
        return None if chosen is None else rules.choice_of(chosen, self._name)


def _routed(request: ModelRequest[Any], choice: Choice | None) -> ModelRequest[Any]:
    steps.client_of(request)
    if choice is None or steps.is_local(request):
        return request
    settings = dict(request.model_settings)
    if choice.policy is not None:
        settings["policy"] = choice.policy
    if choice.model is not None:
        settings["model"] = choice.model
    return request.override(model_settings=settings)


def _told(response: ModelResponse[Any], choice: Choice | None) -> ModelResponse[Any]:
    if choice is None or not _was_followed(response, choice):
        return response
    return steps.explained(response, rule=choice.reason)


def _was_followed(response: ModelResponse[Any], choice: Choice) -> bool:
    """Whether no other middleware had the step answered by another policy after all."""
    if choice.policy is None:
        return True
    policies = {steps.route_of(message).get("policy") for message in response.result}
    return named(choice.policy).name in policies
