"""The expected cost and success of starting a job at one vendor and going on at the others.

domain/ranking.py explains the formulas, and why these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erf, log, sqrt
from typing import Final

from domain.quotes import Offer

LOOK_AHEAD: Final = 5
"""How many attempts are computed ahead; a job that needs more counts as not finished."""
STALL_MINUTES: Final = 30.0
"""What passes before a job that does not boot, or hangs, is given up."""
TIME_SPREAD: Final = 0.15
"""How much a job's time varies: the standard deviation of its logarithm."""
LEAST_CHANCE: Final = 1e-9
"""The least chance to finish that is reckoned with, so that even a hopeless vendor has a place."""
LEAST_HOPE: Final = 0.05
"""An attempt whose chance to be in time is smaller is not made."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One offer, in plain numbers: dollars and minutes."""

    offer: Offer
    whole: float
    """What the job costs when it goes well."""
    first: float
    """What is lost when it never boots: the first slice."""
    half: float
    """What is lost when it dies part-way: half the work on average, and half a slice unused."""
    boots: float
    finishes: float
    delay: float
    run: float
    last: int
    """Blocked vendors come last, ordered by how often they failed in this run."""

    @classmethod
    def at(cls, offer: Offer) -> Attempt:
        chances, quote = offer.chances, offer.quote
        whole, first = offer.projected.dollars(), quote.price.dollars()
        return cls(
            offer=offer,
            whole=whole,
            first=first,
            half=min(whole, (whole + first) / 2),
            boots=chances.boots,
            finishes=chances.finishes,
            delay=max(0.0, quote.eta_minutes - quote.minutes),
            run=offer.minutes * chances.pace,
            last=1 + offer.failures_in_run if offer.block else 0,
        )

    @property
    def completes(self) -> float:
        return self.boots * self.finishes

    @property
    def index(self) -> float:
        """What attempts are ordered by: price plus expected loss per chance to finish."""
        lost = (1.0 - self.boots) * self.first + self.boots * (1.0 - self.finishes) * self.half
        return self.whole + lost / max(self.completes, LEAST_CHANCE)

    def in_time(self, minutes: float | None) -> float:
        """The chance that a job which goes well is done within `minutes`."""
        if minutes is None:
            return 1.0
        room = minutes - self.delay
        if room <= 0.0:
            return 0.0
        return 0.5 + 0.5 * erf(log(room / self.run) / (TIME_SPREAD * sqrt(2.0)))

    def fits(self, left: float, minutes: float | None) -> bool:
        return self.whole <= left and self.in_time(minutes) >= LEAST_HOPE


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a first attempt and its fallbacks are expected to come to."""

    cost: float
    """Dollars paid, whatever comes of them."""
    finished: float
    """The chance to finish within budget and deadline."""
    minutes: float


def outlook(
    first: Attempt,
    others: Sequence[Attempt],
    left: float,
    minutes: float | None,
    depth: int | None = None,
) -> Outlook:
    """Start at `first`; after a failure go on with the first of `others` that still fits."""
    depth = LOOK_AHEAD if depth is None else depth
    good = first.completes
    in_time = first.in_time(minutes)
    cost, finished = good * first.whole, good * in_time
    time = good * (first.delay + first.run)
    failures = (
        (1.0 - first.boots, first.first, first.delay + STALL_MINUTES),
        (
            first.boots * (1.0 - first.finishes),
            first.half,
            first.delay + first.run / 2 + STALL_MINUTES / 2,
        ),
    )
    for chance, lost, passed in failures:
        cost += chance * lost
        time += chance * passed
        if depth <= 1:
            continue
        rest_left = left - lost
        rest_minutes = None if minutes is None else minutes - passed
        for place, following in enumerate(others):
            if following.fits(rest_left, rest_minutes):
                remaining = [*others[:place], *others[place + 1 :]]
                after = outlook(following, remaining, rest_left, rest_minutes, depth - 1)
                cost += chance * after.cost
                finished += chance * after.finished
                time += chance * after.minutes
                break
    return Outlook(cost, finished, time)
