"""Supported models, one's own, endpoints, hardware, and whose key it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import pytest
import together as together_sdk
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_testing import DEFAULT_MODELS, LoopbackTogether

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN = "acme/support-bot"
MODELS = (*DEFAULT_MODELS, OWN)


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackTogether]:
    """A server that has a model of the caller's own besides Together's."""
    with LoopbackTogether(models=MODELS) as server:
        yield server


@pytest.fixture(scope="module")
def sdk(server) -> Iterator[together_sdk.Together]:
    """Together's SDK, talking to the server."""
    with together_sdk.Together(api_key="k", base_url=server.base_url, max_retries=0) as sdk:
        yield sdk


@pytest.fixture(scope="module")
def http(server) -> Iterator[httpx2.Client]:
    """An HTTP client of the server, with a key."""
    headers = {"authorization": "Bearer k"}
    with httpx2.Client(base_url=server.base_url, headers=headers) as http:
        yield http


@settings(max_examples=10, deadline=None)
@given(limit=st.integers(1, 30))
def test_pages_of_any_size_hold_every_model_once(sdk, limit):
    """The sdk turns the pages by itself."""
    assert [model.name for model in sdk.models.list_supported(limit=limit)] == list(MODELS)


def test_a_supported_model_has_the_sdks_keys(sdk, http):
    """Keys are in camel case, and the context length is a text."""
    model = next(model for model in sdk.models.list_supported() if model.name.endswith("Pro"))
    assert model.display_name == "Deepseek V4 Pro"
    assert model.context_length == "512000"
    assert model.pricing.cached_input == 0.2
    assert model.capabilities == ["CAPABILITY_CHAT"]
    assert "FEATURE_REASONING" in model.features
    assert model.serverless_endpoint == model.name
    assert model.created_at.tzinfo is not None
    row = http.get(f"/v2/supported-models/{model.id}").json()
    assert row["contextLength"] == "512000"
    assert sdk.models.retrieve_supported(model.id) == model


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"search": "GPT-OSS"}, ["openai/gpt-oss-120b", "openai/gpt-oss-20b"]),
        ({"search": "whisper LARGE"}, ["openai/whisper-large-v3"]),
        ({"modality": "MODALITY_AUDIO"}, ["openai/whisper-large-v3"]),
        ({"modality": "MODALITY_VIDEO"}, []),
        ({"product": "PRODUCT_DEDICATED"}, [OWN]),
        ({"product": "PRODUCT_SERVERLESS", "limit": 30}, list(DEFAULT_MODELS)),
        ({"adapter_mode": "ADAPTER_MODE_FIXED"}, []),
    ],
)
def test_supported_models_can_be_filtered(sdk, filters, expected):
    """Each filter of the sdk leaves what it should."""
    assert [model.name for model in sdk.models.list_supported(**filters)] == expected


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=many",
        "limit=" + "9" * 5000,
        "after=nobody",
        "product=PRODUCT_FREE",
        "modality=MODALITY_SMELL",
        "adapterMode=ANY",
    ],
)
def test_a_query_that_will_not_do_is_refused(http, query):
    """Filters are checked."""
    assert http.get(f"/v2/supported-models?{query}").status_code == 400


def test_a_project_has_ones_own_models_and_their_endpoints(sdk):
    """What is none of Together's is the caller's, on an endpoint by its name."""
    (model,) = sdk.models.list(project_id="proj_1")
    (endpoint,) = sdk.endpoints.list(project_id="proj_1")
    assert (model.name, model.project_id) == (OWN, "proj_1")
    assert (endpoint.name, endpoint.endpoint_type) == (OWN, "ENDPOINT_TYPE_DEDICATED")
    assert sdk.endpoints.retrieve(endpoint.id, project_id="proj_1") == endpoint


def test_the_sdk_knows_whose_key_it_is(sdk):
    """The project of the key is the one in the list."""
    whoami = sdk.whoami()
    (project,) = sdk.projects.list()
    assert whoami.type == "project_api_key"
    assert (whoami.project.id, whoami.project.slug) == (project.id, project.slug)
    assert whoami.organization.id == project.organization_id


def test_the_sdk_reads_the_hardware(sdk):
    """Each type can be had alone as well."""
    types = sdk.endpoints.hardware.list().data
    assert all(kind.gpu_count and kind.price_cents_per_hour for kind in types)
    assert sdk.endpoints.hardware.retrieve(types[0].id) == types[0]


def test_the_first_versions_hardware_tells_what_is_left_for_a_model(http):
    """Without a model, nothing is said about what is available."""
    plain = http.get("/v1/hardware").json()["data"]
    asked = http.get(f"/v1/hardware?model={OWN}").json()["data"]
    assert all("availability" not in row for row in plain)
    assert {row["availability"]["status"] for row in asked} == {"available"}
    assert [row["id"] for row in plain] == [row["id"] for row in asked]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", list(MODELS)),
        ("type=serverless", list(DEFAULT_MODELS)),
        ("type=dedicated", [OWN]),
        ("mine=true", [OWN]),
        ("mine=false", list(MODELS)),
        ("usage_type=on-demand", [OWN]),
        ("usage_type=reserved", []),
        ("type=serverless&mine=true", []),
    ],
)
def test_endpoints_can_be_filtered(http, query, expected):
    """Each filter of the spec leaves what it should."""
    body = http.get(f"/v1/endpoints?{query}").json()
    assert body["object"] == "list"
    assert [row["model"] for row in body["data"]] == expected


def test_an_endpoint_has_its_details(http):
    """A dedicated endpoint says what it runs on."""
    (row,) = http.get("/v1/endpoints?type=dedicated").json()["data"]
    details = http.get(f"/v1/endpoints/{row['id']}").json()
    assert row.items() <= details.items()
    assert details["autoscaling"] == {"min_replicas": 1, "max_replicas": 1}
    hardware = {row["id"] for row in http.get("/v1/hardware").json()["data"]}
    assert details["hardware"] in hardware


def test_no_endpoint_is_created_by_the_first_version(http):
    """The API refuses it with a code of its own."""
    response = http.post("/v1/endpoints", json={"model": OWN})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "endpoints_v1_create_access_disabled"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/endpoints/endpoint-0",
        "/v2/projects/p/endpoints/ep_0",
        "/v2/supported-models/arch_0",
        "/v2/public/inference-instance-types/x",
    ],
)
def test_an_unknown_id_is_not_found(http, path):
    """The error names what is not there."""
    response = http.get(path)
    assert response.status_code == 404
    assert path.rpartition("/")[2] in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/endpoints", "/v2/supported-models", "/v3/whoami"])
def test_nothing_is_listed_without_a_key(server, path):
    """Lists ask for a key as everything does."""
    assert httpx2.get(server.base_url + path).status_code == 401


async def test_async_sdks_page_as_well(server):
    """The async client turns the same pages."""
    async with together_sdk.AsyncTogether(api_key="k", base_url=server.base_url) as sdk:
        names = [model.name async for model in sdk.models.list_supported(limit=5)]
    assert names == list(MODELS)
