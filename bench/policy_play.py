"""Playing one policy through a market, and the oracle, which knows every fate beforehand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.policy_market import (
    FATE_MINUTES,
    PRICE_STEPS,
    STALL_MINUTES,
    STEP_MINUTES,
    VENDORS,
    Job,
    Market,
)
from bench.policy_rules import SLICES, Asked, Ended, Policy, first_slice
from domain.money import Usd
from domain.reliability import Trouble
from domain.slices import price_of

MOST_ATTEMPTS: Final = 5
"""The product's MAX_ATTEMPTS."""


@dataclass(frozen=True, slots=True)
class Played:
    """What one policy made of one job."""

    done: bool
    """Completed within budget and deadline."""
    cost: float
    """Everything that was paid for it."""
    lost: float
    """Of that, for attempts that failed, or came late."""


def play(market: Market, policy: Policy) -> list[Played]:
    """All jobs of a market, one after the other."""
    return [play_job(market, policy, number) for number in range(len(market.jobs))]


def play_job(market: Market, policy: Policy, number: int) -> Played:
    """Rent, and after a failure rent again, as long as budget, time and attempts are left."""
    job = market.jobs[number]
    step, left, cost, failures = job.arrives, job.budget, 0.0, Counter[int]()
    for _ in range(MOST_ATTEMPTS):
        if step * STEP_MINUTES + job.minutes > job.due * STEP_MINUTES:
            break
        prices = {
            v: market.price(v, job.gpu, step) for v in range(VENDORS) if market.quotes(v, step)
        }
        vendor = policy.choose(Asked(number, job, step, left, prices, failures))
        if vendor is None:
            break
        ended = attempt(market, number, vendor, step, policy)
        step += max(1, ceil(ended.minutes / STEP_MINUTES))
        before, cost = cost, cost + ended.paid
        left = job.budget - cost
        policy.learn(vendor, job, step, ended)
        if ended.trouble is None:
            in_time = step <= job.due
            return Played(in_time, cost, before if in_time else cost)
        failures[vendor] += 1
    return Played(False, cost, cost)


def attempt(market: Market, number: int, vendor: int, step: int, policy: Policy) -> Ended:
    """Start the job at the vendor, and pay slice by slice for as long as it runs."""
    job, fate = market.jobs[number], market.fate(number, vendor, step)
    per_hour = Usd(round(market.price(vendor, job.gpu, step) * 1_000_000))
    earned = policy.earned(vendor, job, step)
    first = first_slice(policy, vendor, per_hour, job, step)

    def paid(worked: float) -> float:
        return _paid(job, per_hour, earned, first, worked)

    if not fate.boots:
        return Ended(paid(0.0), 0.0, STALL_MINUTES, Trouble.NEVER_BOOTED)
    if fate.dies_at < job.minutes:
        minutes = fate.dies_at * fate.takes + (STALL_MINUTES if fate.hangs else 0)
        return Ended(paid(fate.dies_at), fate.dies_at, minutes, Trouble.LOST_JOB)
    return Ended(paid(job.minutes), job.minutes, job.minutes * fate.takes, None)


def _paid(job: Job, per_hour: Usd, earned: int, first: int, worked: float) -> float:
    """What has been paid when `worked` minutes are done; later slices as in steps/extension.py."""
    last = paid = first
    slices = 1
    while paid < job.minutes and paid - last / 4 < worked:
        at_risk = price_of(round(last / 4), paid=per_hour, for_minutes=60)
        missing = job.minutes - paid
        last = SLICES.minutes(missing, per_hour, earned=earned + slices, at_risk=at_risk)
        paid, slices = paid + last, slices + 1
    return per_hour.scaled(paid, 60).dollars()


def play_oracle(market: Market) -> list[Played]:
    """The least that each job can be completed for by anyone, or nothing where nobody can.

    Every start at every vendor on the grid is looked at, with its fate known.
    """
    return [_least(market, number) for number in range(len(market.jobs))]


def _least(market: Market, number: int) -> Played:
    job = market.jobs[number]
    steps = np.arange(job.arrives, job.due + 1)
    windows = (steps - job.arrives) * STEP_MINUTES // FATE_MINUTES
    boots = market.boot_draws[number][:, windows] < market.boots[:, job.gpu, None]
    lives = market.life_draws[number][:, windows] / market.hazard[:, job.gpu, None] * 60
    takes = np.maximum(1.0, market.pace[:, None] * market.pace_draws[number][:, windows])
    length = np.maximum(1, np.ceil(job.minutes * takes / STEP_MINUTES))
    good = boots & ~market.down[:, steps] & (lives >= job.minutes) & (steps + length <= job.due)
    costs = _costs(market, job, steps)
    costs = np.where(good & (costs <= job.budget), costs, np.inf)
    least = float(costs.min())
    return Played(True, least, 0.0) if np.isfinite(least) else Played(False, 0.0, 0.0)


def _costs(market: Market, job: Job, steps: NDArray[np.int_]) -> NDArray[np.float64]:
    per_hour = np.round(market.prices[:, job.gpu, steps // PRICE_STEPS] * 1_000_000)
    return np.ceil(per_hour * job.minutes / 60) / 1_000_000
