"""``ChatAideon``: an Aideon client as a LangChain chat model."""

# ruff: noqa: ANN401 - LangChain's signatures say Any

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.load.load import ALL_SERIALIZABLE_MAPPINGS
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils import secret_from_env
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr

from aideon_core import AsyncClient, Client, Config
from aideon_core.errors import BadRequest
from langchain_aideon.errors import translated
from langchain_aideon.messages import PROVIDER, from_chunk, from_completion, to_messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models import LangSmithParams, LanguageModelInput
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool

    from aideon_core import Chunk, Completion

_TOOL_CHOICES = frozenset({"auto", "none", "required"})


class ChatAideon(BaseChatModel):
    """Answers from a local model when it can and from Together AI when it must.

    Nothing is loaded and nothing is connected before the first message.

    Args:
        local: a catalogue id, the path of a ``.gguf`` file, or None for no local side.
        cloud: a Together model id, or None for no cloud side.
        policy: ``"local-first"``, ``"cloud-first"``, ``"local-only"`` or ``"cloud-only"``.
        api_key: the cloud's key; ``TOGETHER_API_KEY`` when not given.
        base_url: the cloud's address; ``TOGETHER_BASE_URL`` when not given.
        timeout: the longest wait for the cloud's next byte, in seconds.
        max_retries: how often the last side left is asked again after a failure that may pass.
        client: a ready Client instead of the words above. It is not part of the
            serialized model, which keeps the names of its models and its policy only.
        temperature: 0 for the likeliest words, up to 2.
        top_p: sample from the likeliest words that make up this share.
        max_tokens: the longest answer, in tokens.
        stop: where to end an answer.
        seed: makes sampling repeatable, as far as the backend can.
        streaming: ask for every answer in pieces, for callbacks that want them.

    Raises:
        ConfigError: a model, policy or setting that does not exist.

    Example:
        .. code-block:: python

            chat = ChatAideon(policy="local-first", temperature=0)
            answer = chat.invoke("Name three primes.")
            print(answer.content)
            print(answer.response_metadata["route"]["explain"])
    """

    # A mistyped parameter would otherwise vanish without a word.
    model_config = ConfigDict(extra="forbid")

    local: str | None = Field(default_factory=lambda: Config.load().local)
    cloud: str | None = Field(default_factory=lambda: Config.load().cloud)
    policy: str = Field(default_factory=lambda: Config.load().policy)
    api_key: SecretStr | None = Field(
        default_factory=secret_from_env("TOGETHER_API_KEY", default=None)
    )
    base_url: str | None = None
    timeout: float | None = None
    max_retries: int | None = None
    client: Client | None = Field(default=None, exclude=True, repr=False)
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: list[str] | None = None
    seed: int | None = None
    streaming: bool = False

    _client: Client = PrivateAttr()
    _async_client: AsyncClient = PrivateAttr()

    # Not a validator: pydantic would wrap the core's errors and take their type away.
    def __init__(self, **fields: Any) -> None:
        client = fields.get("client")
        if isinstance(client, Client):
            fields |= client.words(fields)
        super().__init__(**fields)
        self._client = client or Client(
            local=self.local,
            cloud=self.cloud,
            policy=self.policy,
            api_key=self.api_key.get_secret_value() if self.api_key else None,
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=self.max_retries,
        )
        self._async_client = AsyncClient.sharing(self._client)

    @property
    def model_name(self) -> str:
        """The models that may answer; an answer's response_metadata names the one that did."""
        return "|".join(backend.model for backend in self._client.backends.values())

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Where the key is found when a serialized model is loaded."""
        return {"api_key": "TOGETHER_API_KEY"}

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """The sides, None included: a model without a cloud is never loaded as one with it."""
        return {"local": self.local, "cloud": self.cloud, "policy": self.policy}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """True: a model can be dumped and loaded, without its key."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where the class is found when a serialized model is loaded."""
        return ["langchain_aideon", "chat_models"]

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
            tools: tools, functions, pydantic classes, TypedDicts or OpenAI tool schemas.
            tool_choice: ``"auto"``, ``"none"``, ``"any"`` (or True, or ``"required"``) for at
                least one call, or a tool's name for a call of that tool.
            strict: whether the arguments must match the schemas exactly.
            **kwargs: parameters to bind besides.
        """
        kwargs["tools"] = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
        if tool_choice:
            kwargs["tool_choice"] = _tool_choice(tool_choice)
        return self.bind(**kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the base reads it
        **kwargs: Any,
    ) -> ChatResult:
        with translated():
            answer = self._client.chat(to_messages(messages), **self._params(stop, kwargs))
        return _result(answer)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        with translated():
            answer = await self._async_client.chat(
                to_messages(messages), **self._params(stop, kwargs)
            )
        return _result(answer)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with translated():
            params = _of_one_answer(self._params(stop, kwargs))
        with translated(), self._client.stream(to_messages(messages), **params) as stream:
            for chunk in stream:
                yield _generation_chunk(chunk)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with translated():
            params = _of_one_answer(self._params(stop, kwargs))
            async with self._async_client.stream(to_messages(messages), **params) as stream:
                async for chunk in stream:
                    yield _generation_chunk(chunk)

    def _params(self, stop: list[str] | None, kwargs: dict[str, Any]) -> Any:
        params = self._sampling | {"stop": stop or self.stop} | kwargs
        params.pop("stream", None)  # LangChain's switch, not the model's
        return params

    @property
    def _sampling(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }

    @property
    def _llm_type(self) -> str:
        return PROVIDER

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {**self.lc_attributes, **self._sampling, "stop": self.stop}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = PROVIDER
        return params


# load(..., allowed_objects="all") admits the classes on this list and no others: without a
# row here a dumped ChatAideon could be loaded only by whoever knows to name its class.
_ID = tuple(ChatAideon.lc_id())
ALL_SERIALIZABLE_MAPPINGS.setdefault(_ID, _ID)


def _tool_choice(choice: str | dict[str, Any] | bool) -> str | dict[str, Any]:  # noqa: FBT001
    if choice is True or choice == "any":
        return "required"
    if isinstance(choice, dict) or choice in _TOOL_CHOICES:
        return choice
    return {"type": "function", "function": {"name": choice}}


def _of_one_answer(params: dict[str, Any]) -> Any:
    if params.get("n") not in (None, 1):
        raise BadRequest(
            "LangChain joins every chunk of a stream to one message.",
            hint="Leave n at 1 while streaming; generate gives several.",
            param="n",
        )
    return params


def _result(answer: Completion) -> ChatResult:
    return ChatResult(
        generations=[
            ChatGeneration(
                message=from_completion(each),
                generation_info={"finish_reason": each.finish_reason},
            )
            for each in (answer, *answer.alternatives)
        ],
        llm_output={"model_name": answer.model},
    )


def _generation_chunk(chunk: Chunk) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=from_chunk(chunk))
