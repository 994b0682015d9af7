"""The Together backend over real HTTP, against the loopback server."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from aideon_core import AsyncClient, Client, Completion, TogetherBackend
from aideon_core.errors import (
    AideonError,
    AuthError,
    BadRequest,
    ConnectFailed,
    ContextTooLong,
    NotFound,
    RateLimited,
    ServerError,
    StreamInterrupted,
    TimedOut,
)
from aideon_testing import Failure, FakeBackend, LoopbackTogether, Reply

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
HELLO = Completion(text="Hello from here.", finish_reason="stop")


class Blocking:
    """Asks through a Client."""

    kind = Client

    def __init__(self, server, **words):
        words = {"local": None, "cloud": MODEL, "policy": "cloud-first", "api_key": "k"} | words
        words.setdefault("max_retries", 0)
        self.client = self.kind(base_url=words.pop("base_url", server.base_url), **words)

    async def chat(self, *args, **params):
        return self.client.chat(*args, **params)

    async def chunks(self, *args, **params):
        return list(self.client.stream(*args, **params))

    async def close(self):
        self.client.close()


class Awaiting(Blocking):
    """Asks through an AsyncClient."""

    kind = AsyncClient

    async def chat(self, *args, **params):
        return await self.client.chat(*args, **params)

    async def chunks(self, *args, **params):
        return [chunk async for chunk in self.client.stream(*args, **params)]

    async def close(self):
        await self.client.close()


@pytest.fixture(params=[Blocking, Awaiting])
async def ask(request, together):
    made = []

    def make(**words):
        made.append(request.param(together, **words))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def test_an_answer_has_its_text_usage_price_and_model(ask, together):
    """A chat over HTTP gives text, token counts, the price in exact dollars and the model."""
    together.script.say("Two, three, five.")
    answer = await ask().chat("Name three primes.", temperature=0, max_tokens=20)
    assert answer.text == "Two, three, five."
    assert answer.model == MODEL
    assert answer.usage.input_tokens > 0
    assert isinstance(answer.cost, Decimal)
    assert answer.cost > 0
    body = together.requests[0].body
    assert body["temperature"] == 0
    assert body["max_tokens"] == 20
    assert "top_p" not in body


async def test_a_stream_is_whole_and_its_last_chunk_has_the_facts(ask, together):
    """Streamed pieces join to the text, and usage, cost and route come once, at the end."""
    text = "Es war einmal … 🦔 ein Igel."
    together.script.say(text)
    chunks = await ask().chunks("Tell me a story.")
    assert "".join(chunk.text for chunk in chunks) == text
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].cost > 0
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].route.attempts[0].first_token_seconds > 0


async def test_reasoning_and_tool_calls_arrive_whole_and_streamed(ask, together):
    """Reasoning and tool calls are the same, asked for whole or in pieces."""
    call = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    for _ in range(2):
        together.script.call("weather", city="Oslo", days=2)
    client = ask()
    whole = await client.chat("Weather in Oslo?", tools=[call])
    streamed = Completion.from_chunks(await client.chunks("Weather in Oslo?", tools=[call]))
    for answer in (whole, streamed):
        assert answer.finish_reason == "tool_calls"
        assert answer.tool_calls[0].name == "weather"
        assert answer.tool_calls[0].arguments == '{"city": "Oslo", "days": 2}'
    together.script.reply(Reply(text="Four.", reasoning="Two and two."))
    assert (await client.chat("2+2?")).reasoning == "Two and two."


@pytest.mark.parametrize(
    ("failure", "error", "said"),
    [
        (Failure.invalid_key(), AuthError, "Check TOGETHER_API_KEY"),
        (Failure.unknown_model("x/y"), NotFound, "Unable to access model"),
        (Failure.not_serverless("x/y"), NotFound, "non-serverless"),
        (Failure.over_context(), ContextTooLong, "Shorten the messages"),
        (Failure.empty_prompt(), BadRequest, "Prompt cannot be empty"),
        (Failure.rate_limited(retry_after=7), RateLimited, "rate limit"),
        (Failure.server_error(), ServerError, "Internal server error"),
        (Failure.unavailable(), ServerError, "Service unavailable"),
        (Failure.edge(521), ServerError, "521"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_each_failure_is_an_error_that_says_what_to_do(
    ask, together, failure, error, said, streamed
):
    """Every status the service answers with becomes its own class, with its facts."""
    together.script.fail(failure)
    client = ask()
    with pytest.raises(error, match=said) as raised:
        await (client.chunks if streamed else client.chat)("Hello?")
    assert raised.value.backend == "together"
    assert raised.value.model == MODEL
    assert raised.value.status_code == failure.status
    assert raised.value.route.attempts[0].error is raised.value
    if error is RateLimited:
        assert raised.value.retry_after == 7
        assert "in 7 s" in raised.value.hint
        assert raised.value.retryable


async def test_an_unknown_model_names_the_nearest(ask):
    """A misspelled cloud model gives NotFound with the names that come near."""
    with pytest.raises(NotFound, match="meta-llama/Llama-3.3-70B-Instruct-Turbo"):
        await ask(cloud="meta-llama/Llama-3.3-70B-Instruct-Trubo").chat("Hello?")


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_unreachable_host_is_connect_failed_and_names_it(ask, streamed):
    """A host nobody listens on is ConnectFailed with its address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        client = ask(base_url=address)
        with pytest.raises(ConnectFailed, match=f"{address}.*Check the network"):
            await (client.chunks if streamed else client.chat)("Hello?")


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_dead_cloud_falls_back_to_the_local_side(ask, together, streamed):
    """While the cloud answers 500, the local side answers, streamed or whole."""
    together.script.fail(Failure.server_error())
    client = ask(local=FakeBackend("local", side="local", answers=[HELLO]))
    if streamed:
        answer = Completion.from_chunks(await client.chunks("Hello?"))
    else:
        answer = await client.chat("Hello?")
    assert answer.text == "Hello from here."
    assert answer.route.reason == "fell back to local: together failed (ServerError)"


async def test_a_redirect_is_no_answer_and_falls_back(ask, together):
    """A page that redirects, as a captive portal does, leaves the question to the other side."""
    together.script.fail(Failure(302, "", {"location": "http://portal.invalid/"}))
    client = ask(local=FakeBackend("local", side="local", answers=[HELLO]))
    assert (await client.chat("Hello?")).route.backend == "local"


async def test_a_stream_cut_midway_gives_back_what_came(ask, together):
    """A connection lost after some frames is StreamInterrupted with the text so far."""
    together.script.reply(Reply(text="one two three four five", cut_after=4))
    with pytest.raises(StreamInterrupted) as raised:
        await ask(local=FakeBackend("local", side="local", answers=[HELLO])).chunks("Count.")
    assert raised.value.partial.text
    assert "one two three four five".startswith(raised.value.partial.text)
    assert isinstance(raised.value.__cause__, AideonError)


async def test_a_whole_answer_cut_midway_falls_back(ask, together):
    """A body lost halfway is no answer: the other side gives one."""
    together.script.reply(Reply(text="one two three", cut_after=0))
    client = ask(local=FakeBackend("local", side="local", answers=[HELLO]))
    assert (await client.chat("Count.")).text == "Hello from here."


async def test_a_failure_that_passes_is_asked_again(ask, together):
    """A rate limit is waited out as long as the service asks, and then answered."""
    together.script.fail(Failure.rate_limited(retry_after=0))
    together.script.say("Now.")
    answer = await ask(max_retries=1).chat("Hello?")
    assert answer.text == "Now."
    assert [type(a.error) for a in answer.route.attempts] == [RateLimited, type(None)]
    assert answer.route.reason.startswith("together answered when asked again")


async def test_a_slow_answer_is_timed_out(ask, together):
    """timeout= bounds the wait for the next byte."""
    together.script.reply(Reply("late", delay=5.0))
    with pytest.raises(TimedOut, match="did not answer in time"):
        await ask(timeout=0.2).chat("Hello?")


def test_threads_that_ask_at_once_share_one_pool(together):
    """Parallel first calls open one client, not one each."""
    backend = TogetherBackend(MODEL, api_key="k", base_url=together.base_url)
    with ThreadPoolExecutor(16) as pool, Client(local=None, cloud=backend) as client:
        texts = list(pool.map(lambda n: client.chat(f"number {n}").text, range(32)))
    assert all(f"number {n}" in text for n, text in enumerate(texts))


def test_the_base_url_may_end_in_v1(together):
    """TOGETHER_BASE_URL works with and without /v1."""
    for url in (together.base_url, f"{together.base_url}/v1", f"{together.base_url}/v1/"):
        with Client(local=None, api_key="k", base_url=url) as client:
            client.chat("Hello?")
    assert {request.path for request in together.requests} == {"/v1/chat/completions"}


def test_passwords_and_stray_line_breaks_stay_out_of_sight(together):
    """A key with a line break works, and an address is shown without its password."""
    with Client(local=None, api_key="canary-8d1f\n", base_url=together.base_url) as client:
        assert client.chat("Hello?").text
    assert together.requests[0].headers["authorization"] == "Bearer canary-8d1f"
    address = "http://user:canary-pw@127.0.0.1:9"
    client = Client(local=None, api_key="k", base_url=address, max_retries=0)
    with pytest.raises(ConnectFailed) as raised:
        client.chat("Hello?")
    assert "canary" not in f"{client!r} {raised.value}"


def test_loops_that_are_over_leave_no_connections(together):
    """Many asyncio.run() calls with one client do not pile up connection pools."""
    backend = TogetherBackend(MODEL, api_key="k", base_url=together.base_url)
    client = AsyncClient(local=None, cloud=backend)

    async def once():
        await client.chat("Hello?")
        await client.close()

    for _ in range(5):
        asyncio.run(once())
    assert len(backend._sender.channel._async_clients) <= 1


def test_the_environment_is_enough(together_env):
    """With TOGETHER_API_KEY and TOGETHER_BASE_URL set, a client needs no argument for the cloud."""
    with Client(local=None) as client:
        assert client.chat("Hello?").text
    assert len(together_env.requests) == 1


def test_one_async_client_serves_one_event_loop_after_another():
    """asyncio.run() twice with the same client works, as scripts and notebooks do it."""
    with LoopbackTogether() as server:
        client = AsyncClient(local=None, api_key="k", base_url=server.base_url)

        async def once():
            answer = await client.chat("Hello?")
            await client.close()
            return answer.text

        assert asyncio.run(once()) == asyncio.run(once())


async def test_concurrent_questions_keep_their_answers_apart(together):
    """Fifty questions at once each get the answer to their own."""
    async with AsyncClient(local=None, api_key="k", base_url=together.base_url) as client:
        answers = await asyncio.gather(*(client.chat(f"number {n}") for n in range(50)))
    assert all(f"number {n}" in answer.text for n, answer in enumerate(answers))


def test_the_key_is_in_no_error(together):
    """A refused key is not repeated in the error, its chain or its traceback's locals."""
    import traceback

    backend = TogetherBackend(MODEL, api_key="canary-key-8d1f", base_url=together.base_url)
    together.script.fail(Failure.invalid_key())
    with pytest.raises(AuthError) as raised, Client(local=None, cloud=backend) as client:
        client.chat("Hello?")
    shown = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    assert "canary-key-8d1f" not in "".join(shown.format())
