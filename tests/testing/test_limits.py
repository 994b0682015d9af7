"""Rate limits that limit, and keys that come and go."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_testing import (
    Failure,
    LoopbackTogether,
    ManualClock,
    RateLimits,
    Recordings,
    Reply,
    faults,
)
from aideon_testing.connection import HttpRequest, HttpResponse
from aideon_testing.limits import Limiter
from aideon_testing.wire import Stamp

if TYPE_CHECKING:
    from pathlib import Path

CHAT = "/v1/chat/completions"


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def ask(client, chat_body):
    """Sends a chat request with a key; gives the response."""

    def send(key: str = "k", **change: object) -> httpx2.Response:
        headers = {"authorization": f"Bearer {key}"}
        return client.post(CHAT, json=chat_body | change, headers=headers)

    return send


def told(response, *names):
    return [response.headers[f"x-ratelimit{name}"] for name in names]


def test_a_burst_is_let_through_and_the_next_is_refused(together, ask, clock):
    """Two seconds' worth of requests may come at once; what is left counts down truly."""
    together.limits = RateLimits(requests_per_second=2, clock=clock)
    answers = [ask() for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429]
    remaining = [told(answer, "-remaining")[0] for answer in answers]
    assert remaining == ["3", "2", "1", "0", "0"]
    assert [told(answer, "")[0] for answer in answers] == ["false"] * 4 + ["true"]
    assert {told(answer, "-limit")[0] for answer in answers} == {"2"}


def test_a_refusal_is_the_recorded_one_with_the_limits_of_the_key(together, ask, clock):
    """The body names the limits that were hit, the headers when to come again."""
    together.limits = RateLimits(0.25, 50, clock=clock)
    ask()
    refused = ask()
    assert refused.json()["error"] == {
        "message": (
            "Request was rejected due to request rate limiting. Your rate limits are 15 RPM "
            "(0.25 QPS) and 3000 TPM (50 TPS). "
            "See details: https://docs.together.ai/docs/rate-limits"
        ),
        "type": "rate_limit",
        "param": None,
        "code": None,
    }
    assert told(refused, "", "-limit", "-remaining", "-reset") == ["true", "0.25", "0", "4"]
    assert refused.headers["retry-after"] == "4"


def test_waiting_as_long_as_told_is_enough(together, ask, clock):
    """After retry-after seconds the next request is let through, and not a second before."""
    together.limits = RateLimits(requests_per_second=1 / 6, clock=clock)
    assert ask().status_code == 200
    wait = int(ask().headers["retry-after"])
    clock.advance(wait - 0.001)
    assert ask().status_code == 429
    clock.advance(0.001)
    assert ask().status_code == 200


def test_tokens_are_counted_when_they_are_known(together, ask, clock):
    """An answer may go over the limit of tokens; then the bucket has to fill up again."""
    together.limits = RateLimits(tokens_per_second=10, clock=clock)
    together.script.reply(Reply(" ".join(["word"] * 22)))
    first = ask()
    used = first.json()["usage"]["total_tokens"]
    assert used == 25
    assert told(first, "-limit-tokens", "-remaining-tokens") == ["10", "10"]
    refused = ask()
    assert refused.status_code == 429
    assert told(refused, "-remaining-tokens") == ["0"]
    assert refused.headers["retry-after"] == "2"  # 15 over and one to spend, at 10 a second
    clock.advance(2)
    assert told(ask(), "-remaining-tokens") == ["5"]


def test_a_stream_is_counted_like_a_whole_answer(together, ask, clock):
    """The usage frame of a stream takes as many tokens as the usage of an answer."""
    together.limits = RateLimits(tokens_per_second=100, clock=clock)
    left = []
    for stream in (False, True):
        together.script.say("one two three")
        ask("a" if stream else "b", stream=stream)
        left += told(ask("a" if stream else "b"), "-remaining-tokens")
    assert left[0] == left[1]
    assert int(left[0]) < 100


def test_a_stream_that_was_left_is_counted_by_its_frames(together, client, chat_body, clock):
    """Leaving a stream early is no way around the limits."""
    together.limits = RateLimits(tokens_per_second=50, clock=clock)
    together.script.reply(Reply(" ".join(["word"] * 40)))
    together.faults.next(faults.Stall(at=6000))
    with client.stream("POST", CHAT, json=chat_body | {"stream": True}) as response:
        next(response.iter_lines())
    left = 50
    for _ in range(200):
        left = int(told(client.post(CHAT, json=chat_body), "-remaining-tokens")[0])
        if left < 40:
            break
        clock.advance(1)
    assert left < 40


def test_text_that_looks_like_usage_is_not_counted(together, ask, clock):
    """What a model says about tokens is text."""
    together.limits = RateLimits(tokens_per_second=1000, clock=clock)
    together.script.say('"total_tokens": 900000')
    ask()
    assert ask().status_code == 200


def test_every_key_has_limits_of_its_own(together, ask, clock):
    """One busy key does not hold up another."""
    together.limits = RateLimits(requests_per_second=1, burst=1, clock=clock)
    assert [ask("a").status_code, ask("a").status_code, ask("b").status_code] == [200, 429, 200]


def test_limits_are_seen_on_errors_and_not_on_refused_keys(together, ask, clock):
    """A 400 tells what is left; a 401 and a 404 come before the limits, as in the API."""
    together.keys.revoke("bad")
    together.limits = RateLimits(requests_per_second=5, clock=clock)
    assert told(ask(messages=[]), "-remaining") == ["9"]
    assert "x-ratelimit-remaining" not in ask("bad").headers
    assert "x-ratelimit-remaining" not in ask(model="a/b").headers


def test_setting_limits_starts_anew_and_unlimited_says_what_the_wire_does(together, ask, clock):
    """New limits forget what was used; without any the headers are the recorded ones."""
    usual = told(ask(), "-limit", "-remaining")
    together.limits = RateLimits(requests_per_second=1, burst=1, clock=clock)
    assert [ask().status_code, ask().status_code] == [200, 429]
    together.limits = RateLimits(requests_per_second=1, burst=1, clock=clock)
    assert ask().status_code == 200
    together.limits = RateLimits()
    assert [told(ask(), "-limit", "-remaining") for _ in range(5)] == [usual] * 5


def test_what_the_api_does_not_limit_is_not_limited(together, client, ask, clock):
    """Uploads, pictures, the list of models and what is not there cost and need no request."""
    together.limits = RateLimits(requests_per_second=0.1, clock=clock)
    fields = {"file_name": "a.jsonl", "purpose": "eval", "file_type": "jsonl"}
    form = {name: (None, value) for name, value in fields.items()}
    presigned = client.post("/v1/files", files=form).headers["location"]
    picture = {"model": "black-forest-labs/FLUX.1-schnell", "prompt": "A fox."}
    other = {"authorization": "Bearer other"}
    drawn = client.post("/v1/images/generations", json=picture, headers=other)
    shown = drawn.json()["data"][0]["url"]
    assert ask("any").status_code == 429
    for _ in range(3):
        assert httpx2.put(presigned, content=b"{}").status_code == 200
        assert httpx2.get(shown).status_code == 200
        assert client.get("/v1/models").status_code == 200
        assert client.post("/nowhere").status_code == 404
    assert ask("fresh").status_code == 200


@pytest.mark.parametrize("model", ["openai/gpt-oss-120b", "meta-llama/Llama-Vision-Free"])
@pytest.mark.parametrize(
    ("limits", "unset"),
    [
        ({"tokens_per_second": 2}, ("-limit", "-remaining")),
        ({"requests_per_second": 0.25}, ("-limit-tokens", "-remaining-tokens")),
    ],
)
def test_a_refusal_contradicts_no_answer_before_it(chat_body, clock, model, limits, unset):
    """What is not limited is told by a 429 as by the answers before it."""
    limited = RateLimits(**limits, clock=clock)
    with LoopbackTogether(models=[model], limits=limited) as together:
        url, headers = together.base_url + CHAT, {"authorization": "Bearer k"}
        answers = [
            httpx2.post(url, json=chat_body | {"model": model}, headers=headers) for _ in range(2)
        ]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert told(answers[0], *unset) == told(answers[1], *unset)
    assert told(answers[0], "-limit", "-limit-tokens") == told(
        answers[1], "-limit", "-limit-tokens"
    )
    message = answers[1].json()["error"]["message"]
    assert f"({float(told(answers[0], '-limit-tokens')[0]):.10g} TPS)" in message


def test_real_time_works_too(chat_body):
    """Without a clock of the test's the limits go by the machine's."""
    with LoopbackTogether(limits=RateLimits(requests_per_second=20, burst=0.05)) as together:
        headers = {"authorization": "Bearer k"}
        with (
            httpx2.Client(base_url=together.base_url, headers=headers) as client,
            ThreadPoolExecutor(8) as pool,
        ):
            posted = pool.map(lambda _: client.post(CHAT, json=chat_body), range(40))
            good = [response.status_code for response in posted].count(200)
    assert 1 <= good < 40


@pytest.mark.parametrize("wrong", [0, -1, float("nan")])
def test_limits_that_let_nothing_through_are_refused(wrong):
    """A limit of zero is a mistake that shows where it is made."""
    with pytest.raises(ValueError, match="requests_per_second must be above 0"):
        RateLimits(requests_per_second=wrong)


@settings(deadline=None)
@given(
    rate=st.floats(0.01, 50),
    burst=st.floats(0.1, 5),
    pauses=st.lists(st.floats(0, 30), max_size=40),
)
async def test_no_more_gets_through_than_the_rate_allows(rate, burst, pauses):
    """However requests are spaced, no span of time sees more than its burst and its rate."""
    clock = ManualClock()
    limiter = Limiter(RateLimits(requests_per_second=rate, burst=burst, clock=clock))
    times = []
    now = 0.0
    for pause in pauses:
        now += pause
        clock.advance(pause)
        wait = await asked(limiter)
        if wait is None:
            times.append(now)
        else:
            assert 0 < wait <= 1 / rate + 1
    for first, start in enumerate(times):
        for last, end in enumerate(times[first:], first):
            assert last - first + 1 <= max(rate * burst, 1) + (end - start) * rate + 1e-6


@settings(deadline=None)
@given(rate=st.floats(0.01, 50), steps=st.lists(st.floats(0, 5), max_size=20))
async def test_obeying_retry_after_always_works(rate, steps):
    """Whoever waits as told is let through, whatever was asked before."""
    clock = ManualClock()
    limiter = Limiter(RateLimits(requests_per_second=rate, clock=clock))
    for step in steps:
        clock.advance(step)
        if (wait := await asked(limiter)) is not None:
            clock.advance(wait)
            assert await asked(limiter) is None


async def asked(limiter: Limiter) -> float | None:
    """How long a request has to wait, ``None`` when it is let through."""

    async def proceed(*_: object) -> HttpResponse:
        async def body():
            yield b"{}"

        return HttpResponse(200, {}, body())

    request = HttpRequest("POST", CHAT, "", {"authorization": "Bearer k"}, b"{}")
    try:
        await limiter.intercept(request, Stamp("id", 0.0), proceed)
    except Failure as failure:
        assert failure.status == 429
        return float(failure.headers["retry-after"])
    return None


# Keys


def test_a_server_may_take_several_keys(chat_body):
    """api_key may be a list; any of them is good, and the first is the server's api_key."""
    with LoopbackTogether(api_key=["a", "b"]) as together:
        assert together.api_key == "a"
        url = f"{together.base_url}/v1/files"
        statuses = [
            httpx2.get(url, headers={"authorization": f"Bearer {key}"}).status_code
            for key in ("a", "b", "c")
        ]
    assert statuses == [200, 200, 401]


def test_a_key_can_be_revoked_while_clients_use_it(together, ask):
    """The next request with a revoked key is a 401; adding the key makes it good again."""
    assert ask("a").status_code == 200
    together.keys.revoke("a")
    refused = ask("a")
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "invalid_api_key"
    assert ask("b").status_code == 200
    together.keys.add("a")
    assert ask("a").status_code == 200


def test_a_key_can_be_added_while_the_server_runs(chat_body):
    """Rotating keys: the new one is added, then the old one revoked."""
    with LoopbackTogether(api_key="old") as together:
        headers = {key: {"authorization": f"Bearer {key}"} for key in ("old", "new")}

        def status(key):
            url = together.base_url + CHAT
            return httpx2.post(url, json=chat_body, headers=headers[key]).status_code

        assert (status("old"), status("new")) == (200, 401)
        together.keys.add("new")
        together.keys.revoke("old")
        assert (status("old"), status("new")) == (401, 200)


def test_a_key_can_run_out_of_credit(together, ask):
    """A key without credit gets 402, the others do not, and credit comes back."""
    together.keys.exhaust("a")
    assert (ask("a").status_code, ask("b").status_code) == (402, 200)
    assert ask("a").json()["error"]["type"] == "credit_limit"
    together.keys.refill("a")
    assert ask("a").status_code == 200


# Recordings


@pytest.fixture
def cassette(tmp_path: Path) -> Recordings:
    """One recorded list of files, as a recorder writes it."""
    content = json.dumps([{"id": "recorded"}])
    recorded = {
        "interactions": [
            {
                "request": {
                    "method": "GET",
                    "uri": "https://api.together.xyz/v1/files",
                    "headers": {},
                    "body": None,
                },
                "response": {
                    "status": {"code": 200, "message": "OK"},
                    "headers": {
                        "content-type": ["application/json"],
                        "set-cookie": ["a=1", "b=2"],
                    },
                    "body": {"string": content},
                },
            }
        ],
        "version": 1,
    }
    (tmp_path / "files.yaml").write_text(json.dumps(recorded))
    return Recordings.load(tmp_path)


def test_recordings_answer_below_faults_keys_and_limits(cassette, clock):
    """A replayed server can be broken, limited and lose its keys like any other."""
    limits = RateLimits(requests_per_second=1, burst=2, clock=clock)
    with LoopbackTogether(cassette, limits=limits) as together:
        url = f"{together.base_url}/v1/files"
        answer = httpx2.get(url)
        assert answer.json() == [{"id": "recorded"}]
        assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
        together.faults.next(Failure.server_error())
        assert httpx2.get(url).status_code == 500
        assert [httpx2.get(url).status_code for _ in range(2)] == [200, 429]
        together.keys.revoke("gone")
        assert httpx2.get(url, headers={"authorization": "Bearer gone"}).status_code == 401


def test_recordings_ask_for_a_key_when_one_is_named(cassette):
    """api_key holds for replayed answers too."""
    with LoopbackTogether(cassette, api_key="right") as together:
        url = f"{together.base_url}/v1/files"
        assert httpx2.get(url).status_code == 401
        assert httpx2.get(url, headers={"authorization": "Bearer right"}).status_code == 200
