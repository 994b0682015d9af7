"""What a provider ran on its own servers, in words.

The model here has no such tool, but what came of it is what the conversation goes on from.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.messages import AIMessage

_CALLS: Final = frozenset({"server_tool_call", "server_tool_use", "mcp_tool_use"})
# The same in a provider's own words, which LangChain knows.
_OWN_WORDS: Final = re.compile(
    r"(web_search|file_search|code_interpreter|image_generation|computer|local_shell|shell|mcp)_call"
    r"|mcp_list_tools|executable_code|code_execution_result"
)


def blocks_of(message: AIMessage) -> Sequence[str | Mapping[Any, Any]]:
    """The content of a message, in LangChain's blocks where it has a provider's own calls."""
    content = message.content
    if isinstance(content, str):
        return [content]
    kinds = (str(block.get("type")) for block in content if isinstance(block, dict))
    return message.content_blocks if any(map(_OWN_WORDS.fullmatch, kinds)) else content


def told(block: Mapping[str, Any]) -> str | None:
    """A line that tells of a provider's call or its result, None where a block is neither."""
    kind = str(block.get("type"))
    if kind in _CALLS:
        given = block.get("args") or block.get("input") or {}
        return f"[Called {block.get('name')} with {as_json(given)}]\n"
    if not kind.endswith("_tool_result"):
        return None
    came = block.get("output", block.get("content"))
    return "" if came is None else f"[It gave {as_json(_legible(came))}]\n"


def _legible(value: object) -> object:
    """Without what only the provider that encrypted it can read: it is long and says nothing."""
    if isinstance(value, list):
        return [_legible(each) for each in value]
    if isinstance(value, dict):
        kept = (key for key in value if not str(key).startswith("encrypted_"))
        return {key: _legible(value[key]) for key in kept}
    return value


def as_json(value: object) -> str:
    """Plain JSON, as the model reads it; what is none is told as text."""
    # Escaped, Japanese and Chinese arguments cost several times the tokens.
    return json.dumps(value, ensure_ascii=False, default=str)
