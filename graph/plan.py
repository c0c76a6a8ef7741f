"""The dry run: what would be rented for a goal, without a run, a payment or any other trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from domain.goals import Reading, with_budget
from domain.jobs import JobSpec
from domain.money import Usd
from domain.names import Names, names_of
from domain.quotes import Offer, Vendor, able_vendors, nobody_has
from domain.ranking import Abort, verdict
from graph.deps import Limits
from graph.planner import Consult, Decided, Planner, Situation
from graph.quotes import quotes_of
from graph.reader import GoalReader, Heard
from graph.wishes import check_is_job, resolved
from ledger.drafts import Utterance
from tools.market import NoQuote
from tools.vendors.base import VendorClient


@dataclass(frozen=True, slots=True)
class Market:
    """Who can be asked for offers, and how patient to be."""

    vendors: Sequence[Vendor]
    client: VendorClient
    planner: Planner
    limits: Limits


@dataclass(frozen=True, slots=True)
class Plan:
    """decided is None while the agent would ask a question first (`reading.question`), or where
    there is no market to ask.
    """

    heard: Heard
    spec: JobSpec
    offers: tuple[tuple[Offer, str], ...] = ()
    """Each with what would become of it."""
    silent: tuple[NoQuote, ...] = ()
    decided: Decided | None = None
    names: Names = field(default_factory=Names)

    @property
    def reading(self) -> Reading:
        return self.heard.reading


async def understand_goal(reader: GoalReader, goal: str, budget: Usd | None, now: datetime) -> Plan:
    """What the goal says. budget: given apart from it.

    Raises InvalidInput for a goal that nothing could be rented for, as the start of a run does.
    """
    heard = await reader.read([Utterance(goal, now)])
    check_is_job(goal, heard.reading)
    if budget is not None:
        heard = replace(heard, reading=with_budget(heard.reading, budget))
    return Plan(heard, heard.reading.spec())


async def with_offers(plan: Plan, market: Market, goal: str, now: datetime) -> Plan:
    """The plan with the market's offers, and the decision where there is a budget for one.

    The vendors are asked for quotes, which binds nobody; nothing is written anywhere.
    """
    plan = replace(plan, names=names_of(market.vendors))
    spec, left = resolved(plan.spec, market.vendors), plan.reading.budget
    asked = able_vendors(market.vendors, spec)
    if not asked:
        return replace(plan, spec=spec, decided=Decided(Abort(nobody_has(spec)), "ranking"))
    quotes, silent = await quotes_of(market.client, asked, spec, market.limits, now)
    vendors = {v.vendor_id: v for v in asked}
    offers = tuple(Offer(quote, vendors[quote.vendor_id], 0, spec.minutes, now) for quote in quotes)
    plan = replace(
        plan, spec=spec, silent=tuple(silent), offers=tuple((offer, "") for offer in offers)
    )
    if left is None or plan.reading.question:
        return plan  # it would ask first, and decide nothing before it is answered
    minutes_left = spec.minutes_left(now)
    situation = Situation(
        goal=goal,
        offers=offers,
        left=left,
        patience=True,
        minutes_left=minutes_left,
        preference=spec.preference,
    )
    decided: Decided | Consult
    if too_late := spec.too_late(now):
        decided = Decided(Abort(too_late), "ranking")
    else:
        decided = await market.planner.next(situation, [], [])
    if isinstance(decided, Consult):  # no tools are offered, so there is nothing to look up
        return plan
    judged = tuple((o, verdict(o, decided.decision, left, minutes_left)) for o in offers)
    return replace(plan, offers=judged, decided=decided)
