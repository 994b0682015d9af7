"""Rules for choosing a step's policy by what the agent has done: pure functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from langchain.agents.middleware import ModelRequest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from aideon_core.errors import ConfigError
from aideon_core.policy import Policy, named

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.messages import AnyMessage


@dataclass(frozen=True, slots=True)
class Choice:
    """How one step is to be answered.

    Attributes:
        policy: the rule for this step; the model's own when None.
        model: the one model to ask, as in ``Client.chat``; any of the policy's when None.
        reason: why, for the answer's route.
    """

    policy: str | Policy | None = None
    model: str | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.policy is not None:
            named(self.policy)


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition with words for it.

    Attributes:
        reason: what the route says where it holds.
        holds: whether it does, for this step.
    """

    reason: str
    holds: Callable[[ModelRequest[Any]], bool]


Chosen: TypeAlias = str | Policy | Choice | None
Choose: TypeAlias = Callable[[ModelRequest[Any]], Chosen | Awaitable[Chosen]]
Rules: TypeAlias = Mapping[Condition, str | Policy | Choice]


def _is_first(request: ModelRequest[Any]) -> bool:
    return not any(isinstance(m, AIMessage) for m in _turn(request.messages))


def _follows_tools(request: ModelRequest[Any]) -> bool:
    return next(_results(request.messages), None) is not None


first_step: Final = Condition("first step", _is_first)
"""Nothing was answered yet to what the user said last."""

after_tools: Final = Condition("after tool calls", _follows_tools)
"""The step reads the results of tools that the one before it called."""


def after_tool(*names: str) -> Condition:
    """One of these tools was called since the user spoke last.

    Raises:
        ConfigError: no name is given.
    """
    if not names:
        raise ConfigError("after_tool() names no tool.", hint="Give a name, or use after_tools.")
    wanted = frozenset(names)

    def called(request: ModelRequest[Any]) -> bool:
        said = (m for m in _turn(request.messages) if isinstance(m, AIMessage))
        return any(call["name"] in wanted for message in said for call in message.tool_calls)

    return Condition(f"after {', '.join(names)}", called)


def messages_over(count: int) -> Condition:
    """The conversation has more than ``count`` messages, the system's not counted."""
    return Condition(f"more than {count} messages", lambda request: len(request.messages) > count)


def state_is(key: str, value: object) -> Condition:
    """The agent's state has this value at this key."""
    return Condition(f"state {key!r} is {value!r}", lambda request: request.state.get(key) == value)


def choice_of(chosen: Chosen, reason: str) -> Choice:
    """What a rule or a function chose, with a reason where it gave none.

    Raises:
        ConfigError: it is no policy.
    """
    if isinstance(chosen, Choice):
        return chosen if chosen.reason else Choice(chosen.policy, chosen.model, reason)
    return Choice(policy=chosen, reason=reason)


def by_rules(rules: Rules) -> Choose:
    """The function that goes by the first rule whose condition holds.

    Raises:
        ConfigError: a condition is none, or a policy does not exist.
    """
    choices = []
    for condition, chosen in rules.items():
        if not isinstance(condition, Condition):
            raise ConfigError(
                f"{condition!r} is no Condition.",
                hint="Give first_step, after_tools, after_tool(...), messages_over(...), "
                "state_is(...) or a Condition of your own.",
            )
        choices.append((condition, choice_of(chosen, condition.reason)))

    def choose(request: ModelRequest[Any]) -> Choice | None:
        return next((choice for condition, choice in choices if condition.holds(request)), None)

    return choose


def _turn(messages: Sequence[AnyMessage]) -> Iterator[AnyMessage]:
    """What was said since the user spoke last, the latest first."""
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            return
        yield message


def _results(messages: Sequence[AnyMessage]) -> Iterator[ToolMessage]:
    for message in reversed(messages):
        if not isinstance(message, ToolMessage):
            return
        yield message
