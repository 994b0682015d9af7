"""What no order of middleware undoes: a private step that would ask the cloud is refused.

LangChain tells its callback handlers of every model before it is asked, whoever asks it. The
handler here hears of all of them and refuses a model that could send a private conversation
away: one put in by middleware that comes later, one that writes summaries, one inside a tool.
"""

# ruff: noqa: ANN401, ARG002 - LangChain's signatures, of which little is needed here

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.runnables.config import ensure_config
from langchain_core.tracers.context import register_configure_hook

from aideon_core.errors import ConfigError
from langchain_aideon.messages import PROVIDER
from langchain_aideon.middleware.labels import KEY, PRIVATE
from langchain_aideon.middleware.steps import LOCAL_ONLY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from langchain_core.runnables import RunnableConfig

_MOST_FAILED: Final = 16_384
# Where LangGraph keeps what a node runs with, the caller's context among it.
_RUNTIME: Final = "__pregel_runtime"


@dataclass(slots=True)
class Scope:
    """A model call or a tool call, and all that runs inside it and has its context."""

    private: bool


_scope: ContextVar[Scope | None] = ContextVar("langchain_aideon_privacy", default=None)


def inside_private() -> bool:
    """Whether this runs inside a private step of an agent or a private node of a graph."""
    scope = _scope.get()
    if scope is not None and scope.private:
        return True
    config = ensure_config()
    runtime = config.get("configurable", {}).get(_RUNTIME)
    if _at(getattr(runtime, "context", None), KEY) == PRIVATE:
        return True
    return _GUARD.knows(_node(config))


def tell_outer() -> None:
    """Let what is around this know that it became private: the node, and a tool call."""
    if (node := _node(ensure_config())) is not None:
        _GUARD.make_private(node)
    if (scope := _scope.get()) is not None:
        scope.private = True


def _node(config: RunnableConfig) -> UUID | None:
    """The run that a config is of."""
    return getattr(config.get("callbacks"), "parent_run_id", None)


@contextmanager
def entered(*, private: bool) -> Iterator[Scope]:
    """A step: what becomes private inside it makes its scope private."""
    scope = Scope(private or inside_private())
    token = _scope.set(scope)
    try:
        yield scope
    finally:
        _scope.reset(token)


# Answers whose private tool calls failed, by id: whoever makes a message of the failure knows
# nothing of the label.
_failed: Final[OrderedDict[str, None]] = OrderedDict()


def remember_failed(answer_id: str | None) -> None:
    """Have all that comes after this answer be private, because a tool that it called failed."""
    if answer_id is not None:
        _failed[answer_id] = None
    while len(_failed) > _MOST_FAILED:
        _failed.popitem(last=False)


class Guard(BaseCallbackHandler):
    """Refuses models that private steps may not ask, before anything is sent."""

    raise_error = True
    run_inline = True

    def __init__(self) -> None:
        self._private: set[UUID] = set()

    def make_private(self, run_id: UUID) -> None:
        """Have that run be private until it ends."""
        self._private.add(run_id)

    def knows(self, run_id: UUID | None) -> bool:
        """Whether that run is private and still going on."""
        return run_id in self._private

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: object,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """A node that is given a private state is private, and so is what it runs."""
        # Elsewhere the word may mean anything, such as a variable of a prompt.
        is_node = "langgraph_node" in (metadata or {})
        if parent_run_id in self._private or (is_node and self._is_private(inputs)):
            self._private.add(run_id)

    def on_chain_end(self, outputs: object, *, run_id: UUID, **_: Any) -> None:
        """Forget it."""
        self._private.discard(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Forget it."""
        self._private.discard(run_id)

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **_: Any,
    ) -> None:
        """What a private node runs is private."""
        if parent_run_id in self._private:
            self._private.add(run_id)

    def on_tool_end(self, output: object, *, run_id: UUID, **_: Any) -> None:
        """Forget it."""
        self._private.discard(run_id)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Forget it."""
        self._private.discard(run_id)

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: object,
        **run: Any,
    ) -> None:
        """Refuse what may go to the cloud."""
        self._check(**run)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        **run: Any,
    ) -> None:
        """Refuse what may go to the cloud."""
        self._check(**run)

    def _is_private(self, state: object) -> bool:
        if _at(state, KEY) == PRIVATE:
            return True
        messages = _at(state, "messages")
        return isinstance(messages, list) and any(
            isinstance(each, BaseMessage)
            and (each.additional_kwargs.get(KEY) == PRIVATE or each.id in _failed)
            for each in messages
        )

    def _check(
        self,
        *,
        parent_run_id: UUID | None = None,
        invocation_params: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not (self.knows(parent_run_id) or inside_private()):
            return
        _refuse_cloud(invocation_params or {})
        # A router silences what is set here for the models that it asks inside its own run.
        _guard.set(self)


def _at(state: object, name: str) -> object:
    """What a state tells under a name: a dict's, or that of an instance of a class."""
    return state.get(name) if isinstance(state, Mapping) else getattr(state, name, None)


def _refuse_cloud(params: Mapping[str, Any]) -> None:
    kind = str(params.get("_type") or "unknown")
    if not kind.startswith(PROVIDER):
        raise ConfigError(
            f"The conversation is private, and a model of another kind ({kind}) was about to "
            "read it. Nothing was sent.",
            hint="Inside a private conversation only a ChatAideon or an AideonRouter that is "
            f"{LOCAL_ONLY!r} may be asked; give one to whatever asks: middleware or tool.",
        )
    if not _stays_here(params):
        policy = params.get("policy")
        raise ConfigError(
            "The conversation is private, and a model was about to read it by policy "
            f"{getattr(policy, 'name', policy)!r}. Nothing was sent.",
            hint="Put PrivacyMiddleware last, so that nothing after it changes the step, and "
            f"give middleware and tools that ask a model of their own one that is {LOCAL_ONLY!r}.",
        )


def _stays_here(params: Mapping[str, Any]) -> bool:
    policy, legs = params.get("policy"), params.get("legs")
    if getattr(policy, "name", policy) == LOCAL_ONLY:
        return True
    if isinstance(legs, Mapping):
        return all(str(leg).startswith("local:") for leg in legs.values())
    return "cloud" in params and params["cloud"] is None


_GUARD: Final = Guard()
_guard: Final[ContextVar[BaseCallbackHandler | None]] = ContextVar(
    "langchain_aideon_guard", default=_GUARD
)
register_configure_hook(_guard, inheritable=True)
