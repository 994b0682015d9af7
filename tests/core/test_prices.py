"""Prices: exact where known, None where not."""

from __future__ import annotations

from decimal import Decimal

import genai_prices
from genai_prices import data_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_core import prices
from aideon_core.types import Usage

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


def test_a_known_price_is_exact_and_grows_with_the_tokens():
    """Cost is a Decimal, linear in the tokens."""
    one = prices.cost("together", MODEL, Usage(1000, 100))
    assert isinstance(one, Decimal)
    assert one > 0
    assert prices.cost("together", MODEL, Usage(2000, 200)) == 2 * one


MODELS = [
    (provider.id, model.id)
    for provider in data_snapshot.get_snapshot().providers
    for model in provider.models
]


@given(
    st.sampled_from(MODELS),
    st.integers(0, 10**7),
    st.integers(0, 10**7),
    st.integers(0, 10**7),
)
@settings(deadline=None)
def test_a_cost_is_what_the_price_data_says(named, read, written, cached):
    """For any model and any counts, the cost is exactly the price library's own sum."""
    provider, model = named
    counts = {"input_tokens": read, "output_tokens": written, "cache_read_tokens": cached or None}
    try:
        expected = genai_prices.calc_price(
            genai_prices.Usage(**counts), model, provider_id=provider
        ).total_price
    except (LookupError, ValueError):
        expected = None
    assert prices.cost(provider, model, Usage(read, written, cached)) == expected


def test_what_is_not_known_is_none():
    """An unknown model, or unknown usage, costs None: never 0, never a guess."""
    assert prices.cost("together", "nobody/has-this", Usage(1000, 100)) is None
    assert prices.cost("together", MODEL, None) is None


def test_nearest_finds_a_misspelled_model():
    """A wrong letter, a wrong case or a missing organisation still finds the model."""
    for typo in (
        "meta-llama/Llama-3.3-70B-Instruct-Trubo",
        "meta-llama/llama-3.3-70b-instruct-turbo",
        "Llama-3.3-70B-Instruct-Turbo",
    ):
        assert MODEL in prices.nearest("together", typo)
    assert prices.nearest("together", "zzzzzzzz") == []
