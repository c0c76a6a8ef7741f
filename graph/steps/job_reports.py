"""A vendor's report of a job, into the journal and the ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from domain.journal import NoteType
from graph.context import TickContext
from ledger.jobs import Job
from tools.vendors.base import JobReport


def _kept(report: JobReport) -> dict[str, Any]:
    """What the job's document keeps of a report: fields of Job."""
    return {
        "status": report.status,
        "metrics": dict(report.final_metrics),
        "artifact_url": report.artifact_url,
        "error_message": report.error_message,
    }


def changes_job(job: Job, report: JobReport) -> bool:
    """Whether a report changes the job's document: not by progress and log lines alone."""
    return any(getattr(job, name) != value for name, value in _kept(report).items())


async def write_down(context: TickContext, job: Job, report: JobReport, at: datetime) -> Job:
    """Store what is new in a report that was asked for `at`; returns the job as seen now.

    A changed status is stored at once: the vendor may not report it again.
    """
    for number, line in enumerate(report.logs[job.lines :], start=job.lines + 1):
        context.note(NoteType.JOB_LOG, line, key=f"{job.id}:line:{number}", line=number)
    await context.flush()
    seen = replace(
        job,
        progress=report.progress,
        lines=max(job.lines, len(report.logs)),
        poll_failures=0,
        failing_since=None,
        seen_in=context.tick,
        progress_at=at if report.progress > job.progress else job.progress_at,
        updated_at=at,
        used_minutes=report.used_minutes or 0.0,
    )
    context.saw(seen)
    if changes_job(job, report):
        changes = _kept(report) | {"status": report.status.value}
        await context.ledger.jobs.update(seen, **changes, updated_at=at)
    return seen
