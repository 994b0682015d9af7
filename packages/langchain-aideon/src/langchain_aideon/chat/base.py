"""What every chat model over an Aideon client shares; subclasses say which client."""

# ruff: noqa: ANN401 - LangChain's signatures say Any

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from aideon_core.errors import AideonError, BadRequest
from langchain_aideon.chat import forms, reading, structured
from langchain_aideon.chat.binding import as_tools, chosen
from langchain_aideon.chat.holding import ClientHolder
from langchain_aideon.errors import translated
from langchain_aideon.messages import PROVIDER, from_chunk, from_completion, to_messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models import LangSmithParams, LanguageModelInput
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool

    from aideon_core import Chunk, Completion


class ClientChatModel(ClientHolder):
    """A chat model whose answers an Aideon client gives.

    A subclass says what its client is made of (``_words``) and makes it (``_new_clients``).
    What every call of its own is asked with besides goes into ``_params``.
    """

    structured_method: ClassVar[structured.Method] = "json_schema"
    """How ``with_structured_output`` asks when it is not told."""

    def _params(self, stop: list[str] | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """What the client is asked with, from what LangChain asks with."""
        params = {"stop": stop, **kwargs}
        params.pop("stream", None)  # LangChain's switch, not the model's
        return forms.asked(params)

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
            tools: tools, functions, pydantic classes, TypedDicts, JSON Schemas with a title,
                or tool schemas of OpenAI's or Anthropic's form. An empty list offers none.
            tool_choice: ``"auto"``, ``"none"``, ``"any"`` (or True, or ``"required"``) for at
                least one call, or a tool's name, or OpenAI's object, for a call of that tool.
            strict: whether the arguments must match the schemas exactly.
            **kwargs: parameters to bind besides, such as ``parallel_tool_calls``.

        Raises:
            BadRequest: something is no tool, or ``tool_choice`` names none of them.
        """
        with translated():
            kwargs["tools"] = schemas = as_tools(tools, strict=strict)
            if (choice := chosen(tool_choice, schemas)) is not None:
                kwargs["tool_choice"] = choice
        return self.bind(**kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: structured.Method | None = None,
        strict: bool | None = None,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Have every answer read as one form.

        Args:
            schema: a pydantic class, a dataclass, a TypedDict, or a JSON Schema, bare or as
                OpenAI's ``response_format``, whose answers are instances of the class, or
                dicts. Any other type that pydantic reads, such as ``list[Person]``, will do
                for ``"json_schema"``.
            include_raw: return ``{"raw", "parsed", "parsing_error"}`` and raise nothing for
                an answer of another form, streamed or not.
            method: ``"json_schema"`` has the model held to the schema where it runs, checks
                the answer, and asks once more for one that does not fit;
                ``"function_calling"`` forces a call of one tool; ``"json_mode"`` asks for any
                JSON object, and the prompt has to say which.
            strict: True sends the schema as strict mode wants it, with no further properties
                allowed; False leaves the answer unchecked until it is parsed.
            tools: what the model may call instead of answering; such an answer parses to
                None. For ``"json_schema"`` alone.
            **kwargs: refused, as LangChain does.

        Raises:
            ValueError: a method that does not exist, or arguments that it does not take.
        """
        if kwargs:
            raise ValueError(f"Received unsupported arguments {kwargs}")
        form = structured.Form.of(schema)
        how = method or self.structured_method
        structured.check(how, strict=strict, tools=tools)
        said: dict[str, Any] = {"ls_structured_output_format": form.traced(how, strict=strict)}
        if how == "function_calling":
            model = self.bind_tools(
                [form.tool(strict=strict)], tool_choice=form.name, parallel_tool_calls=False, **said
            )
        elif how == "json_mode":
            model = self.bind(response_format={"type": "json_object"}, **said)
        else:
            said |= form.asked(strict=strict)
            model = self.bind_tools(tools, strict=strict, **said) if tools else self.bind(**said)
        parser = form.parser(how, or_calls=bool(tools))
        return reading.read(model, parser, include_raw=include_raw)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the base reads it
        **kwargs: Any,
    ) -> ChatResult:
        with translated():
            made, params = self._clients(), self._params(stop, kwargs)
            try:
                answer = made.client.chat(to_messages(messages), **params)
            except AideonError as error:
                answer = forms.misformed(error)
            return _result(forms.plain(answer))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        with translated():
            made, params = self._clients(), self._params(stop, kwargs)
            try:
                answer = await made.async_client.chat(to_messages(messages), **params)
            except AideonError as error:
                answer = forms.misformed(error)
            return _result(forms.plain(answer))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with translated():
            made, params = self._clients(), _of_one_answer(self._params(stop, kwargs))
            with made.client.stream(to_messages(messages), **params) as stream:
                try:
                    for chunk in stream:
                        yield _generation_chunk(chunk)
                except AideonError as error:
                    end = forms.end_of(error)
                else:
                    return
            yield _generation_chunk(end)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with translated():
            made, params = self._clients(), _of_one_answer(self._params(stop, kwargs))
            async with made.async_client.stream(to_messages(messages), **params) as stream:
                try:
                    async for chunk in stream:
                        yield _generation_chunk(chunk)
                except AideonError as error:
                    end = forms.end_of(error)
                else:
                    return
            yield _generation_chunk(end)

    @property
    def _llm_type(self) -> str:
        return PROVIDER

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = PROVIDER
        return params


def _of_one_answer(params: dict[str, Any]) -> dict[str, Any]:
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
