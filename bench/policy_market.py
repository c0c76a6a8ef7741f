"""The simulated market of bench/policy.py: vendors, prices, outages, and jobs that want a GPU.

All of it is drawn from one seed before any policy plays, so that every policy meets the same
market. What becomes of a job at a vendor depends on the vendor and on when it is started, never on
who asks: two policies that start it at the same vendor in the same window meet the same fate.

The assumptions, none of them measured: vendors are solid, shaky or bad, and the worse are a little
cheaper; the registry's reliability is near the truth for solid vendors and boasts for bad ones;
each vendor's price walks around its own level; each has outages, in which it gives no quote or,
half the time, quotes and then never boots, and it comes back. Two GPU types, of which a vendor is
about equally good at both. No vendor gives money back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

STEP_MINUTES: Final = 15
"""Everything starts and ends on this grid."""
FATE_MINUTES: Final = 180
"""Starts in one such window share their fate."""
VENDORS: Final = 8
GPU_TYPES: Final = ("A100", "A10")
GPU_PRICE: Final = (1.6, 0.6)
"""Dollars an hour, the market's level."""
PRICE_STEPS: Final = 24
"""Prices move every 24 steps: every six hours."""
STALL_MINUTES: Final = 30
HANG_SHARE: Final = 0.3
"""Of the jobs that die part-way: they hang, and are noticed STALL_MINUTES later."""

KINDS: Final = {
    # price level, chance to boot, chance of dying in an hour, pace, what the registry adds
    "solid": ((0.95, 1.25), (0.98, 1.0), (0.001, 0.01), (1.0, 1.05), (-0.03, 0.03)),
    "shaky": ((0.80, 1.10), (0.85, 0.95), (0.02, 0.06), (1.0, 1.3), (-0.05, 0.10)),
    "bad": ((0.65, 1.00), (0.40, 0.80), (0.10, 0.30), (1.0, 1.8), (0.10, 0.50)),
}


@dataclass(frozen=True, slots=True)
class Regime:
    """How many of the vendors are of each kind, and how often one has an outage."""

    name: str
    shares: tuple[float, float, float]
    days_up: float
    hours_down: float


REGIMES: Final = (
    Regime("calm", (0.75, 0.25, 0.0), 20.0, 6.0),
    Regime("mixed", (0.50, 0.30, 0.20), 10.0, 12.0),
    Regime("unreliable", (0.30, 0.30, 0.40), 6.0, 18.0),
)


@dataclass(frozen=True, slots=True)
class Job:
    """A job that arrives. Times in steps since the market opened."""

    arrives: int
    due: int
    gpu: int
    minutes: int
    budget: float

    @property
    def hours(self) -> float:
        return self.minutes / 60


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a job started at a vendor at a step."""

    boots: bool
    dies_at: float
    """Minutes of work until it dies; beyond the job's minutes when it does not."""
    hangs: bool
    takes: float
    """Minutes that a minute of work takes."""


@dataclass(frozen=True, slots=True)
class Market:
    regime: Regime
    jobs: tuple[Job, ...]
    boots: Floats
    """[vendor, gpu] chance to boot outside outages."""
    hazard: Floats
    """[vendor, gpu] chance of dying in an hour of work, as a rate."""
    pace: Floats
    """[vendor]."""
    registered: Floats
    """[vendor] the registry's reliability."""
    prices: Floats
    """[vendor, gpu, price period] dollars an hour."""
    down: Flags
    """[vendor, step] in an outage."""
    silent: Flags
    """[vendor, step] in an outage, and gives no quote."""
    boot_draws: Floats
    """[job, vendor, window] uniform."""
    life_draws: Floats
    """[job, vendor, window] standard exponential."""
    hang_draws: Floats
    """[job, vendor, window] uniform."""
    pace_draws: Floats
    """[job, vendor, window] lognormal around 1."""

    def price(self, vendor: int, gpu: int, step: int) -> float:
        return float(self.prices[vendor, gpu, step // PRICE_STEPS])

    def quotes(self, vendor: int, step: int) -> bool:
        """Whether the vendor answers with a quote."""
        return not self.silent[vendor, step]

    def fate(self, number: int, vendor: int, step: int) -> Fate:
        """What becomes of job `number` when it is started at `vendor` at `step`."""
        job = self.jobs[number]
        window = (step - job.arrives) * STEP_MINUTES // FATE_MINUTES
        draw = (number, vendor, window)
        up = not self.down[vendor, step]
        return Fate(
            boots=bool(up and self.boot_draws[draw] < self.boots[vendor, job.gpu]),
            dies_at=float(self.life_draws[draw] / self.hazard[vendor, job.gpu] * 60),
            hangs=bool(self.hang_draws[draw] < HANG_SHARE),
            takes=float(max(1.0, self.pace[vendor] * self.pace_draws[draw])),
        )


def draw_market(regime: Regime, seed: int, jobs: int) -> Market:
    """A market with `jobs` jobs, the same for the same arguments."""
    rng = np.random.default_rng([seed, REGIMES.index(regime)])
    kinds = rng.choice(len(KINDS), VENDORS, p=regime.shares)
    ranges = np.array([KINDS[name] for name in KINDS])[kinds]  # [vendor, property, low/high]
    low, high = ranges[:, :, 0], ranges[:, :, 1]
    level, boots, hazard, pace, boast = (low + (high - low) * rng.random((VENDORS, 5))).T
    by_gpu = rng.normal(0.0, 0.15, (VENDORS, 2, len(GPU_TYPES)))
    boots_by_gpu = np.clip(1 - (1 - boots)[:, None] * np.exp(by_gpu[:, 0]), 0.0, 1.0)
    hazard_by_gpu = hazard[:, None] * np.exp(by_gpu[:, 1])
    typical_hours = 4.0
    truly = (boots_by_gpu * np.exp(-hazard_by_gpu * typical_hours)).mean(axis=1)
    arrivals = _arrivals(rng, jobs)
    steps = arrivals[-1].due + 1
    down, silent = _outages(rng, regime, steps)
    windows = max(job.due - job.arrives for job in arrivals) * STEP_MINUTES // FATE_MINUTES + 1
    shape = (jobs, VENDORS, windows)
    return Market(
        regime=regime,
        jobs=tuple(arrivals),
        boots=boots_by_gpu,
        hazard=hazard_by_gpu,
        pace=pace,
        registered=np.clip(truly + boast, 0.3, 0.99),
        prices=_prices(rng, level, steps),
        down=down,
        silent=silent,
        boot_draws=rng.random(shape),
        life_draws=rng.exponential(1.0, shape),
        hang_draws=rng.random(shape),
        pace_draws=np.exp(rng.normal(0.0, 0.05, shape)),
    )


def _arrivals(rng: np.random.Generator, count: int) -> list[Job]:
    """Jobs one after the other: each arrives when the one before it is past its deadline."""
    jobs, step = [], 0
    for _ in range(count):
        gpu = int(rng.random() < 0.3)
        hours = int(rng.choice([1, 2, 3, 4, 6, 8], p=[0.2, 0.25, 0.15, 0.2, 0.1, 0.1]))
        due = step + round((hours * rng.uniform(1.5, 4.0) + 1.0) * 60 / STEP_MINUTES)
        budget = hours * GPU_PRICE[gpu] * rng.uniform(1.3, 3.0)
        jobs.append(Job(step, due, gpu, hours * 60, round(budget, 2)))
        step = due + 1 + round(rng.exponential(18.0) * 60 / STEP_MINUTES)
    return jobs


def _prices(rng: np.random.Generator, level: Floats, steps: int) -> Floats:
    """A walk of each price's logarithm that is drawn back to the vendor's level."""
    periods = steps // PRICE_STEPS + 1
    walk = np.zeros((VENDORS, len(GPU_TYPES)))
    prices = np.empty((VENDORS, len(GPU_TYPES), periods))
    moves = rng.normal(0.0, 0.04, (periods, VENDORS, len(GPU_TYPES)))
    for period in range(periods):
        walk = 0.9 * walk + moves[period]
        prices[:, :, period] = level[:, None] * np.array(GPU_PRICE) * np.exp(walk)
    return np.round(prices, 2)


def _outages(rng: np.random.Generator, regime: Regime, steps: int) -> tuple[Flags, Flags]:
    down = np.zeros((VENDORS, steps), dtype=bool)
    silent = np.zeros((VENDORS, steps), dtype=bool)
    per_day = 24 * 60 / STEP_MINUTES
    for vendor in range(VENDORS):
        step = 0
        while True:
            step += round(rng.exponential(regime.days_up * per_day))
            end = step + 1 + round(rng.exponential(regime.hours_down * per_day / 24))
            if step >= steps:
                break
            down[vendor, step:end] = True
            silent[vendor, step:end] = rng.random() < 0.5
            step = end
    return down, silent
