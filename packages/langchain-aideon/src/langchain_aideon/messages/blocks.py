"""Our answers as LangChain's standard content blocks, for ``message.content_blocks``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from langchain_core.messages.block_translators import register_translator

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, AIMessageChunk
    from langchain_core.messages import content as blocks

PROVIDER: Final = "aideon"


def translate_content(message: AIMessage) -> list[blocks.ContentBlock]:
    """The blocks of a whole answer: its reasoning, its text, its tool calls.

    Raises:
        NotImplementedError: its content was put into blocks before; LangChain then reads them.
    """
    found = _spoken(message)
    found.extend(_calls(message))
    return found


def translate_content_chunk(chunk: AIMessageChunk) -> list[blocks.ContentBlock]:
    """The blocks of a piece of an answer, or of several that were added up.

    LangChain joins blocks of one ``index``, and gives those without one the number of their
    place: a tool call would be joined to the text. So each block has an index of its own,
    the same in every piece.

    Raises:
        NotImplementedError: its content was put into blocks before; LangChain then reads them.
    """
    found = _spoken(chunk)
    for block in found:
        block["index"] = f"lc_{block['type']}"
    if chunk.chunk_position == "last":
        found.extend(_calls(chunk))
        return found
    for piece in chunk.tool_call_chunks:
        found.append(
            {
                "type": "tool_call_chunk",
                "id": piece["id"],
                "name": piece["name"],
                "args": piece["args"],
                "index": f"lc_tool_call_{piece['index']}",
            }
        )
    return found


def _spoken(message: AIMessage) -> list[blocks.ContentBlock]:
    if not isinstance(message.content, str):
        raise NotImplementedError
    found: list[blocks.ContentBlock] = []
    if reasoning := message.additional_kwargs.get("reasoning_content"):
        found.append({"type": "reasoning", "reasoning": reasoning})
    if message.content:
        found.append({"type": "text", "text": message.content})
    return found


def _calls(message: AIMessage) -> list[blocks.ContentBlock]:
    return [
        {"type": "tool_call", "id": call["id"], "name": call["name"], "args": call["args"]}
        for call in message.tool_calls
    ]


register_translator(PROVIDER, translate_content, translate_content_chunk)
