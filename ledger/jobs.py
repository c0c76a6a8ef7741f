"""Jobs: what runs at a vendor, as far as the agent has seen.

While a job runs, what each poll finds of it stands in its run's document (ledger/run.py,
LastPoll); everything that reads a job here gives it as it was last seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field
from pymongo import ASCENDING, IndexModel

from domain.jobs import JobStatus
from domain.mapping import Id, Mapped, Object
from domain.vendor_secrets import GPU_VENDOR_SECRET
from ledger import runs
from ledger.run import LastPoll, Run
from ledger.runs import Runs
from ledger.spenders import no_run
from ledger.store import Document, Store

COLLECTION: Final = "jobs"


@dataclass(frozen=True, slots=True)
class Job(Mapped):
    """A job as it was last seen."""

    id: Id
    run_id: str
    vendor_id: str
    endpoint: str
    """Where the vendor was reached at launch; its job is followed there."""
    vendor_job_id: str
    payment_id: str
    status: JobStatus
    gpu_type: str
    minutes: int
    """GPU time paid for so far."""
    needed_minutes: int
    """GPU time that the whole job is expected to need."""
    created_at: datetime
    updated_at: datetime
    progress_at: datetime
    """See LastPoll, as for the next six."""
    progress: float = 0.0
    lines: Annotated[int, Field(alias="logLines")] = 0
    poll_failures: int = 0
    failing_since: datetime | None = None
    seen_in: int = 0
    used_minutes: float = 0.0
    slices: int = 1
    """How many purchases of time it had, the launch included."""
    last_slice: int = 0
    """Minutes of the newest purchase."""
    extension_id: str | None = None
    """The payment for more time that is under way."""
    extensions: tuple[str, ...] = ()
    """The payments for more time that the vendor has taken."""
    metrics: Annotated[Object, Field(alias="finalMetrics")] = field(default_factory=dict)
    artifact_url: str | None = None
    artifact_sha256: str | None = None
    artifact_path: str | None = None
    error_message: str | None = None
    unstopped: datetime | None = None
    """Since when it is given up although its vendor has not said that it stopped."""
    secret_env: Annotated[str | None, Field(alias="vendorSecretEnv")] = GPU_VENDOR_SECRET
    """The variable with the secret that its vendor is shown, as it was at launch. Earlier versions
    stored none: they showed this one to all.
    """
    left_over: tuple[str, ...] = ()
    """The run's earlier jobs that were given up and not yet stopped when this one was launched."""


class Jobs:
    def __init__(self, store: Store) -> None:
        self.documents = store.documents(COLLECTION)
        self._runs = store.documents(runs.COLLECTION)

    async def ensure_indexes(self) -> None:
        await self.documents.ensure_indexes(
            [IndexModel([("runId", ASCENDING)]), IndexModel([("vendorJobId", ASCENDING)])]
        )

    async def find(self, job_id: str) -> Job | None:
        document = await self.documents.get(job_id)
        if document is None:
            return None
        found = await self._runs.find({"_id": document["runId"]}, fields={"sighting": 1})
        sighting = found[0].get("sighting") if found else None
        return _seen(Job.of(document), LastPoll.of(sighting) if sighting else None)

    async def current(self, run: Run) -> Job | None:
        """The run's current job; one read, because `run` holds what was last seen of it."""
        document = await self.documents.get(run.job_id) if run.job_id else None
        return job_of(document, run) if document else None

    async def of_run(self, run: Run) -> list[Job]:
        """In the order of their launch, the one at work as the run as read has it."""
        found = await self.documents.find({"runId": run.id}, sort=[("createdAt", 1)])
        return [job_of(document, run) for document in found]

    async def of_runs(self, runs: Sequence[Run]) -> list[Job]:
        """The jobs of these runs; current ones as the given runs saw them last."""
        read = {run.id: run for run in runs}
        found = await self.documents.find({"runId": {"$in": list(read)}}) if read else []
        return [job_of(document, read[document["runId"]]) for document in found]

    async def of_vendor(self, vendor_id: str, vendor_job_id: str) -> Job | None:
        """The newest job that the vendor knows by this id."""
        found = await self.documents.find(
            {"vendorJobId": vendor_job_id, "vendorId": vendor_id}, sort=[("createdAt", -1)], limit=1
        )
        return Job.of(found[0]) if found else None

    async def called_back(self, job_id: str, sent_at: datetime) -> bool:
        """Note a vendor's callback; False when it, or one sent as late, came before."""
        before = {"calledBackAt": {"$not": {"$gte": sent_at}}}
        return await self.documents.change(job_id, before, {"$set": {"calledBackAt": sent_at}})

    async def open(self, job: Job) -> None:
        """Store a launched job; a second time changes nothing."""
        await self.documents.insert(job.document())

    async def update(self, job: Job, **fields: Any) -> bool:
        """Set `fields` (names of Job) while the job has not ended, together with what `job` says
        was last seen of it; returns whether that applied.
        """
        changed = replace(job, **fields).document(*_SEEN, *fields)
        return await self.documents.change(
            job.id,
            {"status": {"$in": [JobStatus.QUEUED.value, JobStatus.RUNNING.value]}},
            {"$set": changed},
        )

    async def set_extension(self, job_id: str, payment_id: str) -> None:
        """Note which payment for more time is under way."""
        await self.documents.change(job_id, {}, {"$set": {"extensionId": payment_id}})

    async def close_extension(self, job_id: str, payment_id: str) -> None:
        """Note that this payment for more time came to nothing. Another stays under way."""
        this = {"extensionId": payment_id}
        await self.documents.change(job_id, this, {"$set": {"extensionId": None}})

    async def name(self, job_id: str, vendor_job_id: str) -> None:
        """Store the id that its vendor knows the job by, where that came late."""
        await self.documents.change(job_id, {}, {"$set": {"vendorJobId": vendor_job_id}})

    async def unstopped(self, job_id: str, since: datetime | None) -> None:
        """Store since when the job waits to be stopped; None once nothing of it is left to stop."""
        await self.documents.change(job_id, {}, {"$set": {"unstopped": since}})

    async def set_left_over(self, job_id: str, left: Sequence[str]) -> None:
        """Note which jobs from before this one are still to be stopped."""
        await self.documents.change(job_id, {}, {"$set": {"leftOver": list(left)}})

    async def set_artifact(self, job_id: str, sha256: str, path: str) -> None:
        """Note the downloaded artifact."""
        await self.documents.change(
            job_id, {}, {"$set": {"artifactSha256": sha256, "artifactPath": path}}
        )

    async def extend(self, job: Job, payment_id: str, minutes: int, now: datetime) -> bool:
        """Book more time, once per payment, together with what `job` says was last seen of it;
        returns whether that applied.
        """
        return await self.documents.change(
            job.id,
            {"extensions": {"$ne": payment_id}},
            {
                "$inc": {"minutes": minutes, "slices": 1},
                "$push": {"extensions": payment_id},
                "$set": {
                    **job.document(*_SEEN),
                    "extensionId": None,
                    "lastSlice": minutes,
                    "updatedAt": now,
                },
            },
        )


_SEEN: Final = (
    "progress",
    "progress_at",
    "lines",
    "poll_failures",
    "failing_since",
    "seen_in",
    "used_minutes",
)


def job_of(document: Document, run: Run) -> Job:
    """A stored job, brought up to date with the run's last poll."""
    return _seen(Job.of(document), run.last_poll)


def last_poll(job: Job) -> LastPoll:
    """What a run's document keeps of a job that was just polled."""
    seen = {name: getattr(job, name) for name in _SEEN}
    return LastPoll(job_id=job.id, at=job.updated_at, **seen)


def _seen(job: Job, last: LastPoll | None) -> Job:
    """The job with what was seen of it since its document was written."""
    if last is None or last.job_id != job.id or job.status.ended or last.seen_in < job.seen_in:
        return job
    seen = {name: getattr(last, name) for name in _SEEN}
    return replace(job, updated_at=last.at, **seen)


_JOINED: Final = (
    {
        "$lookup": {
            "from": COLLECTION,
            "localField": "currentJobId",
            "foreignField": "_id",
            "as": "_jobs",
        }
    },
)


@dataclass(frozen=True, slots=True)
class Followed:
    """A run and its job, read together."""

    run: Run
    job: Job | None
    """The job at work, or the last one."""


async def follow(runs: Runs, run_id: str) -> Followed:
    """Read a run together with its job. Raises NotFound."""
    found = await runs.documents.aggregate([{"$match": {"_id": run_id}}, *_JOINED])
    if not found:
        raise no_run(run_id)
    run = Run.of(found[0])
    job = next((job_of(document, run) for document in found[0]["_jobs"]), None)
    return Followed(run, job)
