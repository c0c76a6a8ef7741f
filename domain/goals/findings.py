"""What each reader finds in a text, and where: looked for once, for all that is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from domain.errors import InvalidInput
from domain.goals.amounts import Amount, amounts
from domain.goals.deadlines import Deadline, read_deadline
from domain.goals.durations import Durations, read_durations
from domain.goals.gpus import Gpus, read_gpus
from domain.goals.requirements import (
    JobType,
    NamedVendors,
    read_excluded,
    read_job_type,
    read_only,
    read_preference,
)
from domain.goals.text import plain
from domain.jobs import Preference


@dataclass(frozen=True, slots=True)
class Findings:
    """text: as the readers take it; all spans are of it."""

    text: str
    money: tuple[Amount, ...]
    durations: Durations
    gpus: Gpus
    deadline: Deadline
    job_type: JobType | None
    preference: Preference | None
    excluded: NamedVendors
    only: NamedVendors
    unusable: InvalidInput | None
    """Why the job's length or the number of GPUs, as said, cannot be rented."""


def find(goal: str, now: datetime | None) -> Findings:
    """now: aware, in the speaker's time zone; without it no deadline is read."""
    text = plain(goal)
    money = tuple(amounts(text))
    durations, gpus, unusable = Durations(None, None), Gpus(None, None), None
    try:
        durations = read_durations(text, [(a.start, a.end) for a in money])
    except InvalidInput as problem:
        unusable = problem
    try:
        gpus = read_gpus(text)
    except InvalidInput as problem:
        unusable = unusable or problem
    return Findings(
        text,
        money,
        durations,
        gpus,
        read_deadline(text, now, durations.within) if now else Deadline(None),
        read_job_type(text),
        read_preference(text),
        read_excluded(text),
        read_only(text),
        unusable,
    )
