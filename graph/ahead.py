"""A look at a job: it is polled before the lease of its run is taken, and mostly instead of it.

A poll only reads. Of a job that just runs there is nothing to do but to remember what was seen,
and that is one write, which only holds if nobody had the lease since the run was read
(`Runs.look`). Whatever else there is to do is done under the lease, which is taken on the same
condition (`Runs.take`), so that the report is what it would have been a moment later; who does not
get the lease drops it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from graph.routing import Phase
from ledger.following import Followed
from ledger.jobs import Job
from ledger.store import Document
from tools.vendors.base import JobReport, VendorClient


@dataclass(frozen=True, slots=True)
class Ahead:
    """What the first step of a tick finds at hand, where that polls the run's job."""

    job: Job
    state: Document
    """The graph's newest checkpoint, as it is stored."""
    report: asyncio.Task[JobReport]
    """What the vendor says of the job. Raises VendorError."""
    asked_at: datetime

    def drop(self) -> None:
        """End the poll, where it is still under way."""
        self.report.cancel()


def poll_ahead(found: Followed, vendors: VendorClient, now: datetime) -> Ahead | None:
    """Begin to poll, if a tick of the run as read would do nothing before; None if it would."""
    run, job = found.run, found.job
    settled = not (run.cancel_requested or run.reservations or run.leased_until)
    if not (run.phase == Phase.MONITOR and settled and found.state):
        return None
    if job is None or job.status.ended or run.status.ended:
        return None
    report = asyncio.create_task(vendors.job_status(job, job.vendor_job_id))
    report.add_done_callback(_retrieve)
    return Ahead(job, found.state, report, now)


def _retrieve(report: asyncio.Task[JobReport]) -> None:
    """A dropped poll may have failed, which is nobody's business."""
    if not report.cancelled():
        report.exception()
