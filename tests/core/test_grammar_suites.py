"""Grammars held against the official JSON Schema suite, and against schemas people wrote."""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path

import pytest

pytest.importorskip("llguidance")

import jsonschema_rs
from benchmarks import schemas as bench

from aideon_core.backends.llama_cpp.forms.grammar import json_schema
from aideon_core.backends.llama_cpp.forms.vocabulary import Vocabulary
from aideon_core.errors import BadRequest

DATA = Path(__file__).parents[2].parent / "shared/data"
SUITE = DATA / "json-schema-test-suite/tests"
DRAFTS = {
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
    "draft7": "http://json-schema.org/draft-07/schema#",
}
FILES = [
    file
    for draft in DRAFTS
    for file in (*(SUITE / draft).glob("*.json"), *(SUITE / draft / "optional").glob("*.json"))
    # These only describe: media types, and formats by a vocabulary of their own.
    if file.stem not in {"content", "format-assertion"}
]
# What these test is fetching, which is never done.
FETCHED = "http://localhost:1234/"
END = 256
VOCABULARY = Vocabulary(
    [*(bytes([byte]) for byte in range(END)), b"<end>"], control=[END], end=[END], tokenize=list
)

FORMAT = "a known format is enforced while decoding, though validators only take it as a note"
SPELLING = "control characters have no spelling: \\u escapes are closed, as they disguise names"
LARGE = "a whole number is not spelt as 1e308"
# (file, schema, value) to why our grammar does not take what the schema does.
NOT_WRITTEN = {
    ("ecmascript-regex", r"ECMA 262 \s matches whitespace", "Line tabulation matches"): SPELLING,
    **dict.fromkeys(
        [
            (
                "ecmascript-regex",
                rf"ECMA 262 regex escapes control codes with \c and {case}",
                "matches",
            )
            for case in ("upper letter", "lower letter")
        ],
        SPELLING,
    ),
    (
        "ecmascript-regex",
        r"ECMA 262 \S matches everything but whitespace",
        "Non-whitespace control matches",
    ): SPELLING,
    (
        "float-overflow",
        "all integers are multiples of 0.5, if overflow is handled",
        "valid if optional overflow handling is implemented",
    ): LARGE,
    **dict.fromkeys(
        [
            ("format", f"{name} format", f"invalid {name} string is only an annotation by default")
            for name in (
                *("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time"),
                *("uri", "uuid"),
            )
        ],
        FORMAT,
    ),
}


def plain(value):
    """A value with whole numbers as such, which is how a model is let write them."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    whole = isinstance(value, float) and value.is_integer() and abs(value) <= 2**53
    return int(value) if whole else value


def orders(value):
    """A value with its names in every order, as a grammar holds to that of the schema."""
    if isinstance(value, dict):
        for names in itertools.permutations(value):
            inner = (list(itertools.islice(orders(value[name]), 24)) for name in names)
            for each in itertools.product(*inner):
                yield dict(zip(names, each, strict=True))
    elif isinstance(value, list):
        for each in itertools.product(*(list(itertools.islice(orders(v), 24)) for v in value)):
            yield list(each)
    else:
        yield value


def takes(grammar, value):
    for each in itertools.islice(orders(plain(value)), 200):
        matcher = VOCABULARY.matcher(grammar)
        text = json.dumps(each, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if all(matcher.allows(byte) and matcher.accept(byte) is None for byte in text):
            return matcher.may_end
    return False


def cases():
    """(file, schema's description, grammar or None where nothing fits, tests) of the suite."""
    for file in FILES:
        draft = next(draft for draft in DRAFTS if draft in file.parts)
        for case in json.loads(file.read_text(encoding="utf-8")):
            schema = case["schema"]
            schema = {"allOf": [schema]} if isinstance(schema, bool) else schema
            try:
                grammar = json_schema({"$schema": DRAFTS[draft]} | schema)
            except BadRequest as error:
                if FETCHED in error.message:
                    continue
                grammar = None
            yield file.stem, case["description"], grammar, case["tests"]


@pytest.mark.skipif(not FILES, reason=f"the JSON Schema test suite is not at {SUITE}")
def test_a_grammar_takes_and_refuses_as_the_suite_says():
    """What is valid can be written, and what is not cannot, unless the grammar tells so."""
    refused, taken = set(), set()
    for file, schema, grammar, tests in cases():
        for test in tests:
            is_taken = grammar is not None and takes(grammar, test["data"])
            if test["valid"] and not is_taken:
                refused.add((file, schema, test["description"]))
            elif is_taken and not test["valid"] and not grammar.unenforced:
                taken.add((file, schema, test["description"]))
    assert taken == set()
    assert refused == set(NOT_WRITTEN)


@pytest.mark.skipif(not FILES, reason=f"the JSON Schema test suite is not at {SUITE}")
def test_most_of_the_suite_is_enforced():
    """A keyword that was enforced once stays so."""
    enforced = [not grammar.unenforced for *_, grammar, _ in cases() if grammar is not None]
    assert sum(enforced) / len(enforced) > 0.65


@pytest.fixture(scope="module")
def written():
    """The schemas of the JSONSchemaBench sample, by their paths."""
    if not bench.DATA.exists():
        pytest.skip(f"JSONSchemaBench is not at {bench.DATA}")
    lines = bench.DATA.read_text(encoding="utf-8").splitlines()
    return {row["path"]: row["schema"] for row in map(json.loads, lines)}


def test_schemas_that_people_wrote_are_enforced(written):
    """All but one compile to a grammar, and nearly nine of ten with every keyword enforced."""
    counted = bench.counted(written.values(), bench.ours)
    assert counted.given == len(written)
    assert counted.compiled >= 0.995 * counted.given
    assert counted.enforced >= 0.89 * counted.given


def walked(grammar, rng):
    """Some answer that the grammar takes, or None where chance did not end one."""
    matcher, wrote = VOCABULARY.matcher(grammar), bytearray()
    while not matcher.must_end and len(wrote) < 600:
        if matcher.may_end and rng.random() < 0.3:
            break
        allowed = [byte for byte in matcher.mask().nonzero()[0].tolist() if byte != END]
        ends = [byte for byte in allowed if byte in b'"}]']
        readable = [byte for byte in allowed if 32 <= byte < 127]
        hurry = 0.3 if len(wrote) < 200 else 0.9
        byte = rng.choice(ends if ends and rng.random() < hurry else readable or allowed)
        matcher.accept(byte)
        wrote.append(byte)
    return json.loads(wrote.decode(), parse_float=finite) if matcher.may_end else None


class Infinite(Exception):
    """A number of so many digits that it is none for Python and for validators."""


def finite(digits):
    number = float(digits)
    if math.isinf(number):
        raise Infinite
    return number


def test_whatever_a_grammar_lets_out_is_valid(written):
    """Any answer at all under an enforced schema that people wrote is valid by it."""
    rng = random.Random(7)
    wrong, walks = {}, 0
    for path, schema in written.items():
        grammar = json_schema(schema)
        if grammar.unenforced:
            continue
        validator = jsonschema_rs.validator_for(schema, validate_formats=False)
        try:
            value = walked(grammar, rng)
        except Infinite:
            continue
        walks += value is not None
        if value is not None and not validator.is_valid(value):
            wrong[path] = value
    assert wrong == {}
    assert walks > 0.8 * 0.89 * len(written)
