"""JSON Schemas held against the official test suite, and against schemas people wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aideon_core.errors import BadRequest, InvalidOutput
from aideon_core.schema import Output

DATA = Path(__file__).parents[2].parent / "shared/data"
SUITE = DATA / "json-schema-test-suite/tests"
BENCH = DATA / "jsonschemabench/sample.jsonl"
DRAFTS = {
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
    "draft7": "http://json-schema.org/draft-07/schema#",
}
# What these test is fetching, which is never done: a reference or a meta-schema elsewhere.
FETCHED = "http://localhost:1234/"
FILES = [file for draft in DRAFTS for file in sorted((SUITE / draft).glob("*.json"))]


def output_of(schema, draft):
    if isinstance(schema, bool):
        return Output.of({"$schema": DRAFTS[draft], "allOf": [schema]})
    if "$ref" in schema and "$schema" not in schema:
        # Draft 7 ignores what stands beside a $ref, $schema included.
        nothing = {"$schema": DRAFTS[draft], "definitions": {}}
        return Output.of(schema if schema["$ref"].startswith("#") else nothing | schema)
    return Output.of({"$schema": DRAFTS[draft]} | schema)


def verdict(output, data):
    try:
        output.read(json.dumps(data))
    except InvalidOutput:
        return False
    return True


@pytest.mark.skipif(not FILES, reason=f"the JSON Schema test suite is not at {SUITE}")
@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_value_is_taken_or_refused_as_the_suite_says(file):
    """Every required keyword of drafts 7 and 2020-12 means what the official suite says."""
    wrong, refused = [], []
    for case in json.loads(file.read_text(encoding="utf-8")):
        try:
            output = output_of(case["schema"], file.parent.name)
        except BadRequest as error:
            refused.append((case["description"], FETCHED in error.message))
            continue
        wrong += [
            (case["description"], test["description"])
            for test in case["tests"]
            if verdict(output, test["data"]) != test["valid"]
        ]
    assert wrong == []
    assert [description for description, is_fetched in refused if not is_fetched] == []
    assert not refused or file.stem in {"refRemote", "dynamicRef", "vocabulary"}


@pytest.mark.skipif(not BENCH.exists(), reason=f"JSONSchemaBench is not at {BENCH}")
def test_schemas_that_people_wrote_can_be_used():
    """Every schema of the JSONSchemaBench sample, of drafts 4 to 2020-12, compiles."""
    refused = []
    with BENCH.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            try:
                assert Output.of(row["schema"]).response_format()["type"] == "json_schema"
            except BadRequest as error:
                refused.append((row["path"], error.message))
    assert refused == []
