"""The deterministic planner's choice among offers: the lowest expected cost to finish the job.

**What is compared.** For each offer, what it costs on average to start there and, after a failure,
to go on with the next best of the others, until the job is done, the budget or the time is used
up, or LOOK_AHEAD attempts have failed. A failed job starts again from nothing at the next vendor,
so a failure loses what was paid for the attempt: the first slice where the job never boots; half
the work and half a slice, on average, where it dies part-way. What is lost unused is one slice,
and a slice is bounded by the owner's exposure limit (domain/slices.py).

**How likely each vendor is to fail** is a posterior over its jobs, and is in domain/reliability.py.

**In which order to go on.** With chance p to finish, price c when it does and loss l when it
does not, an attempt costs e = p·c + (1-p)·l on average. Trying until one succeeds is cheapest in
the order of e/p = c + l·(1-p)/p, by an exchange argument: j before k costs e_j + (1-p_j)·e_k, the
other way round e_k + (1-p_k)·e_j. So a vendor's price is raised by the odds of its failing times
what the failure loses. It is the classic least-cost order of tests (Mitten, "An analytic solution
to the least cost testing sequence problem", 1960), and the price of a box in Weitzman's "Optimal
search for the best alternative" (1979), where the boxes are vendors.

**Budget and deadline** cut that order: an attempt that what is left of either cannot hold is
skipped, so that a cheap vendor which would use up the time for the good one shows as a lower
chance to finish. A job's time is taken as lognormal around quote and record (TIME_SPREAD); an
attempt with less than LEAST_HOPE of being in time is not made.

**One number.** Expected cost + WORTH x price x chance not to finish + hours x the worth of an hour.
A run that does not finish broke what the budget and the deadline were given for: it is counted as
WORTH times the cheapest offer's price, so much that the chance to finish comes before the price
where budget or time are tight, and the price decides where they are not. WORTH and the prior's
weight were tuned in the simulation of bench/policy.py, on seeds that its report does not use. A
person's preference moves the weights: for cheapest, not finishing weighs less; for reliable, it is
the first attempt that has to finish; for fastest, an hour more is worth an hour of the job.

**Blocked vendors** come after all others, at the first choice and in the order to go on, and among
them those that have failed in this run after those that have not. Ties are broken by the vendor's
id: the same offers give the same choice.

**Slices.** What is prepaid first is settled before the quotes are asked for, by
domain/slices.py: what the vendor's record has earned, within the exposure limit, and no more than
the least of what is lost unused and what another purchase costs (Young's interval, 1974).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from domain.jobs import MINUTES_PER_HOUR, Preference
from domain.money import Usd
from domain.outlook import Attempt, Outlook, outlook
from domain.quotes import Offer, Quote
from domain.reasons import Reason, ReasonCode

WORTH: Final = {
    None: 50.0,
    Preference.CHEAPEST: 4.0,
    Preference.RELIABLE: 50.0,
    Preference.FASTEST: 50.0,
}


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


@dataclass(frozen=True, slots=True)
class Ranked:
    """An offer in its place."""

    offer: Offer
    last: int
    """See Attempt."""
    outlook: Outlook
    score: float
    """In dollars; the lowest is the best."""


def choose(
    offers: Sequence[Offer],
    *,
    left: Usd,
    patience: bool,
    minutes_left: float | None = None,
    preference: Preference | None = None,
) -> Decision:
    """The decision for these offers with `left` in the budget.

    patience: whether waiting for better offers is still allowed when there is none to take.
    minutes_left: until the deadline, where there is one.
    """
    if not offers:
        reason = "no vendor made an offer for this job"
        return Wait(reason) if patience else Abort(reason)
    if not any(offer.projected <= left for offer in offers):
        cheapest = min(offer.projected for offer in offers)
        amounts = {"cheapest": cheapest.exact(), "left": left.exact()}
        return Abort(Reason.of(ReasonCode.OFFERS_DEAR, **amounts))
    ranked = rank(offers, left=left, minutes_left=minutes_left, preference=preference)
    if not ranked:
        limits = {"left": str(left), "span": _span(minutes_left)}
        return Abort(Reason.of(ReasonCode.OFFERS_LATE, **limits))
    return Rent(ranked[0].offer.quote, _why(ranked, offers, left))


def rank(
    offers: Sequence[Offer],
    *,
    left: Usd,
    minutes_left: float | None = None,
    preference: Preference | None = None,
) -> list[Ranked]:
    """The offers that budget and deadline hold, the best first."""
    dollars = left.dollars()
    attempts = sorted(
        map(Attempt.at, offers), key=lambda a: (a.last, a.index, a.offer.vendor.vendor_id)
    )
    able = [a for a in attempts if a.fits(dollars, minutes_left)]
    if not able:
        return []
    price = min(a.whole for a in able)
    hours = min(a.run for a in able) / MINUTES_PER_HOUR
    an_hour = price / hours if preference is Preference.FASTEST else 0.0
    ranked = []
    for attempt in able:
        others = [a for a in attempts if a is not attempt]
        ahead = outlook(attempt, others, dollars, minutes_left)
        score = ahead.cost + an_hour * ahead.minutes / MINUTES_PER_HOUR
        sure = attempt.completes * attempt.in_time(minutes_left)
        counted = sure if preference is Preference.RELIABLE else ahead.finished
        score += WORTH[preference] * price * (1.0 - counted)
        ranked.append(Ranked(attempt.offer, attempt.last, ahead, score))
    return sorted(ranked, key=lambda r: (r.last, round(r.score, 6), r.offer.vendor.vendor_id))


def _why(ranked: Sequence[Ranked], offers: Sequence[Offer], left: Usd) -> str:
    best = ranked[0]
    price, name = best.offer.projected, best.offer.vendor.name
    first = best.offer.quote
    sliced = first.price < price
    offered = f"{name} at {price}{' for the whole job' if sliced else ''}"
    cheapest = min((r.offer for r in ranked), key=lambda o: (o.projected, o is not best.offer))
    if len(offers) == 1:
        reason = f"{offered} is the only offer"
    elif best.offer is cheapest:
        reason = f"{offered} is the cheapest offer"
    else:
        reason = f"{offered} is the best offer, not the cheapest"
    # The average is below the price where a failure ends the paying, above it where it means
    # paying another: without a word about failures the two would contradict each other.
    reason += (
        f"; counting that a job may fail, about ${best.outlook.cost:.2f} on average, and "
        f"{min(best.outlook.finished, 0.99):.0%} likely done within budget and time"
    )
    if best.last:
        others = [o for o in offers if o is not best.offer]
        left_over = "the others are too" if all(o.block for o in others) else "no other is left"
        reason += f", though {best.offer.block}" + (f", as {left_over}" if others else "")
    elif avoided := [o.vendor.name for o in offers if o.block]:
        reason += f", and not blocked like {', '.join(avoided)}"
    if sliced:
        reason += f", paid in slices, {first.price} for the first {first.minutes} minutes"
    return f"{reason}; {left - price} stays in the budget"


def verdict(offer: Offer, decision: Decision, left: Usd, minutes_left: float | None = None) -> str:
    """Whether `offer` was taken, or why not, in a few words."""
    if isinstance(decision, Rent) and offer.quote == decision.quote:
        return "taken"
    if offer.projected > left:
        return "over the budget"
    if not Attempt.at(offer).fits(left.dollars(), minutes_left):
        return "too late for the deadline"
    if offer.block:
        return str(offer.block)
    if not isinstance(decision, Rent):
        return "not taken"
    if offer.failures_in_run:
        return f"failed this run {offer.failures_in_run}×"
    rate = offer.quote.price.scaled(decision.quote.minutes, offer.quote.minutes)
    if rate > decision.quote.price:
        return "dearer"
    return f"less reliable ({offer.chances.completes:.0%})"


def _span(minutes: float | None) -> str:
    minutes = max(0.0, minutes or 0.0)
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / MINUTES_PER_HOUR:.1f} hours"
