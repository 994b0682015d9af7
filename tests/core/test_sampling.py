"""What the next token is drawn from: settings, cuts and penalties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_core.backends.llama_cpp.sampling import Sampler, Settings, distribution
from aideon_core.errors import BadRequest
from aideon_core.types import Request

LAST = 1 - 2**-53
"""The greatest number a draw can be."""

SIZES = (1, 2, 7, 41, 129, 600, 1031, 5003, 20011)


@st.composite
def some_logits(draw, sizes=SIZES):
    """Peaked or flat, smooth or full of ties, some tokens impossible."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.sampled_from(sizes))
    logits = rng.standard_normal(n) * draw(st.sampled_from((0.0, 0.01, 1.0, 4.0)))
    logits += draw(st.sampled_from((-300.0, 0.0, 20.0)))
    if draw(st.booleans()):
        logits = np.round(logits * 4) / 4
    if draw(st.booleans()):
        logits[rng.integers(0, n, n // 2)] = -np.inf
        logits[rng.integers(0, n)] = 25.0
    return logits.astype(np.float32)


SETTINGS = st.builds(
    Settings,
    st.sampled_from((1e-3, 0.3, 0.7, 1.0, 2.0)),
    st.sampled_from((-1, 0, 1, 3, 40, 500, 10**6)),
    st.sampled_from((0.0, 1e-9, 0.3, 0.9, 0.95, 0.999999, 1.0)),
    st.sampled_from((0.0, 1e-6, 0.05, 0.4, 1.0)),
)


def drawn_from(logits, chosen):
    """Tokens and probabilities, by the module under test."""
    kept, weights = distribution(logits, chosen)
    tokens = np.arange(logits.size) if kept is None else kept
    assert tokens.shape == weights.shape
    return tokens, weights / weights.sum(dtype=np.float64)


def by_likelihood(logits):
    """Every token, the likeliest first, of equals the lower id."""
    return np.lexsort((np.arange(logits.size), -logits.astype(np.float64)))


def reference(logits, chosen):
    """The order of the tokens, and their probabilities before top_p, in float64."""
    order = by_likelihood(logits)
    scaled = logits[order].astype(np.float64) / chosen.temperature
    scaled -= scaled[0]
    if chosen.min_p:
        scaled = scaled[scaled >= math.log(chosen.min_p)]
    if chosen.top_k > 0:
        scaled = scaled[: chosen.top_k]
    weights = np.exp(scaled)
    return order[: weights.size], weights / weights.sum()


def nucleus(probabilities, top_p):
    return int(np.searchsorted(probabilities.cumsum(), top_p)) + 1


@settings(max_examples=300, deadline=None)
@given(some_logits(), SETTINGS)
def test_the_distribution_is_the_one_the_settings_define(logits, chosen):
    """The likeliest tokens that min_p, top_k and top_p leave, each with its renormalised share."""
    tokens, found = drawn_from(logits, chosen)
    order, expected = reference(logits, chosen)
    size = tokens.size
    if chosen.top_p >= 1:
        assert size == order.size
    else:
        # Sums of float32 differ in the sixth digit: a token on the edge may fall either way.
        slack = 1e-5
        assert nucleus(expected, chosen.top_p - slack) <= size
        assert size <= min(order.size, nucleus(expected, chosen.top_p + slack))
    assert set(tokens.tolist()) == set(order[:size].tolist())
    shares = dict(zip(tokens.tolist(), found.tolist(), strict=True))
    expected = expected[:size] / expected[:size].sum()
    np.testing.assert_allclose([shares[t] for t in order[:size]], expected, rtol=3e-5, atol=1e-7)


@settings(deadline=None)
@given(some_logits())
def test_the_strictest_cuts_are_greedy(logits):
    """Temperature 0, top_k=1 and top_p=0 all take the likeliest token, of equals the lowest id."""
    best = int(by_likelihood(logits)[0])
    for params in ({"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.0}):
        sampler = Sampler(Request((), **params), logits.size)
        for draws in ((0.0, 0.0), (0.5, 0.5), (LAST, LAST)):
            sampler._draws = draws
            assert sampler.pick(logits).token == best


def test_min_p_1_keeps_what_is_as_likely_as_the_likeliest():
    """min_p compares with the likeliest token, and equals are as likely."""
    logits = np.array([1, 3, 2, 3], np.float32)
    tokens, found = drawn_from(logits, Settings(0.5, min_p=1.0))
    assert tokens.tolist() == [1, 3]
    assert found.tolist() == [0.5, 0.5]


def test_top_p_keeps_no_token_beyond_the_share_it_names():
    """The fewest of the likeliest that hold the share: where half holds it, half is left."""
    logits = np.log(np.array([1, 2, 1, 4], np.float32))
    assert sorted(drawn_from(logits, Settings(1.0, top_p=0.5))[0].tolist()) == [3]
    assert sorted(drawn_from(logits, Settings(1.0, top_p=0.51))[0].tolist()) == [1, 3]
    assert sorted(drawn_from(np.zeros(4096, np.float32), Settings(1.0, top_p=0.5))[0]) == [
        *range(2048)
    ]


@settings(deadline=None)
@given(some_logits(), st.sampled_from((-1, 0, 10**6)))
def test_cuts_that_are_off_cut_nothing(logits, top_k):
    """top_k of 0, -1 or beyond the vocabulary, top_p=1 and min_p=0 leave every token."""
    assert drawn_from(logits, Settings(1.0, top_k, 1.0, 0.0))[0].size == logits.size


@settings(max_examples=40, deadline=None)
@given(some_logits((2, 7, 600, 1031)), SETTINGS)
def test_a_token_is_drawn_as_often_as_it_is_likely(logits, chosen):
    """Of evenly spaced draws each token gets its share, give or take one."""
    n = 200
    sampler = Sampler(Request(()), logits.size)
    sampler._settings = chosen
    counts = dict.fromkeys(range(logits.size), 0)
    for i in range(n):
        sampler._draws = ((i + 0.5) / n, 0.0)
        counts[sampler.pick(logits).token] += 1
    tokens, found = drawn_from(logits, chosen)
    shares = dict(zip(tokens.tolist(), found.tolist(), strict=True))
    assert all(abs(count - n * shares.get(t, 0)) < 1.01 for t, count in counts.items())


@settings(deadline=None)
@given(some_logits(), st.sampled_from((0.0, 5e-324, 0.5, LAST)), SETTINGS)
def test_the_impossible_is_never_drawn(logits, draw, chosen):
    """Not even by the smallest and the greatest draw."""
    sampler = Sampler(Request(()), logits.size)
    sampler._settings, sampler._draws = chosen, (draw, draw)
    token = sampler.pick(logits).token
    tokens, found = drawn_from(logits, chosen)
    assert found[tokens == token] > 0


def test_a_request_that_says_nothing_is_cut_by_our_defaults():
    """Small models need a cut tail; who names a cut gets that one and no other."""
    assert Settings.of(Request(())) == Settings(0.7, 40, 0.95, 0.0)
    assert Settings.of(Request((), temperature=1.5)) == Settings(1.5, 40, 0.95, 0.0)
    assert Settings.of(Request((), top_p=1.0)) == Settings(0.7, 0, 1.0, 0.0)
    assert Settings.of(Request((), top_k=100)) == Settings(0.7, 100, 1.0, 0.0)
    assert Settings.of(Request((), top_k=0)) == Settings(0.7, 0, 1.0, 0.0)
    assert Settings.of(Request((), min_p=0.1)) == Settings(0.7, 0, 1.0, 0.1)


SMALL = 12
TOKENS = st.lists(st.integers(0, SMALL - 1), max_size=30)
PENALTY = st.sampled_from((None, -2.0, -0.5, 0.0, 0.3, 2.0))


@settings(deadline=None)
@given(
    st.lists(st.floats(-30, 30, width=32), min_size=SMALL, max_size=SMALL),
    st.dictionaries(st.integers(0, SMALL - 1), st.floats(-100, 100, width=32)),
    st.sampled_from((None, 0.5, 1.0, 1.3, 2.0)),
    PENALTY,
    PENALTY,
    TOKENS,
    TOKENS,
)
def test_penalties_are_the_published_formulas(
    logits, bias, repetition, presence, frequency, prompt, answer
):
    """Bias, then repetition over prompt and answer, then presence and frequency over the answer."""
    request = Request(
        (),
        logit_bias=bias,
        repetition_penalty=repetition,
        presence_penalty=presence,
        frequency_penalty=frequency,
    )
    sampler = Sampler(request, SMALL, prompt=prompt)
    for token in answer:
        sampler.accept(token)
    expected = []
    for token, logit in enumerate(logits):
        value = logit + bias.get(token, 0.0)
        if token in prompt or token in answer:
            value = value / (repetition or 1.0) if value > 0 else value * (repetition or 1.0)
        count = answer.count(token)
        value -= (presence or 0.0) * (count > 0) + (frequency or 0.0) * count
        expected.append(value)
    found = sampler._edits.applied(np.array(logits, np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@settings(deadline=None)
@given(some_logits((7, 600)))
def test_the_models_logits_are_never_written_to(logits):
    """They are llama.cpp's own memory, where the next request may look."""
    logits.flags.writeable = False
    request = Request(
        (), logit_bias={0: 5.0}, presence_penalty=1.0, repetition_penalty=1.1, logprobs=True
    )
    sampler = Sampler(request, logits.size, prompt=(1, 2))
    sampler.accept(sampler.pick(logits).token)
    sampler.accept(sampler.pick(logits).token)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_bias_of_100_bans_or_forces(temperature):
    """As OpenAI documents it for -100 and 100."""
    logits = np.array([10, 9, -10, 0], np.float32)
    cases = (({0: -100.0}, {1, 3}), ({2: 100.0}, {2}), ({0: -100, 1: -100, 2: -100}, {3}))
    for bias, possible in cases:
        sampler = Sampler(Request((), temperature=temperature, logit_bias=bias, top_k=0), 4)
        for draw in (0.0, 0.9, LAST):
            sampler._draws = (draw, draw)
            assert sampler.pick(logits).token in possible


@pytest.mark.parametrize("token", [-1, 4, 50256])
def test_a_bias_on_a_token_that_is_none_is_refused(token):
    """Ids of another model would bias the wrong words; the error names the id."""
    with pytest.raises(BadRequest, match=rf"token {token}, and the model's are 0 to 3") as caught:
        Sampler(Request((), logit_bias={1: 1.0, token: 1.0}), 4)
    assert caught.value.param == "logit_bias"
