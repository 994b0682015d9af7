"""``AideonLLM``: an Aideon client as a CrewAI LLM."""

# ruff: noqa: ANN401 - CrewAI's signatures say Any

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from crewai.events.types.llm_events import LLMCallType
from crewai.hooks.dispatch import HookAborted
from crewai.llms.base_llm import BaseLLM, LLMCallBlockedError, llm_call_context
from crewai.utilities.message_utils import message_content_text
from pydantic import BaseModel, Field, PrivateAttr, SecretStr

from aideon_core import AsyncClient, Client
from aideon_core.errors import Unsupported
from crewai_aideon.errors import empty_answer, worded
from crewai_aideon.facts import usage_of
from crewai_aideon.parameters import SAMPLING, build_client, checked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crewai.agents.agent_builder.base_agent import BaseAgent
    from crewai.task import Task
    from crewai.tools.base_tool import BaseTool
    from crewai.utilities.types import LLMMessage

    from aideon_core import Chunk, Completion

_PROVIDER: Final = "aideon"
_LOCAL_CONTEXT: Final = 8192  # what LlamaCppBackend gives a model when not told otherwise
_USABLE: Final = 0.85  # CrewAI's own models hold back as much for the answer


class _Caller(NamedTuple):
    """Who asks, as CrewAI's events want to know it."""

    from_task: Task | None
    from_agent: BaseAgent | None


class AideonLLM(BaseLLM):
    """Answers from a local model when it can and from Together AI when it must.

    Nothing is loaded and nothing is connected before the first call. Agents use their tools
    in text (ReAct); native tool calls are not passed on yet.

    Args:
        local: a catalogue id, the path of a ``.gguf`` file, or None for no local side.
        cloud: a Together model id, or None for no cloud side.
        policy: ``"local-first"``, ``"cloud-first"``, ``"local-only"`` or ``"cloud-only"``.
        api_key: the cloud's key; ``TOGETHER_API_KEY`` when not given. Never serialized.
        base_url: the cloud's address; ``TOGETHER_BASE_URL`` when not given.
        timeout: the longest wait for the cloud's next byte, in seconds.
        client: a ready Client instead of the words above. It is not serialized.
        temperature: 0 for the likeliest words, up to 2.
        top_p: sample from the likeliest words that make up this share.
        max_tokens: the longest answer, in tokens.
        stop: where to end an answer.
        seed: makes sampling repeatable, as far as the backend can.
        frequency_penalty: above 0, words said often become less likely.
        presence_penalty: above 0, words said once become less likely.
        stream: tell CrewAI's event listeners about an answer in pieces, as they come.
        context_window: what prompt and answer together may take, in tokens; CrewAI shortens
            conversations by it. The default suits the local side, the smaller of the two.

    Raises:
        ConfigError: a model, policy, setting or parameter that does not exist.

    Example:
        .. code-block:: python

            llm = AideonLLM(policy="local-first", temperature=0)
            agent = Agent(role="Poet", goal="Rhyme", backstory="A village poet.", llm=llm)
    """

    # A type CrewAI does not know: rebuilt from a checkpoint as another class, it could
    # send to another provider.
    llm_type: str = _PROVIDER
    local: str | None = None
    cloud: str | None = None
    policy: str = ""
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)  # type: ignore[assignment]
    timeout: float | None = None
    client: Client | None = Field(default=None, exclude=True, repr=False)
    context_window: int = Field(default=_LOCAL_CONTEXT, gt=0)

    _client: Client = PrivateAttr()
    _async_client: AsyncClient = PrivateAttr()

    # Not a validator: pydantic would wrap the core's errors and take their type away.
    def __init__(self, **fields: Any) -> None:
        fields = checked(fields)
        client = fields.get("client") or build_client(fields)
        models = "|".join(backend.model for backend in client.backends.values())
        super().__init__(model=models, provider=_PROVIDER, **fields)
        self._client = client
        self._async_client = AsyncClient.sharing(client)

    def call(
        self,
        messages: str | list[LLMMessage],
        tools: list[dict[str, BaseTool]] | None = None,
        callbacks: list[Any] | None = None,  # noqa: ARG002
        available_functions: dict[str, Any] | None = None,  # noqa: ARG002
        from_task: Task | None = None,
        from_agent: BaseAgent | None = None,
        response_model: type[BaseModel] | None = None,
    ) -> str | BaseModel:
        """Answer a prompt or a conversation.

        Args:
            messages: a prompt, or OpenAI-style messages.
            tools: not passed on yet; CrewAI does not give any, see supports_function_calling.
            callbacks: not used; CrewAI's events tell the same.
            available_functions: not used without tools.
            from_task: the task that asks, for the events.
            from_agent: the agent that asks, for the events and hooks.
            response_model: what the answer has to be; a model that can hold to a JSON schema
                has to answer then.

        Raises:
            AideonError: nobody could answer, or the answer was empty; ``error.route`` tells
                why.
        """
        caller = _Caller(from_task, from_agent)
        with self._reporting(messages, tools, caller):
            asked = self._prepared(messages, tools, caller)
            params = self._params(response_model)
            if not self._effective_stream():
                return self._finish(
                    asked, self._client.chat(asked, **params), caller, response_model
                )
            with self._client.stream(asked, **params) as stream:
                for chunk in stream:
                    self._report(chunk, caller)
            assert stream.completion is not None
            return self._finish(asked, stream.completion, caller, response_model)

    async def acall(
        self,
        messages: str | list[LLMMessage],
        tools: list[dict[str, BaseTool]] | None = None,
        callbacks: list[Any] | None = None,  # noqa: ARG002
        available_functions: dict[str, Any] | None = None,  # noqa: ARG002
        from_task: Task | None = None,
        from_agent: BaseAgent | None = None,
        response_model: type[BaseModel] | None = None,
    ) -> str | BaseModel:
        """Answer a prompt or a conversation without blocking the event loop; see call."""
        caller = _Caller(from_task, from_agent)
        with self._reporting(messages, tools, caller):
            asked = self._prepared(messages, tools, caller)
            params = self._params(response_model)
            if not self._effective_stream():
                answer = await self._async_client.chat(asked, **params)
                return self._finish(asked, answer, caller, response_model)
            async with self._async_client.stream(asked, **params) as stream:
                async for chunk in stream:
                    self._report(chunk, caller)
            assert stream.completion is not None
            return self._finish(asked, stream.completion, caller, response_model)

    def supports_function_calling(self) -> bool:
        """False: agents use their tools in text."""
        return False

    def supports_stop_words(self) -> bool:
        """True: both sides end an answer at a stop word."""
        return True

    def get_context_window_size(self) -> int:
        """The tokens CrewAI may fill with a prompt."""
        return int(self.context_window * _USABLE)

    def get_input_tokens_count(
        self,
        messages: str | list[LLMMessage],
        tools: list[dict[str, BaseTool]] | None = None,  # noqa: ARG002
        response_model: type[BaseModel] | None = None,  # noqa: ARG002
    ) -> int:
        """About how many tokens the messages take, at four characters a token."""
        texts = [messages] if isinstance(messages, str) else map(message_content_text, messages)
        return -(-sum(map(len, texts)) // 4)

    @contextmanager
    def _reporting(
        self,
        messages: str | list[LLMMessage],
        tools: list[dict[str, BaseTool]] | None,
        caller: _Caller,
    ) -> Iterator[None]:
        with llm_call_context():
            self._emit_call_started_event(messages, tools, **caller._asdict())
            try:
                with worded():
                    yield
            except (HookAborted, LLMCallBlockedError) as denial:
                self._emit_call_denied_event(denial, **caller._asdict())
                raise
            except Exception as error:
                self._emit_call_failed_event(str(error), **caller._asdict())
                raise

    def _prepared(
        self,
        messages: str | list[LLMMessage],
        tools: list[dict[str, BaseTool]] | None,
        caller: _Caller,
    ) -> list[LLMMessage]:
        if tools:
            # CrewAI knows by this phrase that it should describe the tools in text instead.
            raise Unsupported("AideonLLM does not support tools natively yet.")
        formatted = self._format_messages(messages)
        self._invoke_before_llm_call_hooks(formatted, caller.from_agent)
        return formatted

    def _params(self, response_model: type[BaseModel] | None) -> Any:
        params: dict[str, Any] = {name: getattr(self, name) for name in SAMPLING}
        params["stop"] = self.stop_sequences
        if response_model is not None:
            schema = {"name": response_model.__name__, "schema": response_model.model_json_schema()}
            params["response_format"] = {"type": "json_schema", "json_schema": schema}
        return params

    def _report(self, chunk: Chunk, caller: _Caller) -> None:
        if chunk.reasoning:
            self._emit_thinking_chunk_event(chunk.reasoning, **caller._asdict())
        if chunk.text:
            self._emit_stream_chunk_event(
                chunk.text, **caller._asdict(), call_type=LLMCallType.LLM_CALL
            )

    def _finish(
        self,
        asked: list[LLMMessage],
        answer: Completion,
        caller: _Caller,
        response_model: type[BaseModel] | None,
    ) -> str | BaseModel:
        usage = usage_of(answer)
        self._track_token_usage_internal(usage or {})
        text = self._apply_stop_words(answer.text)
        if not text.strip():
            raise empty_answer(answer)
        value = self._validate_structured_output(text, response_model)
        self._emit_call_completed_event(
            text,
            LLMCallType.LLM_CALL,
            **caller._asdict(),
            messages=asked,
            usage=usage,
            finish_reason=answer.finish_reason,
            response_id=answer.id,
        )
        if isinstance(value, str):
            return self._invoke_after_llm_call_hooks(asked, value, caller.from_agent)
        return value
