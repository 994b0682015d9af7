"""What the headers tell, beside what they told when they were recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from aideon_testing import DEFAULT_MODELS, Failure, LoopbackTogether, Recordings
from aideon_testing.engines import dialect_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aideon_testing.replay.exchange import Exchange

ROOT = Path(__file__).parents[2].parent / "shared/together/recordings"
CHAT = "/v1/chat/completions"
MODELS = "/v1/models"
NEW_MODEL = "Qwen/Qwen3.5-397B-A17B"
OLD_MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
DYNAMIC = ("x-ratelimit-limit-dynamic", "x-ratelimit-remaining-dynamic")
# What is left on the way to a model, in the order of the way.
TRAIL = ("x-amzn-trace-id", "x-inference-version", "x-api-call-start")
SCRIPTED = {
    400: Failure.empty_prompt(),
    429: Failure.rate_limited(),
    500: Failure.server_error(),
    503: Failure.unavailable(),
}


@pytest.fixture(scope="module")
def recorded() -> list[Exchange]:
    """The exchanges with Together itself, no relay between."""
    if not ROOT.is_dir():
        pytest.skip(f"the shared recordings are not at {ROOT}")
    return list(Recordings.load(ROOT / "maruel-genai"))


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackTogether]:
    """A server of all the models on record that answered anybody."""
    recorded = Recordings.load(ROOT) if ROOT.is_dir() else ()
    models = {each.model for each in recorded if each.model and each.response.status == 200}
    refusing = {
        each.model for each in recorded if each.model and each.response.status in (400, 500)
    }
    known = {model for model in models | refusing if dialect_of(model).serverless}
    with LoopbackTogether(models=sorted({*DEFAULT_MODELS, *known, NEW_MODEL, OLD_MODEL})) as server:
        yield server


@pytest.fixture(scope="module")
def client(server) -> Iterator[httpx2.Client]:
    """An HTTP client of that server, with a key."""
    headers = {"authorization": "Bearer any"}
    with httpx2.Client(base_url=server.base_url, headers=headers) as client:
        yield client


def told(exchange: Exchange) -> dict[str, str]:
    return {name.lower(): value for name, value in exchange.response.headers}


def chats(recorded: list[Exchange]) -> list[Exchange]:
    return [each for each in recorded if each.request.path.endswith("/chat/completions")]


def picked(names: tuple[str, ...], headers: Mapping[str, str]) -> list[str | None]:
    return [headers.get(name) for name in names]


def asked(model: str = NEW_MODEL, **changes: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}]} | changes


def test_dynamic_limits_are_told_as_recorded(recorded, client):
    """Models heard since 2026-04 tell the dynamic limits, those heard only before do not."""
    newest: dict[str, str] = {}
    for each in chats(recorded):
        received = told(each).get("x-api-received", "")
        newest[each.model] = max(newest.get(each.model, ""), received)
    kept = [
        each
        for each in chats(recorded)
        if each.response.status == 200
        and "x-ratelimit-limit" in told(each)
        and told(each)["x-api-received"][:7] == newest[each.model][:7]
    ]
    expected = {each.model: picked(DYNAMIC, told(each)) for each in kept}
    ours = {model: client.post(CHAT, json=asked(model)).headers for model in expected}
    assert {model: picked(DYNAMIC, headers) for model, headers in ours.items()} == expected
    assert [None, None] in expected.values()
    assert ["1", "0"] in expected.values()


@pytest.mark.parametrize("stream", [False, True])
def test_answers_and_errors_of_a_model_tell_the_same_limits(server, client, stream):
    """The limits belong to the model that is asked, whether it answers, fails or is misused."""
    for model in (NEW_MODEL, OLD_MODEL):
        server.script.say("Hello.")
        server.script.fail(Failure.server_error())
        bodies = [asked(model, stream=stream)] * 2 + [asked(model, messages=[])]
        answers = [client.post(CHAT, json=body) for body in bodies]
        assert [answer.status_code for answer in answers] == [200, 500, 400]
        limits = [
            {name: value for name, value in answer.headers.items() if "ratelimit" in name}
            for answer in answers
        ]
        assert limits[0] == limits[1] == limits[2]


def test_errors_tell_how_far_the_request_came(recorded, server, client):
    """Headers of engines are on the errors that engines make, as on record, and on no others."""
    failed = [each for each in chats(recorded) if "x-api-received" in told(each)]
    # What a refused key gets has changed since: today it has no trace.
    failed = [each for each in failed if each.response.status not in (200, 401)]
    for each in failed:
        status = each.response.status
        if status in SCRIPTED and (status != 400 or b"Prompt cannot" in each.response.content):
            server.script.fail(SCRIPTED[status])
            ours = client.post(CHAT, json=asked())
        else:
            ours = client.post(CHAT, content=each.request.content)
        assert ours.status_code == status, each
        expected = [name for name in TRAIL if name in told(each)]
        assert [name for name in TRAIL if name in ours.headers] == expected, each
    assert len({each.response.status for each in failed}) == 5


@pytest.mark.parametrize(
    ("failure", "trail"),
    [
        (Failure.invalid_key(), 0),
        (Failure.not_serverless("a/b"), 0),
        (Failure.dynamic_limited(), 1),
        (Failure.invalid_input(), 2),
        (Failure.unavailable().with_headers({"x-odd": "yes"}), 2),
        (Failure.over_context(), 3),
        (Failure.error(400, "Odd"), 0),
        (Failure.error(400, "Odd", reached="model"), 3),
    ],
)
def test_a_scripted_failure_has_the_trail_of_a_real_one(server, client, failure, trail):
    """However it comes about, and for errors of one's own as far as they say."""
    server.script.fail(failure)
    ours = client.post(CHAT, json=asked()).headers
    assert [name for name in TRAIL if name in ours] == list(TRAIL[:trail])


def test_the_list_of_models_has_the_headers_of_a_web_application(recorded, client):
    """It may be cached by its etag, and no limits are told."""
    listed = client.get(MODELS)
    refused = client.get(MODELS, headers={"authorization": "Bearer"})
    assert [listed.status_code, refused.status_code] == [200, 401]
    lists = [each for each in recorded if each.request.path.endswith(MODELS)]
    current = {each.response.status: told(each) for each in lists if "head" in each.source.parts}
    assert listed.headers["vary"] == current[200]["vary"]
    assert refused.headers["vary"] == current[401]["vary"]
    for ours in (listed, refused):
        assert ours.headers["etag"].startswith('"')
        assert not any("ratelimit" in name or name.startswith("x-api") for name in ours.headers)
    assert listed.headers["etag"] == client.get(MODELS).headers["etag"]
    assert listed.headers["etag"] != refused.headers["etag"]


def test_pictures_trace_nothing_and_count_no_tokens(client):
    """The part of the API that makes pictures has headers of its own, on errors as well."""
    body = {"model": "black-forest-labs/FLUX.1-schnell", "prompt": "A fox."}
    made = client.post("/v1/images/generations", json=body)
    refused = client.post("/v1/images/generations", json=body | {"n": "many"})
    assert [made.status_code, refused.status_code] == [200, 400]
    for headers in (made.headers, refused.headers):
        assert headers["x-image-version"] == "v2"
        assert headers["x-ratelimit-limit-tokens"] == "0"
        assert not {"x-amzn-trace-id", "x-inference-version", *DYNAMIC} & set(headers)
