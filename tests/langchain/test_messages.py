"""LangChain's messages on their way to a model."""

from __future__ import annotations

import pytest
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from aideon_core import Message, ToolCall
from langchain_aideon.messages import to_messages


def test_each_kind_of_message_keeps_its_role():
    """System, human, assistant and tool turns arrive as what they are."""
    sent = to_messages(
        [
            SystemMessage("Be brief."),
            HumanMessage("Hi.", name="ada"),
            AIMessage("Hello."),
            ToolMessage("Rain.", tool_call_id="c1"),
        ]
    )
    assert sent == [
        Message("system", "Be brief."),
        Message("user", "Hi.", name="ada"),
        Message("assistant", "Hello."),
        Message("tool", "Rain.", tool_call_id="c1"),
    ]


def test_a_chat_message_keeps_its_own_role():
    """A ChatMessage's role is passed on for the core to check."""
    (sent,) = to_messages([ChatMessage("Be brief.", role="developer")])
    assert sent["role"] == "developer"


def test_tool_calls_go_back_as_the_model_wrote_them():
    """Tool calls keep their letters unescaped, and invalid ones their text."""
    message = AIMessage(
        [{"type": "text", "text": "Let me see."}, {"type": "tool_use", "id": "c1"}],
        tool_calls=[{"id": "c1", "name": "weather", "args": {"city": "東京"}}],
        invalid_tool_calls=[{"id": "c2", "name": "weather", "args": "{", "error": "cut"}],
    )
    (sent,) = to_messages([message])
    assert sent.content == ({"type": "text", "text": "Let me see."},)
    assert sent.tool_calls == (
        ToolCall("c1", "weather", '{"city": "東京"}'),
        ToolCall("c2", "weather", "{"),
    )


def test_images_go_in_openais_form():
    """LangChain's image blocks and OpenAI's own arrive in OpenAI's form."""
    openai = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    block = {"type": "image", "base64": "AAAA", "mime_type": "image/png"}
    (sent,) = to_messages([HumanMessage(["What is this?", block, openai])])
    assert sent.content == ({"type": "text", "text": "What is this?"}, openai, openai)


def test_a_message_that_cannot_be_sent_is_refused():
    """An unknown kind of message is an error that names it."""
    with pytest.raises(TypeError, match="FunctionMessage"):
        to_messages([FunctionMessage("x", name="f")])
