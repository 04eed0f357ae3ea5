"""`--max-cost`: what may still be spent. The worst case of everything in flight is reserved beforehand."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

_ROUNDING = 1e-9  # of the whole budget: sums of many small amounts


class Hold:
    """What one request holds of the budget: its attempts so far, and the worst case of the one under way."""

    __slots__ = ("attempt", "past")

    def __init__(self) -> None:
        self.past = 0.0  # charged for attempts that are over
        self.attempt = 0.0  # reserved for the one under way

    @property
    def amount(self) -> float:
        """Both."""
        return self.past + self.attempt


class Budget:
    """What was spent, what is reserved, and what is left.

    A run that is killed leaves no record of what was in flight. So a ceiling over the reservations is made
    durable before they grow beyond it, and the next session counts that ceiling as spent.

    Args:
        most: of all sessions together.
        spent: by earlier sessions.
        save: makes a ceiling durable.
    """

    def __init__(self, most: float, spent: float, save: Callable[[float], Awaitable[None]]) -> None:
        self.most = most
        self.spent = spent
        self.reserved = 0.0
        self.ceiling = 0.0
        self.under_way = 0  # attempts whose cost is not known yet
        self.lowered = False  # reservations, and not spending, kept a request from going
        self._save = save
        self._holds: set[Hold] = set()

    @property
    def left(self) -> float:
        """What is neither spent nor charged. Some of it may be reserved."""
        return self.most - self.spent - math.fsum(hold.past for hold in self._holds)

    @property
    def unsettled(self) -> float:
        """What is held by requests of which no record tells."""
        return math.fsum(hold.amount for hold in self._holds)

    def fits(self, worst: float) -> bool:
        """Whether a request that may cost `worst` can go now."""
        return self.spent + self.reserved + worst <= self.most * (1 + _ROUNDING)

    def is_over(self, worst: float) -> bool:
        """Whether nothing that is under way can make room for it."""
        return self.under_way == 0 or self.spent + worst > self.most * (1 + _ROUNDING)

    def covered(self, worst: float) -> bool:
        """Whether the durable ceiling covers one more such reservation."""
        return self.reserved + worst <= self.ceiling

    async def cover(self, worst: float) -> None:
        """Raise the ceiling over one more such reservation, in few and growing steps."""
        ceiling = min(max(2 * self.ceiling, self.reserved + worst), self.most)
        ceiling = max(ceiling, self.reserved + worst)
        await self._save(ceiling)
        self.ceiling = ceiling

    def reserve(self, hold: Hold, worst: float) -> None:
        """An attempt goes."""
        hold.attempt = worst
        self._holds.add(hold)
        self.reserved += worst
        self.under_way += 1

    def charge(self, hold: Hold, amount: float) -> None:
        """The attempt is over and cost at most `amount`. It stays held until its record is written."""
        self.reserved += amount - hold.attempt
        hold.past += amount
        hold.attempt = 0.0
        self.under_way -= 1
        if not hold.past:
            self._holds.discard(hold)

    def lose(self, hold: Hold) -> Hold:
        """No record will ever tell of what it was charged: that stays held. Returns one to go on with."""
        return Hold() if hold.past else hold

    def settle(self, hold: Hold) -> None:
        """The request's record is written: what it held is spent."""
        self.reserved -= hold.amount
        self.spent += hold.amount
        hold.past = hold.attempt = 0.0
        self._holds.discard(hold)
