"""One token after another: seeds, constraints, logprobs, and logits that are none."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_core.backends.llama_cpp.sampling import Pick, Sampler
from aideon_core.errors import ServerError
from aideon_core.types import Request

EIGHTHS = np.log([4, 2, 1, 1]).astype(np.float32)
"""Logits of four tokens with the chances 1/2, 1/4, 1/8 and 1/8."""


class Only:
    """A constraint that allows some tokens and counts how often it is asked for all."""

    def __init__(self, n_vocab, *tokens):
        self.masked = 0
        self._mask = np.zeros(n_vocab, np.bool_)
        self._mask[list(tokens)] = True

    def allows(self, token):
        return bool(self._mask[token])

    def mask(self):
        self.masked += 1
        return self._mask


def answer(sampler, n=40, size=500):
    """The first tokens over logits that are the same in every test."""
    rng = np.random.default_rng(1)
    tokens = []
    for _ in range(n):
        tokens.append(sampler.pick(rng.standard_normal(size).astype(np.float32)).token)
        sampler.accept(tokens[-1])
    return tokens


def shares(sampler, constraint, steps):
    """How often each token comes when both draws take every one of some evenly spaced values."""
    counts = np.zeros(4, int)
    even = [(i + 0.5) / steps for i in range(steps)]
    for draws in product(even, even):
        sampler._draws = draws
        counts[sampler.pick(EIGHTHS, constraint).token] += 1
    return counts.tolist()


@settings(deadline=None)
@given(st.integers(-(2**63), 2**64))
def test_a_seed_says_what_the_answer_is(seed):
    """The same seed over the same logits gives the same tokens."""
    request = Request((), seed=seed, top_p=1.0)
    assert answer(Sampler(request, 500), 5) == answer(Sampler(request, 500), 5)


def test_seeds_differ_and_none_is_random():
    """Another seed is another answer, and so is every answer without one."""
    free = Request((), top_p=1.0)
    seeded = Request((), top_p=1.0, seed=7)
    answers = [
        answer(Sampler(free, 500)),
        answer(Sampler(free, 500)),
        answer(Sampler(seeded, 500)),
        answer(Sampler(seeded, 500, seed=8)),
    ]
    assert len({tuple(each) for each in answers}) == 4
    assert answer(Sampler(free, 500, seed=7)) == answers[2]


def test_a_pick_that_is_not_accepted_changes_nothing():
    """Looking at a place twice says the same twice."""
    logits = np.zeros(1000, np.float32)
    sampler = Sampler(Request((), top_p=1.0, seed=3), 1000)
    first = sampler.pick(logits)
    assert all(sampler.pick(logits) == first for _ in range(5))
    sampler.accept(first.token)
    assert sampler.pick(logits) != first


def test_the_tokens_a_grammar_dictates_shift_no_other():
    """A place of the answer has its random number, whoever chose the tokens before it."""
    logits = np.zeros(1000, np.float32)
    request = Request((), top_p=1.0, seed=3)
    free, led = Sampler(request, 1000), Sampler(request, 1000)
    for _ in range(3):
        free.accept(free.pick(logits).token)
    led.accept(5)
    led.accept(led.pick(logits, Only(1000, 8)).token)
    led.accept(6)
    assert led.pick(logits) == free.pick(logits)


def test_without_a_cut_a_constraint_gives_the_masked_distribution():
    """Trying a free draw first leaves each allowed token exactly its renormalised share."""
    sampler = Sampler(Request((), temperature=1.0, top_p=1.0), 4)
    assert shares(sampler, Only(4, 1, 2, 3), 16) == [0, 128, 64, 64]
    assert shares(sampler, Only(4, 0, 3), 80) == [0.8 * 6400, 0, 0, 0.2 * 6400]


def test_with_a_cut_a_constraint_gives_the_documented_mixture():
    """The cut of all tokens where it is allowed, else the cut of the allowed ones."""
    sampler = Sampler(Request((), temperature=1.0, top_k=2), 4)
    # A third of the free draws is token 1; of the others two thirds are token 1, a third token 2.
    assert shares(sampler, Only(4, 1, 2, 3), 9) == [0, 63, 18, 0]


@settings(deadline=None)
@given(
    st.lists(st.integers(-8, 8), min_size=1, max_size=40),
    st.data(),
    st.sampled_from(({"temperature": 0.0}, {}, {"top_p": 0.5}, {"min_p": 0.2}, {"top_k": 0})),
)
def test_a_constraint_is_kept(logits, data, params):
    """Only allowed tokens come, and greedily the best of them."""
    values = np.array(logits, np.float32)
    allowed = data.draw(st.sets(st.integers(0, values.size - 1), min_size=1))
    sampler = Sampler(Request((), seed=data.draw(st.integers(0, 99)), **params), values.size)
    token = sampler.pick(values, Only(values.size, *allowed)).token
    assert token in allowed
    if params == {"temperature": 0.0}:
        assert token == min(allowed, key=lambda each: (-logits[each], each))


def test_a_mask_is_made_only_when_the_free_choice_is_refused():
    """Computing one is the slow part of a constraint."""
    logits = np.array([3, 2, 1], np.float32)
    sampler = Sampler(Request((), temperature=0.0), 3)
    fine, other = Only(3, 0, 1), Only(3, 2)
    assert sampler.pick(logits, fine).token == 0
    assert sampler.pick(logits, other).token == 2
    assert (fine.masked, other.masked) == (0, 1)


def test_a_constraint_without_a_way_on_is_an_error():
    """Any token would break the promised form."""
    with pytest.raises(ServerError, match="allows no token"):
        Sampler(Request(()), 4).pick(EIGHTHS, Only(4))


@settings(deadline=None)
@given(
    st.lists(st.floats(-40, 40, width=32), min_size=1, max_size=60),
    st.sampled_from((None, 0, 1, 5, 20)),
)
def test_logprobs_are_those_of_the_untouched_model(logits, n_top):
    """Settings change what is picked, not how likely the model found it."""
    values = np.array(logits, np.float32)
    exact = values.astype(np.float64)
    exact -= exact.max() + math.log(np.exp(exact - exact.max()).sum())
    request = Request(
        (),
        temperature=0.1,
        presence_penalty=2.0,
        logit_bias={0: 50.0},
        logprobs=True,
        top_logprobs=n_top,
    )
    sampler = Sampler(request, values.size)
    sampler.accept(0)
    found = [sampler.forced(values, token) for token in range(values.size)]
    assert all(pick.token == token for token, pick in enumerate(found))
    np.testing.assert_allclose([pick.logprob for pick in found], exact, atol=2e-5)
    assert math.isclose(sum(math.exp(pick.logprob) for pick in found), 1, abs_tol=1e-5)
    best = sorted(range(values.size), key=lambda each: (-values[each], each))[: n_top or 0]
    top = tuple((each, found[each].logprob) for each in best)
    assert all(pick.top == top for pick in found)
    picked = sampler.pick(values)
    assert picked == found[picked.token]


def test_logprobs_come_only_where_they_are_asked_for():
    """They cost more than a greedy choice does."""
    sampler = Sampler(Request((), temperature=0.0, top_logprobs=3), 4)
    assert sampler.pick(EIGHTHS) == Pick(0, None)
    assert sampler.forced(EIGHTHS, 2) == Pick(2, None)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("params", [{"temperature": 0.0}, {}, {"top_p": 0.9}, {"min_p": 0.1}])
def test_logits_that_are_no_numbers_are_an_error(broken, params):
    """A damaged model is said to be one, instead of answering with token 0."""
    logits = np.zeros(700, np.float32)
    logits[:] = -math.inf if broken == -math.inf else 0
    logits[600] = broken
    with pytest.raises(ServerError, match="no usable logits"):
        Sampler(Request((), **params), 700).pick(logits)
    with pytest.raises(ServerError, match="no usable logits"):
        Sampler(Request((), logprobs=True, **params), 700).forced(logits, 1)
