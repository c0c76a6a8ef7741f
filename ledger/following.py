"""A run and its job at work, read by one command: what a tick begins with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger import jobs
from ledger.jobs import Job, job_of
from ledger.run import Run, run_of
from ledger.runs import Runs, no_run

_JOINED: Final = (
    {
        "$lookup": {
            "from": jobs.COLLECTION,
            "localField": "currentJobId",
            "foreignField": "_id",
            "as": "_jobs",
        }
    },
)


@dataclass(frozen=True, slots=True)
class Followed:
    """A run as it was read, with what belongs to it."""

    run: Run
    job: Job | None
    """The job at work, or the last one."""


async def follow(runs: Runs, run_id: str) -> Followed:
    """Raises NotFound."""
    found = await runs.documents.aggregate([{"$match": {"_id": run_id}}, *_JOINED])
    if not found:
        raise no_run(run_id)
    run = run_of(found[0])
    job = next((job_of(document, run) for document in found[0]["_jobs"]), None)
    return Followed(run, job)
