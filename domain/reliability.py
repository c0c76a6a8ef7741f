"""How likely a vendor is to finish a job: a posterior over what it did, and a blocklist.

**The model.** A vendor first *boots* a job, or never does: a coin of unknown bias, with a Beta
prior. A job that booted then *lives* until it is done, or dies at some moment of its work: at a
constant unknown rate an hour, with a Gamma prior, so that a long job is likelier to die than a
short one. Both posteriors are closed sums: the chance to boot is (a + booted) / (a + b + jobs),
the chance to live through h hours (B / (B + h))^A with A = a + deaths, B = b + hours worked.

**The prior** is the registry's reliability r, the share of jobs of TYPICAL_HOURS that complete,
split evenly over the two stages (√r each), with the weight of PRIOR_JOBS such jobs.

**Fading.** An outcome's weight halves every HALF_LIFE_DAYS; a vendor that nobody used goes back to
its prior, and is tried again. The sums are kept in forward decay: an outcome at time t adds
2^((t - LANDMARK) / half-life), and a reader at `now` divides by 2^((now - LANDMARK) / half-life).
So an outcome is one atomic `$inc`, in any order, and no list grows.

**Sharing.** Outcomes on another GPU type of the same vendor count for SHARED of one.

**Blocks.** A trouble blocks its vendor for the time that MINUTES_BLOCKED gives it, doubled with
each repetition that is remembered, at most LONGEST_BLOCK_DAYS, and ends by itself. A blocked
vendor is not excluded: it goes to the end of the order, and is rented when no other offer will do,
so that the only vendor is never blocked for good. What may be paid is the spending policy's
business (domain/policy.py), which no block loosens.

Sources: Gelman et al., "Bayesian Data Analysis", chapter 2 (both conjugate pairs); Jøsang & Ismail,
"The Beta Reputation System" (2002); Cormode et al., "Forward Decay" (ICDE 2009).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import log, sqrt
from typing import Final

from domain.jobs import MINUTES_PER_HOUR
from domain.mapping import Mapped

PRIOR_JOBS: Final = 10.0
TYPICAL_HOURS: Final = 4.0
HALF_LIFE_DAYS: Final = 30
SHARED: Final = 0.3
LANDMARK: Final = datetime(2026, 1, 1, tzinfo=UTC)
LONGEST_BLOCK_DAYS: Final = 7
LEAST_SURE, MOST_SURE = 0.02, 0.98
"""A registry's reliability counts as no less and no more, whatever a person wrote there."""
SLOWEST: Final = 10.0


class Trouble(StrEnum):
    """What a vendor did wrong."""

    NEVER_BOOTED = "never_booted"
    LOST_JOB = "lost_job"
    NO_JOB = "no_job"
    REFUSED = "refused"
    OTHER_TERMS = "other_terms"
    DISHONEST = "dishonest"

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS: Final = {
    Trouble.NEVER_BOOTED: "never booted",
    Trouble.LOST_JOB: "lost a job",
    Trouble.NO_JOB: "took the payment and gave no job",
    Trouble.REFUSED: "would not sell what it had offered",
    Trouble.OTHER_TERMS: "asked for other terms than it had quoted",
    Trouble.DISHONEST: "delivered something else than it said",
}
MINUTES_BLOCKED: Final = {
    Trouble.NEVER_BOOTED: 60,
    Trouble.LOST_JOB: 60,
    Trouble.NO_JOB: 6 * 60,
    Trouble.REFUSED: 15,
    Trouble.OTHER_TERMS: 24 * 60,
    Trouble.DISHONEST: 3 * 24 * 60,
}


class Outcome(StrEnum):
    """How a paid job ended, as far as its vendor's reliability goes."""

    COMPLETED = "completed"
    NEVER_BOOTED = "never_booted"
    LOST = "lost"


def outcome_of(trouble: Trouble | None) -> Outcome | None:
    """What a job that ended so counts as; None where nothing was paid for."""
    match trouble:
        case None:
            return Outcome.COMPLETED
        case Trouble.NEVER_BOOTED | Trouble.NO_JOB:
            return Outcome.NEVER_BOOTED
        case Trouble.LOST_JOB | Trouble.DISHONEST:
            return Outcome.LOST
        case _:
            return None


@dataclass(frozen=True, slots=True)
class Record(Mapped):
    """What a vendor's jobs on one GPU type came to: faded sums, in weights of the LANDMARK."""

    gpu_type: str
    completed: float = 0.0
    never_booted: float = 0.0
    lost: float = 0.0
    done_minutes: float = 0.0
    """The work in the completed jobs, in minutes at the expected pace."""
    taken_minutes: float = 0.0
    """What that work took."""
    lost_minutes: float = 0.0
    """The work that was done in the jobs it lost."""


@dataclass(frozen=True, slots=True)
class Block(Mapped):
    """A time until which a vendor comes last in the order."""

    trouble: Trouble
    until: datetime
    times: float = 1.0
    """How often it came to this, faded, in weights of the LANDMARK."""

    def __str__(self) -> str:
        return f"blocked until {self.until:%Y-%m-%d %H:%M} UTC: {self.trouble.words}"


@dataclass(frozen=True, slots=True)
class Chances:
    """What to expect of a vendor, now, for a job of some hours on one GPU type."""

    boots: float
    finishes: float
    """The chance that such a job completes once it has booted."""
    pace: float = 1.0
    """How many times the expected minutes a job takes, 1 or more."""
    jobs: float = 0.0
    """How many jobs the evidence amounts to, in today's weight, without the prior."""

    @property
    def completes(self) -> float:
        return self.boots * self.finishes

    @property
    def in_vain(self) -> float:
        """How much of a first slice is lost on average: all of it, or half where a job dies."""
        return 1.0 - self.boots + self.boots * (1.0 - self.finishes) / 2


def weight(at: datetime) -> float:
    """What one outcome at `at` adds to a record's sums."""
    return float(2.0 ** ((at - LANDMARK) / timedelta(days=HALF_LIFE_DAYS)))


def chances(
    registered: float,
    records: Iterable[Record],
    gpu_type: str,
    hours: float,
    now: datetime | None,
) -> Chances:
    """The posterior at `now` for a job of `hours` hours of work.

    registered: the registry's reliability, 0 to 1. With no `now`, it is all that is known.
    """
    stage = sqrt(min(max(registered, LEAST_SURE), MOST_SURE))
    seen = _seen(records, gpu_type, now) if now is not None else Record(gpu_type)
    booted = seen.completed + seen.lost
    rate = -log(stage) / TYPICAL_HOURS
    prior_hours = PRIOR_JOBS * TYPICAL_HOURS
    deaths = prior_hours * rate + seen.lost
    lived = prior_hours + (seen.done_minutes + seen.lost_minutes) / MINUTES_PER_HOUR
    # The prior of the pace is one hour of work that took an hour.
    pace = (seen.taken_minutes + MINUTES_PER_HOUR) / (seen.done_minutes + MINUTES_PER_HOUR)
    return Chances(
        boots=(PRIOR_JOBS * stage + booted) / (PRIOR_JOBS + booted + seen.never_booted),
        finishes=(lived / (lived + hours)) ** deaths,
        pace=min(max(1.0, pace), SLOWEST),
        jobs=booted + seen.never_booted,
    )


def _seen(records: Iterable[Record], gpu_type: str, now: datetime) -> Record:
    """All of a vendor's records as one, in today's weight, other GPU types' for their share."""
    completed = never_booted = lost = done = taken = wasted = 0.0
    for record in records:
        same = record.gpu_type.casefold() == gpu_type.casefold()
        share = (1.0 if same else SHARED) / weight(now)
        completed += share * record.completed
        never_booted += share * record.never_booted
        lost += share * record.lost
        done += share * record.done_minutes
        taken += share * record.taken_minutes
        wasted += share * record.lost_minutes
    return Record(gpu_type, completed, never_booted, lost, done, taken, wasted)


def trust(records: Iterable[Record], gpu_type: str, now: datetime) -> int:
    """How often a vendor's first slice has earned to be doubled: its good jobs for each bad one."""
    mine = [r for r in records if r.gpu_type.casefold() == gpu_type.casefold()]
    good = sum(r.completed for r in mine) / weight(now)
    bad = sum(r.never_booted + r.lost for r in mine) / weight(now)
    return round(good / (1.0 + bad))


def block_for(trouble: Trouble, before: Block | None, now: datetime) -> Block:
    """The block that `trouble` at `now` leads to. before: the last one for the same trouble."""
    times = before.times if before else 0.0
    remembered = times / weight(now)
    minutes = MINUTES_BLOCKED[trouble] * 2.0 ** min(remembered, 30.0)
    longest = timedelta(days=LONGEST_BLOCK_DAYS)
    until = now + min(timedelta(minutes=minutes), longest)
    return Block(trouble, max(until, before.until) if before else until, times + weight(now))


def block_at(blocks: Iterable[Block], now: datetime) -> Block | None:
    """The block in force at `now` that lasts longest."""
    in_force = [block for block in blocks if block.until > now]
    return max(in_force, key=lambda block: block.until, default=None)
