"""The deterministic planner's choice among offers.

The cheapest offer that the budget holds; among those within NEAR_TIE of it the more reliable
vendor; vendors that already failed this run only when no other is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from domain.money import Usd
from domain.quotes import Offer, Quote

NEAR_TIE: Final = (105, 100)
"""Prices up to 5% above the cheapest count as equal."""


@dataclass(frozen=True, slots=True)
class Rent:
    """Rent what `quote` offers."""

    quote: Quote
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to rent now, but there may be later."""

    reason: str


@dataclass(frozen=True, slots=True)
class Abort:
    """The run cannot reach its goal."""

    reason: str


Decision = Rent | Wait | Abort


def choose(offers: Sequence[Offer], *, left: Usd, patience: bool) -> Decision:
    """The decision for these offers with `left` in the budget.

    patience: whether waiting for better offers is still allowed when there is none to take.
    """
    if not offers:
        reason = "no vendor made an offer for this job"
        return Wait(reason) if patience else Abort(reason)
    affordable = [offer for offer in offers if offer.projected <= left]
    if not affordable:
        cheapest = min(offer.projected for offer in offers)
        return Abort(f"the cheapest offer is {cheapest} for the whole job and {left} is left")
    fewest_failures = min(offer.failures_in_run for offer in affordable)
    fresh = [offer for offer in affordable if offer.failures_in_run == fewest_failures]
    cheapest = min(offer.projected for offer in fresh)
    near = [offer for offer in fresh if offer.projected <= cheapest.scaled(*NEAR_TIE)]
    best = min(near, key=lambda o: (-o.vendor.reliability, o.projected, o.vendor.vendor_id))
    return Rent(best.quote, _why(best, near, offers, left))


def _why(best: Offer, near: Sequence[Offer], offers: Sequence[Offer], left: Usd) -> str:
    price, name = best.projected, best.vendor.name
    if len(offers) == 1:
        reason = f"{name} at {price} is the only offer"
    elif len(near) > 1:
        reason = f"{name} at {price} is the most reliable of the cheapest offers"
    else:
        reason = f"{name} at {price} is the cheapest offer"
    avoided = [o.vendor.name for o in offers if o.failures_in_run > best.failures_in_run]
    if avoided:
        reason += f" from a vendor that has not failed this run ({', '.join(avoided)} did)"
    if best.quote.price < price:
        reason += f", paid in slices, {best.quote.price} for the first {best.quote.minutes} minutes"
    return f"{reason}; {left - price} stays in the budget"


def verdict(offer: Offer, decision: Decision, left: Usd) -> str:
    """What became of `offer`: taken, or why not, in a few words."""
    if isinstance(decision, Rent) and offer.quote == decision.quote:
        return "taken"
    if offer.projected > left:
        return "over the budget"
    if not isinstance(decision, Rent):
        return "not taken"
    if offer.failures_in_run:
        return f"failed this run {offer.failures_in_run}×"
    rate = offer.quote.price.scaled(decision.quote.minutes, offer.quote.minutes)
    return "dearer" if rate > decision.quote.price else "less reliable"
