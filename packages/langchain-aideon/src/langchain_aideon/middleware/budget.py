"""``BudgetMiddleware``: what one thread of one agent may spend on model calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NotRequired, TypeAlias, cast

from langchain.agents.middleware import (
    AgentMiddleware,
    AgentState,
    ExtendedModelResponse,
    hook_config,
)
from langchain.agents.middleware.types import PrivateStateAttr
from langchain_core.messages import AIMessage
from langgraph.types import Command

from aideon_core.errors import ConfigError
from langchain_aideon.messages import PROVIDER
from langchain_aideon.middleware import estimates, labels, money, steps
from langchain_aideon.middleware.accounts import Accounts
from langchain_aideon.middleware.money import BudgetExceeded, Prices, Spending, plus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from decimal import Decimal

    from langchain.agents.middleware import ModelRequest, ModelResponse
    from langchain_core.messages import BaseMessage
    from langgraph.runtime import Runtime

    from langchain_aideon.middleware.money import Cost

OnExhausted: TypeAlias = Literal["local", "stop", "raise"]

_WAYS: Final = ("local", "stop", "raise")
_STOP: Final = {"stopped_by": "budget"}


class BudgetState(AgentState[Any]):
    """The agent's state with what its thread has spent; no caller sets it."""

    spending: NotRequired[Annotated[Spending, PrivateStateAttr, plus]]


@dataclass(frozen=True, slots=True)
class _Step:
    """A step that may be made: what to ask, the most it costs, and why it stays local if so."""

    request: ModelRequest[Any]
    most: Decimal
    told: str = ""


class BudgetMiddleware(AgentMiddleware[BudgetState, Any, Any]):
    """Keeps what a thread of an agent spends on its model calls within a limit.

    Before each call the most that it may cost has to fit into what is left: the prompt as it
    is counted, and an answer as long as ``max_tokens``, or as the model can write, so set
    ``max_tokens``. A cloud's own count of the prompt may differ a little. What was spent is in
    the agent's state, as ``agent.get_state(config).values["spending"]``, and lasts as long as
    its checkpoints; an agent without a checkpointer has the whole limit for every run. A cost
    that nobody tells counts as the most it may have been.

    The budget is of one thread of one agent. What tools, agents inside tools and other
    middleware ask of models of their own is not counted, nor what runs at the same time in
    another thread. List it after what chooses models or retries calls, so that it sees each call
    as it is made.

    Args:
        limit: the most that a thread may spend, such as ``"0.05 USD"``.
        on_exhausted: what becomes of a call that does not fit: ``"local"`` asks the local side,
            ``"stop"`` ends the run with an answer that says so, ``"raise"`` raises
            BudgetExceeded. Left out: local where there is such a side, else stop.
        prices: dollars for a million tokens read and written, by model, for models that the
            price data does not have or that cost you something else.

    Raises:
        ConfigError: the limit is no amount; at a call, a model whose price or longest answer
            nobody knows, or no local side to go to.
        BudgetExceeded: with ``"raise"``, before the call is made.

    Example:
        .. code-block:: python

            create_agent(ChatAideon(max_tokens=500), middleware=[BudgetMiddleware("0.05 USD")])
    """

    state_schema = BudgetState

    def __init__(
        self,
        limit: str | Decimal,
        on_exhausted: OnExhausted | None = None,
        *,
        prices: Prices | None = None,
    ) -> None:
        super().__init__()
        if on_exhausted not in (None, *_WAYS):
            raise ConfigError(
                f"on_exhausted is {on_exhausted!r}.", hint=f"It is one of {', '.join(_WAYS)}."
            )
        self.limit = money.limit_of(limit)
        self.on_exhausted = on_exhausted
        self.prices = money.checked_prices(prices)
        self._accounts = Accounts()

    def wrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], ModelResponse[Any]],
    ) -> ModelResponse[Any] | ExtendedModelResponse[Any] | AIMessage:
        """Make the call if it fits, and count what it cost."""
        step = self._step(request)
        if isinstance(step, AIMessage):
            return step
        try:
            response = handler(step.request)
        except BaseException as error:
            self._book(step, estimates.of_failure(error, step.most, self.prices))
            raise
        return self._counted(step, response)

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any] | ExtendedModelResponse[Any] | AIMessage:
        """Make the call if it fits, and count what it cost."""
        step = self._step(request)
        if isinstance(step, AIMessage):
            return step
        try:
            response = await handler(step.request)
        except BaseException as error:
            self._book(step, estimates.of_failure(error, step.most, self.prices))
            raise
        return self._counted(step, response)

    @hook_config(can_jump_to=["end"])
    def after_model(self, state: BudgetState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """End the run where the last call was not made, a form that was asked for or not."""
        self._accounts.settle(_thread(runtime), state.get("spending"))
        last = state["messages"][-1]
        return {"jump_to": "end"} if _is_stop(last) else None

    @hook_config(can_jump_to=["end"])
    async def aafter_model(
        self, state: BudgetState, runtime: Runtime[Any]
    ) -> dict[str, Any] | None:
        """End the run where the last call was not made, a form that was asked for or not."""
        return self.after_model(state, runtime)

    def _step(self, request: ModelRequest[Any]) -> _Step | AIMessage:
        steps.client_of(request)
        # A private step goes to no cloud, whatever middleware comes after this.
        if labels.says_private(request.state) or steps.is_local(request):
            return _Step(request, money.NOTHING)
        most = estimates.worst(request, self.prices)
        thread, saved = _thread(request.runtime), _saved(request)
        fits, spent = self._accounts.reserve(thread, saved, most, self.limit)
        if fits:
            return _Step(request, most)
        told = (
            f"the call may cost up to {money.shown(most)}, and "
            f"{money.shown(spent)} of {money.shown(self.limit)} are spent"
        )
        local = steps.has_local(request)
        match self.on_exhausted or ("local" if local else "stop"):
            case "local" if local:
                return _Step(steps.kept_local(request), money.NOTHING, told)
            case "local":
                raise ConfigError(
                    f"The budget is exhausted: {told}. The model has no local side to go to.",
                    hint='Give it one, or on_exhausted="stop" or "raise".',
                )
            case "stop":
                return _stopped(told)
            case _:
                raise BudgetExceeded(
                    f"The budget is exhausted: {told}. Nothing was sent.",
                    hint="Raise the limit, lower max_tokens, or begin a new thread.",
                    limit=self.limit,
                    spent=spent,
                    needed=most,
                )

    def _counted(self, step: _Step, response: ModelResponse[Any]) -> ExtendedModelResponse[Any]:
        costs = estimates.of_answers(response.result, step.most, self.prices)
        spending = self._book(step, costs)
        if step.told:
            response = steps.explained(response, budget=f"kept local: {step.told}")
        return ExtendedModelResponse(
            model_response=response, command=Command(update={"spending": spending})
        )

    def _book(self, step: _Step, costs: list[Cost]) -> Spending:
        thread, saved = _thread(step.request.runtime), _saved(step.request)
        return self._accounts.book(thread, saved, step.most, costs)


def _saved(request: ModelRequest[Any]) -> Spending | None:
    return cast("Spending | None", request.state.get("spending"))


def _thread(runtime: Runtime[Any]) -> str:
    """The thread of a step; one that has none is a thread of its own."""
    info = runtime.execution_info
    if info is None or info.thread_id is None:
        return "" if info is None else info.task_id
    return f"{info.thread_id} {info.checkpoint_ns.rpartition('|')[0]}"


def _stopped(told: str) -> AIMessage:
    return AIMessage(
        f"Stopped, because the budget is exhausted: {told}.",
        response_metadata={"model_provider": PROVIDER, "cost": "0", **_STOP},
    )


def _is_stop(message: BaseMessage) -> bool:
    return message.response_metadata.items() >= _STOP.items()
