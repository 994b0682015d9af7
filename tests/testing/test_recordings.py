"""The server against recorded exchanges of the real API, where they are at hand."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import yaml

from aideon_core.types import TokenLogprob, ToolCall, Usage
from aideon_testing import Failure, LoopbackTogether, Reply
from aideon_testing.engines import GPT_OSS_2025, TOGETHER_2025_01, dialect_of
from aideon_testing.script import Script

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from aideon_core.types import Chunk, Json
    from aideon_testing.dialects import Dialect

ROOT = Path(__file__).parents[2].parent / "shared/together/recordings"
CHAT = "/v1/chat/completions"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NOT_FOUND = 404

# Models, until when in seconds since 1970, and what they spoke till then.
SINCE_CHANGED = (
    ("openai/gpt-oss-120b", 1767225600, GPT_OSS_2025),
    ("meta-llama/Llama-3.3-70B-Instruct-Turbo", 1738368000, TOGETHER_2025_01),
)
NOT_TELLABLE = {
    "gpt-oss-120b_thinking/GenStream-Tools-SquareRoot-1-any": (
        "the model went on talking after its tool call, which a Reply cannot say"
    ),
    "Qwen3-Next-80B-A3B-Thinking_thinking/GenStream-Tools-SquareRoot-1": (
        "the model began to think and thought nothing, which a Reply cannot say"
    ),
    "Qwen3-235B-A22B-Thinking-2507_thinking/GenSyncMultiModal-Image-gif-Inline": (
        "the refusal gives the engine's own name of the model"
    ),
}


@dataclass(frozen=True)
class Recording:
    """One recorded chat exchange.

    ``answer`` is the text of the body, or what a recorder that parsed it wrote down.
    """

    name: str
    request: dict[str, Any]
    status: int
    answer: str | dict[str, Any]

    @property
    def frames(self) -> list[dict[str, Any]] | None:
        """The frames of a stream, ``None`` for a whole answer."""
        if not isinstance(self.answer, str) or not self.answer.startswith("data: "):
            return None
        return frames(self.answer)

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.answer) if isinstance(self.answer, str) else self.answer


def chats() -> Iterator[Recording]:
    for file in sorted(ROOT.rglob("*.yaml")):
        interactions = yaml.load(file.read_bytes(), LOADER)["interactions"]
        for at, interaction in enumerate(interactions):
            request, response = interaction["request"], interaction["response"]
            if not (request.get("url") or request["uri"]).endswith("/chat/completions"):
                continue
            asked = request.get("parsed_body") or request["body"]
            asked = json.loads(asked) if isinstance(asked, str) else asked
            status = response.get("code") or response["status"]["code"]
            name = file.relative_to(ROOT).with_suffix("")
            yield Recording(f"{name}#{at}", asked, status, _answer(response))


def tapes() -> Iterator[Recording]:
    for file in sorted(ROOT.glob("huggingface.js/*.json")):
        for name, tape in json.loads(file.read_text()).items():
            if tape["url"].endswith("/chat/completions"):
                response = tape["response"]
                asked = json.loads(tape["init"]["body"])
                yield Recording(f"{file.stem}/{name}", asked, response["status"], response["body"])


def _answer(response: dict[str, Any]) -> str | dict[str, Any]:
    body = response.get("parsed_body") or response["body"]
    content = body.get("string", body) if isinstance(body, dict) else body
    if isinstance(content, bytes):
        content = gzip.decompress(content).decode()
    return content


def frames(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


ALL = [*chats(), *tapes()] if ROOT.exists() else []
ANSWERED = [recording for recording in ALL if recording.status == 200]
needs_recordings = pytest.mark.skipif(not ALL, reason=f"the shared recordings are not at {ROOT}")


def named(recordings: list[Recording]) -> list[Any]:
    return [pytest.param(each, id=each.name, marks=_marks(each)) for each in recordings]


def _marks(recording: Recording) -> list[pytest.MarkDecorator]:
    reasons = [reason for name, reason in NOT_TELLABLE.items() if name in recording.name]
    return [pytest.mark.xfail(reason=reason, strict=True) for reason in reasons]


class Told:
    """Answers every request with one reply, which a test changes."""

    def __init__(self) -> None:
        self.reply = Reply()

    def answer(self, body: Json) -> AsyncGenerator[Chunk, None]:
        script = Script()
        script.reply(self.reply)
        return script.answer(body)


@dataclass(frozen=True)
class Server:
    """Who answers for the servers of every model ever recorded, and clients of them.

    Of two servers one speaks as the models were last heard, the other as some were before.
    """

    told: Told
    now: httpx2.Client
    then: httpx2.Client


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One for all recordings."""
    asked = {each.request["model"] for each in ALL if each.status != NOT_FOUND}
    # A model that is given to a server is served, so those that answered nobody are not.
    models = sorted(model for model in asked if dialect_of(model).serverless)
    changed = {model: dialect for model, _, dialect in SINCE_CHANGED}
    headers = {"authorization": "Bearer any"}
    told = Told()
    with (
        LoopbackTogether(told, models=models) as now,
        LoopbackTogether(told, models=models, dialects=changed) as then,
        httpx2.Client(base_url=now.base_url, headers=headers) as to_now,
        httpx2.Client(base_url=then.base_url, headers=headers) as to_then,
    ):
        yield Server(told, to_now, to_then)


@needs_recordings
@pytest.mark.parametrize("recording", named([each for each in ANSWERED if each.frames]))
def test_every_stream_has_the_recorded_frames(server, recording):
    """Told to say the same, the server sends the same kinds of frames in the same order."""
    ours = frames(_ours(server, recording))
    assert _distinct(ours) == _distinct(recording.frames)


@needs_recordings
@pytest.mark.parametrize("recording", named([each for each in ANSWERED if not each.frames]))
def test_every_whole_answer_has_the_recorded_shape(server, recording):
    """Same keys, same order, same kinds, same indentation as the real answer."""
    ours = _ours(server, recording)
    if isinstance(recording.answer, str):
        assert shape(json.loads(ours)) == shape(recording.body)
        assert ours.startswith("{\n") == recording.answer.startswith("{\n")
    else:
        # This recorder parsed the body and sorted its keys.
        assert shape(json.loads(ours), ordered=False) == shape(recording.body, ordered=False)


def _dialect(recording: Recording) -> Dialect | None:
    """What the model spoke then, where it has changed since."""
    created = (recording.frames or [recording.body])[0]["created"]
    return next(
        (
            dialect
            for model, until, dialect in SINCE_CHANGED
            if recording.request["model"] == model and created < until
        ),
        None,
    )


def _ours(server: Server, recording: Recording) -> str:
    """What the server answers to the recorded request, told to say what was said then."""
    changed = _dialect(recording)
    server.told.reply = _reply(recording, changed or dialect_of(recording.request["model"]))
    client = server.then if changed else server.now
    response = client.post(CHAT, json=recording.request)
    assert response.status_code == recording.status, response.text
    return response.text


def _reply(recording: Recording, dialect: Dialect) -> Reply:
    """A reply that says what was recorded."""
    said = _said(recording.frames) if recording.frames else _said([_as_frame(recording.body)])
    text, reasoning, finish = said["text"], said["reasoning"], said["finish_reason"]
    if said["reasoning"]:
        text = text.removeprefix(dialect.stream.before_reasoning)
    if dialect.reasoning == "inline" and text.startswith("<think>\n"):
        reasoning, _, text = text.removeprefix("<think>\n").partition("\n</think>\n\n")
    tokens = said["tokens"] if text == said["text"] else []
    calls = said["tool_calls"]
    if recording.frames and dialect.stream.calls.corrupt:
        calls = calls[:-1]
    if recording.request.get("stop") and finish in ("stop", "eos"):
        # The answer was cut there, so it must have gone on.
        more = recording.request["stop"][0]
        if reasoning and not text:
            reasoning += more
        else:
            text, tokens = text + more, [*tokens, more]
    return Reply(
        text,
        reasoning=reasoning,
        tool_calls=tuple(calls),
        finish_reason=finish if finish in ("length", "tool_calls") else None,
        usage=said["usage"],
        # Where the pieces are cut is told by their logprobs; those asked for are made up.
        logprobs=() if recording.request.get("logprobs") else _tokens(tokens),
        warnings=said["warnings"],
        failure=Failure.server_error() if finish == "error" else None,
    )


def _as_frame(body: dict[str, Any]) -> dict[str, Any]:
    choices = [{**choice, "delta": choice["message"]} for choice in body["choices"]]
    return {**body, "choices": choices}


def _said(told: list[dict[str, Any]]) -> dict[str, Any]:
    choices = [choice for frame in told for choice in frame["choices"]]
    deltas = [choice["delta"] for choice in choices]
    usages = [frame["usage"] for frame in told if frame.get("usage")]
    reasons = [choice.get("finish_reason") for choice in choices]
    return {
        "text": "".join(delta.get("content") or "" for delta in deltas),
        "tokens": [delta["content"] for delta in deltas if delta.get("content")],
        "reasoning": "".join(delta.get("reasoning") or "" for delta in deltas),
        "tool_calls": _calls(choices),
        "finish_reason": next(filter(None, reasons), None),
        "usage": _usage(usages[-1]) if usages else None,
        "warnings": tuple(
            warning["message"] for frame in told for warning in frame.get("warnings") or ()
        ),
    }


def _tokens(texts: list[str]) -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob(text, 0.0) for text in texts)


def _calls(choices: list[dict[str, Any]]) -> list[ToolCall]:
    calls: list[ToolCall] = []
    for choice in choices:
        pieces = choice.get("tool_calls") or choice["delta"].get("tool_calls") or ()
        for piece in pieces:
            function = piece["function"]
            if piece.get("id"):
                calls.append(ToolCall(piece["id"], function["name"], function["arguments"]))
            else:
                so_far = calls[piece["index"]]
                arguments = so_far.arguments + function["arguments"]
                calls[piece["index"]] = ToolCall(so_far.id, so_far.name, arguments)
    return calls


def _usage(counts: dict[str, Any]) -> Usage:
    details = counts.get("prompt_tokens_details") or {}
    return Usage(
        counts["prompt_tokens"],
        counts["completion_tokens"],
        details.get("cached_tokens", counts.get("cached_tokens", 0)),
        counts.get("reasoning_tokens", 0),
    )


def shape(value: object, *, ordered: bool = True) -> object:
    """Keys in their order, and what kind of value each has; repeats in a list count once."""
    if isinstance(value, dict):
        items = value.items() if ordered else sorted(value.items())
        return [(key, shape(item, ordered=ordered)) for key, item in items]
    if isinstance(value, list):
        return _collapsed([shape(item, ordered=ordered) for item in value])
    return "number" if type(value) in (int, float) else type(value)


def _distinct(told: list[dict[str, Any]]) -> list[object]:
    """The shapes of the frames, and whether the finish reason came with text in its frame."""
    return _collapsed([(_frame_shape(frame), _finishes_on_text(frame)) for frame in told])


def _frame_shape(frame: dict[str, Any]) -> object:
    # Which tokens a frame offers is no matter of shape.
    offered = [
        {**choice, "top_logprobs": {"token": next(iter(choice["top_logprobs"].values()))}}
        if choice.get("top_logprobs")
        else choice
        for choice in frame["choices"]
    ]
    return shape({**frame, "choices": offered})


def _finishes_on_text(frame: dict[str, Any]) -> bool:
    return any(
        choice["finish_reason"]
        and (choice["delta"].get("content") or choice["delta"].get("reasoning"))
        for choice in frame["choices"]
    )


def _collapsed(shapes: list[object]) -> list[object]:
    return [one for at, one in enumerate(shapes) if at == 0 or one != shapes[at - 1]]


@needs_recordings
def test_a_refused_key_is_refused_as_recorded(together, chat_body):
    """The 401 of chat is the real one, its id aside."""
    ours = httpx2.post(together.base_url + CHAT, json=chat_body)
    assert _without_id(ours.text) == _without_id(
        _recorded("head/TestClient/errors/bad_apiKey/GenSync")
    )


def _recorded(path: str) -> str:
    (recording,) = [each for each in ALL if f"/{path}#" in each.name]
    assert isinstance(recording.answer, str)
    return recording.answer


REFUSED = [
    each for each in ALL if each.status in (400, 404) and "Prompt cannot" not in str(each.answer)
]


@needs_recordings
@pytest.mark.parametrize("recording", named(REFUSED))
def test_every_refused_request_is_refused_as_recorded(server, recording):
    """The server itself refuses what the API refused, in its words."""
    ours = server.now.post(CHAT, json=recording.request)
    assert ours.status_code == recording.status
    assert _without_id(ours.text) == _without_id(recording.answer)


@needs_recordings
def test_ids_have_the_recorded_form(client, chat_body):
    """Ids are prefix, pool and trace, so code that takes them apart can be tested."""
    form = re.compile(r"[A-Za-z0-9]{7}-[A-Za-z0-9]{5,6}-[0-9a-f]{16}")
    path = "head/TestClient/Scoreboard/openai/gpt-oss-120b_thinking/GenSync-Text"
    assert form.fullmatch(json.loads(_recorded(path))["id"])
    assert form.fullmatch(client.post(CHAT, json=chat_body).json()["id"])


def _without_id(text: str) -> str:
    return re.sub(r'"id": "[^"]*"', '"id": ""', text)
