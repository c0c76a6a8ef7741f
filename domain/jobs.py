"""What a run is asked to do, and the states that a run and its jobs go through."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from domain.mapping import Mapped
from domain.money import Usd
from domain.reasons import Reason, ReasonCode

MINUTES_PER_HOUR: Final = 60
ANY_GPU: Final = "any"
"""Stands for a GPU type where every type will do."""
MOST_TYPES_TOLD: Final = 4
_EPOCH: Final = re.compile(r"Epoch (\d+)/(\d+) loss=(\d+(?:\.\d+)?)")


class RunStatus(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self is not RunStatus.RUNNING


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


class Preference(StrEnum):
    """What the person wants most, when they said so."""

    CHEAPEST = "cheapest"
    RELIABLE = "reliable"
    FASTEST = "fastest"


@dataclass(frozen=True, slots=True)
class JobSpec(Mapped):
    """What to run and on what, as understood from the goal."""

    job_type: str
    gpu_type: str
    """The type to rent; the first choice where `gpu_types` names more; "any" where each will do."""
    minutes: int
    """GPU time that the whole job is expected to need."""
    gpu_count: int = 1
    preference: Preference | None = None
    excluded_vendors: tuple[str, ...] = ()
    guessed: tuple[str, ...] = ()
    """Names of the fields that the goal did not say."""
    deadline: datetime | None = None
    """When the job must be done, if the goal says so."""
    only_vendors: tuple[str, ...] = ()
    """The vendors that the goal names to rent from; empty where any will do."""
    gpu_types: tuple[str, ...] = ()
    """All types that will do, in the order of preference, where there are more than `gpu_type`."""
    max_hourly: Usd | None = None
    """The most that an hour of the whole job may cost, if the goal says so."""

    @property
    def types(self) -> tuple[str, ...]:
        """The types of GPU that will do."""
        return self.gpu_types or (self.gpu_type,)

    @property
    def gpu(self) -> str:
        """The types of GPU that will do, for people."""
        if self.gpu_type == ANY_GPU:
            return "any GPU"
        named = " or ".join(self.types[:MOST_TYPES_TOLD])
        more = len(self.types) - MOST_TYPES_TOLD
        return f"{named} or {more} more types" if more > 0 else named

    @property
    def hours(self) -> float:
        return self.minutes / MINUTES_PER_HOUR

    def too_late(self, now: datetime) -> Reason | None:
        """Why a job that starts now cannot be done by its deadline; None where it can."""
        if self.deadline is None or now + timedelta(minutes=self.minutes) <= self.deadline:
            return None
        by = f"{self.deadline:%Y-%m-%d %H:%M}"
        return Reason.of(ReasonCode.TOO_LATE, hours=self.hours, deadline=by)

    def minutes_left(self, now: datetime) -> float | None:
        """The minutes until the deadline; None without one."""
        return (self.deadline - now) / timedelta(minutes=1) if self.deadline else None


def epoch(line: str) -> tuple[int, int, str] | None:
    """(epoch, of how many, loss) of a training log line, or None."""
    found = _EPOCH.match(line)
    return (int(found[1]), int(found[2]), found[3]) if found else None
