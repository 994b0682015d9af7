"""What the service really sent, read and compared with what stands in the raw JSON."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
import yaml
from httpx2 import EventSource, Response
from httpx2 import Request as HttpRequest
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_core.backends import wire
from aideon_core.errors import BackendError, RateLimited, ServerError
from aideon_core.types import Completion, Message, Request, Usage

RECORDINGS = Path(__file__).parents[2].parent / "shared" / "together" / "recordings"
pytestmark = pytest.mark.skipif(
    not RECORDINGS.exists(), reason="the shared recordings are not on this machine"
)
ANSWERS, STREAMS, BROKEN_STREAMS, REFUSALS = 176, 158, 1, 22
OPENED_BY_TEMPLATE = "Thinking-2507"


@dataclass(frozen=True)
class Exchange:
    """One recorded chat call; ``asked`` is the body it sent."""

    name: str
    status: int
    headers: dict = field(repr=False)
    body: bytes = field(repr=False)
    asked: dict = field(repr=False)

    @property
    def model(self):
        return self.asked.get("model", "")

    @property
    def request(self):
        """The parameters that decide how the answer is read."""
        k = self.asked.get("logprobs")
        return Request(
            (Message("user", "Hi"),),
            response_format=self.asked.get("response_format"),
            logprobs=k is not None or None,
            top_logprobs=k,
        )

    @property
    def is_stream(self):
        return self.body.startswith(b"data:")

    @property
    def frames(self):
        """The JSON of every event, found without a parser of events."""
        found = re.findall(rb"^data: (\{.*\})\r?$", self.body, re.MULTILINE)
        return [json.loads(each) for each in found]


def _exchange(name, request, response):
    """A recorded pair of any of the three recorders, in one form; None if it is no chat."""
    if "/chat/completions" not in (request.get("url") or request.get("uri")):
        return None
    body = response.get("body")
    body = body.get("string") if isinstance(body, dict) else body
    if "parsed_body" in response:
        body = json.dumps(response["parsed_body"])
    body = body.encode() if isinstance(body, str) else body
    body = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
    status = response.get("code") or response["status"]
    headers = {
        key: value[0] if isinstance(value, list) else value
        for key, value in (response.get("headers") or {}).items()
    }
    asked = request.get("parsed_body") or request.get("body") or {}
    asked = json.loads(asked) if isinstance(asked, str) else asked
    return Exchange(
        name, status["code"] if isinstance(status, dict) else status, headers, body, asked
    )


@cache
def exchanges():
    found = []
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in sorted(RECORDINGS.rglob("*.yaml")):
        recorded = yaml.load(path.read_text(encoding="utf-8"), loader)["interactions"]
        name = str(path.relative_to(RECORDINGS))
        found += [_exchange(name, each["request"], each["response"]) for each in recorded]
    tapes = json.loads((RECORDINGS / "huggingface.js" / "tapes-together.json").read_text())
    for name, tape in tapes.items():
        request = {"url": tape["url"], "body": tape["init"].get("body")}
        found.append(_exchange(name, request, tape["response"]))
    return tuple(each for each in found if each is not None)


def good(*, streams):
    return [each for each in exchanges() if each.status == 200 and each.is_stream is streams]


def is_broken(exchange):
    return b'"finish_reason":"error"' in exchange.body


# The oracle: the raw JSON, put together by other means than the package's.


def thought_and_answer(exchange, content, reasoning):
    """Thinking in the text, told by one expression over the whole of it."""
    opening = r"\s*<think>\n*"
    if OPENED_BY_TEMPLATE in exchange.model and "response_format" not in exchange.asked:
        opening = r"\n*"
    match = re.fullmatch(rf"{opening}(.*?)(?:\n*</think>\n*(.*))?", content, re.DOTALL)
    if match is None or (not content and opening == r"\n*"):
        return reasoning, content
    return reasoning + match[1], match[2] or ""


def joined_calls(pieces):
    """Calls as ``[name, arguments]``, by the index they come with or by their id."""
    calls = {}
    for piece in pieces:
        key = piece["id"] if piece.get("index") == -1 else piece.get("index", 0)
        call = calls.setdefault(key, ["", ""])
        call[0] += piece["function"].get("name") or ""
        call[1] += piece["function"].get("arguments") or ""
    return [tuple(call) for call in calls.values()]


def counted(usage):
    nested = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    return Usage(
        usage["prompt_tokens"],
        usage["completion_tokens"],
        max(usage.get("cached_tokens") or 0, nested or 0),
        usage.get("reasoning_tokens") or 0,
    )


def reason(values, calls):
    first = next((value for value in values if value), "tool_calls" if calls else "stop")
    return {"eos": "stop"}.get(first, first)


def numbers_in(logprobs):
    """The log probabilities of the tokens themselves, from any format."""
    if isinstance(logprobs, dict):
        rows = logprobs.get("content")
        return [row["logprob"] for row in rows] if rows else list(logprobs["token_logprobs"])
    return [] if logprobs is None else [logprobs]


def warned(bodies):
    return tuple(each["message"] for body in bodies for each in body.get("warnings") or [])


def expected(exchange):
    """Text, reasoning, calls, reason, usage, log probabilities, warnings, model and id."""
    bodies = exchange.frames if exchange.is_stream else [json.loads(exchange.body)]
    choices = [choice for body in bodies for choice in body["choices"]]
    said = [choice["delta" if exchange.is_stream else "message"] for choice in choices]
    calls = joined_calls(
        piece for each in (*said, *choices) for piece in each.get("tool_calls") or []
    )
    reasoning, text = thought_and_answer(
        exchange,
        "".join(each.get("content") or "" for each in said),
        "".join(each.get("reasoning") or "" for each in said),
    )
    usages = [body["usage"] for body in bodies if body.get("usage")]
    numbers = [number for choice in choices for number in numbers_in(choice.get("logprobs"))]
    return {
        "text": text,
        "reasoning": reasoning,
        "tool_calls": calls,
        "finish_reason": reason([choice.get("finish_reason") for choice in choices], calls),
        "usage": counted(usages[-1]) if usages else None,
        "logprobs": numbers if exchange.asked.get("logprobs") else [],
        "warnings": warned(bodies),
        "model": bodies[-1]["model"],
        "id": bodies[-1]["id"],
        "extra": {},
    }


def told(completion):
    return {
        "text": completion.text,
        "reasoning": completion.reasoning,
        "tool_calls": [(call.name, call.arguments) for call in completion.tool_calls],
        "finish_reason": completion.finish_reason,
        "usage": completion.usage,
        "logprobs": [each.logprob for each in completion.logprobs],
        "warnings": completion.warnings,
        "model": completion.model,
        "id": completion.id,
        "extra": completion.extra,
    }


def folded(exchange, pieces):
    """The answer in a stream that arrives in these pieces of bytes."""
    headers = {"content-type": "text/event-stream;charset=utf-8"}
    asked = HttpRequest("POST", "http://127.0.0.1")
    response = Response(200, headers=headers, content=iter(pieces), request=asked)
    reader = wire.FrameReader(exchange.model, exchange.request)
    chunks = [reader.read(event.data) for event in EventSource(response)]
    chunks.append(reader.close())
    assert reader.finished
    return Completion.from_chunks(chunk for chunk in chunks if chunk is not None)


def test_every_recorded_answer_means_what_it_says():
    """Every field of every recorded answer arrives, whatever engine sent it."""
    recorded = good(streams=False)
    for exchange in recorded:
        body = wire.parsed(exchange.body)
        completion = wire.completion_of(body, model=exchange.model, request=exchange.request)
        assert told(completion) == expected(exchange), exchange.name
        assert wire.calls_are_whole(completion), exchange.name
    assert len(recorded) == ANSWERS


def test_every_recorded_stream_means_what_it_says():
    """Every field of every recorded stream arrives, whatever engine sent it."""
    recorded = [each for each in good(streams=True) if not is_broken(each)]
    for exchange in recorded:
        assert told(folded(exchange, [exchange.body])) == expected(exchange), exchange.name
    assert len(recorded) == STREAMS


def test_the_corrupt_recorded_calls_are_told_from_the_sound_ones():
    """Calls cut off in a stream are seen, and only models known for them send them."""
    corrupt = [
        exchange.model
        for exchange in good(streams=True)
        if not is_broken(exchange) and not wire.calls_are_whole(folded(exchange, [exchange.body]))
    ]
    assert corrupt == ["deepseek-ai/DeepSeek-V4-Pro"] * 3
    assert all(wire.streams_corrupt_calls(model) for model in corrupt)


def test_a_recorded_stream_that_failed_is_an_error():
    """An error in a frame of a stream that began well is ServerError."""
    broken = [each for each in good(streams=True) if is_broken(each)]
    for exchange in broken:
        with pytest.raises(ServerError, match="reported an error"):
            folded(exchange, [exchange.body])
    assert len(broken) == BROKEN_STREAMS


def test_every_recorded_refusal_is_an_error_of_the_tree():
    """The status, the code and the id of every recorded refusal are kept."""
    refused = [each for each in exchanges() if each.status != 200]
    for exchange in refused:
        error = wire.failure_of(
            exchange.status,
            exchange.headers,
            exchange.body,
            backend="together",
            model=exchange.model,
            where="Together AI",
        )
        assert isinstance(error, BackendError)
        assert error.status_code == exchange.status
        assert error.retryable is (exchange.status in (429, 500, 503, 521)), exchange.name
        assert isinstance(error, RateLimited) is (exchange.status == 429)
        if b"{" in exchange.body:
            body = json.loads(exchange.body)
            assert error.code == body["error"]["code"]
            assert error.request_id == body["id"]
            assert body["error"]["message"] in error.message
        else:
            assert exchange.body.decode() in error.message
    assert len(refused) == REFUSALS


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_a_stream_cut_anywhere_is_the_same_answer(data):
    """Where the network cuts a stream, even inside a character, changes nothing."""
    exchange = data.draw(
        st.sampled_from([each for each in good(streams=True) if not is_broken(each)])
    )
    cuts = data.draw(st.lists(st.integers(0, len(exchange.body)), max_size=40).map(sorted))
    edges = [0, *cuts, len(exchange.body)]
    pieces = [exchange.body[start:end] for start, end in itertools.pairwise(edges)]
    assert told(folded(exchange, pieces)) == expected(exchange)


def test_every_recorded_stream_arrives_byte_by_byte():
    """A stream that trickles in is the same answer; the long ones trickle at their end."""
    recorded = [each for each in good(streams=True) if not is_broken(each)]
    for exchange in recorded:
        start = max(0, len(exchange.body) - 3000)
        pieces = [exchange.body[:start]]
        pieces += [exchange.body[at : at + 1] for at in range(start, len(exchange.body))]
        assert told(folded(exchange, pieces)) == expected(exchange), exchange.name


def test_a_recorded_stream_that_is_cut_off_keeps_what_had_come():
    """The text of a stream broken off anywhere is the beginning of the whole text."""
    for exchange in good(streams=True)[::4]:
        if is_broken(exchange):
            continue
        whole = expected(exchange)
        reader = wire.FrameReader(exchange.model, exchange.request)
        frames = exchange.frames[: len(exchange.frames) // 2]
        chunks = [reader.read(json.dumps(frame)) for frame in frames]
        chunks.append(reader.close())
        partial = Completion.from_chunks(chunk for chunk in chunks if chunk is not None)
        said = "".join(
            choice["delta"].get("content") or "" for frame in frames for choice in frame["choices"]
        )
        assert whole["text"].startswith(partial.text), exchange.name
        assert whole["reasoning"].startswith(partial.reasoning.rstrip("\n")), exchange.name
        assert partial.text or partial.reasoning or not said.strip()
