"""What a provider bills, from the genai-prices data; unknown is None, never 0."""

from __future__ import annotations

import difflib
import sys
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aideon_core.types import Usage

_PLAIN: Final = frozenset({"input_mtok", "cache_read_mtok", "output_mtok"})
_A_MILLION: Final = 1_000_000
_FREE: Final = Decimal(0)


def cost(provider: str, model: str, usage: Usage | None) -> Decimal | None:
    """US dollars that ``provider`` bills for ``usage`` of ``model``; None when not known."""
    if usage is None:
        return None
    # Imported here because the price data costs a second to load and local answers need none.
    import genai_prices
    from genai_prices import data_snapshot

    try:
        _, row = data_snapshot.get_snapshot().find_provider_model(model, None, provider, None)
        if (total := _plain(row.prices, usage)) is not None:
            return total
        priced = genai_prices.calc_price(
            genai_prices.Usage(
                input_tokens=usage.input_tokens,
                cache_read_tokens=usage.cached_tokens or None,
                output_tokens=usage.output_tokens,
            ),
            model,
            provider_id=provider,
        )
    except (LookupError, ValueError):
        # Unknown model, or counts that make no sense: no price is worth losing an answer.
        return None
    return priced.total_price


def _plain(prices: object, usage: Usage) -> Decimal | None:
    """The total where tokens have one price each, as nearly all have; None for the others.

    The library's own sum takes as long as everything else that is done to an answer.
    """
    rates: dict[str, Decimal] = vars(prices) if hasattr(prices, "__dict__") else {}
    sound = usage.cached_tokens <= usage.input_tokens
    if not (sound and rates and rates.keys() <= _PLAIN):
        return None
    if not all(isinstance(rate, Decimal) for rate in rates.values()):
        return None
    per_input = rates.get("input_mtok", _FREE)
    per_cached = rates.get("cache_read_mtok", per_input)
    return (
        (usage.input_tokens - usage.cached_tokens) * per_input
        + usage.cached_tokens * per_cached
        + usage.output_tokens * rates.get("output_mtok", _FREE)
    ) / _A_MILLION


def loaded() -> bool:
    """Whether the price data is in memory; ``load`` takes about half a second."""
    return "genai_prices" in sys.modules


def load() -> None:
    """Bring the price data into memory, so that the first cost does not wait for it."""
    import genai_prices  # noqa: F401


def nearest(provider: str, model: str) -> list[str]:
    """Up to three of the provider's models whose names are most like ``model``."""
    known = _models(provider)
    by_lower = {name.lower(): name for name in known} | {
        name.rpartition("/")[2].lower(): name for name in known
    }
    wanted = model.lower()
    close = difflib.get_close_matches(wanted, by_lower, n=3, cutoff=0.6)
    close += difflib.get_close_matches(wanted.rpartition("/")[2], by_lower, n=3, cutoff=0.6)
    return list(dict.fromkeys(by_lower[name] for name in close))[:3]


@cache
def _models(provider: str) -> tuple[str, ...]:
    from genai_prices import data_snapshot

    providers = data_snapshot.get_snapshot().providers
    return tuple(model.id for p in providers if p.id == provider for model in p.models)
