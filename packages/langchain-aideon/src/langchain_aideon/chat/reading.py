"""How the answers of a form are read, and what is told of one that cannot be."""

# ruff: noqa: ANN401 - answers are of any kind

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003 - pydantic reads it
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import BaseGenerationOutputParser, JsonOutputParser
from langchain_core.outputs import ChatGeneration, Generation  # noqa: TC002 - pydantic reads them
from langchain_core.runnables import AddableDict, Runnable, RunnableGenerator, RunnableMap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.language_models import LanguageModelInput
    from langchain_core.runnables import RunnableConfig


def read(
    model: Runnable[LanguageModelInput, AIMessage],
    parser: Runnable[Any, Any],
    *,
    include_raw: bool,
) -> Runnable[LanguageModelInput, Any]:
    """The model and what reads its answers; with ``include_raw``, the message and the error too.

    A stream passes the message on as it comes; what it parses to, or why it does not, is last.
    """
    if not include_raw:
        return model | parser
    told = RunnableGenerator(partial(_told, parser), partial(_atold, parser), name="read")
    return RunnableMap(raw=model) | told


def _told(
    parser: Runnable[Any, Any], pieces: Iterator[dict[str, Any]], config: RunnableConfig
) -> Iterator[AddableDict]:
    whole = AddableDict()
    for piece in pieces:
        told = AddableDict(piece)
        whole += told
        yield told
    try:
        parsed, error = parser.invoke(whole["raw"], config), None
    except Exception as failed:  # noqa: BLE001 - a class's own validators may raise anything
        parsed, error = None, failed
    yield AddableDict(parsed=parsed, parsing_error=error)


async def _atold(
    parser: Runnable[Any, Any], pieces: AsyncIterator[dict[str, Any]], config: RunnableConfig
) -> AsyncIterator[AddableDict]:
    whole = AddableDict()
    async for piece in pieces:
        told = AddableDict(piece)
        whole += told
        yield told
    try:
        parsed, error = await parser.ainvoke(whole["raw"], config), None
    except Exception as failed:  # noqa: BLE001 - a class's own validators may raise anything
        parsed, error = None, failed
    yield AddableDict(parsed=parsed, parsing_error=error)


class Json(JsonOutputParser):
    """Reads dicts, as far as they have come."""

    or_calls: bool = False

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """The JSON, None for calls and for what is not there yet."""
        if self.or_calls and _calls(result):
            return None
        return super().parse_result(result, partial=partial)


class Instance(BaseGenerationOutputParser[Any]):
    """Reads instances."""

    made: Callable[[Any], Any]
    or_calls: bool = False

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """The instance, None for calls."""
        if self.or_calls and _calls(result):
            return None
        value = JsonOutputParser().parse_result(result, partial=partial)
        return _instance(self.made, value, result[0].text)


class CalledInstance(BaseGenerationOutputParser[Any]):
    """Reads instances from calls of a tool; None where there is no call."""

    name: str
    made: Callable[[Any], Any]

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:  # noqa: ARG002
        """The instance, None where the tool is not called."""
        message = cast("ChatGeneration", result[0]).message
        assert isinstance(message, AIMessage)
        for call in message.tool_calls:
            if call["name"] == self.name:
                return _instance(self.made, call["args"], str(call["args"]))
        for bad in message.invalid_tool_calls:
            raise OutputParserException(
                f"The arguments of {bad['name']!r} cannot be read: {bad['error']}",
                llm_output=bad["args"] or "",
            )
        return None


def _calls(result: list[Generation]) -> bool:
    message = getattr(result[0], "message", None)
    return isinstance(message, AIMessage) and bool(message.tool_calls) and not result[0].text


def _instance(made: Callable[[Any], Any], value: Any, text: str) -> Any:
    try:
        return made(value)
    except ValueError as error:
        raise OutputParserException(
            f"The answer does not fit the schema: {error}", llm_output=text
        ) from error
