"""Answers that are errors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx2
import pytest
import yaml
from together import InternalServerError, Together

from aideon_testing import Failure, LoopbackTogether

CHAT = "/v1/chat/completions"
HELP = "https://api.together.ai"
RECORDINGS = Path(__file__).parents[2].parent / "shared/together/recordings/maruel-genai"


def error(message, *, type="invalid_request_error", param=None, code=None):  # noqa: A002
    return {"message": message, "type": type, "param": param, "code": code}


INVALID = "invalid_request_error"
NO_MODEL = "model_not_available"
SCRIPTED = [
    (
        Failure.invalid_key(),
        401,
        error(
            f"Invalid API key provided. You can find your API key at {HELP}/settings/api-keys.",
            code="invalid_api_key",
        ),
    ),
    (
        Failure.unknown_model("a/b"),
        404,
        error(
            f"Unable to access model a/b. Please visit {HELP}/models "
            "to view the list of supported models.",
            code=NO_MODEL,
        ),
    ),
    (
        Failure.not_serverless("a/b"),
        400,
        error(
            f"Unable to access non-serverless model a/b. Please visit {HELP}/models/a/b "
            "to create and start a new dedicated endpoint for the model.",
            code=NO_MODEL,
        ),
    ),
    (Failure.empty_prompt(), 400, error("Prompt cannot be empty")),
    (
        Failure.over_context(limit=8, input_tokens=6, max_tokens=3),
        400,
        error(
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8. "
            "Given: 6 `inputs` tokens and 3 `max_new_tokens`",
            param="max_tokens",
        ),
    ),
    (
        Failure.rate_limited(),
        429,
        error(
            "Request was rejected due to request rate limiting. Your rate limits are 60 RPM "
            "(1 QPS) and 60000 TPM (1000 TPS). "
            "See details: https://docs.together.ai/docs/rate-limits",
            type="rate_limit",
        ),
    ),
    (
        Failure.out_of_credit(),
        402,
        error(
            f"Credit limit exceeded. Please navigate to {HELP}/settings/billing "
            "to add credit or upgrade your plan.",
            type="credit_limit",
        ),
    ),
    (
        Failure.over_context(limit=8, input_tokens=6, max_tokens=3, status=403),
        403,
        error(
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8. "
            "Given: 6 `inputs` tokens and 3 `max_new_tokens`",
            param="max_tokens",
        ),
    ),
    (
        Failure.not_multimodal("a/b"),
        400,
        error(
            {
                "message": "a/b is not a multimodal model None",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            }
        ),
    ),
    (
        Failure.no_tool_parser(),
        400,
        error(
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        ),
    ),
    (Failure.invalid_input(), 400, error("Input validation error")),
    (Failure.missing("model"), 400, error("Invalid request", param="model")),
    (
        Failure.schema_unsupported(),
        400,
        error("The provided JSON schema contains features not supported by xgrammar."),
    ),
    (Failure.server_error(), 500, error("Internal server error", type="server_error")),
    (Failure.unavailable(), 503, error("Service unavailable", type="service_unavailable")),
]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("failure", "status", "expected"), SCRIPTED)
def test_a_scripted_failure_has_the_wires_body(
    together, client, chat_body, failure, status, expected, streamed
):
    """Every failure is the indented JSON the API sends, streamed request or not."""
    together.script.fail(failure)
    response = client.post(CHAT, json=chat_body | {"stream": streamed})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    body = {"id": response.headers["x-request-id"], "error": expected}
    assert response.text == json.dumps(body, indent=2)
    assert client.post(CHAT, json=chat_body).status_code == 200


@pytest.mark.parametrize(
    ("failure", "status", "kind", "code"),
    [
        (Failure.endpoints_disabled(), 403, INVALID, "endpoints_v1_create_access_disabled"),
        (Failure.timed_out(), 408, INVALID, None),
        (Failure.conflict(), 409, INVALID, None),
        (Failure.too_large(), 413, "request_too_large", None),
        (Failure.unprocessable(), 422, INVALID, None),
        (Failure.model_rate_limited("a/b"), 429, "model_rate_limit", None),
        (Failure.dynamic_limited(), 429, "dynamic_request_limited", None),
        (Failure.dynamic_limited("token"), 429, "dynamic_token_limited", None),
        (Failure.not_routed(), 503, "routing_error", None),
    ],
)
def test_what_is_known_of_the_other_failures_is_right(
    together, client, chat_body, failure, status, kind, code
):
    """Where no body is on record, the status, the type and the code are the known ones."""
    together.faults.next(failure)
    response = client.post(CHAT, json=chat_body)
    told = response.json()["error"]
    assert (response.status_code, told["type"], told["code"]) == (status, kind, code)
    assert list(response.json()) == ["id", "error"]
    assert list(told) == ["message", "type", "param", "code"]
    assert ("true" if status == 429 else "false") == response.headers["x-ratelimit"]


def test_a_rate_limit_says_how_long_to_wait(together, client, chat_body):
    """A 429 carries the limits that were hit and the seconds to wait."""
    together.script.fail(Failure.rate_limited(retry_after=7))
    headers = client.post(CHAT, json=chat_body).headers
    names = ("retry-after", "x-ratelimit", "x-ratelimit-limit", "x-ratelimit-remaining")
    assert [headers[name] for name in names] == ["7", "true", "1", "0"]


@pytest.mark.parametrize("status", [502, 504, 520, 521, 522, 524, 529])
def test_an_error_of_the_edge_is_plain_text(together, client, chat_body, status):
    """When the network in front of the API fails there is no JSON to read."""
    together.script.fail(Failure.edge(status))
    response = client.post(CHAT, json=chat_body)
    assert (response.status_code, response.text) == (status, f"error code: {status}")
    assert response.headers["content-type"].startswith("text/plain")
    assert "x-request-id" not in response.headers


def test_a_failure_of_ones_own_is_sent_as_it_is(together, client, chat_body):
    """A test can send a body the API has never sent."""
    together.script.fail(Failure(418, {"error": "short"}, {"x-teapot": "yes"}))
    response = client.post(CHAT, json=chat_body)
    assert (response.status_code, response.text) == (418, '{"error":"short"}')
    assert response.headers["x-teapot"] == "yes"


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (Failure.text(500, "broken"), '{"error":"broken"}'),
        (Failure.bare(400, "no"), '{"message":"no","type":"invalid_request_error"}'),
        (Failure.empty(503), ""),
        (Failure.page(), "<!DOCTYPE html>"),
    ],
)
def test_errors_have_other_shapes_too(together, client, chat_body, failure, text):
    """A string, no error key, nothing, a web page: all that clients meet can be sent."""
    together.faults.next(failure)
    response = client.post(CHAT, json=chat_body)
    assert response.status_code == failure.status
    assert response.text.startswith(text)
    assert int(response.headers["content-length"]) == len(response.content)


@pytest.mark.parametrize("advice", [True, False])
def test_a_failure_can_say_whether_to_try_again(together, chat_body, advice):
    """The together SDK obeys x-should-retry, against its own rules."""
    failure = Failure.invalid_input() if advice else Failure.server_error()
    together.faults.next(failure.retryable(advice).with_headers({"retry-after": "0.01"}))
    with Together(api_key="k", base_url=together.base_url, max_retries=1) as sdk:
        if advice:
            assert sdk.chat.completions.create(**chat_body).choices
        else:
            with pytest.raises(InternalServerError):
                sdk.chat.completions.create(**chat_body)
    assert len(together.requests) == 1 + advice


def test_one_failure_can_be_sent_a_thousand_times(together, client):
    """A failure that is injected for good does not grow with each use."""
    failure = Failure.server_error()
    together.faults.always(failure)
    for _ in range(20):
        assert client.get("/v1/models").status_code == 500
    assert failure.__traceback__ is None


def recorded_errors() -> list[tuple[int, str]]:
    """The status and the body of each error on record."""
    files = sorted(RECORDINGS.glob("**/*.yaml"))
    texts = [
        text
        for file in files
        if re.search(r"^ +code: [45]", text := file.read_text(), re.MULTILINE)
    ]
    loaded = [each for text in texts for each in yaml.safe_load(text)["interactions"]]
    answers = [each["response"] for each in loaded if each["response"]["code"] >= 400]
    return [(answer["code"], answer["body"]) for answer in answers]


def made(status: int, body: str) -> Failure:
    """The failure that is the one on record; for an engine's own words, one with them."""
    if not body.startswith("{"):
        return Failure.edge(status)
    told = json.loads(body.replace("https://api.together.xyz", HELP))
    if "id" in told:
        told["id"] = None
    message = told["error"]["message"]
    known = [
        *(Failure.invalid_key(), Failure.unauthorized(), Failure.invalid_input()),
        *(Failure.empty_prompt(), Failure.schema_unsupported()),
        *(Failure.server_error(), Failure.unavailable()),
    ]
    for model in re.findall(r"model (\S+(?: model)?)\. ", message):
        known += [Failure.unknown_model(model), Failure.not_serverless(model)]
        known += [Failure.model_rate_limited(model)]
    same = [failure for failure in known if (failure.status, failure.body) == (status, told)]
    return same[0] if same else Failure.error(400, message)


def test_recorded_errors_are_what_failures_say(together, client, chat_body):
    """Each error on record is sent byte for byte, but for its id and the site's old name."""
    if not RECORDINGS.is_dir():
        pytest.skip(f"the shared recordings are not here ({RECORDINGS})")
    errors = recorded_errors()
    assert len(errors) > 20
    for status, body in errors:
        together.faults.next(made(status, body))
        response = client.post(CHAT, json=chat_body)
        theirs = re.sub(r'"id": "[^"]*"', f'"id": "{response.headers.get("x-request-id")}"', body)
        theirs = theirs.replace("https://api.together.xyz", HELP)
        assert (response.status_code, response.text) == (status, theirs)


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer"}, {"authorization": "k"}])
def test_without_a_key_nobody_is_served(together, chat_body, headers):
    """A missing key is a 401 in two shapes: one for chat, one for the list of models."""
    chat = httpx2.post(together.base_url + CHAT, json=chat_body, headers=headers)
    models = httpx2.get(together.base_url + "/v1/models", headers=headers)
    assert (chat.status_code, models.status_code) == (401, 401)
    assert chat.json()["error"]["code"] == "invalid_api_key"
    assert "x-ratelimit" not in chat.headers
    assert models.text == '{"error":{"message":"Unauthorized"}}'


def test_a_server_with_a_key_takes_only_that_one(chat_body):
    """api_key makes the server refuse every other key."""
    with LoopbackTogether(api_key="right") as server:
        statuses = [
            httpx2.post(
                server.base_url + CHAT, json=chat_body, headers={"authorization": f"Bearer {key}"}
            ).status_code
            for key in ("right", "wrong")
        ]
    assert statuses == [200, 401]


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"model": "gpt-oss-120b"}, 404, "Unable to access model gpt-oss-120b."),
        ({"model": "OpenAI/gpt-oss-120b"}, 404, "Unable to access model OpenAI/gpt-oss-120b."),
        ({"model": ""}, 404, "Unable to access model ."),
        ({"model": None}, 400, "Invalid request"),
        ({"messages": []}, 400, "Prompt cannot be empty"),
        ({"messages": "hello"}, 400, "Input validation error"),
        ({"messages": ["hello"]}, 400, "Input validation error"),
        ({"model": "openai/whisper-large-v3"}, 400, "Input validation error"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused(
    together, client, chat_body, change, status, message
):
    """The server itself refuses what the API refuses, and the script is left alone."""
    together.script.say("unused")
    response = client.post(CHAT, json=chat_body | change)
    assert response.status_code == status
    assert response.json()["error"]["message"].startswith(message)
    assert len(together.script) == 1


def test_a_body_that_is_no_json_is_refused(client):
    """Broken JSON is a 400, not a broken connection."""
    assert client.post(CHAT, content=b"{").status_code == 400


def test_an_unknown_path_says_what_is_served(client):
    """A 404 tells which endpoints there are."""
    response = client.post("/v1/nowhere", json={})
    assert response.status_code == 404
    assert "POST /v1/chat/completions" in response.json()["error"]["message"]


def test_a_wrong_method_says_which_is_right(client):
    """A 405 names the method to use."""
    response = client.get(CHAT)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
