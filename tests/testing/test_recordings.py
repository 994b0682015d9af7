"""The server against recorded exchanges of the real API, where they are at hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx2
import pytest

from aideon_testing import Reply

ROOT = Path(__file__).parents[2].parent / "shared/together/recordings/maruel-genai/head/TestClient"
GPT_OSS = "Scoreboard/openai/gpt-oss-120b_thinking"
CHAT = "/v1/chat/completions"


def recorded(path: str) -> str:
    """The response body of a recording, skipping the test where there is none."""
    file = ROOT / path
    if not file.exists():
        pytest.skip(f"the shared recordings are not here ({file})")
    match = re.search(r"response:.*?body: \|[-+]\n(.*?)\n {8}headers:", file.read_text(), re.DOTALL)
    assert match
    return "\n".join(line[12:] for line in match[1].splitlines())


def shape(value: object) -> object:
    """Keys in their order, and what kind of value each has."""
    if isinstance(value, dict):
        return [(key, shape(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value)


def frames(text: str) -> list[dict]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_a_whole_answer_has_the_recorded_shape(together, client, chat_body):
    """Same keys, same order, same kinds, same indentation as the real answer."""
    real = recorded(f"{GPT_OSS}/GenSync-Text.yaml")
    message = json.loads(real)["choices"][0]["message"]
    together.script.reply(Reply(message["content"], reasoning=message["reasoning"]))
    ours = client.post(CHAT, json=chat_body)
    assert shape(ours.json()) == shape(json.loads(real))
    assert _without_values(ours.text) == _without_values(real)
    assert ours.json()["choices"] == json.loads(real)["choices"]


@pytest.mark.parametrize(
    "name", ["GenStream-Citations-text-plain", "GenStream-JSONSchema", "GenStream-Stop"]
)
def test_a_stream_has_the_recorded_frames(together, client, chat_body, name):
    """Every kind of frame has the keys of the real one, and they come in its order."""
    real = frames(recorded(f"{GPT_OSS}/{name}.yaml"))
    deltas = [frame["choices"][0]["delta"] for frame in real[:-1]]
    reply = Reply(
        "".join(delta["content"] for delta in deltas),
        reasoning="".join(delta["reasoning"] or "" for delta in deltas),
    )
    together.script.reply(reply)
    ours = frames(client.post(CHAT, json=chat_body | {"stream": True}).text)
    assert _distinct(ours) == _distinct(real)


def test_a_streamed_tool_call_has_the_recorded_frames(together, client, chat_body):
    """Tool call fragments look like the real ones, nulls included."""
    real = frames(recorded(f"{GPT_OSS}/GenStream-Tools-ToolBias-Canada.yaml"))
    together.script.call("best_country", country="Canada")
    ours = frames(client.post(CHAT, json=chat_body | {"stream": True}).text)
    thinking = [frame for frame in real if not (_delta(frame).get("reasoning"))]
    assert _distinct(ours) == _distinct(thinking)


def test_a_refused_key_is_refused_as_recorded(together, chat_body):
    """The 401 of chat is the real one, its id aside."""
    real = recorded("errors/bad_apiKey/GenSync.yaml")
    ours = httpx2.post(together.base_url + CHAT, json=chat_body)
    assert _without_id(ours.text) == _without_id(real)


def test_an_unknown_model_is_refused_as_recorded(client, chat_body):
    """The 404 for a model is the real one, its id aside."""
    real = recorded("errors/bad_model/GenSync.yaml")
    ours = client.post(CHAT, json=chat_body | {"model": "bad model"})
    assert _without_id(ours.text) == _without_id(real)


def test_ids_have_the_recorded_form(client, chat_body):
    """Ids are prefix, pool and trace, so code that takes them apart can be tested."""
    form = re.compile(r"[A-Za-z0-9]{7}-[A-Za-z0-9]{5,6}-[0-9a-f]{16}")
    assert form.fullmatch(json.loads(recorded(f"{GPT_OSS}/GenSync-Text.yaml"))["id"])
    assert form.fullmatch(client.post(CHAT, json=chat_body).json()["id"])


def _delta(frame: dict) -> dict:
    return frame["choices"][0]["delta"] if frame["choices"] else {}


def _distinct(all_frames: list[dict]) -> list[object]:
    """The shapes of the frames, repeats in a row collapsed."""
    shapes = [shape(frame) for frame in all_frames]
    return [one for at, one in enumerate(shapes) if at == 0 or one != shapes[at - 1]]


def _without_values(text: str) -> list[str]:
    return [re.sub(r'(?<=": )("|\d).*', "", line) for line in text.splitlines()]


def _without_id(text: str) -> str:
    return re.sub(r'"id": "[^"]*"', '"id": ""', text)
