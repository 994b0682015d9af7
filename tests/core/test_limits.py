"""Limits, refusals and odd sources of keys: what one call meets, the others need not."""

from __future__ import annotations

import asyncio
import os
import time
from threading import Event

import openai
import pytest

from aideon_core import AsyncClient, Client, KeyRing, TogetherBackend
from aideon_core.errors import (
    AideonError,
    AuthError,
    BadRequest,
    CoolingDown,
    MissingKey,
    RateLimited,
    ServerError,
    TimedOut,
)
from aideon_testing import Failure, FakeBackend, LoopbackTogether, RateLimits
from aideon_testing.faults import Drip, Gzip

MODEL = "openai/gpt-oss-120b"
OTHER = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


def over(server, **words):
    words = {"local": None, "cloud": MODEL, "api_key": "k", "max_retries": 0} | words
    return Client(base_url=server.base_url, **words)


async def test_a_crowd_at_a_limit_is_answered_at_its_rate():
    """Forty calls at once on a key that allows ten a second all have their answer."""
    with LoopbackTogether(limits=RateLimits(requests_per_second=10)) as server:
        async with AsyncClient(
            local=None, cloud=MODEL, api_key="k", base_url=server.base_url
        ) as client:
            answers = await asyncio.gather(*(client.chat(f"number {n}") for n in range(40)))
        assert all(f"number {n}" in answer.text for n, answer in enumerate(answers))
        # Each may learn of the limit once; nobody hammers.
        assert len(server.requests) <= 2 * len(answers)


def test_a_limited_key_sends_the_question_to_the_other_side_at_once(together):
    """While the only key rests, the other side answers without a wait."""
    together.faults.always(Failure.rate_limited(retry_after=5))
    local = FakeBackend("local", side="local")
    with over(together, local=local, policy="cloud-first") as client:
        started = time.monotonic()
        for _ in range(5):
            assert client.chat("Hello?").route.backend == "local"
        assert time.monotonic() - started < 2.0
    assert len(together.requests) == 1


def test_a_limit_of_one_model_leaves_the_others_alone(together):
    """A model's own limit rests that model; the key goes on serving others."""
    together.script.fail(Failure.model_rate_limited(MODEL, retry_after=30))
    ring = KeyRing.of("k")
    with over(together, api_key=ring) as one, over(together, api_key=ring, cloud=OTHER) as other:
        with pytest.raises(RateLimited) as raised:
            one.chat("Hello?")
        assert raised.value.type == "model_rate_limit"
        assert other.chat("Hello?").text
        with pytest.raises(CoolingDown, match=MODEL):
            one.chat("Hello?", deadline=0.5)


def test_a_slow_source_of_keys_is_within_the_deadline(together):
    """A function that takes its time to give a key costs no more than the deadline."""
    released = Event()
    with over(together, api_key=lambda: released.wait(20) and "k") as client:
        started = time.monotonic()
        with pytest.raises(TimedOut, match="keys for Together AI"):
            client.chat("Hello?", deadline=0.3)
        assert time.monotonic() - started < 5.0
        released.set()


def test_a_source_of_keys_that_exits_hangs_nobody(together):
    """Even SystemExit in a key function is an error of the call."""

    def leaves():
        raise SystemExit

    with over(together, api_key=leaves) as client, pytest.raises(MissingKey):
        client.chat("Hello?", deadline=10)


def test_a_source_that_makes_up_keys_comes_to_an_end(together):
    """New keys without end are tried sixteen times, and then the refusal is told."""
    together.faults.always(Failure.invalid_key())
    made = iter(range(10**9))
    with over(together, api_key=lambda: f"made-up-{next(made)}") as client:
        with pytest.raises(AuthError):
            client.chat("Hello?")
        assert len(together.requests) <= 16


@pytest.mark.parametrize("body", [200, 401])
def test_a_server_that_repeats_the_key_does_not_show_it(together, body):
    """A key in the body of an answer is not in our error, its facts or its text."""
    key = "canary-key-8d1f-long"
    failure = Failure(body, {"error": {"message": f"Invalid key {key}", "code": key}})
    together.script.fail(failure.with_headers({"x-request-id": key}))
    with over(together, api_key=key) as client, pytest.raises(AideonError) as raised:
        client.chat("Hello?")
    error = raised.value
    assert "***" in str(error)
    shown = (str(error), error.code, error.request_id, error.route.explain())
    assert key not in " ".join(map(str, shown))


def test_a_redirect_names_where_it_points(together):
    """A moved server is no passing failure, and the error says where it went."""
    together.script.fail(Failure.redirect("https://elsewhere.invalid/v1", status=308))
    with (
        over(together, max_retries=5) as client,
        pytest.raises(ServerError, match="elsewhere.invalid") as raised,
    ):
        client.chat("Hello?")
    assert not raised.value.retryable
    assert len(together.requests) == 1


async def test_a_given_async_client_is_held_to_the_deadline(together):
    """Headers that drip end with the deadline, also through an SDK's client."""
    together.faults.always(Drip(100.0))
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{together.base_url}/v1") as mine:
        client = AsyncClient(local=None, cloud=TogetherBackend(MODEL, client=mine))
        started = time.monotonic()
        with pytest.raises(TimedOut):
            await client.chat("Hello?", deadline=0.5)
        assert time.monotonic() - started < 3.0


def test_a_packed_stream_of_the_sdk_is_accounted_for(together):
    """Usage at the end of a gzip stream is read like that of a plain one."""
    from aideon_core import telemetry

    together.faults.always(Gzip())
    told = []
    end = telemetry.listen(told.append)
    with over(together) as client:
        stream = client.together.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello?"}], stream=True
        )
        assert list(stream)
    end()
    assert [event.facts["usage"].output_tokens > 0 for event in told] == [True]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_children_of_a_fork_do_not_share_connections(together):
    """A client that was used before a fork answers in the child as in the parent."""
    with over(together) as client:
        client.chat("Before.")
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                texts = [client.chat(f"child {n}").text for n in range(5)]
                sound = all(f"child {n}" in text for n, text in enumerate(texts))
                os.write(writer, b"sound" if sound else b"mixed up")
            except BaseException as error:  # noqa: BLE001 - told to the parent
                os.write(writer, repr(error).encode())
            finally:
                os._exit(0)
        ours = [client.chat(f"parent {n}").text for n in range(5)]
        os.waitpid(child, 0)
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            assert told.read() == b"sound"
    assert all(f"parent {n}" in text for n, text in enumerate(ours))


def test_wrong_settings_of_the_environment_are_told(together, monkeypatch, tmp_path):
    """Certificates that are not there, or a proxy that is none, are a ConfigError."""
    from aideon_core.errors import ConfigError

    monkeypatch.setenv("HTTP_PROXY", "htp://nowhere")
    with over(together) as client, pytest.raises(ConfigError, match="HTTP_PROXY"):
        client.chat("Hello?")


@pytest.mark.parametrize(
    "parameters", [{"maximum": float("nan")}, {"enum": {1, 2}}, {"title": "half \ud83d"}]
)
def test_a_tool_that_is_no_json_is_refused_before_it_is_sent(together, parameters):
    """Values that JSON has no form for are a BadRequest that says where to look."""
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    with over(together) as client, pytest.raises(BadRequest, match=r"JSON.*tools"):
        client.chat("Hello?", tools=[tool])
    assert not together.requests
