"""The arithmetic of a budget: pure functions over Decimals, in US dollars."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypedDict

from aideon_core import prices as known_prices
from aideon_core.errors import AideonError, ConfigError

if TYPE_CHECKING:
    from aideon_core.types import ModelFacts, Usage

Prices: TypeAlias = Mapping[str, tuple[str, str]]
"""US dollars for a million tokens read and a million written, by model."""

NOTHING: Final = Decimal(0)
_A_MILLION: Final = 1_000_000
_AMOUNT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:USD)?\s*", re.ASCII)


class BudgetExceeded(AideonError):
    """A call was not made, because it may cost more than the budget has left.

    Attributes:
        limit: what may be spent in all, in US dollars.
        spent: what was spent.
        needed: the most that the call may cost.
    """

    def __init__(
        self,
        message: str = "",
        *,
        hint: str = "",
        limit: Decimal = NOTHING,
        spent: Decimal = NOTHING,
        needed: Decimal = NOTHING,
    ) -> None:
        super().__init__(message, hint=hint)
        self.limit = limit
        self.spent = spent
        self.needed = needed


class Spending(TypedDict, total=False):
    """What a thread has spent, in US dollars, as texts: a checkpoint keeps them exactly.

    ``estimated`` is the part of ``usd`` that is the most a call may have cost, because nobody
    told what it did.
    """

    usd: str
    estimated: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call took, in US dollars; ``estimated`` where that is the most it may have been."""

    usd: Decimal
    estimated: bool = False

    def as_spending(self) -> Spending:
        """It, as a state keeps it."""
        return {"usd": str(self.usd), "estimated": str(self.usd if self.estimated else NOTHING)}


def limit_of(limit: str | Decimal) -> Decimal:
    """An amount such as ``"0.05 USD"``.

    Raises:
        ConfigError: it is no amount of US dollars.
    """
    amount = limit if isinstance(limit, Decimal) else _read(limit)
    if amount is None or not amount.is_finite() or amount < 0:
        raise ConfigError(
            f"limit is {limit!r}.", hint='Give US dollars as a text, such as "0.05 USD".'
        )
    return amount


def plus(left: Spending | None, right: Spending | None) -> Spending:
    """Both together."""
    left, right = left or {}, right or {}
    return {
        "usd": str(_amount(left, "usd") + _amount(right, "usd")),
        "estimated": str(_amount(left, "estimated") + _amount(right, "estimated")),
    }


def minus(left: Spending, right: Spending) -> Spending:
    """What is left of one without the other; 0 where that is less."""
    return {
        "usd": str(max(_amount(left, "usd") - _amount(right, "usd"), NOTHING)),
        "estimated": str(max(_amount(left, "estimated") - _amount(right, "estimated"), NOTHING)),
    }


def spent(spending: Spending | None) -> Decimal:
    """The sum."""
    return _amount(spending or {}, "usd")


def price(provider: str | None, model: str, usage: Usage, own: Prices) -> Decimal | None:
    """What ``usage`` of a model costs; None when nobody knows.

    Args:
        provider: its id in the price data; None for one that is not in it.
        model: the model's id.
        usage: the tokens read and written.
        own: prices that come before those of the price data.
    """
    if (mine := own.get(model)) is not None:
        read, written = (Decimal(rate) for rate in mine)
        return (usage.input_tokens * read + usage.output_tokens * written) / _A_MILLION
    return None if provider is None else known_prices.cost(provider, model, usage)


def most_tokens(facts: ModelFacts, prompt: int, max_tokens: int | None) -> int | None:
    """The longest answer there can be; None when nothing bounds it."""
    bounds = [max_tokens, facts.output_tokens]
    if facts.context_tokens is not None:
        bounds.append(max(facts.context_tokens - prompt, 0))
    return min((bound for bound in bounds if bound is not None), default=None)


def checked_prices(prices: Prices | None) -> Prices:
    """Prices of the user's own.

    Raises:
        ConfigError: one is no pair of amounts.
    """
    for model, pair in (prices or {}).items():
        rates = [_read(rate) for rate in pair]
        if len(rates) != len(("read", "written")) or None in rates:
            raise ConfigError(
                f"The price of {model!r} is {pair!r}.",
                hint='Give US dollars for a million tokens read and written: ("0.10", "0.40").',
            )
    return dict(prices or {})


def shown(amount: Decimal) -> str:
    """The amount as people write it, rounded to a millionth."""
    text = f"{amount.quantize(Decimal('0.000001')):f}"
    return f"{text.rstrip('0').rstrip('.')} USD"


def _amount(spending: Spending, part: Literal["usd", "estimated"]) -> Decimal:
    return Decimal(spending.get(part, "0"))


def _read(text: object) -> Decimal | None:
    found = _AMOUNT.fullmatch(text) if isinstance(text, str) else None
    try:
        return None if found is None else Decimal(found[1])
    except InvalidOperation:
        return None
