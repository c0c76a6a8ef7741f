"""Jobs: what runs at a vendor, as far as the agent has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pymongo import ASCENDING, IndexModel

from domain.jobs import JobStatus
from ledger.store import Document, Store

COLLECTION: Final = "jobs"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as stored. `lines` counts the vendor's log lines that are in the journal already."""

    id: str
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
    """When progress was last seen to grow."""
    progress: float = 0.0
    lines: int = 0
    poll_failures: int = 0
    """Polls in a row that got no usable answer."""
    slices: int = 1
    """Purchases of time, the launch included."""
    last_slice: int = 0
    """Minutes of the newest purchase."""
    extension_id: str | None = None
    """The payment for more time that is under way."""
    extensions: tuple[str, ...] = ()
    """The payments for more time that the vendor has taken."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    artifact_url: str | None = None
    artifact_sha256: str | None = None
    artifact_path: str | None = None
    error_message: str | None = None


def job_id(payment_id: str) -> str:
    """The id of the job that a payment launches."""
    return "job_" + payment_id.removeprefix("pay_")


class Jobs:
    def __init__(self, store: Store) -> None:
        self.documents = store.documents(COLLECTION)

    async def ensure_indexes(self) -> None:
        await self.documents.ensure_indexes(
            [IndexModel([("runId", ASCENDING)]), IndexModel([("vendorJobId", ASCENDING)])]
        )

    async def find(self, job_id: str) -> Job | None:
        document = await self.documents.get(job_id)
        return _job(document) if document else None

    async def of_run(self, run_id: str) -> list[Job]:
        """In the order of their launch."""
        found = await self.documents.find({"runId": run_id}, sort=[("createdAt", 1)])
        return [_job(document) for document in found]

    async def of_vendor(self, vendor_id: str, vendor_job_id: str) -> Job | None:
        """The newest job that the vendor knows by this id."""
        found = await self.documents.find(
            {"vendorJobId": vendor_job_id, "vendorId": vendor_id}, sort=[("createdAt", -1)], limit=1
        )
        return _job(found[0]) if found else None

    async def called_back(self, job_id: str, sent_at: datetime) -> bool:
        """Note a vendor's callback; False when it, or one sent as late, came before."""
        before = [{"calledBackAt": None}, {"calledBackAt": {"$lt": sent_at}}]
        return await self.documents.change(
            job_id, {"$or": before}, {"$set": {"calledBackAt": sent_at}}
        )

    async def open(self, job: Job) -> None:
        """Store a launched job; a second time changes nothing."""
        await self.documents.insert({s: getattr(job, n) for n, s in _FIELDS.items()})

    async def update(self, job: Job, **fields: Any) -> bool:
        """Set fields (names of Job) while the job has not ended; say whether it applied."""
        return await self.documents.change(
            job.id,
            {"status": {"$in": [JobStatus.QUEUED.value, JobStatus.RUNNING.value]}},
            {"$set": {_FIELDS[name]: value for name, value in fields.items()}},
        )

    async def set_extension(self, job_id: str, payment_id: str | None) -> None:
        """Note which payment for more time is under way."""
        await self.documents.change(job_id, {}, {"$set": {"extensionId": payment_id}})

    async def set_artifact(self, job_id: str, sha256: str, path: str) -> None:
        """Note the downloaded artifact."""
        await self.documents.change(
            job_id, {}, {"$set": {"artifactSha256": sha256, "artifactPath": path}}
        )

    async def extend(self, job: Job, payment_id: str, minutes: int, now: datetime) -> bool:
        """Book more time, once per payment; say whether it applied."""
        return await self.documents.change(
            job.id,
            {"extensions": {"$ne": payment_id}},
            {
                "$inc": {"minutes": minutes, "slices": 1},
                "$push": {"extensions": payment_id},
                "$set": {"extensionId": None, "lastSlice": minutes, "updatedAt": now},
            },
        )


_FIELDS: Final = {
    "id": "_id",
    "run_id": "runId",
    "vendor_id": "vendorId",
    "endpoint": "endpoint",
    "vendor_job_id": "vendorJobId",
    "payment_id": "paymentId",
    "status": "status",
    "gpu_type": "gpuType",
    "minutes": "minutes",
    "needed_minutes": "neededMinutes",
    "slices": "slices",
    "last_slice": "lastSlice",
    "extension_id": "extensionId",
    "extensions": "extensions",
    "created_at": "createdAt",
    "updated_at": "updatedAt",
    "progress_at": "progressAt",
    "progress": "progress",
    "lines": "logLines",
    "poll_failures": "pollFailures",
    "metrics": "finalMetrics",
    "artifact_url": "artifactUrl",
    "artifact_sha256": "artifactSha256",
    "artifact_path": "artifactPath",
    "error_message": "errorMessage",
}


def _job(document: Document) -> Job:
    values = {name: document[stored] for name, stored in _FIELDS.items()}
    return Job(
        **values
        | {"status": JobStatus(document["status"]), "extensions": tuple(document["extensions"])}
    )
