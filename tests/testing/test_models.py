"""GET /v1/models."""

from __future__ import annotations

import httpx2

from aideon_testing import DEFAULT_MODELS, LoopbackTogether

PRICES = [
    "hourly",
    "input",
    "output",
    "base",
    "finetune",
    "image_pixel",
    "transcribe",
    "image",
    "video",
]


def test_the_list_is_a_bare_compact_array(client):
    """There is no object around the rows, and no space between them."""
    response = client.get("/v1/models")
    assert response.text.startswith('[{"id":"')
    assert [row["id"] for row in response.json()] == list(DEFAULT_MODELS)
    assert "x-ratelimit" not in response.headers


def test_every_row_has_every_price(client):
    """All pricing keys are there, and the cached price only where there is one."""
    rows = {row["id"]: row for row in client.get("/v1/models").json()}
    for row in rows.values():
        assert [key for key in row["pricing"] if key != "cached_input"] == PRICES
    assert rows["deepseek-ai/DeepSeek-V4-Pro"]["pricing"]["cached_input"] == 0.2
    assert "cached_input" not in rows["openai/gpt-oss-20b"]["pricing"]


def test_prices_per_unit_are_objects(client):
    """A price is 0 or an object, so a client that expects a float is found out here."""
    rows = {row["id"]: row["pricing"] for row in client.get("/v1/models").json()}
    assert rows["black-forest-labs/FLUX.1-schnell"]["image_pixel"]["min_steps"] == 4
    assert rows["openai/gpt-oss-20b"]["image_pixel"] == 0


def test_models_of_every_kind_are_served(client):
    """There is a model for each endpoint, and the type says which."""
    types = {row["type"] for row in client.get("/v1/models").json()}
    kinds = {"chat", "language", "embedding", "rerank", "image", "audio", "transcribe"}
    assert types == kinds


def test_only_ones_own_models_are_dedicated(client):
    """Together's are serverless, so that none is left of the default list."""
    assert client.get("/v1/models?dedicated=true").json() == []
    assert len(client.get("/v1/models?dedicated=false").json()) == len(DEFAULT_MODELS)
    assert client.get("/v1/models?dedicated=perhaps").status_code == 400


def test_a_server_serves_the_models_it_is_given(chat_body):
    """The given models replace the list; an id of one's own is free of charge."""
    headers = {"authorization": "Bearer k"}
    with LoopbackTogether(models=("me/mine",)) as server:
        (row,) = httpx2.get(f"{server.base_url}/v1/models?dedicated=true", headers=headers).json()
        url = f"{server.base_url}/v1/chat/completions"
        statuses = [
            httpx2.post(url, json=chat_body | {"model": model}, headers=headers).status_code
            for model in ("me/mine", chat_body["model"])
        ]
        assert server.requests[0].query == "dedicated=true"
    assert (row["id"], row["organization"], row["pricing"]["input"]) == ("me/mine", "me", 0)
    assert statuses == [200, 404]
