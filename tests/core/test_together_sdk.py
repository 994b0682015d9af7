"""The official SDK on a client's own keys, address and accounting."""

from __future__ import annotations

import pytest
import together as sdk

from aideon_core import AsyncClient, Client, TogetherBackend, telemetry
from aideon_core.errors import ConfigError, CoolingDown, MissingKey, Offline
from aideon_testing import Failure

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hello?"}]}


@pytest.fixture
def client(together):
    with Client(local=None, api_key=["first", "second"], base_url=together.base_url) as made:
        yield made


@pytest.fixture
def billed():
    events = []
    end = telemetry.listen(lambda event: events.append(event.facts))
    yield events
    end()


def bearers(together):
    return [request.headers.get("authorization") for request in together.requests]


def test_the_long_tail_is_the_official_sdk(client, together):
    """client.together is a together.Together that reaches images, models and the rest."""
    assert isinstance(client.together, sdk.Together)
    image = client.together.images.generate(
        model="black-forest-labs/FLUX.1-schnell", prompt="a hedgehog"
    )
    assert image.data
    assert set(bearers(together)) <= {"Bearer first", "Bearer second"}
    assert client.together is client.together


async def test_the_long_tail_is_there_for_asyncio(together):
    """client.together_async is a together.AsyncTogether on the same keys."""
    async with AsyncClient(local=None, api_key="k", base_url=together.base_url) as client:
        official = client.together_async
        assert isinstance(official, sdk.AsyncTogether)
        answer = await official.chat.completions.create(**CHAT)
        assert answer.choices[0].message.content
        stream = await official.chat.completions.create(**CHAT, stream=True)
        assert [chunk async for chunk in stream]
        assert client.together_async is official
    assert bearers(together) == ["Bearer k"] * 2


def test_a_refused_key_is_followed_by_the_next(client, together):
    """A key that gets 401 is put aside, and the SDK's call goes on with another one."""
    together.keys.revoke("first")
    for _ in range(2):
        assert client.together.chat.completions.create(**CHAT).choices
    client.chat("Hello?")
    assert bearers(together).count("Bearer first") == 1
    assert bearers(together)[-1] == "Bearer second"


def test_when_every_key_is_refused_the_sdks_own_error_comes(client, together):
    """With no key left, the SDK raises what it raises for a refused key."""
    together.keys.revoke("first", "second")
    with pytest.raises(sdk.AuthenticationError):
        client.together.chat.completions.create(**CHAT)
    assert sorted(bearers(together)) == ["Bearer first", "Bearer second"]


def test_a_limit_met_by_the_sdk_holds_for_the_client(together):
    """A 429 the SDK gets makes the client's own requests on that key wait."""
    together.script.fail(Failure.rate_limited(retry_after=30))
    with Client(local=None, api_key="k", base_url=together.base_url, max_retries=0) as client:
        official = client.together.with_options(max_retries=0)
        with pytest.raises(sdk.RateLimitError):
            official.chat.completions.create(**CHAT)
        with pytest.raises(CoolingDown):
            client.chat("Hello?", deadline=1.0)
    assert len(together.requests) == 1


def test_a_models_own_limit_met_by_the_sdk_rests_no_key(together):
    """A 429 about one model leaves the key to the client's own requests for others."""
    other = "openai/gpt-oss-20b"
    together.script.fail(Failure.model_rate_limited(other, retry_after=30))
    with Client(local=None, api_key="k", base_url=together.base_url, max_retries=0) as client:
        with pytest.raises(sdk.RateLimitError):
            client.together.with_options(max_retries=0).chat.completions.create(
                **CHAT | {"model": other}
            )
        assert client.chat("Hello?", deadline=5.0).text


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_sdk_uses_is_accounted_for(client, billed, stream):
    """Tokens and cost of the SDK's calls are told like those of the client's own."""
    answer = client.together.chat.completions.create(**CHAT, stream=stream)
    if stream:
        assert list(answer)
    (facts,) = billed
    assert facts["model"] == MODEL
    assert facts["usage"].output_tokens > 0
    assert facts["cost"] > 0
    assert facts["path"] == "/v1/chat/completions"


def test_the_clients_own_calls_are_accounted_for_once(client, billed):
    """A chat and a stream are one event each, with their usage and cost."""
    client.chat("Hello?")
    list(client.stream("Hello?"))
    assert [facts["cost"] > 0 for facts in billed] == [True, True]


def test_an_upload_shows_the_key_to_nobody_else(client, together, tmp_path):
    """The signed address a file is put to is sent no key, and the file arrives."""
    path = tmp_path / "lines.jsonl"
    path.write_text('{"text": "hello"}\n' * 3)
    uploaded = client.together.files.upload(file=path, purpose="fine-tune", check=False)
    assert uploaded.bytes == path.stat().st_size
    put = [request for request in together.requests if request.method == "PUT"]
    assert [request.headers.get("authorization") for request in put] == [None]


def test_a_sdk_client_that_was_given_is_the_one_returned(together):
    """With TogetherBackend(client=...), client.together is that very client."""
    with sdk.Together(api_key="k", base_url=together.base_url) as mine:
        client = Client(local=None, cloud=TogetherBackend(MODEL, client=mine))
        assert client.together is mine


def test_without_key_network_or_backend_it_says_so(monkeypatch, together):
    """No key, AIDEON_OFFLINE and no Together backend are errors of ours, before any request."""
    monkeypatch.delenv("TOGETHER_API_KEY", raising=False)
    with pytest.raises(MissingKey):
        _ = Client(local=None, base_url=together.base_url).together
    with pytest.raises(ConfigError, match="no Together backend"):
        _ = Client(local=None, cloud="ollama:llama3.2").together
    monkeypatch.setenv("AIDEON_OFFLINE", "1")
    with pytest.raises(Offline):
        _ = Client(local=None, api_key="k", base_url=together.base_url).together
    assert not together.requests
