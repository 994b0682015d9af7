"""``AideonLLM``: an Aideon client as a LlamaIndex LLM."""

# ruff: noqa: ANN401 - LlamaIndex's signatures say Any

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.generic_utils import (
    achat_to_completion_decorator,
    astream_chat_to_completion_decorator,
    chat_to_completion_decorator,
    stream_chat_to_completion_decorator,
)
from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr, SecretStr
from llama_index.core.constants import DEFAULT_NUM_OUTPUTS
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.llm import LLM

from aideon_core import AsyncClient, Client, Config
from aideon_core.errors import BadRequest
from llama_index.llms.aideon.messages import Growing, response, to_messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_index.core.base.llms.types import (
        ChatMessage,
        ChatResponse,
        ChatResponseAsyncGen,
        ChatResponseGen,
        CompletionResponse,
        CompletionResponseAsyncGen,
        CompletionResponseGen,
    )

_LOCAL_CONTEXT = 8192  # what LlamaCppBackend gives a model when not told otherwise


class AideonLLM(LLM):
    """Answers from a local model when it can and from Together AI when it must.

    Nothing is loaded and nothing is connected before the first call.

    Args:
        local: a catalogue id, the path of a ``.gguf`` file, or None for no local side.
        cloud: a Together model id, or None for no cloud side.
        policy: ``"local-first"``, ``"cloud-first"``, ``"local-only"`` or ``"cloud-only"``.
        api_key: the cloud's key; ``TOGETHER_API_KEY`` when not given. Never serialized.
        base_url: the cloud's address; ``TOGETHER_BASE_URL`` when not given.
        timeout: the longest wait for the cloud's next byte, in seconds.
        max_retries: how often the last side left is asked again after a failure that may pass.
        client: a ready Client instead of the words above. It is not serialized.
        temperature: 0 for the likeliest words, up to 2.
        top_p: sample from the likeliest words that make up this share.
        max_tokens: the longest answer, in tokens.
        stop: where to end an answer.
        seed: makes sampling repeatable, as far as the backend can.
        context_window: what prompt and answer together may take, in tokens; LlamaIndex packs
            and splits text by it. The default suits the local side, the smaller of the two.

    Raises:
        ConfigError: a model, policy or setting that does not exist.

    Example:
        .. code-block:: python

            llm = AideonLLM(policy="local-first", temperature=0)
            answer = llm.complete("Name three primes.")
            print(answer.text)
            print(answer.raw["route"]["explain"])
    """

    # A mistyped parameter would otherwise vanish without a word.
    model_config = ConfigDict(extra="forbid")

    local: str | None = Field(default_factory=lambda: Config.load().local)
    cloud: str | None = Field(default_factory=lambda: Config.load().cloud)
    policy: str = Field(default_factory=lambda: Config.load().policy)
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    base_url: str | None = None
    timeout: float | None = None
    max_retries: int | None = None
    client: Client | None = Field(default=None, exclude=True, repr=False)
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: list[str] | None = None
    seed: int | None = None
    context_window: int = Field(default=_LOCAL_CONTEXT, gt=0)

    _client: Client = PrivateAttr()
    _async_client: AsyncClient = PrivateAttr()

    # Not a validator: pydantic would wrap the core's errors and take their type away.
    def __init__(self, **fields: Any) -> None:
        fields.pop("class_name", None)  # to_dict() writes it and from_dict() hands it back
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

    def __getstate__(self) -> dict[str, Any]:
        # What is pickled is the words; the client is made anew from them, with the key that
        # the environment has there.
        words = {**self.__dict__, "api_key": None, "client": None}
        return {"__dict__": words}

    @classmethod
    def class_name(cls) -> str:
        """The name in serialized form."""
        return "AideonLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex plans prompts by; the models that may answer make up the name."""
        models = (backend.model for backend in self._client.backends.values())
        return LLMMetadata(
            context_window=self.context_window,
            num_output=self.max_tokens or DEFAULT_NUM_OUTPUTS,
            is_chat_model=True,
            is_function_calling_model=False,
            model_name="|".join(models),
        )

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation."""
        return self._chat(messages, **kwargs)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer a conversation in pieces, as they come."""
        return self._stream_chat(messages, **kwargs)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation without blocking the event loop."""
        return await self._achat(messages, **kwargs)

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Answer a conversation in pieces; await this, then iterate."""
        return self._astream_chat(messages, **kwargs)

    # The decorated chat methods would report each completion twice; the plain ones do not.
    @llm_completion_callback()
    def complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: ARG002, FBT001, FBT002 - LlamaIndex's signature
        **kwargs: Any,
    ) -> CompletionResponse:
        """Answer a prompt."""
        return chat_to_completion_decorator(self._chat)(prompt, **kwargs)

    @llm_completion_callback()
    def stream_complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: ARG002, FBT001, FBT002
        **kwargs: Any,
    ) -> CompletionResponseGen:
        """Answer a prompt in pieces, as they come."""
        return stream_chat_to_completion_decorator(self._stream_chat)(prompt, **kwargs)

    @llm_completion_callback()
    async def acomplete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: ARG002, FBT001, FBT002
        **kwargs: Any,
    ) -> CompletionResponse:
        """Answer a prompt without blocking the event loop."""
        return await achat_to_completion_decorator(self._achat)(prompt, **kwargs)

    @llm_completion_callback()
    async def astream_complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: ARG002, FBT001, FBT002
        **kwargs: Any,
    ) -> CompletionResponseAsyncGen:
        """Answer a prompt in pieces; await this, then iterate."""
        return await astream_chat_to_completion_decorator(self._opened_astream)(prompt, **kwargs)

    def _chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return response(self._client.chat(to_messages(messages), **self._params(kwargs)))

    async def _achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        answer = await self._async_client.chat(to_messages(messages), **self._params(kwargs))
        return response(answer)

    def _stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        growing = Growing()
        with self._client.stream(to_messages(messages), **self._params(kwargs)) as stream:
            for chunk in stream:
                yield growing.response(chunk)

    async def _astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        growing = Growing()
        params = self._params(kwargs)
        async with self._async_client.stream(to_messages(messages), **params) as stream:
            async for chunk in stream:
                yield growing.response(chunk)

    async def _opened_astream(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        return self._astream_chat(messages, **kwargs)

    def _params(self, kwargs: dict[str, Any]) -> Any:
        if kwargs.get("n") not in (None, 1):
            raise BadRequest(
                "LlamaIndex's responses have a place for one answer.",
                hint="Leave n at 1, or ask an aideon_core.Client for several.",
                param="n",
            )
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "stop": self.stop,
            "seed": self.seed,
        } | kwargs
