"""The dry run: what would be rented for a goal, without a run, a payment or any other trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from domain.goals import Reading, with_budget
from domain.goals.left_out import NOTHING_LEFT_OUT, LeftOut
from domain.jobs import JobSpec
from domain.money import Usd
from domain.names import Names, names_of
from domain.phrasing import asks, asks_of_a_run
from domain.quotes import Offer, Vendor, able_vendors, nobody_has
from domain.ranking import Abort, verdict
from domain.tokens import UNMETERED, Meter
from domain.utterance import Utterance
from graph.deps import Limits
from graph.goals.goal_request import AskAnyway, check_is_job, resolved
from graph.goals.reader import Heard, Reads
from graph.planner.planners import Consult, Decided, Planner, Situation
from graph.steps.quotes import quotes_of
from tools.market import NoQuote
from tools.vendors.base import VendorClient


@dataclass(frozen=True, slots=True)
class Market:
    """Who can be asked for offers, and how patient to be."""

    vendors: Sequence[Vendor]
    client: VendorClient
    planner: Planner
    limits: Limits
    meter: Meter = UNMETERED
    """What a model may take to decide."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What would happen for a goal. decided: None where the agent would ask first
    (`reading.question`), or has no market to ask.
    """

    heard: Heard
    spec: JobSpec
    offers: tuple[tuple[Offer, str], ...] = ()
    """Each offer, with what would become of it."""
    silent: tuple[NoQuote, ...] = ()
    decided: Decided | None = None
    names: Names = field(default_factory=Names)

    leaves_out: LeftOut = NOTHING_LEFT_OUT
    """What the goal says and a run would leave out."""
    asks: bool = False
    """Whether the goal only asks what something costs, so that nothing is decided."""

    @property
    def reading(self) -> Reading:
        return self.heard.reading

    @property
    def question(self) -> str:
        """What the agent would ask before it starts; empty where nothing."""
        if self.asks or self.reading.question:
            return "" if self.asks else self.reading.question
        return AskAnyway.about(self.leaves_out) if self.leaves_out.own else ""


async def understand_goal(reader: Reads, said: Utterance, budget: Usd | None) -> Plan:
    """What the goal says. budget: one that was given apart from it.

    Here a question about a price is a goal. Raises InvalidInput for any other goal that nothing
    could be rented for, as the start of a run does.
    """
    heard = await reader.read([said])
    goal, reading = said.text, heard.reading
    about_a_price = asks(goal) and not asks_of_a_run(goal)
    question = about_a_price and bool(reading.gpu_type or reading.job_type or reading.minutes)
    if not question:
        check_is_job(goal, reading)
    if budget is not None:
        heard = replace(heard, reading=with_budget(heard.reading, budget))
    leaves_out = NOTHING_LEFT_OUT if question else said.left_out
    return Plan(heard, heard.reading.spec(), leaves_out=leaves_out, asks=question)


async def with_offers(plan: Plan, market: Market, goal: str, now: datetime) -> Plan:
    """The plan with the market's offers, and the decision where there is a budget for one.

    The vendors are asked for quotes, which binds nobody; nothing is written anywhere.
    """
    plan = replace(plan, names=names_of(market.vendors))
    spec, left = resolved(plan.spec, market.vendors), plan.reading.budget
    asked = able_vendors(market.vendors, spec)
    if not asked:
        none = Abort(nobody_has(spec, market.vendors))
        return replace(plan, spec=spec, decided=Decided(none, "ranking"))
    quotes, silent = await quotes_of(market.client, asked, spec, market.limits, now)
    vendors = {v.vendor_id: v for v in asked}
    offers = tuple(Offer(quote, vendors[quote.vendor_id], 0, spec.minutes, now) for quote in quotes)
    plan = replace(
        plan, spec=spec, silent=tuple(silent), offers=tuple((offer, "") for offer in offers)
    )
    if plan.asks or left is None or plan.question:
        return plan  # it would ask first, and decide nothing before it is answered
    minutes_left = spec.minutes_left(now)
    situation = Situation(
        goal=goal,
        offers=offers,
        left=left,
        patience=True,
        minutes_left=minutes_left,
        preference=spec.preference,
        meter=market.meter,
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
