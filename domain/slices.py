"""How much time to prepay: what a failing vendor can cost unused is one slice.

A vendor that has never finished anything gets a first, short slice. Each slice that it runs well,
and each job that it has completed before, doubles the next; the money at risk, paid for and not
run yet, never exceeds the owner's exposure limit: for one job, and for all runs together at a
vendor without a record. Each job that a vendor has completed doubles the latter.

Within these bounds, a launch prepays what is cheapest on average. A slice of s minutes at a price
of r a minute, paid in vain with chance q, loses q·r·s; a job of n minutes in slices of s makes n/s
purchases, each of which costs about PURCHASE_COST, k. The sum is least at s = √(k·n/(q·r)): the
interval at which Young saves a running program ("A first order approximation to the optimum
checkpoint interval", 1974). It is never less than the first, short slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final

from domain.money import CENT, ZERO, Usd

MOST_DOUBLINGS: Final = 10
PURCHASE_COST: Final = Usd(10_000)
"""What one more purchase costs beside its price: fees, and the risk that its answer is lost."""


@dataclass(frozen=True, slots=True)
class SliceRule:
    """first_minutes: what an unknown vendor gets. exposure: the most money at risk at a vendor."""

    first_minutes: int
    exposure: Usd

    def minutes(
        self,
        wanted: int,
        per_hour: Usd,
        *,
        earned: int,
        at_risk: Usd = ZERO,
        in_vain: float = 0.0,
        room: Usd | None = None,
    ) -> int:
        """Minutes to buy now, at most `wanted`; 0 where one minute already exceeds the exposure.

        per_hour: the vendor's price. earned: jobs and slices that it completed. at_risk: what it
        was paid for time not run yet. in_vain: the chance that the slice is lost. room: what all
        runs together may still prepay the vendor, where that is limited.
        """
        room = min(self.exposure - at_risk, self.exposure if room is None else room)
        affordable = room.micros * 60 // per_hour.micros if per_hour.micros > 0 else wanted
        trusted = self.first_minutes << min(earned, MOST_DOUBLINGS)
        cheapest = max(self.first_minutes, _least_waste(wanted, per_hour, in_vain))
        return max(0, min(wanted, trusted, affordable, cheapest))

    def vendor_bound(self, earned: int) -> Usd:
        """The most that all runs together may prepay a vendor that completed `earned` jobs."""
        return Usd(self.exposure.micros << min(max(earned, 0), MOST_DOUBLINGS))

    def due(self, paid: int, used: float, last_slice: int) -> bool:
        """Whether the next slice should be bought: a quarter of the last one is left, or less."""
        return paid - used <= last_slice / 4


def _least_waste(wanted: int, per_hour: Usd, in_vain: float) -> int:
    loss = in_vain * per_hour.micros / 60
    if loss * wanted <= PURCHASE_COST.micros:  # all at once loses less than another purchase
        return wanted
    return round(sqrt(PURCHASE_COST.micros * wanted / loss))


def price_of(minutes: int, *, paid: Usd, for_minutes: int) -> Usd:
    """The most that `minutes` may cost at the rate of an earlier purchase, up to a whole cent."""
    return paid.scaled(minutes, for_minutes).whole_cents()


def most_for(minutes: int, *, paid: Usd, for_minutes: int) -> Usd:
    """The most that `minutes` may cost at the rate of an earlier purchase of `for_minutes`, when
    they are bought slice by slice and the price of each is rounded up to a whole cent.

    A slice counts as three quarters of the earlier purchase, for the last quarter of the one
    before it is still at risk when it is bought. A rate of whole cents a minute rounds nothing.
    """
    if minutes <= 0:
        return ZERO
    exact = paid.scaled(minutes, for_minutes)
    if paid.micros % (for_minutes * CENT.micros) == 0:
        return exact
    slices = -(-minutes // max(1, for_minutes * 3 // 4))
    return Usd(exact.micros + slices * CENT.micros)
