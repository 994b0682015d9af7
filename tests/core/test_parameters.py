"""The parameters of open models: checked, sent by each host's names, never dropped in silence."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideon_core import Client, OpenAICompatibleBackend
from aideon_core.backends import wire
from aideon_core.backends.hosts import HOSTS
from aideon_core.errors import BadRequest, Unsupported
from aideon_core.request import build
from aideon_core.routing import Candidate, decide
from aideon_core.types import Completion
from aideon_testing import FakeBackend, LoopbackTogether

MODEL = "openai/gpt-oss-20b"
SAMPLING = {
    "top_k": 40,
    "min_p": 0.05,
    "repetition_penalty": 1.1,
    "logit_bias": {1024: -100.0},
    "n": 2,
}
INSIDE = {
    "top_k": st.integers(-1, 10**6),
    "min_p": st.floats(0, 1),
    "repetition_penalty": st.floats(0.01, 2),
    "n": st.integers(1, 128),
}
OUTSIDE = {
    "top_k": st.integers(max_value=-2) | st.floats() | st.booleans() | st.text(),
    "min_p": st.floats(max_value=-0.001) | st.floats(min_value=1.001) | st.just(math.nan),
    "repetition_penalty": st.floats(max_value=0) | st.floats(min_value=2.001) | st.just(math.nan),
    "n": st.integers(max_value=0) | st.integers(min_value=129) | st.booleans() | st.floats(),
    "logit_bias": st.sampled_from(
        [
            [5],
            "5",
            {5: 101},
            {5: -100.5},
            {5: None},
            {5: "1"},
            {5: True},
            {5: math.nan},
            {-1: 1},
            {True: 1},
            {1.5: 1},
            {"": 1},
            {"five": 1},
            {"²": 1},
            {"9" * 5000: 1},
        ]
    ),
    "prefix": st.sampled_from([5, b"x", ["x"], "half \ud83d"]),
}


class Open:
    """Lets everybody in, as programs on one's own machine do."""

    async def intercept(self, request, stamp, proceed):
        return await proceed(request, stamp)


@pytest.fixture
def server():
    with LoopbackTogether(Open()) as server:
        yield server


@given(data=st.data(), name=st.sampled_from(sorted(INSIDE)))
def test_every_value_in_its_range_is_taken(data, name):
    """A parameter within its range is part of the request as it was given."""
    value = data.draw(INSIDE[name])
    assert getattr(build("Hi", **{name: value}), name) == value


@given(data=st.data(), name=st.sampled_from(sorted(OUTSIDE)))
def test_every_other_value_is_refused_by_name(data, name):
    """A parameter out of its range, or of a wrong kind, is BadRequest that names it."""
    value = data.draw(OUTSIDE[name])
    with pytest.raises(BadRequest, match=name) as raised:
        build("Hi", **{name: value})
    assert raised.value.param == name


@given(st.dictionaries(st.integers(0, 10**9), st.integers(-100, 100), min_size=1))
def test_token_ids_may_be_numbers_or_text(biases):
    """logit_bias means the same with ids as numbers and as JSON's text, and is sent as text."""
    written = {str(token): bias for token, bias in biases.items()}
    assert build("Hi", logit_bias=biases) == build("Hi", logit_bias=written)
    assert (
        wire.chat_body(build("Hi", logit_bias=biases), "m", stream=False)["logit_bias"] == written
    )


def test_what_changes_nothing_is_not_asked_for():
    """An empty prefix, no biases and one answer are what every answer has anyway."""
    plain = wire.chat_body(build("Hi"), "m", stream=False)
    assert wire.chat_body(build("Hi", prefix="", logit_bias={}, n=1), "m", stream=False) == plain


@pytest.mark.parametrize("name", sorted(HOSTS))
@pytest.mark.parametrize("given", sorted(SAMPLING))
def test_no_host_drops_a_parameter_in_silence(server, monkeypatch, name, given):
    """Each host is sent what it follows, and is ruled out by name where it would not."""
    host = HOSTS[name]
    if host.key_variable:
        monkeypatch.setenv(host.key_variable, "k")
    with Client(local=None, cloud=f"{name}:{MODEL}", base_url=server.base_url) as client:
        if given not in host.abilities:
            with pytest.raises(Unsupported, match=MODEL) as raised:
                client.chat("Hi", **{given: SAMPLING[given]})
            assert raised.value.backend == name
            assert not server.requests
            return
        client.chat("Hi", **{given: SAMPLING[given]})
    sent = server.requests[0].body
    llama_cpp = given == "repetition_penalty" and name in ("llama-server", "lm-studio")
    value = {"1024": -100.0} if given == "logit_bias" else SAMPLING[given]
    assert sent["repeat_penalty" if llama_cpp else given] == value


def test_together_follows_all_of_them(server, monkeypatch):
    """Together's own API has every sampling parameter."""
    monkeypatch.setenv("TOGETHER_API_KEY", "k")
    with Client(local=None, cloud=MODEL, base_url=server.base_url) as client:
        client.chat("Hi", **SAMPLING)
    wanted = SAMPLING | {"logit_bias": {"1024": -100.0}}
    assert wanted.items() <= server.requests[0].body.items()


@pytest.mark.parametrize("off", [0, -1])
def test_top_k_is_switched_off_in_the_hosts_own_way(off):
    """Both values that are off are sent as the one the host takes."""
    for name, sent in (("together", -1), ("vllm", -1), ("llama-server", 0), ("openrouter", 0)):
        dialect = HOSTS[name].dialect
        body = wire.chat_body(build("Hi", top_k=off), "m", stream=False, dialect=dialect)
        assert body["top_k"] == sent


def test_only_a_backend_that_can_goes_on_from_a_prefix():
    """A prefix goes to the side that can continue it, and the route tells why to no other."""
    near = FakeBackend("near", side="local", abilities=frozenset({"prefix"}))
    far = FakeBackend("far", side="cloud", answers=[Completion(text="no")])
    with Client(local=near, cloud=far, policy="cloud-first") as client:
        answer = client.chat("Hi", prefix="Well, ")
    assert near.requests[0].prefix == "Well, "
    assert not far.requests
    assert "cannot go on from a given beginning" in answer.route.explain()


@pytest.mark.parametrize("name", sorted(HOSTS))
def test_no_server_is_sent_a_prefix(name):
    """The chat format has no place for a prefix, so no host is eligible, nor asked past routing."""
    candidate = Candidate(name, "cloud", MODEL, HOSTS[name].abilities)
    request = build("Hi", prefix="Well, ")
    decision = decide(request, [candidate], policy="cloud-only", sides=("cloud",))
    assert isinstance(decision.considered[0].ruled_out, Unsupported)
    backend = OpenAICompatibleBackend(MODEL, host=name, api_key="k")
    with pytest.raises(Unsupported, match="given beginning"):
        backend.complete(request)
