"""A backend sends with the client a caller already has."""

from __future__ import annotations

import httpx
import httpx2
import openai
import pytest
import together as together_sdk

from aideon_core import AsyncClient, Client, Completion, OpenAICompatibleBackend, TogetherBackend
from aideon_core.errors import ConfigError, ConnectFailed, RateLimited, TimedOut
from aideon_testing import Failure, Reply

MODEL = "openai/gpt-oss-120b"
BEARER = {"Authorization": "Bearer of-the-client"}


def blocking(url):
    return {
        "together": together_sdk.Together(api_key="of-the-client", base_url=url),
        "openai": openai.OpenAI(api_key="of-the-client", base_url=f"{url}/v1"),
        "httpx": httpx.Client(base_url=url, headers=BEARER),
        "httpx2": httpx2.Client(base_url=f"{url}/v1", headers=BEARER),
    }


def awaiting(url):
    return {
        "together": together_sdk.AsyncTogether(api_key="of-the-client", base_url=url),
        "openai": openai.AsyncOpenAI(api_key="of-the-client", base_url=f"{url}/v1"),
        "httpx": httpx.AsyncClient(base_url=url, headers=BEARER),
        "httpx2": httpx2.AsyncClient(base_url=f"{url}/v1", headers=BEARER),
    }


@pytest.fixture(params=["together", "openai", "httpx", "httpx2"])
def theirs(request, together):
    with blocking(together.base_url)[request.param] as client:
        yield client


@pytest.fixture(params=["together", "openai", "httpx", "httpx2"])
async def theirs_async(request, together):
    async with awaiting(together.base_url)[request.param] as client:
        yield client


def test_a_given_client_answers_whole_and_streamed(theirs, together):
    """Together, OpenAI, httpx and httpx2 clients carry the same requests to the same answers."""
    call = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    client = Client(local=None, cloud=TogetherBackend(MODEL, client=theirs))
    for _ in range(2):
        together.script.reply(Reply("Four.", reasoning="Two and two."))
    whole = client.chat("2+2?", tools=[call], parallel_tool_calls=False, max_tokens=99)
    streamed = Completion.from_chunks(client.stream("2+2?"))
    for answer in (whole, streamed):
        assert (answer.text, answer.reasoning) == ("Four.", "Two and two.")
        assert answer.usage.output_tokens > 0
        assert answer.cost > 0
    body = together.requests[0].body
    assert (body["parallel_tool_calls"], body["max_tokens"]) == (False, 99)
    assert together.requests[0].headers["authorization"] == "Bearer of-the-client"
    assert together.requests[0].path == "/v1/chat/completions"


async def test_a_given_async_client_answers_whole_and_streamed(theirs_async, together):
    """Awaiting clients are given as client= too, and serve an AsyncClient."""
    client = AsyncClient(local=None, cloud=TogetherBackend(MODEL, client=theirs_async))
    together.script.say("Hello.", "Hello again.")
    assert (await client.chat("Hello?")).text == "Hello."
    chunks = [chunk async for chunk in client.stream("Hello?")]
    assert Completion.from_chunks(chunks).text == "Hello again."


def test_a_given_client_embeds_too(theirs, together):
    """The client of the chats carries the texts of embeddings, with its own key."""
    client = Client(local=None, cloud=TogetherBackend(MODEL, client=theirs))
    vectors = client.embed(["one", "two"])
    assert len(vectors) == 2
    (request,) = together.requests
    assert (request.path, request.body["input"]) == ("/v1/embeddings", ["one", "two"])
    assert request.headers["authorization"] == "Bearer of-the-client"


async def test_a_given_async_client_embeds_the_same(theirs_async, together):
    """The awaiting twin gives the vectors that a client of our own gets."""
    backend = TogetherBackend(MODEL, client=theirs_async)
    given = await AsyncClient(local=None, cloud=backend).embed(["one"])
    with Client(local=None, api_key="k", base_url=together.base_url) as own:
        assert given[0] == pytest.approx(own.embed(["one"])[0], abs=1e-6)


def test_embedding_errors_through_a_given_client_are_ours(theirs, together):
    """A refused text comes as the same error as without the client, after one request."""
    together.faults.always(Failure.rate_limited(retry_after=7))
    client = Client(local=None, cloud=TogetherBackend(MODEL, client=theirs), max_retries=0)
    with pytest.raises(RateLimited) as raised:
        client.embed("one")
    assert raised.value.retry_after == 7
    assert len(together.requests) == 1


def test_errors_through_a_given_client_are_ours(theirs, together):
    """A refusal comes as the same error as without the client, and is retried by us alone."""
    together.script.fail(Failure.rate_limited(retry_after=7))
    client = Client(local=None, cloud=TogetherBackend(MODEL, client=theirs), max_retries=0)
    with pytest.raises(RateLimited) as raised:
        client.chat("Hello?")
    assert raised.value.retry_after == 7
    assert raised.value.status_code == 429
    assert len(together.requests) == 1
    together.script.fail(Failure.server_error())
    with pytest.raises(Exception, match="500"):
        list(client.stream("Hello?"))


def test_a_lost_connection_through_a_given_client_is_connect_failed(theirs, together):
    """What the SDK calls an APIConnectionError is told as what it was."""
    together.script.reply(Reply("one two three", cut_after=0))
    client = Client(local=None, cloud=TogetherBackend(MODEL, client=theirs), max_retries=0)
    with pytest.raises(ConnectFailed):
        client.chat("Hello?")


def test_a_deadline_reaches_a_given_client(theirs, together):
    """deadline= bounds the wait, whatever timeout the client has."""
    together.script.reply(Reply("late", delay=5.0))
    client = Client(local=None, cloud=TogetherBackend(MODEL, client=theirs), max_retries=0)
    with pytest.raises(TimedOut):
        client.chat("Hello?", deadline=0.3)


def test_a_given_client_stays_open(theirs, together):
    """Closing our client leaves the caller's own usable."""
    with Client(local=None, cloud=TogetherBackend(MODEL, client=theirs)) as client:
        client.chat("Hello?")
    assert Client(local=None, cloud=TogetherBackend(MODEL, client=theirs)).chat("Hello?").text


async def test_a_blocking_and_an_awaiting_client_serve_together(together):
    """With both, one backend serves both kinds of calls; with one, the other kind says so."""
    ones, others = blocking(together.base_url), awaiting(together.base_url)
    both = TogetherBackend(MODEL, client=ones["openai"], async_client=others["openai"])
    assert Client(local=None, cloud=both).chat("Hello?").text
    assert (await AsyncClient(local=None, cloud=both).chat("Hello?")).text
    for kind in ("openai", "httpx"):
        one = TogetherBackend(MODEL, client=ones[kind])
        with pytest.raises(ConfigError, match="async_client="):
            await AsyncClient(local=None, cloud=one).chat("Hello?")
        other = TogetherBackend(MODEL, client=others[kind])
        with pytest.raises(ConfigError, match="client="):
            Client(local=None, cloud=other).chat("Hello?")
    for client in ones.values():
        client.close()
    for name, client in others.items():
        await (client.aclose() if name.startswith("httpx") else client.close())


def test_a_client_without_a_key_is_given_ours(together):
    """An httpx client that authorizes nothing sends the backend's own key."""
    with httpx2.Client() as plain:
        backend = TogetherBackend(MODEL, client=plain, base_url=together.base_url, api_key="ours")
        assert Client(local=None, cloud=backend).chat("Hello?").text
    assert together.requests[0].headers["authorization"] == "Bearer ours"


@pytest.mark.parametrize("words", [{"api_key": "k"}, {"base_url": "http://x"}, {"timeout": 3.0}])
def test_settings_a_client_would_not_follow_are_refused(words, together):
    """What the client already decides cannot be said twice."""
    client = blocking(together.base_url)["together"]
    with client, pytest.raises(ConfigError, match=next(iter(words))):
        TogetherBackend(MODEL, client=client, **words)


def test_what_is_no_client_is_refused():
    """client= of another kind is a ConfigError that names what it takes."""
    with pytest.raises(ConfigError, match="client= is a str.*Together, OpenAI"):
        OpenAICompatibleBackend(MODEL, host="vllm", client="http://127.0.0.1")
