"""What a run is asked to do, and the states that a run and its jobs go through."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

MINUTES_PER_HOUR: Final = 60


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
class JobSpec:
    """What to run and on what, as understood from the goal."""

    job_type: str
    gpu_type: str
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

    @property
    def hours(self) -> float:
        return self.minutes / MINUTES_PER_HOUR

    def too_late(self, now: datetime) -> str:
        """Why a job that starts now cannot be done by its deadline; empty where it can."""
        if self.deadline is None or now + timedelta(minutes=self.minutes) <= self.deadline:
            return ""
        return (
            f"the job needs {self.hours:g} h, and cannot be done by "
            f"{self.deadline:%Y-%m-%d %H:%M} any more"
        )

    def minutes_left(self, now: datetime) -> float | None:
        """The minutes until the deadline; None without one."""
        return (self.deadline - now) / timedelta(minutes=1) if self.deadline else None
