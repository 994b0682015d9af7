"""``PrivacyMiddleware``: a private conversation is read by local models alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypeAlias

from langchain.agents.middleware import AgentMiddleware, AgentState, ExtendedModelResponse
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import BaseTool
from langgraph.types import Command

from aideon_core.errors import ConfigError
from langchain_aideon.middleware import guard, labels, steps
from langchain_aideon.middleware.labels import Privacy, strictest

if TYPE_CHECKING:
    from langchain.agents.middleware import ModelRequest, ModelResponse, ToolCallRequest
    from langchain_core.messages import ToolMessage
    from langgraph.runtime import Runtime

    ToolResult: TypeAlias = ToolMessage | Command[Any]

Detector: TypeAlias = Callable[[Sequence[BaseMessage]], bool | Awaitable[bool]]


class PrivacyState(AgentState[Any]):
    """The agent's state with the label; a thread that is private stays so."""

    privacy: NotRequired[Annotated[Privacy, strictest]]


class PrivacyMiddleware(AgentMiddleware[PrivacyState, Any, Any]):
    """Keeps a conversation on this machine from the moment it is private.

    It becomes private by the caller's input (``{"messages": ..., "privacy": "private"}``), by
    a runtime context that has ``privacy``, by a message whose ``additional_kwargs`` have it, by
    the result of one of ``private_tools``, by a tool that says so of its result (in the
    ``artifact`` or ``additional_kwargs`` of its message, or in the update of its Command), or
    by the detector. It is never public again within its thread.

    From then on every model call goes by ``policy="local-only"``, and its route has ``privacy``.
    A model that other middleware or a tool asks instead is refused before anything is sent,
    unless it is local-only itself; so list this middleware last, and give summaries and the
    like a model of their own that is local-only. The detector reads the input after hooks listed
    before it. What is no chat model is not seen: embeddings, retrievers, the tools' own requests,
    and tracing, which sends every message to LangSmith where it is on. Nor is a model that a tool
    asks in a thread without the tool's context; ``contextvars.copy_context().run`` gives it one.

    Agents inside a tool call or inside a node share the label of what is around them where they
    have this middleware too, and hand theirs back from a tool. Without it, their models are
    refused while what is around them is private, and what they read labels nobody else. A graph
    around an agent keeps the label where its own state has ``privacy``; without that key it
    is lost between its nodes, but for marked messages.

    Args:
        private_tools: the tools, or their names, whose results are private.
        detector: tells from all messages of a call, the system's included, whether it is
            private; it may be async where the agent is.

    Raises:
        ConfigError: at a call, the model has no local side, or no sides at all.

    Example:
        .. code-block:: python

            privacy = PrivacyMiddleware(private_tools=[read_mail])
            agent = create_agent(chat, [read_mail], middleware=[privacy])
    """

    state_schema = PrivacyState

    def __init__(
        self,
        *,
        private_tools: Collection[str | BaseTool] = (),
        detector: Detector | None = None,
    ) -> None:
        super().__init__()
        if isinstance(private_tools, str):
            raise ConfigError(
                f"private_tools is {private_tools!r}.", hint="Give a set of names, or the tools."
            )
        self.private_tools = frozenset(
            tool.name if isinstance(tool, BaseTool) else tool for tool in private_tools
        )
        self._detector = detector

    def before_agent(self, state: PrivacyState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Label the conversation before other middleware gives it to a model."""
        private = self._known(state, state["messages"], runtime) or self._detects(state["messages"])
        return _update() if private else None

    async def abefore_agent(
        self, state: PrivacyState, runtime: Runtime[Any]
    ) -> dict[str, Any] | None:
        """Label the conversation before other middleware gives it to a model."""
        private = self._known(state, state["messages"], runtime) or await self._adetects(
            state["messages"]
        )
        return _update() if private else None

    def wrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], ModelResponse[Any]],
    ) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        """Keep a private step here, and the label in the state."""
        messages = _read_by(request)
        if not self._known(request.state, messages, request.runtime) and not self._detects(
            messages
        ):
            return handler(request)
        kept = _kept(request)
        with guard.entered(private=True):
            return _labelled(handler(kept))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        """Keep a private step here, and the label in the state."""
        messages = _read_by(request)
        if not self._known(request.state, messages, request.runtime) and not await self._adetects(
            messages
        ):
            return await handler(request)
        kept = _kept(request)
        with guard.entered(private=True):
            return _labelled(await handler(kept))

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolResult]
    ) -> ToolResult:
        """Label the state with what the tool gave back, before any model reads it."""
        with guard.entered(private=labels.says_private(request.state)) as scope:
            try:
                result = handler(request)
            except Exception:
                self._failed(request, scope)
                raise
        return self._result(request, result, scope)

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolResult]],
    ) -> ToolResult:
        """Label the state with what the tool gave back, before any model reads it."""
        with guard.entered(private=labels.says_private(request.state)) as scope:
            try:
                result = await handler(request)
            except Exception:
                self._failed(request, scope)
                raise
        return self._result(request, result, scope)

    def _known(self, state: object, messages: Sequence[BaseMessage], runtime: Runtime[Any]) -> bool:
        return (
            guard.inside_private()
            or labels.says_private(state)
            or labels.says_private(runtime.context)
            or labels.are_private(messages, self.private_tools)
        )

    def _detects(self, messages: Sequence[BaseMessage]) -> bool:
        if self._detector is None:
            return False
        return bool(steps.at_once(self._detector(messages), "detector"))

    async def _adetects(self, messages: Sequence[BaseMessage]) -> bool:
        if self._detector is None:
            return False
        return bool(await steps.awaited(self._detector(messages)))

    def _is_private(self, request: ToolCallRequest, scope: guard.Scope) -> bool:
        return scope.private or request.tool_call["name"] in self.private_tools

    def _failed(self, request: ToolCallRequest, scope: guard.Scope) -> None:
        if self._is_private(request, scope):
            guard.tell_outer()
            answers = [m.id for m in request.state["messages"] if isinstance(m, AIMessage)]
            guard.remember_failed(answers[-1])

    def _result(
        self, request: ToolCallRequest, result: ToolResult, scope: guard.Scope
    ) -> ToolResult:
        if self._is_private(request, scope) or labels.is_private_result(result):
            guard.tell_outer()
            made: ToolResult = labels.privately(result)
            return made
        return result


def _update() -> dict[str, Any]:
    guard.tell_outer()
    return {labels.KEY: labels.PRIVATE}


def _read_by(request: ModelRequest[Any]) -> list[BaseMessage]:
    system = [] if request.system_message is None else [request.system_message]
    return [*system, *request.messages]


def _kept(request: ModelRequest[Any]) -> ModelRequest[Any]:
    if not steps.has_local(request):
        raise ConfigError(
            "The conversation is private, and the agent's model has no local side to read it. "
            "Nothing was sent.",
            hint="Give the model a local side, such as ChatAideon(local=...).",
        )
    return steps.kept_local(request)


def _labelled(response: ModelResponse[Any]) -> ExtendedModelResponse[Any]:
    response = steps.explained(response, privacy=labels.PRIVATE)
    return ExtendedModelResponse(model_response=response, command=Command(update=_update()))
