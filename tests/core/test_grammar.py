"""What a grammar lets a model write."""

from __future__ import annotations

import ctypes
import json
import os
import re
import string
from dataclasses import dataclass

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("llguidance")

from aideon_core.backends.llama_cpp.forms.grammar import (
    MOST_CALLS,
    any_json,
    arguments,
    calls,
    either,
    json_schema,
    regex,
)
from aideon_core.backends.llama_cpp.forms.vocabulary import Vocabulary
from aideon_core.errors import BadRequest, ServerError

MERGED = [b'{"', b'": ', b'": "', b'", "', b'"}', b"}}", b", ", b"city", b"Os", b"lo", b"true"]
PIECES = [bytes([byte]) for byte in range(256)] + MERGED
STOP, TURN, CALL = len(PIECES), len(PIECES) + 1, len(PIECES) + 2
ALL = [*PIECES, b"<stop>", b"<turn>", b"<call>"]


def tokenize(text):
    """The longest pieces first, as a tokenizer would."""
    tokens, longest = [], max(map(len, MERGED))
    while text:
        size = next(n for n in range(longest, 0, -1) if text[:n] in PIECES)
        tokens.append(PIECES.index(text[:size]))
        text = text[size:]
    return tokens


VOCABULARY = Vocabulary(ALL, control=[STOP, TURN, CALL], end=[STOP, TURN], tokenize=tokenize)


def beginning(grammar, text):
    """How much of a text may be written, and the state after that."""
    matcher = VOCABULARY.matcher(grammar)
    for at, token in enumerate(tokens := tokenize(text.encode())):
        if not matcher.allows(token):
            return b"".join(PIECES[each] for each in tokens[:at]).decode(
                "utf-8", "replace"
            ), matcher
        matcher.accept(token)
    return text, matcher


def takes(grammar, text):
    wrote, matcher = beginning(grammar, text)
    return wrote == text and matcher.may_end


CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
WHEN = {"if": {}, "then": {"type": "string"}}
NEXT = {"$ref": "#/$defs/node", "maxProperties": 1}
LOOP = {
    "$ref": "#/$defs/node",
    "$defs": {"node": {"type": "object", "properties": {"next": NEXT}}},
}
NAMED = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


@dataclass(frozen=True)
class Form:
    begin: str
    head: str
    tail: str
    separator: str
    end: str


TAGGED = Form("", '<c>\n{"name": "{name}", "arguments": ', "}\n</c>", "\n", "")
LISTED = Form("[", '{"name": "{name}", "arguments": ', "}", ", ", "]")
MARKED = Form("[CALLS][", '{"name": "{name}", "arguments": ', "}", ", ", "]")
LINES = Form("", '{"name": "{name}", "parameters": ', "}", "\n", "")
BARE = Form("", '{"name": "{name}", "parameters": ', "}", "; ", "")
TOOLS = {"get": CITY, "get_all": NAMED}


def called(form, *written):
    each = (form.head.replace("{name}", name) + text + form.tail for name, text in written)
    return form.begin + form.separator.join(each) + form.end


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(string.printable),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(string.ascii_letters), inner),
        max_leaves=12,
    )
)
def test_any_json_is_json_as_json_dumps_writes_it(value):
    """Every JSON value can be written, in the one spelling of json.dumps."""
    assume("\\u" not in json.dumps(value))
    text = json.dumps(value)
    assert takes(any_json(object_only=False), text)
    assert takes(any_json(object_only=True), text) == isinstance(value, dict)
    assert takes(any_json(object_only=False, flexible=True), json.dumps(value, indent=2))


@pytest.mark.parametrize("text", ['{"city":"Oslo"}', '{ "city": "Oslo"}', '{"city": "Oslo" }'])
def test_space_is_as_json_dumps_writes_it_unless_it_is_flexible(text):
    """JSON has no other space than json.dumps writes, except in a text that another began."""
    assert not takes(json_schema(CITY), text)
    assert takes(json_schema(CITY, flexible=True), text)


def test_space_ends():
    """A model cannot stay in the space between two tokens for ever."""
    wrote, matcher = beginning(json_schema(CITY, flexible=True), "{" + " " * 100)
    assert 1 < len(wrote) < 100
    assert matcher.allows(ord('"'))


def test_a_name_has_one_spelling():
    r"""A value is held to its property's schema, however a JSON escape could spell the name."""
    grammar = json_schema({"properties": {"a": {"type": "string"}}})
    assert grammar.unenforced == ()
    assert takes(grammar, '{"a": "x"}')
    assert not takes(grammar, '{"\\u0061": 1}')


def test_an_answer_ends_where_it_is_complete():
    """Each of the end tokens is allowed exactly where the answer is complete."""
    wrote, matcher = beginning(regex("ab?"), "a")
    assert wrote == "a"
    assert (matcher.may_end, matcher.must_end) == (True, False)
    assert matcher.allows(STOP)
    assert matcher.allows(TURN)
    matcher.accept(ord("b"))
    assert (matcher.may_end, matcher.must_end) == (True, True)
    assert matcher.mask().nonzero()[0].tolist() == [STOP, TURN]
    matcher.accept(TURN)


def test_an_answer_does_not_end_before():
    """An answer that is not complete cannot end, and a token out of place is an error."""
    _, matcher = beginning(json_schema(CITY), '{"city')
    assert not matcher.allows(STOP)
    with pytest.raises(ServerError, match="before it was complete"):
        matcher.accept(STOP)
    with pytest.raises(ServerError):
        matcher.accept(ord("}"))


@given(
    st.sampled_from([json_schema(CITY), regex(r"[a-c]{2,4}(<stop>)?"), any_json(object_only=True)])
)
def test_the_mask_is_what_is_allowed(grammar):
    """A mask allows what each token alone is allowed; where text is forced, its usual tokens."""
    text = {"{": '{"city": "Oslo"}', "/": "abc<stop>"}["/" if "/" in grammar.start else "{"]
    matcher = VOCABULARY.matcher(grammar)
    for token in tokenize(text.encode()):
        mask = matcher.mask()
        assert mask.shape == (len(VOCABULARY),)
        masked = {each for each in range(len(VOCABULARY)) if mask[each]}
        allowed = {each for each in range(len(VOCABULARY)) if matcher.allows(each)}
        assert masked == (set(forced[:1]) if (forced := matcher.forced()) else allowed)
        assert masked <= allowed
        assert CALL not in allowed
        matcher.accept(token)


def test_what_is_forced_is_told():
    """What the grammar dictates is told as tokens that it takes, and nothing where it is free."""
    matcher = VOCABULARY.matcher(json_schema(CITY))
    forced = matcher.forced()
    wrote = b"".join(ALL[token] for token in forced)
    assert wrote.startswith(b'{"city')
    assert b'{"city": "'.startswith(wrote)
    for token in forced:
        matcher.accept(token)
    matcher.accept_text('{"city": "'[len(wrote) :])
    assert matcher.forced() == []


def test_answers_do_not_share_a_state():
    """A grammar is compiled once, and each answer begins at its beginning."""
    first, second = (VOCABULARY.matcher(json_schema(CITY)) for _ in range(2))
    first.accept_text('{"city": "Oslo"}')
    assert first.must_end
    assert not second.may_end


def test_many_grammars_can_be_used_in_turn():
    """How many grammars were used before has no effect on the next."""
    for number in range(200):
        assert takes(regex(f"x{number}"), f"x{number}")
    assert takes(regex("x0"), "x0")


@given(st.integers(0, 30), st.integers(0, 30))
def test_a_prefix_goes_on_where_it_was_cut(first, second):
    """A text that is written already may be cut anywhere, inside of a token too."""
    text = '{"city": "Tromsø", "days": 3}'
    first, second = sorted((min(first, len(text)), min(second, len(text))))
    matcher = VOCABULARY.matcher(json_schema(CITY, flexible=True))
    for part in (text[:first], text[first:second], text[second:]):
        matcher.accept_text(part)
    assert matcher.must_end


@pytest.mark.parametrize(
    ("text", "at", "wrong"),
    [
        ('{"city": "Oslo", "dayz": 3}', 21, "z"),
        ('{"city": "Tromsø", "days": x', 27, "x"),
        ("Sure!", 0, "Sure!"),
        ('{"city": "Oslo"} and', 16, " and"),
    ],
)
def test_a_prefix_that_does_not_fit_is_told(text, at, wrong):
    """A prefix that leaves the form is refused, with the character where it does."""
    matcher = VOCABULARY.matcher(json_schema(CITY, flexible=True))
    with pytest.raises(BadRequest, match=re.escape(f"at character {at}, with '{wrong}")) as error:
        matcher.accept_text(text)
    assert error.value.param == "prefix"


@pytest.mark.parametrize("form", [TAGGED, LISTED, MARKED, LINES, BARE])
def test_calls_are_of_the_tools_with_arguments_that_they_take(form):
    """A call names one of the tools and holds arguments of that tool's schema."""
    one = calls(form, TOOLS, parallel=False)
    assert takes(one, called(form, ("get", '{"city": "Oslo"}')))
    assert takes(one, called(form, ("get_all", '{"name": "x", "more": [1]}')))
    assert not takes(one, called(form, ("get", '{"name": "x"}')))
    assert not takes(one, called(form, ("other", '{"city": "Oslo"}')))
    assert not takes(one, "Sure.")


@pytest.mark.parametrize("form", [TAGGED, LISTED, MARKED, LINES, BARE])
def test_calls_are_as_many_as_may_be(form):
    """One call, or up to the bound where they may be parallel."""
    call = ("get", '{"city": "Oslo"}')
    one, many = (calls(form, TOOLS, parallel=parallel) for parallel in (False, True))
    for count in (1, 2, MOST_CALLS, MOST_CALLS + 1):
        text = called(form, *[call] * count)
        assert takes(one, text) == (count == 1)
        assert takes(many, text) == (count <= MOST_CALLS)


@pytest.mark.parametrize("name", ["größe", "a.b-c", "ns/tool", 'sa"y', "new\nline"])
def test_a_tool_may_have_any_name(name):
    """Names are written as they are."""
    assert takes(
        calls(TAGGED, {name: CITY}, parallel=False), called(TAGGED, (name, '{"city": ""}'))
    )


def test_arguments_are_an_object_and_then_what_follows():
    """Of a call that is begun, the arguments can be written, and then just the rest."""
    grammar = arguments({"properties": {"city": {"type": "string"}}}, "}\n</c>")
    assert takes(grammar, '{"city": "Oslo"}}\n</c>')
    assert not takes(grammar, '{"city": "Oslo"}')
    assert not takes(grammar, "3}\n</c>")


@pytest.mark.parametrize("form", [TAGGED, LISTED, MARKED, LINES, BARE])
@pytest.mark.parametrize("any_object", [True, False])
@pytest.mark.parametrize("flexible", [True, False])
def test_an_answer_is_calls_or_of_the_form(form, any_object, flexible):
    """With tools and a form both are open to the model, even where they begin alike."""
    answer = (
        any_json(object_only=True, flexible=flexible)
        if any_object
        else json_schema(NAMED, flexible=flexible)
    )
    both = either(calls(form, TOOLS, parallel=True, flexible=flexible), answer)
    assert takes(both, called(form, ("get", '{"city": "Oslo"}'), ("get_all", '{"name": "x"}')))
    assert takes(both, '{"name": "get", "age": 3}')
    assert takes(both, '{"name": "Ada"}')
    assert takes(both, '{ "name":"Ada"}') == flexible
    assert not takes(both, called(form, ("get", '{"city": 3}'))) or form in (LINES, BARE)


def test_what_is_not_enforced_is_told_by_its_place():
    """What is left to check afterwards is told as JSON pointers, of calls with the tool's name."""
    tags = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    schema = {"type": "object", "properties": {"a/b": tags}}
    assert json_schema(schema).unenforced == ("#/properties/a~1b/uniqueItems",)
    assert calls(TAGGED, {"get": CITY, "put": schema}, parallel=True).unenforced == (
        "put#/properties/a~1b/uniqueItems",
    )
    assert arguments(schema, "").unenforced == json_schema(schema).unenforced
    assert either(json_schema(CITY), json_schema(schema)).unenforced != ()


@pytest.mark.parametrize(
    ("schema", "left", "kept", "refused"),
    [
        ({"type": "string", "not": {"const": "a"}}, "#/not", '"b"', "3"),
        ({"type": "string", "pattern": "^(?!x)"}, "#/pattern", '"y"', "3"),
        ({"type": "string", "pattern": r"^\bx", "maxLength": 1}, "#/pattern", '"x"', '"xy"'),
        ({"type": "integer", "minimum": 2**60, "maximum": 3.5}, "#/minimum", "3", "4"),
        ({"const": 2**60 + 1}, "#/const", str(2**60 + 1), "x"),
        ({"type": "number", "maximum": 1e300, "minimum": 2}, "#/maximum", "3", "1"),
        ({"$ref": "#/$defs/t", "$defs": {"t": WHEN}}, "#/$defs/t/if", '"x"', "x"),
        ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, "#/oneOf", "1", "x"),
        ({"type": "object", "minProperties": 2}, "#/minProperties", '{"a": 1, "b": 2}', '{"a": 1}'),
        (LOOP, "#/$defs/node/properties/next/maxProperties", '{"next": {"next": {}}}', "3"),
        (
            {"patternProperties": {"^a": {}, "b$": {}}, "required": ["c"], "type": "object"},
            "#/patternProperties",
            '{"c": 1}',
            "{}",
        ),
    ],
)  # fmt: skip
def test_a_keyword_that_cannot_be_enforced_leaves_the_others_so(schema, left, kept, refused):
    """Only what cannot be enforced is left out, and it is told."""
    grammar = json_schema(schema)
    assert left in grammar.unenforced
    assert takes(grammar, kept)
    assert not takes(grammar, refused)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "uniqueItems": False},
        {"type": "object", "propertyNames": {}, "unevaluatedProperties": True},
        {"if": {"type": "string"}},
        {"type": "object", "x-order": 3, "deprecated": True, "minProperties": 1},
        {"type": "string", "format": "no-such-format"},
        {"$defs": {"unused": {"not": {}}}, "type": "string"},
        {
            "oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
            "$defs": {
                kind: NAMED | {"properties": {"name": {"const": kind}}} for kind in ("cat", "dog")
            },
        },
    ],
)  # fmt: skip
def test_what_says_nothing_is_not_told(schema):
    """Nothing is left to check where a keyword allows everything, only describes, or is held."""
    assert json_schema(schema).unenforced == ()


def test_a_schema_that_refers_to_itself_is_enforced():
    """A tree is held to its schema at any depth."""
    tree = {"type": "object", "properties": {"left": {"$ref": "#"}}, "additionalProperties": False}
    grammar = json_schema(tree)
    assert grammar.unenforced == ()
    assert takes(grammar, '{"left": ' * 50 + "{}" + "}" * 50)
    assert not takes(grammar, '{"left": {"right": {}}}')


def test_a_union_of_unions_that_refer_to_each_other_can_be_used():
    """References that go in circles through a oneOf are followed."""
    either_way = [{"$ref": "#"}, {"$ref": "#/$defs/list"}]
    schema = {
        "oneOf": [{"type": "string"}, {"$ref": "#/$defs/list"}],
        "$defs": {"list": {"type": "array", "items": {"oneOf": either_way}}},
    }
    assert takes(json_schema(schema), '["a", [["b"]]]')


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "text"}, "no JSON Schema"),
        ({"required": "a"}, "no JSON Schema"),
        ({"$ref": "http://example.com/schema"}, "no JSON Schema"),
        ({"$ref": "#/$defs/none"}, "no JSON Schema"),
        ({"pattern": "("}, "no JSON Schema"),
        (False, "No value"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "No value"),
        ({"const": {1, 2}}, "cannot be written as JSON"),
    ],
)
def test_a_schema_that_is_none_or_takes_nothing_is_refused(schema, words):
    """A schema that is wrong, or that nothing fits, is told before a model is asked."""
    with pytest.raises(BadRequest, match=words):
        json_schema(schema)


def test_a_tool_whose_schema_is_wrong_is_named():
    """Of many tools, the one whose parameters are no JSON Schema is told."""
    with pytest.raises(BadRequest, match="the tool 'put'.*no JSON Schema") as error:
        calls(TAGGED, {"get": CITY, "put": {"type": "dict"}}, parallel=True)
    assert error.value.param == "tools"


def test_references_are_read_from_where_they_stand():
    """Within a part that has an id of its own, pointers lead to places of that part."""
    schema = {
        "properties": {"a": {"$ref": "part"}},
        "$defs": {
            "x": {"type": "string"},
            "part": {
                "$id": "http://example.com/part",
                "oneOf": [{"$ref": "#/$defs/x"}, {"type": "null"}],
                "$defs": {"x": {"type": "integer", "multipleOf": 2}},
            },
        },
        "$id": "http://example.com/whole",
    }
    grammar = json_schema(schema)
    assert takes(grammar, '{"a": 2}')
    assert takes(grammar, '{"a": null}')
    assert not takes(grammar, '{"a": "x"}')


@pytest.mark.parametrize("depth", [100, 5000])
def test_a_schema_too_deep_is_told_or_checked_afterwards(depth):
    """A schema nested beyond all use never ends the process."""
    schema = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    try:
        assert json_schema(schema).unenforced == ("#",)
    except BadRequest as error:
        assert depth == 5000, error


PATTERNS = [
    r"\d{3}-\d{4}", r"\w+@\w+\.(com|org)", r"(?P<year>\d{4})(-(?:0[1-9]|1[0-2]))?", r"^a|b$",
    r"[^\W\d_]+", r"a{,3}b*?", r"\s\S", r"(?i:oslo)-[a-f]", r"[\[\]&~^-]+", r"a.c", r"(?s:a.c)",
    r"\A(yes|no)\Z", r"[\u00e0-\u00ff]+/?", r"", "(?x: a b # c\n)", r"(?a:\w\d)\w",
]  # fmt: skip


@settings(max_examples=150)
@given(st.sampled_from(PATTERNS).flatmap(lambda p: st.tuples(st.just(p), st.from_regex(p))))
def test_a_regex_means_what_it_means_in_python(case):
    """An answer to a regex is a text that re.fullmatch takes, and every such text can be one."""
    pattern, text = case
    assert takes(regex(pattern), text) == (re.fullmatch(pattern, text) is not None)


@settings(max_examples=150)
@given(st.sampled_from(PATTERNS), st.text(st.sampled_from("a1b_-é/@.\n ~&[]^OsloÅ٣"), max_size=8))
def test_a_regex_refuses_what_python_refuses(pattern, text):
    """Text that is not of the regex cannot be written."""
    assert takes(regex(pattern), text) == (re.fullmatch(pattern, text) is not None)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"(?=a)b", "lookaround"),
        (r"(?<!a)b", "lookaround"),
        (r"(?!)", "lookaround"),
        (r"(a)\1", "reference to a group"),
        (r"(a)?(?(1)b|c)", "condition"),
        (r"a\bb", "word boundary"),
        (r"a$b", "anchor"),
        (r"(?>a+)b", "atomic"),
        (r"a++b", "possessive"),
        (r"(a", "no regex: missing \\)"),
        (r"\ud800", "cannot be enforced"),
    ],
)
def test_a_regex_that_cannot_be_enforced_is_refused(pattern, words):
    """A regex that is none, or that no grammar can follow, is told with the reason."""
    with pytest.raises(BadRequest, match=words):
        regex(pattern)


@pytest.mark.parametrize(
    ("pattern", "taken", "refused"),
    [
        (r"^\d+$", "12", "\u0663"),
        (r"^\w+$", "a_1", "\u00e9"),
        (r"^\S$", "x", "\ufeff"),
        (r"^\s$", "\ufeff", "\x85"),
        (r"^[a[b]+$", "a[b", "c"),
        (r"^[a&&b]+$", "a&b", "c"),
        (r"b", "abc", "ac"),
    ],
)
def test_a_pattern_of_a_schema_is_read_as_schemas_read_it(pattern, taken, refused):
    """The regexes of a JSON Schema are those of ECMA-262, and find anywhere in a text."""
    grammar = json_schema({"type": "string", "pattern": pattern})
    assert grammar.unenforced == ()
    assert takes(grammar, json.dumps(taken, ensure_ascii=False))
    assert not takes(grammar, json.dumps(refused, ensure_ascii=False))


@pytest.fixture(scope="module")
def real(local_model):
    """The vocabulary of the default model, without its weights, and a tokenizer for prompts."""
    import llama_cpp.llama_cpp as llama

    llama.llama_backend_init()
    params = llama.llama_model_default_params()
    params.vocab_only = True
    model = llama.llama_model_load_from_file(os.fsencode(local_model.path), params)
    vocab = llama.llama_model_get_vocab(model)
    buffer = ctypes.create_string_buffer(512)

    special, plain = True, (False, False)

    def piece(token):
        return buffer[: llama.llama_token_to_piece(vocab, token, buffer, 512, 0, special)]

    def tokens_of(text):
        tokens = (llama.llama_token * (len(text) + 2))()
        count = llama.llama_tokenize(vocab, text, len(text), tokens, len(tokens), *plain)
        return tokens[:count]

    every = range(llama.llama_vocab_n_tokens(vocab))
    end = [token for token in every if llama.llama_vocab_is_eog(vocab, token)]
    control = {token for token in every if llama.llama_vocab_is_control(vocab, token)}
    yield Vocabulary([piece(i) for i in every], control=control, end=end, tokenize=tokens_of)
    llama.llama_model_free(model)


@pytest.mark.model
def test_a_real_vocabulary_writes_calls_and_answers(real):
    """With a model's own tokens calls and answers are written, and nothing is but them."""
    tools = either(calls(TAGGED, TOOLS, parallel=False), json_schema(NAMED))
    for text in (called(TAGGED, ("get", '{"city": "Tromsø 🌧"}')), '{"name": "Ada"}'):
        matcher = real.matcher(tools)
        for token in real.tokenize(text.encode()):
            assert not matcher.may_end
            assert matcher.allows(token)
            matcher.accept(token)
        assert matcher.must_end
        assert set(matcher.mask().nonzero()[0].tolist()) == real.end


@pytest.mark.model
def test_a_real_vocabulary_has_no_control_tokens_in_text(real):
    """Text in an answer is never a control token, and a token without bytes is never allowed."""
    matcher = real.matcher(regex("(?s:.*)"))
    mask = matcher.mask()
    assert mask.sum() > 100_000
    for token in range(len(real)):
        ends = token in real.end
        assert mask[token] == matcher.allows(token)
        assert ends or not mask[token] or (real.pieces[token] and token not in real.control)


@pytest.mark.model
def test_what_is_forced_is_in_the_tokens_that_the_model_was_taught(real):
    """What a grammar dictates is told in the tokens that the model's tokenizer gives."""
    forced = real.matcher(calls(TAGGED, {"get": CITY}, parallel=False)).forced()
    assert len(forced) > 5
    text = called(TAGGED, ("get", '{"city": "Oslo"}'))
    assert forced == real.tokenize(text.encode())[: len(forced)]
