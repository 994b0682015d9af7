"""LangChain's tools and tool choices in OpenAI's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from langchain_core.utils.function_calling import convert_to_openai_tool

from aideon_core.errors import BadRequest
from aideon_core.tools import Tool

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORDS: Final = frozenset({"auto", "none", "required"})
_NO_CALL: Final = ("auto", "none")


def as_tools(tools: Sequence[Any], *, strict: bool | None = None) -> list[dict[str, Any]]:
    """The schemas of tools of any kind.

    Args:
        tools: whatever LangChain makes a tool of, or a Tool of aideon_core.
        strict: whether arguments must match exactly, where it is told.

    Raises:
        BadRequest: no schema can be made of one of them.
    """
    return [_as_tool(tool, strict) for tool in tools]


def _as_tool(tool: Any, strict: bool | None) -> dict[str, Any]:  # noqa: ANN401, FBT001 - any kind
    if isinstance(tool, Tool):
        return dict(tool.schema)
    try:
        schema = convert_to_openai_tool(tool, strict=strict)
    except (ValueError, TypeError) as error:
        raise BadRequest(
            f"No tool can be made of {tool!r}: {error}",
            hint="Give a tool, a documented function, a class, or a schema with a name.",
            param="tools",
        ) from error
    if not isinstance(schema.get("function"), dict):
        raise BadRequest(
            f"A tool of the type {schema.get('type')!r} runs on another provider's servers.",
            hint="Give a function instead.",
            param="tools",
        )
    return schema


def chosen(
    choice: str | dict[str, Any] | bool | None,  # noqa: FBT001 - LangChain's word
    tools: Sequence[dict[str, Any]],
) -> str | dict[str, Any] | None:
    """A tool choice in OpenAI's words, None where nothing is to be said.

    Raises:
        BadRequest: it asks for a tool that is not there.
    """
    if choice is None or choice is False:
        return None
    names = [tool["function"]["name"] for tool in tools]
    wanted = _wanted(choice, names)
    if wanted in _NO_CALL:
        return wanted if tools else None
    name = wanted["function"]["name"] if isinstance(wanted, dict) else None
    if not tools or (name is not None and name not in names):
        raise BadRequest(
            f"tool_choice is {choice!r}, and the tools are {', '.join(names) or 'none'}.",
            hint="Name one of the tools, or one of auto, any and none.",
            param="tool_choice",
        )
    return wanted


def _wanted(
    choice: str | dict[str, Any] | bool,  # noqa: FBT001 - LangChain's word
    names: Sequence[str],
) -> str | dict[str, Any]:
    if isinstance(choice, dict):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else choice.get("name")
        if not isinstance(name, str):
            return _wanted(choice.get("type", ""), ())
    elif choice is True or (choice == "any" and choice not in names):
        return "required"
    elif choice in _WORDS and choice not in names:
        return choice
    else:
        name = choice
    return {"type": "function", "function": {"name": name}}
