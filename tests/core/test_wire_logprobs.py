"""Log probabilities in every format seen."""

from __future__ import annotations

import json

import pytest

from aideon_core.backends import wire
from aideon_core.types import Message, Request, TokenLogprob

HELLO = TokenLogprob("Hello", -0.5, (("Hello", -0.5), ("Hi", -2.0)))
ASKED = Request((Message("user", "Hi"),), logprobs=True, top_logprobs=2)
NOT_ASKED = Request((Message("user", "Hi"),))
OPENAI = {
    "content": [
        {
            "token": "Hello",
            "logprob": -0.5,
            "bytes": [72],
            "top_logprobs": [{"token": "Hi", "logprob": -2.0}, {"token": "Hello", "logprob": -0.5}],
        }
    ]
}
COLUMNS = {"tokens": ["Hello"], "token_logprobs": [-0.5]}


def whole(logprobs, request=ASKED, **choice):
    choice = {"message": {"content": "Hello"}, "logprobs": logprobs} | choice
    return wire.completion_of({"choices": [choice]}, request=request).logprobs


def streamed(logprobs, request=ASKED, content="Hello", **choice):
    choice = {"delta": {"content": content}, "logprobs": logprobs} | choice
    return wire.FrameReader("m", request).read(json.dumps({"choices": [choice]})).logprobs


@pytest.mark.parametrize("read", [whole, streamed])
@pytest.mark.parametrize(
    "logprobs",
    [
        OPENAI,
        COLUMNS | {"top_logprobs": [{"Hello": -0.5, "Hi": -2.0}], "token_ids": []},
        COLUMNS
        | {"top_logprobs": [[{"token": "Hello", "logprob": -0.5}, {"token": "Hi", "logprob": -2}]]},
    ],
)
def test_every_format_is_the_same_tokens(read, logprobs):
    """Lists of tokens, columns with maps and columns with lists mean the same."""
    assert read(logprobs) == (HELLO,)


@pytest.mark.parametrize("read", [whole, streamed])
def test_columns_without_alternatives_are_tokens(read):
    """An engine that drops the alternatives still tells the tokens."""
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [-1, 0], "token_ids": []}
    assert read(logprobs) == (TokenLogprob("a", -1.0), TokenLogprob("b", 0.0))


def test_a_bare_number_is_the_token_of_its_frame():
    """The old engine's number belongs to the text, its alternatives stand beside it."""
    top = {"Hi": -2.0, "Hello": -0.5}
    assert streamed(-0.5, top_logprobs=top) == (HELLO,)
    assert streamed(-0.25) == (TokenLogprob("Hello", -0.25),)
    assert streamed(0) == (TokenLogprob("Hello", 0.0),)


def test_a_bare_number_may_stand_for_a_tag_or_a_thought():
    """The token is what the model wrote, also where it is no part of the answer."""
    assert streamed(0, content="<think>") == (TokenLogprob("<think>", 0.0),)
    frame = {"choices": [{"delta": {"content": "", "reasoning": "Hm"}, "logprobs": -1}]}
    chunk = wire.FrameReader("m", ASKED).read(json.dumps(frame))
    assert chunk.logprobs == (TokenLogprob("Hm", -1.0),)


def test_the_token_for_the_end_has_its_own_name():
    """A token that is no text is named by the alternatives."""
    logprobs = streamed(-0.5, content="", top_logprobs={"(": -6.0, "</s>": -0.5})
    assert logprobs == (TokenLogprob("</s>", -0.5, (("</s>", -0.5), ("(", -6.0))),)


def test_what_was_not_asked_for_is_left_out():
    """Numbers that an engine sends unasked do not reach the caller."""
    assert whole(OPENAI, NOT_ASKED) == ()
    assert streamed(0, NOT_ASKED) == ()
    assert streamed(OPENAI, Request(NOT_ASKED.messages, top_logprobs=2)) == (HELLO,)
    assert streamed(OPENAI, request=None) == (HELLO,)


@pytest.mark.parametrize("read", [whole, streamed])
@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        True,
        "x",
        [],
        {},
        {"content": None},
        {"content": [None, {}, {"token": "a"}, {"token": 1, "logprob": -1}]},
        {"tokens": ["a"], "token_logprobs": [None]},
        {"tokens": None, "token_logprobs": [-1]},
        {"tokens": ["a"], "token_logprobs": [10**400]},
        float("nan"),
    ],
)
def test_what_is_no_log_probability_is_none(read, logprobs):
    """Senseless numbers and shapes are passed over."""
    assert read(logprobs) == ()


def test_an_impossible_token_is_kept():
    """The logarithm of no probability at all is a number too."""
    top = [{"a": float("-inf")}]
    logprobs = {"tokens": ["a"], "token_logprobs": [float("-inf")], "top_logprobs": top}
    assert streamed(logprobs) == (TokenLogprob("a", float("-inf"), (("a", float("-inf")),)),)
