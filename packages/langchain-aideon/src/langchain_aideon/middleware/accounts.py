"""What threads spend that their states do not tell yet: calls under way, and steps that failed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from langchain_aideon.middleware import money
from langchain_aideon.middleware.money import NOTHING, Spending, minus, plus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from langchain_aideon.middleware.money import Cost

_MOST_THREADS: Final = 16_384


@dataclass(slots=True)
class _Account:
    """One thread's.

    ``told`` is what its state was last seen to tell, ``unsaved`` what it was never seen to tell,
    and ``reserved`` is for calls under way.
    """

    told: Spending
    unsaved: Spending = field(default_factory=Spending)
    reserved: Decimal = NOTHING

    def seen(self, saved: Spending) -> None:
        """Take what has come into the state off what it lacks."""
        self.unsaved = minus(self.unsaved, minus(saved, self.told))
        self.told = saved


class Accounts:
    """The accounts of many threads, for as long as the process lives.

    What is given to a state may never arrive there: the step fails after all, or is made again.
    So it is remembered until the state tells it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def reserve(
        self, thread: str, saved: Spending | None, most: Decimal, limit: Decimal
    ) -> tuple[bool, Decimal]:
        """Set money aside for a call, if it fits.

        Args:
            thread: who calls.
            saved: what its state tells.
            most: what the call may cost.
            limit: what the thread may spend.

        Returns:
            Whether it fits, and what is spent or set aside without it.
        """
        with self._lock:
            account = self._of(thread, saved)
            spent = money.spent(plus(saved, account.unsaved)) + account.reserved
            fits = spent + most <= limit
            if fits:
                account.reserved += most
            return fits, spent

    def book(
        self, thread: str, saved: Spending | None, most: Decimal, costs: Sequence[Cost]
    ) -> Spending:
        """Put what a call cost in the place of what was set aside for it.

        Returns:
            All that the state is still to be told.
        """
        with self._lock:
            account = self._of(thread, saved)
            account.reserved = max(account.reserved - most, NOTHING)
            for cost in costs:
                account.unsaved = plus(account.unsaved, cost.as_spending())
            return account.unsaved

    def settle(self, thread: str, saved: Spending | None) -> None:
        """Forget the thread, if its state tells everything by now."""
        with self._lock:
            account = self._of(thread, saved)
            if not account.reserved and not money.spent(account.unsaved):
                del self._accounts[thread]

    def _of(self, thread: str, saved: Spending | None) -> _Account:
        account = self._accounts.setdefault(thread, _Account(saved or {}))
        account.seen(saved or {})
        self._accounts.move_to_end(thread)
        while len(self._accounts) > _MOST_THREADS:
            self._accounts.popitem(last=False)
        return account
