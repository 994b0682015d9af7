"""Any server that speaks OpenAI's format is a row of data."""

from __future__ import annotations

from decimal import Decimal

import pytest

from aideon_core import AsyncClient, Client, OpenAICompatibleBackend
from aideon_core.backends.hosts import HOSTS, Host
from aideon_core.config import Config
from aideon_core.errors import ConfigError, MissingKey, Offline
from aideon_testing import LoopbackTogether

MODEL = "openai/gpt-oss-20b"


class Open:
    """Lets everybody in, as programs on one's own machine do."""

    async def intercept(self, request, stamp, proceed):
        return await proceed(request, stamp)


@pytest.fixture
def together():
    with LoopbackTogether(Open()) as server:
        yield server


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for host in HOSTS.values():
        if host.key_variable:
            monkeypatch.delenv(host.key_variable, raising=False)


@pytest.mark.parametrize("name", sorted(HOSTS))
def test_every_host_answers_by_its_name(together, monkeypatch, name):
    """cloud="host:model" asks that host with its own key, and the answer says so."""
    host = HOSTS[name]
    if host.key_variable:
        monkeypatch.setenv(host.key_variable, f"key-of-{name}")
    together.script.say("Hello.")
    with Client(local=None, cloud=f"{name}:{MODEL}", base_url=together.base_url) as client:
        answer = client.chat("Hello?")
    assert answer.text == "Hello."
    assert answer.route.backend == name
    sent = together.requests[0].headers.get("authorization") if host.key_variable else None
    assert sent == (f"Bearer key-of-{name}" if host.key_variable else None)


async def test_hosts_stream_and_await_like_together(together, monkeypatch):
    """Another host's stream is awaited piece by piece, with usage at its end."""
    monkeypatch.setenv("GROQ_API_KEY", "k")
    together.script.say("one two three")
    async with AsyncClient(local=None, cloud=f"groq:{MODEL}", base_url=together.base_url) as client:
        chunks = [chunk async for chunk in client.stream("Count.")]
    assert "".join(chunk.text for chunk in chunks) == "one two three"
    assert chunks[-1].usage.output_tokens > 0


def test_what_runs_on_your_own_machine_bills_nothing(together):
    """Ollama, llama-server, vLLM and LM Studio answer at a cost of 0, not of None."""
    backend = OpenAICompatibleBackend(MODEL, host="ollama", base_url=together.base_url)
    with Client(local=None, cloud=backend) as client:
        assert client.chat("Hello?").cost == Decimal(0)


def test_a_host_without_its_key_says_which_variable_to_set():
    """The error of a missing key names the host and the host's own variable."""
    client = Client(local=None, cloud=f"groq:{MODEL}")
    with pytest.raises(MissingKey, match="Groq.*GROQ_API_KEY"):
        client.chat("Hello?")


def test_log_probabilities_are_asked_for_in_the_hosts_own_way(together, monkeypatch):
    """Together takes a number, the others a flag and a number."""
    monkeypatch.setenv("TOGETHER_API_KEY", "k")
    for spec, sent in (
        (MODEL, {"logprobs": 2}),
        (f"vllm:{MODEL}", {"logprobs": True, "top_logprobs": 2}),
    ):
        with Client(local=None, cloud=spec, base_url=together.base_url) as client:
            client.chat("Hello?", logprobs=True, top_logprobs=2)
        assert sent.items() <= together.requests[-1].body.items()


def test_a_server_on_this_machine_answers_offline(together, tmp_path):
    """AIDEON_OFFLINE keeps requests on the machine; a server on it may still be asked."""
    config = Config(home=tmp_path, offline=True)
    here = OpenAICompatibleBackend(
        MODEL, host="llama-server", base_url=together.base_url, config=config
    )
    with Client(local=None, cloud=here) as client:
        assert client.chat("Hello?").text
    away = OpenAICompatibleBackend(
        MODEL, host="llama-server", base_url="http://away.invalid", config=config
    )
    with Client(local=None, cloud=away) as client, pytest.raises(Offline):
        client.chat("Hello?")


def test_a_host_of_ones_own_is_a_value(together, monkeypatch):
    """A Host that nobody knows works like those that come with the package."""
    monkeypatch.setenv("ACME_KEY", "acme")
    acme = Host("acme", "Acme", together.base_url, "ACME_KEY")
    with Client(local=None, cloud=OpenAICompatibleBackend(MODEL, host=acme)) as client:
        assert client.chat("Hello?").route.backend == "acme"
    assert together.requests[0].headers["authorization"] == "Bearer acme"


def test_the_address_of_a_host_can_be_given(together):
    """base_url= takes the place of the host's own, with and without /v1."""
    for url in (together.base_url, f"{together.base_url}/v1/"):
        backend = OpenAICompatibleBackend(MODEL, host="lm-studio", base_url=url)
        with Client(local=None, cloud=backend) as client:
            client.chat("Hello?")
    assert {request.path for request in together.requests} == {"/v1/chat/completions"}
    with pytest.raises(ConfigError, match="no address"):
        OpenAICompatibleBackend(MODEL, host="lm-studio", base_url="localhost:1234")
