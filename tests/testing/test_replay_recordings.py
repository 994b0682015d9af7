"""Every shared recording of the real API, replayed, where they are at hand."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
import together as together_sdk
import yaml

from aideon_testing import LoopbackTogether
from aideon_testing.replay import Recordings

ROOT = Path(__file__).parents[2].parent / "shared/together/recordings"
CHAT = "/chat/completions"

pytestmark = pytest.mark.skipif(
    not ROOT.exists(), reason=f"the shared recordings are not here ({ROOT})"
)


@pytest.fixture(scope="module")
def loaded():
    """All recordings, read once."""
    return Recordings.load(ROOT)


@pytest.fixture
def recordings(loaded):
    """All recordings, from the first answer of each."""
    loaded.rewind()
    return loaded


@pytest.fixture
def server(recordings):
    """A server that answers with them."""
    with LoopbackTogether(recordings) as server:
        yield server


def written():
    """Each file with its bodies, as a plain parser of its format reads them."""
    for file in sorted(ROOT.rglob("*.yaml")):
        document = yaml.load(
            file.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
        yield file, [body(each["response"]) for each in document["interactions"]]
    for file in sorted(ROOT.rglob("tapes*.json")):
        tapes = json.loads(file.read_bytes()).values()
        yield file, [tape["response"]["body"].encode() for tape in tapes]


def body(response):
    """The bytes recorded; a value where the recorder kept JSON as values."""
    if "parsed_body" in response:
        return response["parsed_body"]
    found = response["body"]
    found = found["string"] if isinstance(found, dict) else found
    return found.encode() if isinstance(found, str) else found


def is_chat(exchange):
    return exchange.request.path.endswith(CHAT)


def frames(content):
    """The values of a stream's events, without the end marker."""
    lines = [line.removeprefix("data: ") for line in content.decode().split("\n") if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_all_of_them_load(recordings):
    """365 files: 364 hold 389 exchanges, and one is a bare answer without a request."""
    counts = {file: len(bodies) for file, bodies in written()}
    assert len(recordings) == sum(counts.values()) == 389
    assert {exchange.source for exchange in recordings} == set(counts)
    left_out = {str(file.relative_to(ROOT)) for file in recordings.left_out}
    assert left_out == {"README.md", "vercel-ai/togetherai-reranking.1.json"}
    assert len(counts) + len(left_out - {"README.md"}) == 365


def test_each_is_replayed_byte_for_byte(recordings, server):
    """Asked again in order over a socket, every request gets its recorded bytes and status."""
    recorded = {file: list(bodies) for file, bodies in written()}
    compressed = 0
    with httpx2.Client(base_url=server.base_url, headers={"accept-encoding": "gzip"}) as client:
        for exchange in recordings:
            asked = exchange.request
            target = asked.path + (f"?{asked.query}" if asked.query else "")
            with client.stream(asked.method, target, content=asked.content) as response:
                raw = b"".join(response.iter_raw())
            expected = recorded[exchange.source][exchange.number - 1]
            if not isinstance(expected, bytes):
                raw, expected = json.loads(raw), json.loads(json.dumps(expected))
            assert raw == expected, exchange
            assert response.status_code == exchange.response.status, exchange
            compressed += response.headers.get("content-encoding") == "gzip"
            for name, value in exchange.response.headers:
                if name not in {"content-encoding", "content-length", "transfer-encoding"}:
                    assert response.headers[name] == value, exchange
    assert compressed == 3


def test_clients_without_gzip_get_the_same_content(recordings, server):
    """Whoever accepts no encoding is sent the decompressed bytes."""
    with httpx2.Client(base_url=server.base_url, headers={"accept-encoding": "identity"}) as client:
        for exchange in recordings:
            asked = exchange.request
            target = asked.path + (f"?{asked.query}" if asked.query else "")
            response = client.request(asked.method, target, content=asked.content)
            assert response.content == exchange.response.content, exchange
            assert "content-encoding" not in response.headers


def sdk_client(sdk, server):
    """An official client and the root of its API errors."""
    if sdk == "openai":
        url = server.base_url + "/v1"
        return openai.OpenAI(base_url=url, api_key="any", max_retries=0), openai.APIError
    url = server.base_url
    client = together_sdk.Together(base_url=url, api_key="any", max_retries=0)
    return client, together_sdk.APIError


def as_called(exchange, *names):
    """A recorded request as arguments: the named ones, and everything else besides."""
    asked = json.loads(exchange.request.content)
    arguments = {name: asked.pop(name) for name in names if name in asked}
    return arguments | {"extra_body": asked}


@pytest.mark.parametrize("sdk", ["openai", "together"])
def test_official_sdks_read_every_chat(recordings, server, sdk):
    """What the SDKs hand over for each recorded chat is what the recording says."""
    client, errors = sdk_client(sdk, server)
    counts = Counter()
    with client:
        for exchange in filter(is_chat, recordings):
            call = as_called(exchange, "model", "messages", "stream")
            content = exchange.response.content
            if exchange.response.status != 200:
                with pytest.raises(errors) as failed:
                    client.chat.completions.create(**call)
                assert failed.value.status_code == exchange.response.status
                assert failed.value.response.content == content
                counts["error"] += 1
            elif call.get("stream"):
                expected = frames(content)
                # An engine that fails in the middle says so in a frame of its own.
                whole = [frame for frame in expected if not frame.get("error")]
                got = []
                with nullcontext() if whole == expected else pytest.raises(errors):
                    for chunk in client.chat.completions.create(**call):
                        got.append(chunk.to_dict(warnings=False))  # noqa: PERF401 - it may break
                assert got == whole, exchange
                counts["stream"] += 1
            else:
                answer = client.chat.completions.create(**call)
                assert answer.to_dict(warnings=False) == json.loads(content), exchange
                counts["whole"] += 1
    assert sum(counts.values()) == sum(map(is_chat, recordings))
    assert min(counts.values()) > 10


@pytest.mark.parametrize("sdk", ["openai", "together"])
def test_official_sdks_read_every_image(recordings, server, sdk):
    """Generated images and refusals reach the SDKs' callers, and so do linked image files."""
    client, errors = sdk_client(sdk, server)
    links = {each.request.path for each in recordings if each.request.path.startswith("/shrt/")}
    with client:
        for exchange in recordings:
            if not exchange.request.path.endswith("/images/generations"):
                continue
            call = as_called(exchange, "model", "prompt")
            recorded = json.loads(exchange.response.content)
            if exchange.response.status == 200:
                images = client.images.generate(**call).to_dict(warnings=False)
                assert images == recorded, exchange
                linked = {urlsplit(image["url"]).path for image in images["data"] if "url" in image}
                links -= linked
                for path in linked:
                    picture = httpx2.get(server.base_url + path)
                    assert picture.headers["content-type"] == "image/jpeg"
                    assert picture.content.startswith(b"\xff\xd8\xff")
            elif "model" in call:
                with pytest.raises(errors) as failed:
                    client.images.generate(**call)
                assert failed.value.response.content == exchange.response.content
    assert not links


def test_every_recorded_status_is_there(recordings):
    """The recordings replay every kind of refusal that they have, plain text included."""
    plain = {each.response.content for each in recordings if each.response.status == 521}
    assert plain == {b"error code: 521"}
    statuses = {each.response.status for each in recordings}
    assert statuses == {200, 400, 401, 404, 429, 500, 503, 521}
