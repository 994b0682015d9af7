"""``AideonRouter``: any chat models as one, with Aideon's policies between them."""

# ruff: noqa: ANN401 - LangChain's signatures say Any

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import PrivateAttr

from aideon_core import AsyncClient, Client
from aideon_core.errors import BadRequest, UnknownModel
from aideon_core.request import ChatParams
from langchain_aideon.chat.base import ClientChatModel
from langchain_aideon.chat.binding import as_tools
from langchain_aideon.errors import translated
from langchain_aideon.router.asking import sealed
from langchain_aideon.router.legs import ChatModelLeg, of_sides

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.outputs import ChatGenerationChunk, ChatResult
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool

    from aideon_core.backends.base import Backend
    from langchain_aideon.chat.structured import Method

_OURS: Final = frozenset(ChatParams.__annotations__) | {"model", "policy", "cache", "stream"}


class AideonRouter(ClientChatModel):
    """Any chat models as one: asked in the order of a policy, the next where one fails.

    Each model keeps its own library, key, settings, callbacks, cache and rate limiter. It is
    sent the messages as they are, and its answer comes back as it is, with the route and the
    cost in ``response_metadata``. To callbacks and tracers the router is one run. A ChatAideon
    or a router among the models is asked as any other; its own route is in ``leg_route``.

    Most libraries ask again by themselves after a failure that may pass. With ``max_retries=0``
    in theirs, failures move on at once, and the router's own retries wait as long as it is
    told to by a server.

    Args:
        local: the models on this machine: a chat model, a Runnable around one, a ChatModelLeg,
            or whatever ``aideon_core.Client`` takes; or a list, asked in that order.
        cloud: the models elsewhere, in the same way.
        policy: ``"local-first"``, ``"cloud-first"``, ``"local-only"``, ``"cloud-only"``, or a
            Policy value.
        max_retries: how often the last model left is asked again after a failure that may
            pass; 2 when not given.
        timeout: the seconds that a whole answer may take, retries and fallbacks included; see
            ChatModelLeg for what that means to each kind of call.
        temperature: for every model, instead of its own; so are the next two.
        max_tokens: the longest answer, in tokens.
        stop: where to end an answer.
        streaming: ask for every answer in pieces, for callbacks that want them.

    A call takes ``model=``, the name of one of the legs or of its model; ``policy=`` and
    ``deadline=`` for this call; and what the models themselves take, which is handed on.

    Raises:
        ConfigError: there is no model, something is none, a leg is on the wrong side, or the
            policy does not exist.

    Example:
        .. code-block:: python

            router = AideonRouter(
                local=ChatLlamaCpp(model_path="qwen.gguf"),
                cloud=[ChatTogether(model="openai/gpt-oss-20b"), ChatOpenAI(model="gpt-5-mini")],
                policy="local-first",
            )
            answer = router.invoke("Name three primes.")
            print(answer.response_metadata["route"]["explain"])
    """

    structured_method: ClassVar[Method] = "function_calling"

    local: Any = None
    cloud: Any = None
    policy: Any = "local-first"
    max_retries: int | None = None
    timeout: float | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    stop: list[str] | None = None
    streaming: bool = False

    _besides: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """False: the models are live objects, and whether they can be dumped is theirs."""
        return False

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """The models by name: theirs would show all of their clients."""
        if "policy" not in self.__dict__:  # A traceback of its making shows it.
            return []
        return [("models", self.model_name), ("policy", self._client.policy.name)]

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the model.

        Args:
            tools: as for ChatAideon; a dict that is no function, such as
                ``{"type": "web_search"}``, is for the provider and is handed on as it is.
            tool_choice: as for ChatAideon.
            strict: whether the arguments must match the schemas exactly.
            **kwargs: parameters to bind besides.

        Raises:
            BadRequest: something is no tool, or ``tool_choice`` names none of them.
        """
        if not any(map(_is_providers, tools)):
            return super().bind_tools(tools, tool_choice=tool_choice, strict=strict, **kwargs)
        with translated():
            kwargs["tools"] = [
                tool if _is_providers(tool) else as_tools([tool], strict=strict)[0]
                for tool in tools
            ]
        if tool_choice:
            kwargs["tool_choice"] = _choice(tool_choice)
        return self.bind(**kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with translated():
            router, turns, params = self._asked(messages, kwargs)
        return super(AideonRouter, router)._generate(turns, stop, run_manager, **params)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with translated():
            router, turns, params = self._asked(messages, kwargs)
        return await super(AideonRouter, router)._agenerate(turns, stop, run_manager, **params)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with translated():
            router, turns, params = self._asked(messages, kwargs)
        return super(AideonRouter, router)._stream(turns, stop, run_manager, **params)

    def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with translated():
            router, turns, params = self._asked(messages, kwargs)
        return super(AideonRouter, router)._astream(turns, stop, run_manager, **params)

    def _asked(
        self, messages: list[BaseMessage], kwargs: Mapping[str, Any]
    ) -> tuple[AideonRouter, list[BaseMessage], dict[str, Any]]:
        """Who is asked, what, and with which of the client's parameters."""
        params = {name: value for name, value in kwargs.items() if name in _OURS}
        theirs = {name: value for name, value in kwargs.items() if name not in _OURS}
        backends = self._client.backends
        _check_model(params.get("model"), backends)
        others = [each for each in backends.values() if not isinstance(each, ChatModelLeg)]
        if others and theirs:
            raise BadRequest(
                f"{others[0].model!r} takes no {' or '.join(theirs)}.",
                hint="Bind it to the models that do, or ask a router of these alone.",
                param=next(iter(theirs)),
            )
        # What only a library's own models can read has no place on the way to others.
        plain = all(isinstance(message.content, str) for message in messages)
        turns = messages if others or plain else sealed(messages)
        return (self._with_besides(theirs) if theirs else self), turns, params

    def _with_besides(self, params: dict[str, Any]) -> AideonRouter:
        twin = self.model_copy()
        twin._besides = params  # noqa: SLF001 - of this class
        return twin

    def _params(self, stop: list[str] | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in kwargs.items() if value is not None}
        defaults = {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "deadline": self.timeout,
        }
        return super()._params(stop or self.stop, defaults | given)

    def _words(self) -> tuple[Any, ...]:
        sides = (tuple(_each(self.local)), tuple(_each(self.cloud)))
        return (*sides, self.policy, self.max_retries, self._besides)

    def _new_clients(self) -> tuple[Client, AsyncClient]:
        local, cloud = of_sides(_each(self.local), _each(self.cloud))
        client = Client(
            local=[self._leg(each) for each in local] or None,
            cloud=[self._leg(each) for each in cloud] or None,
            policy=self.policy,
            embedding=None,
            max_retries=self.max_retries,
        )
        return client, AsyncClient.sharing(client)

    def _leg(self, backend: Any) -> Any:
        if self._besides and isinstance(backend, ChatModelLeg):
            return backend.asked_besides(self._besides)
        return backend

    @property
    def _identifying_params(self) -> dict[str, Any]:
        backends = self._client.backends.items()
        legs = {name: f"{each.side}: {each.model}" for name, each in backends}
        return {
            "legs": legs,
            "policy": self._client.policy.name,
            "rule": repr(self._client.policy),
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "stop": self.stop,
        }

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        # The same models with other settings give other answers.
        legs = [
            each.identity if isinstance(each, ChatModelLeg) else repr(each)
            for each in self._client.backends.values()
        ]
        return f"{super()._get_llm_string(stop, **kwargs)}---{legs}"


def _each(side: Any) -> list[Any]:
    if isinstance(side, list | tuple):
        return list(side)
    return [] if side is None else [side]


def _check_model(model: object, backends: Mapping[str, Backend]) -> None:
    known = [name for key, each in backends.items() for name in (key, each.model)]
    if model is None or model in known:
        return
    near = difflib.get_close_matches(str(model), known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"They are {', '.join(known)}."
    raise UnknownModel(f"None of the router's models is {model!r}.", hint=hint)


def _is_providers(tool: object) -> bool:
    """Whether it runs on a provider's servers, or is of a form that only its library knows."""
    return isinstance(tool, dict) and "type" in tool and tool["type"] not in ("function", "object")


def _choice(choice: str | dict[str, Any] | bool) -> str | dict[str, Any]:  # noqa: FBT001
    if choice is True or choice == "any":
        return "required"
    if isinstance(choice, dict) or choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}
