"""LangChain's messages on their way to a model."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import pytest
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from aideon_core import Message, ToolCall
from aideon_core.errors import BadRequest
from aideon_core.request import build
from langchain_aideon.errors import BadRequest as LangChainBadRequest
from langchain_aideon.messages import to_messages
from langchain_aideon.messages.carried import CarriedMessage, restored

SEES = "moonshotai/Kimi-K2.6"
PNG = "data:image/png;base64,AAAA"
PICTURE = {"type": "image_url", "image_url": {"url": PNG}}


def plain(turns):
    """The turns as the core sees them, without what they carry."""
    return [
        Message(turn.role, turn.content, turn.name, turn.tool_calls, turn.tool_call_id)
        for turn in turns
    ]


def asked(*content):
    """What a human message with these blocks says."""
    (turn,) = to_messages([HumanMessage(list(content))])
    return turn.content


def text(said):
    return {"type": "text", "text": said}


def test_each_kind_of_message_keeps_its_role():
    """System, human, assistant and tool turns arrive as what they are, names included."""
    sent = to_messages(
        [
            SystemMessage("Be brief."),
            HumanMessage("Hi.", name="ada"),
            AIMessage("Hello.", name="bot"),
            ToolMessage("Rain.", tool_call_id="c1", name="weather"),
        ]
    )
    assert plain(sent) == [
        Message("system", "Be brief."),
        Message("user", "Hi.", name="ada"),
        Message("assistant", "Hello.", name="bot"),
        Message("tool", "Rain.", name="weather", tool_call_id="c1"),
    ]


@pytest.mark.parametrize(
    ("own", "role"),
    [("developer", "system"), ("user", "user"), ("Human", "user"), ("ai", "assistant")],
)
def test_a_chat_message_has_the_role_it_names(own, role):
    """A ChatMessage goes by its own role, in whichever of the usual words."""
    assert plain(to_messages([ChatMessage("Hi.", role=own)])) == [Message(role, "Hi.")]


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (FunctionMessage("x", name="f"), "FunctionMessage.*ToolMessage"),
        (RemoveMessage(id="1"), "RemoveMessage.*graph"),
        (ChatMessage("x", role="tool"), "role 'tool'.*ToolMessage"),
        ("Hi.", "is a str"),
    ],
)
def test_a_message_that_cannot_be_sent_is_named(message, problem):
    """A kind of message without a place is an error with its number and a way out."""
    with pytest.raises(BadRequest, match=r"^messages\[1\].*" + problem):
        to_messages([HumanMessage("Hi."), message])


def test_a_bad_message_fails_as_langchain_expects(chat_over, together):
    """From a chat model, such an error is LangChain's own too, and nothing is sent."""
    with pytest.raises(LangChainBadRequest, match=r"messages\[0\]"):
        chat_over().invoke([FunctionMessage("x", name="f")])
    assert together.requests == []


# Blocks


@pytest.mark.parametrize(
    "block",
    [
        PICTURE,
        {"type": "image_url", "image_url": PNG},
        {"type": "image", "url": PNG},
        {"type": "image", "base64": "AAAA", "mime_type": "image/png"},
        {"type": "image", "source_type": "base64", "data": "AAAA", "mime_type": "image/png"},
        {"type": "image", "source_type": "url", "url": PNG},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
            "cache_control": {"type": "ephemeral"},
        },
        {"type": "image", "source": {"type": "url", "url": PNG}},
        {"type": "file", "base64": "AAAA", "mime_type": "image/png"},
        {"type": "non_standard", "value": PICTURE},
    ],
)
def test_pictures_arrive_in_one_form(block):
    """A picture in any of the four dialects arrives as OpenAI's image_url."""
    assert asked("What is this?", block) == (text("What is this?"), PICTURE)


def test_the_detail_of_a_picture_is_kept():
    """How closely a picture is to be looked at is passed on, by either spelling."""
    wanted = {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}
    assert asked(wanted) == (wanted,)
    assert asked({"type": "image", "url": PNG, "extras": {"detail": "low"}}) == (wanted,)


@pytest.mark.parametrize(
    ("block", "form"),
    [
        ({"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"}, "wav"),
        ({"type": "audio", "base64": "AAAA", "mime_type": "audio/x-wav"}, "wav"),
        ({"type": "audio", "base64": "AAAA", "mime_type": "audio/mpeg"}, "mp3"),
        (
            {"type": "audio", "source_type": "base64", "data": "AAAA", "mime_type": "audio/ogg"},
            "ogg",
        ),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, "wav"),
    ],
)
def test_sound_arrives_as_input_audio(block, form):
    """Audio arrives with its data and the short name of its format."""
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": form}}
    assert asked(block) == (sound,)


def test_audio_and_video_have_addresses_too():
    """Audio and video at an address, and video in base64, arrive as Together has them."""
    at = "https://example.com/a"
    assert asked({"type": "audio", "url": at}) == ({"type": "audio_url", "audio_url": {"url": at}},)
    assert asked({"type": "video", "url": at}) == ({"type": "video_url", "video_url": {"url": at}},)
    film = {"type": "video", "base64": "AAAA", "mime_type": "video/mp4"}
    url = "data:video/mp4;base64,AAAA"
    assert asked(film) == ({"type": "video_url", "video_url": {"url": url}},)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "file", "base64": "SGVyb25zLg==", "mime_type": "text/plain", "filename": "a.txt"},
        {
            "type": "file",
            "base64": "SGVyb25zLg==",
            "mime_type": "text/plain",
            "extras": {"filename": "a.txt"},
        },
        {
            "type": "file",
            "source_type": "base64",
            "data": "SGVyb25zLg==",
            "mime_type": "text/plain",
            "metadata": {"name": "a.txt"},
        },
        {"type": "file", "file": {"file_data": "data:;base64,SGVyb25zLg==", "filename": "a.txt"}},
        {
            "type": "document",
            "title": "a.txt",
            "source": {"type": "base64", "media_type": "text/plain", "data": "SGVyb25zLg=="},
        },
        {
            "type": "text-plain",
            "base64": "SGVyb25zLg==",
            "mime_type": "text/plain",
            "title": "a.txt",
        },
    ],
)
def test_files_arrive_as_their_text(block):
    """A file in any dialect arrives as text with its name."""
    assert asked(block) == (text('<document name="a.txt">\nHerons.\n</document>\n'),)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"type": "text-plain", "text": "Herons.", "mime_type": "text/plain"}, "Herons."),
        (
            {"type": "text-plain", "text": "Herons.", "title": "Birds", "context": "A list."},
            "Birds\n\nA list.\n\nHerons.",
        ),
        (
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "Herons."},
            },
            "Herons.",
        ),
        ({"type": "document", "source": {"type": "content", "content": "Herons."}}, "Herons."),
        (
            {
                "type": "search_result",
                "source": "x",
                "title": "Birds",
                "content": [{"type": "text", "text": "Herons."}],
            },
            "BirdsHerons.",
        ),
        ({"type": "text", "text": "Herons.", "cache_control": {"type": "ephemeral"}}, "Herons."),
        ({"type": "input_text", "text": "Herons."}, "Herons."),
    ],
)
def test_text_in_other_blocks_is_text(block, said):
    """Plain-text blocks, documents and search results arrive as text, and nothing else."""
    parts = asked(block)
    assert "".join(part["text"] for part in parts) == said
    assert {key for part in parts for key in part} == {"type", "text"}


def test_empty_texts_are_left_out():
    """A block without a word is not sent; a message of nothing else is empty."""
    assert asked(text(""), "", "Hi.") == (text("Hi."),)
    assert asked(text("")) == ""


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ({"type": "hologram"}, "'hologram' that has no place here"),
        ({"text": "x"}, "None that has no place here"),
        ({"type": "text"}, "'text' without a text"),
        ({"type": "image", "file_id": "f1"}, "'image' that refers to a file stored elsewhere"),
        ({"type": "file", "file_id": "f1"}, "'file' that refers to a file stored elsewhere"),
        ({"type": "file", "url": "https://x/a.pdf"}, "'file' that refers to a file stored"),
        ({"type": "file", "source_type": "id", "id": "f1"}, "'file' that refers to a file"),
        ({"type": "text-plain", "url": "https://x/a"}, "'text-plain' that refers to a file"),
        ({"type": "document", "source": {"type": "file", "file_id": "f1"}}, "'document' that refe"),
        ({"type": "file", "file": {"file_id": "f1"}}, "file that is only referred to"),
        ({"type": "image", "base64": "AAAA"}, "'image' without a mime_type.*image/png"),
        ({"type": "image"}, "'image' without data"),
        ({"type": "image", "url": "file:///etc/passwd"}, "'image' at 'file:///etc/passwd'"),
        ({"type": "image_url"}, "'image_url' without an address"),
        ({"type": "image_url", "image_url": {"url": None}}, "'image_url' at None"),
        ({"type": "input_audio"}, "'input_audio' without data or format"),
        ({"type": "non_standard", "value": 3}, "'non_standard' without a block"),
        ({"type": "tool_use", "id": "c", "name": "f", "input": {}}, "'tool_use' that has no place"),
        ({"type": "tool_result", "content": "x"}, "'tool_result' without a tool_use_id"),
    ],
)
def test_a_block_that_cannot_be_sent_is_named(block, problem):
    """A block without a way to the model is an error with its place, its type and a way out."""
    with pytest.raises(BadRequest, match=r"^messages\[1\] has a .*" + problem) as caught:
        to_messages([SystemMessage("Hi."), HumanMessage([block])])
    assert caught.value.hint
    assert caught.value.param == "messages[1].content"


@pytest.mark.parametrize("kind", [SystemMessage, AIMessage])
def test_only_users_and_tools_show_pictures(kind):
    """A picture in a system's or an assistant's message is refused, with where to put it."""
    with pytest.raises(BadRequest, match="'image_url' where models read text alone.*HumanMessage"):
        to_messages([kind([PICTURE])])


# What a model said


def test_tool_calls_go_back_as_the_model_wrote_them():
    """Tool calls keep their letters unescaped, and invalid ones their text."""
    message = AIMessage(
        [text("Let me see."), {"type": "tool_use", "id": "c1", "name": "weather", "input": {}}],
        tool_calls=[{"id": "c1", "name": "weather", "args": {"city": "東京"}}],
        invalid_tool_calls=[{"id": "c2", "name": "weather", "args": "{", "error": "cut"}],
    )
    (sent,) = to_messages([message])
    assert sent.content == "Let me see."
    assert sent.tool_calls == (
        ToolCall("c1", "weather", '{"city": "東京"}'),
        ToolCall("c2", "weather", "{"),
    )


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Oslo"}},
        {"type": "tool_call", "id": "c1", "name": "weather", "args": {"city": "Oslo"}},
        {
            "type": "function_call",
            "id": "f",
            "call_id": "c1",
            "name": "weather",
            "arguments": '{"city": "Oslo"}',
        },
        {
            "type": "non_standard",
            "value": {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Oslo"}},
        },
    ],
)
def test_a_call_told_only_in_the_content_is_a_call(block):
    """A history in another dialect keeps its tool calls, each once."""
    (sent,) = to_messages([AIMessage([block])])
    assert (sent.content, sent.tool_calls) == ("", (ToolCall("c1", "weather", '{"city": "Oslo"}'),))
    named = [{"id": "c1", "name": "weather", "args": {"city": "Oslo"}}]
    (sent,) = to_messages([AIMessage([block], tool_calls=named)])
    assert sent.tool_calls == (ToolCall("c1", "weather", '{"city": "Oslo"}'),)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "reasoning", "reasoning": "Secret thoughts."},
        {"type": "thinking", "thinking": "Secret thoughts.", "signature": "x"},
        {"type": "redacted_thinking", "data": "Secret thoughts."},
        {"type": "reasoning_content", "reasoning_content": {"text": "Secret thoughts."}},
        {"type": "non_standard", "value": {"type": "redacted_thinking", "data": "Secret."}},
        {"type": "tool_call_chunk", "id": "c", "name": "f", "args": "Secret thoughts."},
    ],
)
def test_reasoning_is_not_sent_back(block):
    """How a model came to its words is no part of them."""
    message = AIMessage([block, text("Hello.")], additional_kwargs={"reasoning_content": "Secret"})
    assert plain(to_messages([message])) == [Message("assistant", "Hello.")]


def test_what_a_provider_ran_itself_is_told():
    """A search or a program run by another provider stays in the conversation, as text."""
    blocks = [
        {"type": "server_tool_call", "id": "s", "name": "search", "args": {"q": "herons"}},
        {"type": "server_tool_result", "tool_call_id": "s", "status": "success", "output": "Many."},
        text("There are many."),
    ]
    (sent,) = to_messages([AIMessage(blocks)])
    assert (
        sent.content == '[Called search with {"q": "herons"}]\n[It gave "Many."]\nThere are many.'
    )


@pytest.mark.parametrize(
    ("provider", "blocks", "told"),
    [
        (
            "openai",
            [
                {"type": "web_search_call", "id": "w", "action": {"type": "search", "query": "q"}},
                {"type": "text", "text": "Many."},
            ],
            '[Called web_search with {"type": "search", "query": "q"}]\nMany.',
        ),
        (
            "openai",
            [
                {"type": "text", "text": "Let me count."},
                {"type": "code_interpreter_call", "id": "c", "code": "1+1", "outputs": []},
                {"type": "mcp_list_tools", "id": "m"},
            ],
            (
                'Let me count.\n[Called code_interpreter with {"code": "1+1"}]\n'
                "[It gave []]\n[Called mcp_list_tools with {}]\n"
            ),
        ),
        (
            "google_genai",
            [
                {"type": "executable_code", "language": "python", "executable_code": "1+1"},
                {"type": "code_execution_result", "code_execution_result": "2", "outcome": 1},
                {"type": "text", "text": "Two."},
            ],
            (
                '[Called code_interpreter with {"code": "1+1", "language": "python"}]\n'
                '[It gave "2"]\nTwo.'
            ),
        ),
        (
            "anthropic",
            [
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": 1}},
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": "s",
                    "content": [{"url": "u", "encrypted_content": "x" * 999}],
                },
                {"type": "text", "text": "Many."},
            ],
            '[Called web_search with {"q": 1}]\n[It gave [{"url": "u"}]]\nMany.',
        ),
    ],
)
def test_what_another_provider_ran_is_told_in_words(provider, blocks, told):
    """A conversation may go on from any provider's own tools, in its words, without its secrets."""
    asked = AIMessage(blocks, response_metadata={"model_provider": provider})
    (turn,) = to_messages([asked])
    assert turn.content == told
    assert asked.content == blocks


def test_a_call_of_a_custom_tool_is_one_call():
    """OpenAI's calls in free text are in the message's tool calls, and not refused for it."""
    call = {"id": "c1", "name": "run", "args": {"__arg1": "ls"}}
    block = {"type": "custom_tool_call", "call_id": "c1", "name": "run", "input": "ls"}
    (turn,) = to_messages(
        [AIMessage([block], tool_calls=[call], response_metadata={"model_provider": "openai"})]
    )
    assert [(each.id, each.arguments) for each in turn.tool_calls] == [("c1", '{"__arg1": "ls"}')]


def test_an_assistant_may_say_nothing_beside_its_calls():
    """Empty content, as text or as a list, is empty text."""
    calls = [{"id": "1", "name": "f", "args": {}}]
    for empty in ("", [], [text("")]):
        (sent,) = to_messages([AIMessage(empty, tool_calls=calls)])
        assert (sent.content, sent.tool_calls) == ("", (ToolCall("1", "f", "{}"),))


# What a tool said


def test_a_tool_that_failed_says_so():
    """An error of a tool is told to the model, once."""
    sent = to_messages(
        [
            ToolMessage("No such city.", tool_call_id="c1", status="error"),
            ToolMessage("Error: no such city.", tool_call_id="c2", status="error"),
            ToolMessage("No rain.", tool_call_id="c3"),
        ]
    )
    assert [turn.content for turn in sent] == [
        "Error: No such city.",
        "Error: no such city.",
        "No rain.",
    ]


def test_what_a_tool_says_in_parts_is_one_text():
    """A tool's list of texts, and its files, arrive as text, a line for each."""
    file = {"type": "file", "base64": "SGVyb25zLg==", "mime_type": "text/csv", "filename": "a.csv"}
    (sent,) = to_messages([ToolMessage([text("Found:"), "two", file], tool_call_id="c1")])
    assert sent.content == 'Found:\ntwo\n<document name="a.csv">\nHerons.\n</document>\n'


def test_pictures_of_tools_follow_all_the_tools():
    """No picture stands between the tools that answer one turn, and each says whose it is."""
    calls = [{"id": f"c{n}", "name": "draw", "args": {}} for n in (1, 2)]
    conversation = [
        AIMessage([], tool_calls=calls),
        ToolMessage([text("Here."), PICTURE], tool_call_id="c1", name="draw"),
        ToolMessage([PICTURE], tool_call_id="c2"),
        HumanMessage("And?"),
    ]
    _, one, two, of_one, of_two, last = to_messages(conversation)
    assert [turn.role for turn in (one, two, of_one, of_two)] == ["tool", "tool", "user", "user"]
    assert one.content.startswith("Here.\n[What it shows follows")
    assert two.content.startswith("[What it shows follows")
    assert of_one.content == (text("[From the tool draw, call c1:]"), PICTURE)
    assert of_two.content == (text("[From tool call c2:]"), PICTURE)
    assert last.content == "And?"


def test_anthropic_results_become_tool_turns():
    """Results inside human messages are the tools' turns, in order, and the rest the user's."""
    result = {"type": "tool_result", "tool_use_id": "c1", "content": [text("Green."), PICTURE]}
    failed = {"type": "tool_result", "tool_use_id": "c2", "content": "Gone.", "is_error": True}
    silent = {"type": "tool_result", "tool_use_id": "c3"}
    sent = to_messages(
        [
            HumanMessage([result, failed, text("Why?")]),
            HumanMessage([silent]),
            AIMessage("So."),
        ]
    )
    assert [(turn.role, turn.tool_call_id) for turn in sent] == [
        ("tool", "c1"),
        ("tool", "c2"),
        ("tool", "c3"),
        ("user", None),
        ("assistant", None),
    ]
    assert sent[1].content == "Error: Gone."
    assert sent[3].content == (text("[From tool call c1:]"), PICTURE, text("Why?"))


def test_anthropic_conversations_are_sent(chat_over, together):
    """The history that LangChain's own suite writes in Anthropic's form reaches the model."""
    together.script.say("Blue.")
    tool = {"name": "pick", "input_schema": {"type": "object"}, "description": "Pick."}
    chat_over(cloud=SEES).bind_tools([tool]).invoke(
        [
            SystemMessage("You're a good assistant."),
            HumanMessage(
                [
                    text("Pick."),
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
                    },
                ]
            ),
            AIMessage([text("Hmm."), {"type": "tool_use", "input": {}, "id": "c", "name": "pick"}]),
            HumanMessage(
                [{"type": "tool_result", "tool_use_id": "c", "content": "Green."}, text("And now?")]
            ),
        ]
    )
    sent = together.requests[0].body["messages"]
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool", "user"]
    assert sent[1]["content"] == [text("Pick."), PICTURE]
    assert sent[2]["tool_calls"][0]["function"] == {"name": "pick", "arguments": "{}"}
    assert (sent[3]["tool_call_id"], sent[3]["content"]) == ("c", "Green.")


@pytest.mark.parametrize(
    "block",
    [PICTURE, {"type": "image", "base64": "AAAA", "mime_type": "image/png"}],
)
def test_tools_that_draw_are_sent(chat_over, together, block):
    """A tool message that is a picture reaches the model as text and a user's picture."""
    together.script.say("A diagram.")
    calls = [{"type": "tool_call", "id": "1", "name": "random_image", "args": {}}]
    chat_over(cloud=SEES).invoke(
        [
            HumanMessage("Get a diagram."),
            AIMessage([], tool_calls=calls),
            ToolMessage([block], tool_call_id="1", name="random_image"),
        ]
    )
    sent = together.requests[0].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "user"]
    assert isinstance(sent[2]["content"], str)
    assert sent[3]["content"][-1] == PICTURE


# Whole again


CONVERSATION = [
    SystemMessage([text("Be brief.")]),
    HumanMessage([text("Hi."), {"type": "image", "url": PNG}]),
    AIMessage([], tool_calls=[{"id": "c1", "name": "f", "args": {}}]),
    ToolMessage([text("Here."), PICTURE], tool_call_id="c1"),
    HumanMessage([
        {"type": "file", "mime_type": "text/csv",
         "base64": base64.b64encode(b"a,b").decode()}]),
    AIMessage([{"type": "tool_use", "id": "c2", "name": "f", "input": {}}]),
    HumanMessage([{"type": "tool_result", "tool_use_id": "c2", "content": "x"}, text("So?")]),
]  # fmt: skip


def test_every_turn_knows_its_message():
    """The core passes turns on that can still be told to be a LangChain message unchanged."""
    turns = build(to_messages(CONVERSATION)).messages
    assert all(isinstance(turn, CarriedMessage) and turn.whole is not None for turn in turns)
    assert restored(turns) == CONVERSATION
    assert all(a is b for a, b in zip(restored(turns), CONVERSATION, strict=True))


def test_a_turn_that_was_changed_is_not_whole():
    """What the core adds to a message, such as the wanted form, is never lost to an original."""
    turns = build(to_messages(CONVERSATION), output_type=int).messages
    back = restored(turns)
    assert back[1:-1] != CONVERSATION[1:-1] or back[0] is not CONVERSATION[0]
    changed = [turn for turn in turns if turn.whole is None]
    assert changed
    assert all(any(turn is each for each in back) for turn in changed)


@pytest.mark.parametrize("part", [0, 1])
def test_what_became_two_turns_stays_two_when_one_changes(part):
    """A message of several turns comes back whole or as all of them, never as both."""
    turns = to_messages([CONVERSATION[2], CONVERSATION[3]])
    turns[1 + part] = replace(turns[1 + part], content="Something else.")
    assert restored(turns) == [CONVERSATION[2], turns[1], turns[2]]


def test_turns_of_our_own_stay_where_they_are():
    """What was never a LangChain message is handed on as it is, in its place."""
    ours = Message("user", "Mine.")
    (first,) = to_messages([CONVERSATION[0]])
    assert restored([ours, first, ours]) == [ours, CONVERSATION[0], ours]


def test_messages_are_not_changed():
    """Sending a conversation leaves the caller's messages as they were."""
    before = [message.model_copy(deep=True) for message in CONVERSATION]
    to_messages(CONVERSATION)
    assert before == CONVERSATION


def test_documents_reach_the_model_as_text(chat_over, together):
    """A file of a user or a tool reaches any model as text; a scan is refused and not sent."""
    from pypdf import PdfWriter

    together.script.say("Fine.")
    csv = base64.b64encode(b"bird;count\nheron;42").decode()
    openai = {"file_data": f"data:text/csv;base64,{csv}", "filename": "birds.csv"}
    calls = [{"type": "tool_call", "id": "1", "name": "random_file", "args": {}}]
    standard = {"type": "file", "base64": csv, "mime_type": "text/csv"}
    chat = chat_over()
    chat.invoke(
        [
            HumanMessage([text("Relay it."), {"type": "file", "file": openai}]),
            AIMessage([], tool_calls=calls),
            ToolMessage(content_blocks=[standard], tool_call_id="1", name="random_file"),
        ]
    )
    user, _, tool = together.requests[0].body["messages"]
    wanted = text('<document name="birds.csv">\nbird;count\nheron;42\n</document>\n')
    assert user["content"] == [text("Relay it."), wanted]
    assert tool["content"] == "<document>\nbird;count\nheron;42\n</document>\n"
    blank = PdfWriter()
    blank.add_blank_page(100, 100)
    out = io.BytesIO()
    blank.write(out)
    scan = {"type": "file", "base64": base64.b64encode(out.getvalue()).decode(),
            "mime_type": "application/pdf", "filename": "scan.pdf"}  # fmt: skip
    with pytest.raises(LangChainBadRequest, match=r"messages\[1\] has a file 'scan.pdf'.*scan"):
        chat.invoke([SystemMessage("Hi."), HumanMessage([scan])])
    assert len(together.requests) == 1
