"""From logits to chunks: one answer of a local model, written by a hand that we hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("llama_cpp")

import numpy as np

from aideon_core.backends.llama_cpp.answer import Answer
from aideon_core.backends.llama_cpp.asking import Asked
from aideon_core.backends.llama_cpp.forms import grammar
from aideon_core.backends.llama_cpp.forms.narrowing import narrowed
from aideon_core.backends.llama_cpp.forms.vocabulary import Vocabulary
from aideon_core.backends.llama_cpp.prompts.formats import GENERIC
from aideon_core.errors import BadRequest
from aideon_core.request import build
from aideon_core.tools.streaming import CallStream
from aideon_core.types import Completion

END = 256
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
    "required": ["city"],
}


class ByteModel:
    """A model whose tokens are bytes, and one that ends the answer."""

    n_vocab = 257
    end = frozenset({END})

    def __init__(self):
        pieces = [bytes([n]) for n in range(256)] + [b"<end>"]
        self.vocabulary = Vocabulary(pieces, control=(), end=[END], tokenize=list)

    def piece(self, token):
        return b"" if token == END else bytes([token])


MODEL = ByteModel()


def asked(*, tools=None, grammar=None, opens_thought=False, **params):
    """What a request asks of the model, without a prompt."""
    request = build("Go", temperature=0, **params)
    return Asked(request, (1,), tools or {}, GENERIC, grammar, opens_thought)


class Hand:
    """Writes an answer; what it wants to say has the highest logits."""

    def __init__(self, what, *, limit=400):
        self.chunks = []
        self.answer = Answer(MODEL, what, limit=limit, seed=None, sink=self.chunks.append)
        self.read = []
        self.went_back = 0

    def say(self, text):
        """Want this text, and take what the answer allows of it."""
        wanted = list(text.encode())
        while wanted and self.answer.finish is None:
            logits = np.zeros(257, np.float32)
            logits[wanted[0]] = 10
            took = self.answer.take(logits)
            self.read += took
            if self.answer.taken_back:
                self.went_back += self.answer.taken_back
                del self.read[-self.answer.taken_back :]
                return self
            del wanted[: max(1, len(took))]
        return self

    def end(self):
        """Want to end until it does; gives the whole answer."""
        for _ in range(500):
            if self.answer.finish is not None:
                return Completion.from_chunks(self.chunks), self.answer.finish
            logits = np.zeros(257, np.float32)
            logits[END] = 10
            self.read += self.answer.take(logits)
        raise AssertionError("it does not end")


def test_what_a_grammar_dictates_is_written_without_asking():
    """Where a schema leaves no choice the text is written at once, several tokens for a logit."""
    form = grammar.json_schema({"const": {"name": "Ada", "age": 36}})
    hand = Hand(asked(grammar=form))
    assert len(hand.answer.take(np.zeros(257, np.float32))) == 0
    completion, finish = hand.end()
    assert (json.loads(completion.text), finish) == ({"name": "Ada", "age": 36}, "stop")


def test_arguments_are_held_to_their_schema_from_their_first_character():
    """In auto mode a call written as JSON cannot give a tool what it does not take."""
    hand = Hand(asked(tools={"weather": narrowed(WEATHER)}))
    hand.say('Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"town": "Paris"}}')
    completion, finish = hand.end()
    (call,) = completion.tool_calls
    assert finish == "tool_calls"
    assert completion.text.strip() == "Let me see."
    assert json.loads(call.arguments)["city"] in ("Oslo", "Rome")


def test_a_wrong_call_in_another_syntax_is_taken_back():
    """A Python call that its tool does not take is written anew, and only then shown."""
    hand = Hand(asked(tools={"weather": narrowed(WEATHER)}))
    hand.say('Well:\n[weather(city="Paris")]')
    assert hand.went_back >= len('weather(city="Paris")')
    assert not any(chunk.tool_calls for chunk in hand.chunks)
    completion, finish = hand.end()
    (call,) = completion.tool_calls
    assert finish == "tool_calls"
    assert json.loads(call.arguments)["city"] in ("Oslo", "Rome")
    assert completion.text.strip() == "Well:"


def test_a_right_call_in_another_syntax_stays():
    """A Python call that fits its tool is a call like any other."""
    hand = Hand(asked(tools={"weather": narrowed(WEATHER)})).say('[weather(city="Rome")]')
    completion, finish = hand.end()
    assert hand.went_back == 0
    assert finish == "tool_calls"
    assert json.loads(completion.tool_calls[0].arguments) == {"city": "Rome"}


def test_one_call_is_one_call():
    """With parallel_tool_calls=False the answer ends with its first call."""
    what = asked(tools={"weather": narrowed(WEATHER)}, parallel_tool_calls=False)
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    completion, finish = Hand(what).say(f"{call}\n{call}").end()
    assert (len(completion.tool_calls), finish) == (1, "tool_calls")


def test_a_thought_that_the_prompt_opened_is_free_and_what_follows_is_not():
    """A form holds the answer, not the thought before it."""
    form = grammar.json_schema({"enum": ["yes", "no"]})
    hand = Hand(asked(grammar=form, opens_thought=True))
    hand.say("Hm, maybe.\n</think>")
    completion, finish = hand.say("maybe").end()
    assert completion.reasoning.strip() == "Hm, maybe."
    assert (json.loads(completion.text) in ("yes", "no"), finish) == (True, "stop")


def test_what_could_not_be_enforced_is_checked_and_told():
    """A form that breaks a keyword which no grammar holds comes with a warning that says so."""
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "maxItems": 3}
    format_ = {"type": "json_schema", "json_schema": {"name": "ids", "schema": schema}}
    for text, warned in (("[1, 1]", True), ("[1, 2]", False)):
        what = asked(grammar=grammar.json_schema(schema), response_format=format_)
        hand = Hand(what).say(text)
        completion, _ = hand.end()
        assert completion.text == text
        assert bool(hand.answer.warnings) is warned


def test_a_prefix_that_does_not_fit_the_form_is_refused():
    """A prefix outside of the schema is a BadRequest that tells where it leaves it."""
    form = grammar.json_schema({"type": "object", "properties": {}}, flexible=True)
    with pytest.raises(BadRequest, match="prefix"):
        Hand(asked(grammar=form, prefix="[1"))


WHOLE = '{"name": "Ada L.", "tags": ["a", "b"], "age": 36}'


@given(st.integers(0, len(WHOLE)))
def test_an_answer_goes_on_from_any_prefix(cut):
    """However much of a JSON answer is given, what follows makes it whole and valid."""
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 9},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
            "age": {"type": "integer", "maximum": 99, "minimum": 0},
        },
        "required": ["name", "tags", "age"],
        "additionalProperties": False,
    }
    form = grammar.json_schema(schema, flexible=True)
    hand = Hand(asked(grammar=form, prefix=WHOLE[:cut])).say(WHOLE[cut:])
    completion, finish = hand.end()
    assert WHOLE[:cut] + completion.text == WHOLE
    assert finish == "stop"


@given(st.integers(1, 60))
def test_a_call_goes_on_from_any_prefix(cut):
    """However much of a call is given, the rest of its arguments comes as deltas that fit."""
    whole = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    tools = {"weather": WEATHER}
    hand = Hand(asked(tools=tools, prefix=whole[:cut])).say(whole[cut:])
    completion, finish = hand.end()
    shown = Completion.from_chunks([*CallStream(tools).feed(whole[:cut]), *hand.chunks])
    (call,) = shown.tool_calls
    assert finish == "tool_calls"
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Rome"})
    assert not completion.text.strip()


TALK = 'One <tool> or {"name": none}, ```json\n[1]\n``` and [weather is fine.'


@given(st.integers(1, len(TALK)))
def test_text_that_looks_like_a_call_goes_on_from_any_prefix(cut):
    """With tools on offer, what was given as a prefix is not said a second time."""
    what = asked(tools={"weather": WEATHER}, prefix=TALK[:cut])
    completion, finish = Hand(what).say(TALK[cut:]).end()
    assert TALK[:cut] + completion.text == TALK
    assert finish == "stop"


NESTED = {
    "type": "object",
    "properties": {
        "a": {"type": "object", "properties": {"b": {"type": "integer"}}},
        "c": {"type": "array", "items": {"type": "object", "properties": {}}},
    },
}


def test_unnamed_properties_are_not_invited():
    """Objects are closed to what their schema does not name, at every depth."""
    closed = narrowed(NESTED)
    assert closed["additionalProperties"] is False
    assert closed["properties"]["a"]["additionalProperties"] is False
    assert closed["properties"]["c"]["items"]["additionalProperties"] is False
    assert "additionalProperties" not in NESTED


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}]},
        {"properties": {"a": {}}, "unevaluatedProperties": False},
    ],
)
def test_a_schema_whose_parts_speak_together_is_left_alone(schema):
    """Closing one part could contradict another, so nothing is closed."""
    assert narrowed(schema) == schema


def test_what_says_itself_what_else_it_holds_is_left_alone():
    """An object that is open on purpose stays open."""
    for rest in ({"additionalProperties": True}, {"patternProperties": {"^x": {}}}):
        schema = {"type": "object", "properties": {"a": {}}, **rest}
        assert narrowed(schema) == schema
