"""Counting tokens: exact with a local vocabulary, estimated without, downloaded never."""

from __future__ import annotations

import pytest
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    trim_messages,
)
from langchain_core.tools import tool

from aideon_core import Client, LlamaCppBackend
from aideon_core.errors import BadRequest, ConfigError
from langchain_aideon import ChatAideon

TALK = [
    SystemMessage("Be brief."),
    HumanMessage("one two three"),
    AIMessage("four five"),
    HumanMessage("six seven"),
]


@tool
def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"Rain in {city}."


class Words(LlamaCppBackend):
    """A local model whose tokens are words, and whose template wants the system or user first."""

    def unavailable(self):
        """Nothing."""
        return

    def tokens(self, text):
        """The lengths of the words."""
        return [len(word) for word in text.split()]

    def count_tokens(self, request):
        """One token a word, and ten a tool."""
        if request.messages[0].role not in ("system", "user"):
            raise BadRequest("The template refuses the messages.")
        words = sum(len(message.text.split()) for message in request.messages)
        return words + 10 * len(request.tools)


@pytest.fixture
def words():
    """A ChatAideon whose local model counts words."""
    return ChatAideon(client=Client(local=Words("qwen2.5-coder-0.5b-instruct"), cloud=None))


def test_tokens_are_those_of_the_local_model(words):
    """With a local model, ids and counts are of its own vocabulary."""
    assert words.get_token_ids("one three") == [3, 5]
    assert words.get_num_tokens("one three") == 2


def test_messages_are_counted_as_the_model_reads_them(words):
    """A conversation is counted as the prompt it becomes, tools included."""
    assert words.get_num_tokens_from_messages(TALK) == 9
    assert words.get_num_tokens_from_messages(TALK, tools=[weather]) == 19
    assert words.get_num_tokens_from_messages([]) == 0


def test_without_a_vocabulary_counts_are_estimated(chat_over, together):
    """A cloud model's tokens are estimated, with tools, and nothing is asked for it."""
    chat = chat_over()
    assert 2 <= chat.get_num_tokens("Name three primes.") <= 10
    plain, tools = (chat.get_num_tokens_from_messages(TALK, tools=t) for t in (None, [weather]))
    assert 8 <= plain < tools
    assert together.requests == []


def test_without_a_vocabulary_there_are_no_token_ids(chat_over):
    """Ids that would be made up are refused, with what to do instead."""
    with pytest.raises(ConfigError, match="custom_get_token_ids"):
        chat_over().get_token_ids("Hello.")


def test_a_tokenizer_that_is_given_counts(chat_over):
    """custom_get_token_ids comes before every other way to count."""
    chat = chat_over(custom_get_token_ids=lambda text: list(range(len(text))))
    assert chat.get_token_ids("four") == [0, 1, 2, 3]
    assert chat.get_num_tokens("four") == 4
    plain = chat.get_num_tokens_from_messages([HumanMessage("four")])
    assert plain == len("Human: four")
    assert chat.get_num_tokens_from_messages([HumanMessage("four")], tools=[weather]) > plain


@pytest.mark.parametrize("strategy", ["first", "last"])
def test_trim_messages_counts_with_the_model(words, strategy):
    """A model is a token_counter, even for pieces that its template refuses."""
    trimmed = trim_messages(TALK, max_tokens=5, token_counter=words, strategy=strategy)
    assert trimmed == (TALK[:2] if strategy == "first" else TALK[2:])


def test_messages_that_nobody_can_send_are_not_counted(words):
    """What is wrong with a message is told when it is counted as when it is sent."""
    with pytest.raises(BadRequest):
        words.get_num_tokens_from_messages([HumanMessage("\ud800")])


def test_a_tool_s_answer_counts(words):
    """Every kind of message counts."""
    told = ToolMessage("Rain in Oslo.", tool_call_id="c1")
    assert words.get_num_tokens_from_messages([*TALK, told]) == 12


def test_estimates_hold_for_other_scripts(chat_over):
    """A character of a script that has no spaces counts as more than a letter."""
    chat = chat_over()
    assert chat.get_num_tokens("天气怎么样") > chat.get_num_tokens("hello")
