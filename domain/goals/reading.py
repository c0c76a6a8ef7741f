"""What a goal says, put together; what it leaves open; and the job spec that follows from it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from domain.errors import InvalidInput
from domain.goals.amounts import Amount, Role, budget_of
from domain.goals.findings import Findings, find
from domain.goals.gpus import DEFAULT_GPU
from domain.jobs import MINUTES_PER_HOUR, JobSpec, Preference
from domain.money import Usd

DEFAULT_MINUTES: Final = 60
DEFAULT_JOB: Final = "training"

ASK_FOR_JOB: Final = (
    "What shall I run, and on which GPU? For example: Fine-tune a 7B model on an A100 for 2 hours."
)
ASK_FOR_BUDGET: Final = (
    "I can do that. How much may I spend on it at most? Tell me an amount, like $5."
)
MOST_UNASKED: Final = Usd(1_000_000_000)
"""A budget in words above this is asked for once more: an extra digit is easily typed."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was said. None, or empty, is what was not."""

    job_type: str | None = None
    gpu_type: str | None = None
    gpu_count: int | None = None
    minutes: int | None = None
    budget: Usd | None = None
    deadline: datetime | None = None
    preference: Preference | None = None
    excluded_vendors: tuple[str, ...] = ()
    only_vendors: tuple[str, ...] = ()
    by_memory: int | None = None
    """Gigabytes, when the GPU type was taken for its memory."""
    gpu_types: tuple[str, ...] = ()
    """All types, `gpu_type` first, where more than one will do."""
    max_hourly: Usd | None = None
    """The most that an hour may cost, of all GPUs together or of each."""
    hourly_per_gpu: bool = False
    doubts: dict[str, str] = field(default_factory=dict)
    """For each field that was said unclearly: the question that settles it."""

    @property
    def missing(self) -> tuple[str, ...]:
        """What must be asked before a run can start, in the order of asking."""
        open_ = []
        if self.job_type is None and self.gpu_type is None:
            open_.append("jobType")
        if "gpuType" in self.doubts:
            open_.append("gpuType")
        if self.budget is None:
            open_.append("budgetTotal")
        if "deadline" in self.doubts:
            open_.append("deadline")
        return tuple(open_)

    @property
    def question(self) -> str:
        """The one question to ask next; empty when nothing is missing."""
        if not self.missing:
            return ""
        first = self.missing[0]
        usual = {"jobType": ASK_FOR_JOB, "budgetTotal": ASK_FOR_BUDGET}
        return self.doubts.get(first) or usual[first]

    def check_clear(self) -> None:
        """Raise InvalidInput for a GPU or a deadline that is said unclearly."""
        for name in ("gpuType", "deadline"):
            if name in self.doubts:
                raise InvalidInput("goal", "it leaves something open", self.doubts[name])

    def spec(self) -> JobSpec:
        """The job spec; what was not said is guessed, and named in `guessed`."""
        said = (
            ("gpuType", self.gpu_type),
            ("maxHours", self.minutes),
            ("jobType", self.job_type),
        )
        count = self.gpu_count or 1
        return JobSpec(
            job_type=self.job_type or DEFAULT_JOB,
            gpu_type=self.gpu_type or DEFAULT_GPU,
            minutes=self.minutes or DEFAULT_MINUTES,
            gpu_count=count,
            preference=self.preference,
            excluded_vendors=self.excluded_vendors,
            only_vendors=self.only_vendors,
            guessed=tuple(name for name, value in said if value is None),
            deadline=self.deadline,
            gpu_types=self.gpu_types,
            max_hourly=self.max_hourly
            and self.max_hourly.scaled(count if self.hourly_per_gpu else 1, 1),
        )

    def then(self, later: Reading) -> Reading:
        """Both readings in one: what `later` says wins, and exclusions add up."""
        doubts = {**self.doubts, **later.doubts}
        for name, value in (
            ("gpuType", later.gpu_type),
            ("budgetTotal", later.budget),
            ("deadline", later.deadline),
        ):
            if value is not None:
                doubts.pop(name, None)
        return Reading(
            job_type=later.job_type or self.job_type,
            gpu_type=None if "gpuType" in later.doubts else later.gpu_type or self.gpu_type,
            gpu_count=later.gpu_count or self.gpu_count,
            minutes=later.minutes or self.minutes,
            budget=None if "budgetTotal" in later.doubts else later.budget or self.budget,
            deadline=None if "deadline" in later.doubts else later.deadline or self.deadline,
            preference=later.preference or self.preference,
            excluded_vendors=tuple(
                dict.fromkeys((*self.excluded_vendors, *later.excluded_vendors))
            ),
            only_vendors=later.only_vendors or self.only_vendors,
            by_memory=later.by_memory if later.gpu_type else self.by_memory,
            gpu_types=later.gpu_types if later.gpu_type else self.gpu_types,
            max_hourly=later.max_hourly or self.max_hourly,
            hourly_per_gpu=later.hourly_per_gpu if later.max_hourly else self.hourly_per_gpu,
            doubts=doubts,
        )


def read(goal: str, now: datetime | None = None) -> Reading:
    """What `goal` says, by rules alone. Arguments and errors as `find` and `reading_of`."""
    return reading_of(find(goal, now))


def reading_of(found: Findings) -> Reading:
    """What the findings come to. Raises InvalidInput for a job that cannot be rented."""
    if found.unusable:
        raise found.unusable
    budget, gpus, deadline = budget_of(found.money), found.gpus, found.deadline
    doubts = {}
    if budget.doubts:
        doubts["budgetTotal"] = budget_question(budget.doubts)
    if deadline.doubt:
        doubts["deadline"] = f"{deadline.doubt}. By when must it be done?"
    if DEFAULT_GPU in gpus.refused:
        doubts["gpuType"] = f"Not on an {DEFAULT_GPU}, then. Which GPU shall I rent?"
    caps = [a for a in found.money if a.role is Role.RATE_CAP]
    cap = min(caps, key=_per_gpu_hour(gpus.count), default=None)
    excluded, minutes = found.excluded.names, found.durations.minutes
    if minutes and found.durations.gpu_hours:
        minutes = -(-minutes // (gpus.count or 1))
    return Reading(
        job_type=found.job_type,
        gpu_type=gpus.type,
        gpu_count=gpus.count,
        minutes=minutes,
        budget=budget.amount,
        deadline=deadline.at,
        preference=found.preference,
        excluded_vendors=excluded,
        only_vendors=tuple(v for v in found.only.names if v not in excluded),
        by_memory=gpus.by_memory,
        gpu_types=gpus.types,
        max_hourly=cap.usd if cap else None,
        hourly_per_gpu=bool(cap and cap.per_gpu),
        doubts=doubts,
    )


def _per_gpu_hour(count: int | None) -> Callable[[Amount], float]:
    """How much of an hour's price an amount allows: the least of several caps counts."""

    def allows(cap: Amount) -> float:
        assert cap.usd is not None, "a cap has its value"
        return cap.usd.micros * ((count or 1) if cap.per_gpu else 1)

    return allows


def with_budget(reading: Reading, budget: Usd) -> Reading:
    """The reading with a budget that was given apart from the goal, and replaces the goal's own."""
    doubts = {name: why for name, why in reading.doubts.items() if name != "budgetTotal"}
    return replace(reading, budget=budget, doubts=doubts)


def budget_question(doubts: tuple[str, ...]) -> str:
    if not any(re.search(r"[1-9]|[a-z]{3,} ?(?:dollars?|bucks?|cents?)", d, re.I) for d in doubts):
        return f"A budget of {doubts[0][:40]} buys nothing. How much may I spend on it at most?"
    named = " and ".join(written[:40] for written in doubts[:3])
    return f"You named {named}. How much may I spend at most, in US dollars? Tell me one amount."


def hours(minutes: int) -> str:
    """A length of time for people: in hours where two decimals hold it, else in minutes."""
    exact = minutes * 100 % MINUTES_PER_HOUR == 0
    return f"{minutes / MINUTES_PER_HOUR:g} h" if exact else f"{minutes:,} min"
