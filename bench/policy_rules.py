"""The policies that bench/policy.py compares. Each sees quotes, its own past, and nothing else;
the insider and the oracle, which see more, are the bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

import numpy as np

from bench.policy_market import GPU_TYPES, STEP_MINUTES, VENDORS, Job, Market
from domain.jobs import Preference
from domain.money import Usd
from domain.quotes import Offer, Quote, Vendor
from domain.ranking import Rent, choose
from domain.reliability import (
    LANDMARK,
    Block,
    Record,
    Trouble,
    block_for,
    chances,
    outcome_of,
    trust,
    weight,
)
from domain.slices import SliceRule

SLICES: Final = SliceRule(first_minutes=60, exposure=Usd(2_000_000))
"""The product's defaults."""
SEED_VENDORS: Final = 2
"""The policy "seed" knows vendor 1 and vendor 2 alone."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a policy decides on: the vendors that quote, with their prices for an hour."""

    number: int
    job: Job
    step: int
    left: float
    prices: dict[int, float]
    failures: Counter[int]
    """Of this job, by vendor."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One attempt's end."""

    paid: float
    worked: float
    """Minutes of work done."""
    minutes: float
    """What passed."""
    trouble: Trouble | None


class Policy(Protocol):
    name: str

    def choose(self, asked: Asked) -> int | None:
        """The vendor to rent from; None to give the job up."""

    def earned(self, vendor: int, job: Job, step: int) -> int:
        """How often the vendor's first slice is doubled."""

    def in_vain(self, vendor: int, job: Job, step: int) -> float:
        """The chance that the first slice is lost, for the slice rule."""

    def learn(self, vendor: int, job: Job, step: int, ended: Ended) -> None:
        """A job that the vendor was paid for ended at `step`."""


@dataclass(slots=True)
class Simple:
    """A fixed order of the vendors; those that failed this job go behind those that did not."""

    name: str
    market: Market
    seed: int = 0
    completed: Counter[int] = field(default_factory=Counter)

    def choose(self, asked: Asked) -> int | None:
        able = [v for v in asked.prices if asked.prices[v] * asked.job.hours <= asked.left]
        if self.name == "seed":
            able = [v for v in able if v < SEED_VENDORS]
        return min(able, key=lambda v: (asked.failures[v], *self.order(v, asked)), default=None)

    def order(self, vendor: int, asked: Asked) -> tuple[float, ...]:
        price, reliability = asked.prices[vendor], float(self.market.registered[vendor])
        match self.name:
            case "cheapest-first":
                return (price, vendor)
            case "most-reliable-first":
                return (-reliability, price)
            case "seed":
                return (vendor,)
            case _:
                draw = np.random.default_rng([self.seed, asked.number, asked.step, vendor])
                return (draw.random(),)

    def earned(self, vendor: int, job: Job, step: int) -> int:  # noqa: ARG002
        return self.completed[vendor]

    def in_vain(self, vendor: int, job: Job, step: int) -> float:  # noqa: ARG002
        return 0.0

    def learn(
        self,
        vendor: int,
        job: Job,  # noqa: ARG002
        step: int,  # noqa: ARG002
        ended: Ended,
    ) -> None:
        self.completed[vendor] += ended.trouble is None


class Ours:
    """The product's own code: domain/ranking.py, domain/reliability.py and domain/slices.py."""

    name = "ours"
    preference: Preference | None = None

    def __init__(self, market: Market) -> None:
        self.vendors = [
            Vendor(
                vendor_id=f"v{number}",
                name=f"v{number}",
                endpoint="",
                price_per_hour=Usd(1),
                reliability=float(market.registered[number]),
                gpu_types=GPU_TYPES,
            )
            for number in range(VENDORS)
        ]

    def choose(self, asked: Asked) -> int | None:
        now = _moment(asked.step)
        offers = [self.offer(v, price, asked, now) for v, price in asked.prices.items()]
        decision = choose(
            offers,
            left=_usd(asked.left),
            patience=False,
            minutes_left=(asked.job.due - asked.step) * STEP_MINUTES,
            preference=self.preference,
        )
        return int(decision.quote.vendor_id[1:]) if isinstance(decision, Rent) else None

    def offer(self, vendor: int, price: float, asked: Asked, now: datetime) -> Offer:
        job, per_hour = asked.job, _usd(price)
        minutes = first_slice(self, vendor, per_hour, job, asked.step)
        quote = Quote(
            vendor_id=f"v{vendor}",
            template_id="",
            gpu_type=GPU_TYPES[job.gpu],
            minutes=minutes,
            price=per_hour.scaled(minutes, 60),
            eta_minutes=minutes,
            expires_at=None,
        )
        return Offer(quote, self.vendors[vendor], asked.failures[vendor], job.minutes, now)

    def earned(self, vendor: int, job: Job, step: int) -> int:
        return trust(self.vendors[vendor].records, GPU_TYPES[job.gpu], _moment(step))

    def in_vain(self, vendor: int, job: Job, step: int) -> float:
        known = self.vendors[vendor]
        gpu, now = GPU_TYPES[job.gpu], _moment(step)
        return chances(known.reliability, known.records, gpu, job.hours, now).in_vain

    def learn(self, vendor: int, job: Job, step: int, ended: Ended) -> None:
        trouble = ended.trouble
        now, known = _moment(step), self.vendors[vendor]
        outcome = outcome_of(trouble)
        assert outcome is not None
        gpu = GPU_TYPES[job.gpu]
        mine = next((r for r in known.records if r.gpu_type == gpu), Record(gpu))
        added = {outcome.value: getattr(mine, outcome.value) + weight(now)}
        if trouble is None:
            added["done_minutes"] = mine.done_minutes + weight(now) * ended.worked
            added["taken_minutes"] = mine.taken_minutes + weight(now) * ended.minutes
        else:
            added["lost_minutes"] = mine.lost_minutes + weight(now) * ended.worked
        records = (*(r for r in known.records if r.gpu_type != gpu), replace(mine, **added))
        blocks = known.blocks if trouble is None else _with_block(known.blocks, trouble, now)
        self.vendors[vendor] = replace(known, records=records, blocks=blocks)


class Insider(Ours):
    """Knows each vendor's true rates, and who has an outage now, but not what the dice say.

    It decides by the same code, so it shows what better estimates could still gain: with ours'
    aims, or, thrifty, with a person's who asked for the cheapest.
    """

    def __init__(self, market: Market, *, thrifty: bool = False) -> None:
        super().__init__(market)
        self.name = "thrifty insider" if thrifty else "insider"
        self.market = market
        self.preference = Preference.CHEAPEST if thrifty else None

    def choose(self, asked: Asked) -> int | None:
        up = {v: p for v, p in asked.prices.items() if not self.market.down[v, asked.step]}
        return super().choose(replace(asked, prices=up))

    def offer(self, vendor: int, price: float, asked: Asked, now: datetime) -> Offer:
        offer = super().offer(vendor, price, asked, now)
        job, market, sure = asked.job, self.market, 1e9 * weight(now)
        boots, deaths = (float(m[vendor, job.gpu]) for m in (market.boots, market.hazard))
        record = Record(
            GPU_TYPES[job.gpu],
            completed=sure * (boots - deaths),
            never_booted=sure * (1 - boots),
            lost=sure * deaths,
            done_minutes=sure * 60,
            taken_minutes=sure * 60 * float(market.pace[vendor]),
        )
        known = replace(offer.vendor, records=(record,))
        return replace(offer, vendor=known)


def policies(market: Market, seed: int) -> Sequence[Policy]:
    """One of each, none of which knows anything yet."""
    fixed = ("cheapest-first", "most-reliable-first", "seed", "random")
    simple = (Simple(name, market, seed) for name in fixed)
    return (Ours(market), *simple, Insider(market), Insider(market, thrifty=True))


def first_slice(policy: Policy, vendor: int, per_hour: Usd, job: Job, step: int) -> int:
    """The minutes that a launch prepays."""
    earned, in_vain = policy.earned(vendor, job, step), policy.in_vain(vendor, job, step)
    return SLICES.minutes(job.minutes, per_hour, earned=earned, in_vain=in_vain)


def _with_block(blocks: tuple[Block, ...], trouble: Trouble, now: datetime) -> tuple[Block, ...]:
    before = next((block for block in blocks if block.trouble is trouble), None)
    return (*(b for b in blocks if b is not before), block_for(trouble, before, now))


def _moment(step: int) -> datetime:
    return LANDMARK + timedelta(minutes=step * STEP_MINUTES)


def _usd(dollars: float) -> Usd:
    return Usd(round(dollars * 1_000_000))
