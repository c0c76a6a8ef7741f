"""How much time to prepay: what a failing vendor can cost is one slice.

A vendor that has never finished anything gets a first, short slice. Each slice that it runs well,
and each job that it has completed before, doubles the next; the money at risk, paid for and not
run yet, never exceeds the owner's exposure limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from domain.money import ZERO, Usd

MOST_DOUBLINGS: Final = 10


@dataclass(frozen=True, slots=True)
class SliceRule:
    """first_minutes: what an unknown vendor gets. exposure: the most money at risk at a vendor."""

    first_minutes: int
    exposure: Usd

    def minutes(self, wanted: int, per_hour: Usd, *, earned: int, at_risk: Usd = ZERO) -> int:
        """Minutes to buy of the `wanted` ones; 0 where not even one fits the exposure.

        per_hour: the vendor's price. earned: its completed jobs and slices. at_risk: what it has
        been paid for time that it has not run yet.
        """
        room = self.exposure - at_risk
        affordable = room.micros * 60 // per_hour.micros if per_hour.micros > 0 else wanted
        trusted = self.first_minutes << min(earned, MOST_DOUBLINGS)
        return max(0, min(wanted, trusted, affordable))

    def due(self, paid: int, used: float, last_slice: int) -> bool:
        """Whether the next slice should be bought: a quarter of the last one is left, or less."""
        return paid - used <= last_slice / 4


def price_of(minutes: int, *, paid: Usd, for_minutes: int) -> Usd:
    """The most that `minutes` may cost at the rate of an earlier purchase, up to a whole cent."""
    cent = 10_000
    exact = paid.scaled(minutes, for_minutes)
    return Usd(-(-exact.micros // cent) * cent)
