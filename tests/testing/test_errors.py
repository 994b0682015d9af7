"""Answers that are errors."""

from __future__ import annotations

import json

import httpx2
import pytest

from aideon_testing import Failure, LoopbackTogether

CHAT = "/v1/chat/completions"
HELP = "https://api.together.ai"


def error(message, *, type="invalid_request_error", param=None, code=None):  # noqa: A002
    return {"message": message, "type": type, "param": param, "code": code}


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


def test_a_rate_limit_says_how_long_to_wait(together, client, chat_body):
    """A 429 carries the limits that were hit and the seconds to wait."""
    together.script.fail(Failure.rate_limited(retry_after=7))
    headers = client.post(CHAT, json=chat_body).headers
    names = ("retry-after", "x-ratelimit", "x-ratelimit-limit", "x-ratelimit-remaining")
    assert [headers[name] for name in names] == ["7", "true", "1", "0"]


def test_an_error_of_the_edge_is_plain_text(together, client, chat_body):
    """When the network in front of the API fails there is no JSON to read."""
    together.script.fail(Failure.edge())
    response = client.post(CHAT, json=chat_body)
    assert (response.status_code, response.text) == (521, "error code: 521")
    assert response.headers["content-type"].startswith("text/plain")
    assert "x-request-id" not in response.headers


def test_a_failure_of_ones_own_is_sent_as_it_is(together, client, chat_body):
    """A test can send a body the API has never sent."""
    together.script.fail(Failure(418, {"error": "short"}, {"x-teapot": "yes"}))
    response = client.post(CHAT, json=chat_body)
    assert (response.status_code, response.text) == (418, '{"error":"short"}')
    assert response.headers["x-teapot"] == "yes"


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
    """A 404 tells which endpoints there are, since not all of the API is here yet."""
    response = client.post("/v1/embeddings", json={})
    assert response.status_code == 404
    assert "POST /v1/chat/completions" in response.json()["error"]["message"]


def test_a_wrong_method_says_which_is_right(client):
    """A 405 names the method to use."""
    response = client.get(CHAT)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
