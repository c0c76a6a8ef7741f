"""A run, its job at work and its graph's state, read by one command: what most ticks need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger import jobs
from ledger.jobs import Job, job_of
from ledger.run import Run, run_of
from ledger.runs import Runs, no_run
from ledger.store import Document

CHECKPOINTS: Final = "checkpoints"
"""Where LangGraph's saver keeps the states of graphs; a run's has its id as `thread_id`."""

_JOINED: Final = (
    {
        "$lookup": {
            "from": jobs.COLLECTION,
            "localField": "currentJobId",
            "foreignField": "_id",
            "as": "_jobs",
        }
    },
    {
        "$lookup": {
            "from": CHECKPOINTS,
            "localField": "_id",
            "foreignField": "thread_id",
            "pipeline": [{"$match": {"checkpoint_ns": ""}}],
            "as": "_checkpoints",
        }
    },
)


@dataclass(frozen=True, slots=True)
class Followed:
    """A run as it was read, with what belongs to it."""

    run: Run
    job: Job | None
    """The job at work, or the last one."""
    state: Document | None
    """The newest checkpoint, as it is stored."""


async def follow(runs: Runs, run_id: str) -> Followed:
    """Raises NotFound."""
    found = await runs.documents.aggregate([{"$match": {"_id": run_id}}, *_JOINED])
    if not found:
        raise no_run(run_id)
    run = run_of(found[0])
    job = next((job_of(document, run) for document in found[0]["_jobs"]), None)
    states = found[0]["_checkpoints"]
    return Followed(run, job, max(states, key=lambda s: str(s["checkpoint_id"]), default=None))
