"""Prices: exact where known, None where not."""

from __future__ import annotations

from decimal import Decimal

from aideon_core import prices
from aideon_core.types import Usage

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


def test_a_known_price_is_exact_and_grows_with_the_tokens():
    """Cost is a Decimal, linear in the tokens."""
    one = prices.cost("together", MODEL, Usage(1000, 100))
    assert isinstance(one, Decimal)
    assert one > 0
    assert prices.cost("together", MODEL, Usage(2000, 200)) == 2 * one


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
