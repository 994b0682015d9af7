"""What the loopback server says is what Together's published OpenAPI document says it is.

Every test of this folder checks its own exchanges; here the check itself is checked, and the
list of what is known to be otherwise.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from aideon_core.types import ToolCall
from aideon_testing import DEFAULT_MODELS, Failure, LoopbackTogether, Reply

FACTS = Path(__file__).parents[2].parent / "shared/reference/together-wire.md"
MODEL = "openai/gpt-oss-20b"
CHAT = "/v1/chat/completions"
SAY = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}]}
KEY = {"authorization": "Bearer any"}
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
STRICT = {"type": "function", "function": {**TOOL["function"], "strict": True}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
TEXT = [{"type": "text", "text": "Noon."}]
PDF = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,"}}

# What clients send that the document does not know, one parameter or message at a time.
REQUESTS = (
    {"stream": True, "stream_options": {"include_usage": True}},
    {"tools": [TOOL], "parallel_tool_calls": False},
    {"tools": [STRICT], "tool_choice": {"type": "function", "function": {"name": "now"}}},
    {"messages": [{"role": "user", "content": [{**TEXT[0], "cache_control": {"type": "e"}}]}]},
    {"messages": [{"role": "user", "content": [*TEXT, PDF]}]},
    {
        "messages": [
            {"role": "assistant", "content": TEXT, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": TEXT},
        ]
    },
)
CAT = {"model": "black-forest-labs/FLUX.1-schnell", "prompt": "A cat.", "width": 256}
OTHERS = (
    ("GET", "/v1/models", None),
    ("GET", "/v1/voices", None),
    ("GET", "/v2/supported-models", None),
    ("GET", "/v3/whoami", None),
    ("POST", "/v1/completions", {"model": MODEL, "prompt": "Paris is", "stop": "###"}),
    ("POST", "/v1/completions", {"model": MODEL, "prompt": "Paris is", "stream": True}),
    (
        "POST",
        "/v1/embeddings",
        {"model": "BAAI/bge-base-en-v1.5", "input": "x", "encoding_format": "base64"},
    ),
    ("POST", "/v1/images/generations", CAT),
    ("POST", "/v1/images/generations", CAT | {"response_format": "base64"}),
    (
        "POST",
        "/v1/rerank",
        {"model": "Salesforce/Llama-Rank-V1", "query": "x", "documents": ["x", "y"]},
    ),
    (
        "POST",
        "/v1/audio/speech",
        {"model": "hexgrad/Kokoro-82M", "input": "Hello.", "voice": "af_alloy"},
    ),
    ("POST", "/v1/batches", {"endpoint": CHAT, "input_file_id": "none"}),
)


@pytest.fixture
def together(engines):
    """A server of every engine."""
    with LoopbackTogether(models=tuple(dict.fromkeys((*DEFAULT_MODELS, *engines)))) as server:
        yield server


@pytest.fixture
def http(together):
    """A client that says anything to the server."""
    with httpx.Client(base_url=together.base_url, headers=KEY, timeout=20) as client:
        yield client


@pytest.fixture
def deviations(published, exchanges):
    """Every deviation so far."""
    if published is None:
        pytest.skip("The published document does not lie beside the repository.")
    return lambda: {what for exchange in exchanges for what in published.deviations(exchange)}


@pytest.fixture
def listed(known):
    """What the list holds."""
    return {entry["at"] for entry in known}


def test_every_known_deviation_is_still_there(listed, deviations, together, http, engines):
    """What the document or the server has caught up with is struck off the list."""
    for model in engines:
        _ask_engine(together, http, model)
    for parameters in REQUESTS:
        http.post(CHAT, json=SAY | parameters)
    together.script.reply(Reply("Hel", failure=Failure.server_error()))
    http.post(CHAT, json=SAY | {"stream": True})
    together.script.fail(Failure.edge(521), Failure.rate_limited())
    http.post(CHAT, json=SAY)
    http.post(CHAT, json=SAY)
    for method, path, body in OTHERS:
        http.request(method, path, json=body)
    http.get("/v1/models", headers={"authorization": ""})
    http.get(http.post("/v1/images/generations", json=CAT).json()["data"][0]["url"])
    _send_file(http)
    assert listed - deviations() == set()


def _ask_engine(together, http, model):
    """All that an engine can say, whole and streamed."""
    for stream in (False, True):
        call = ToolCall("call_1", "now", '{"zone": "utc"}')
        together.script.reply(
            Reply("Hello.", reasoning="Greet."), Reply("Noon.", tool_calls=(call,)), Reply("Hm.")
        )
        asked = SAY | {"model": model, "stream": stream}
        http.post(CHAT, json=asked | {"logprobs": 2})
        http.post(CHAT, json=asked | {"tools": [TOOL]})
        http.post(CHAT, json=asked | {"tools": [TOOL], "tool_choice": "required"})
        while together.script:
            # An engine that takes no tools has left what was to be answered.
            http.post(CHAT, json=asked)


def _send_file(http):
    """The way of Together's SDK: announce, put, process; then all that is done with a file."""
    content = (json.dumps({"custom_id": "one", "body": SAY}) + "\n").encode()
    form = {"purpose": "batch-api", "file_name": "a.jsonl", "file_type": "jsonl"}
    announced = http.post("/v1/files", files={name: (None, text) for name, text in form.items()})
    http.put(announced.headers["location"], content=content)
    file = announced.headers["x-together-file-id"]
    http.post(f"/v1/files/{file}/preprocess")
    http.get("/v1/files")
    http.get(f"/v1/files/{file}/content")
    job = http.post("/v1/batches", json={"endpoint": CHAT, "input_file_id": file}).json()["job"]
    for _ in range(3):
        http.get(f"/v1/batches/{job['id']}")
    http.get("/v1/batches")


def test_every_known_deviation_has_its_evidence(known):
    """Each entry stands once, and names the facts it rests on or the client that sends it."""
    assert len({entry["at"] for entry in known}) == len(known)
    assert all(entry.get("facts") or entry.get("sent_by") for entry in known)
    if not FACTS.exists():
        pytest.skip("The facts of the wire do not lie beside the repository.")
    numbers = {int(n) for n in re.findall(r"^(\d+)\. ", FACTS.read_text("utf-8"), re.MULTILINE)}
    assert {number for entry in known for number in entry.get("facts", ())} <= numbers


@pytest.mark.parametrize("name", ["id", "object", "created", "model", "choices"])
def test_a_wrong_answer_is_noticed(published, exchanges, deviations, listed, http, name):
    """A required key that is not there is found, and so is a value of another kind."""
    http.post(CHAT, json=SAY)
    body = json.loads(exchanges[0].sent)
    assert deviations() <= listed
    for wrong in ({key: value for key, value in body.items() if key != name}, body | {name: {}}):
        sent = bytearray(json.dumps(wrong).encode())
        changed = replace(exchanges[0], sent=sent, headers=_sized(exchanges[0], sent))
        assert set(published.deviations(changed)) - listed


def test_a_wrong_frame_is_noticed(published, exchanges, deviations, listed, http):
    """One frame that is not as published is found among all the good ones."""
    http.post(CHAT, json=SAY | {"stream": True})
    assert deviations() <= listed
    sent = exchanges[0].sent.replace(b'"chat.completion.chunk"', b'"chunk"', 1)
    assert set(published.deviations(replace(exchanges[0], sent=sent))) - listed


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": "hot"},
        {"temprature": 1},
        {"messages": [{"role": "nobody", "content": ""}]},
        {"messages": [{"role": "user"}]},
        {"model": None},
    ],
)
def test_a_wrong_request_is_noticed(published, exchanges, deviations, listed, http, wrong):
    """A parameter that nobody knows, or of the wrong kind, is found in what was answered."""
    http.post(CHAT, json=SAY)
    assert deviations() <= listed
    content = json.dumps(SAY | wrong).encode()
    request = replace(exchanges[0].request, content=content)
    assert set(published.deviations(replace(exchanges[0], request=request))) - listed


@pytest.mark.parametrize(
    "answer",
    [{"status": 201}, {"headers": {"content-type": "text/html", "content-length": "0"}}],
)
def test_another_status_or_type_is_noticed(published, exchanges, deviations, listed, http, answer):
    """A success or a content type that the document does not name is found."""
    http.post(CHAT, json=SAY)
    assert deviations() <= listed
    assert set(published.deviations(replace(exchanges[0], **answer))) - listed


def _sized(exchange, sent):
    return {**exchange.headers, "content-length": str(len(sent))}
