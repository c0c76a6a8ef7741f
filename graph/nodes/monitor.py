"""monitor: poll the vendor once, and write down what is new."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from langgraph.types import Command

from domain.due import until_renewal_s
from domain.errors import VendorError
from domain.jobs import JobStatus
from domain.reliability import Trouble
from graph.deps import Desk
from graph.ending import complete
from graph.extending import next_slice
from graph.routing import Phase, go, rest
from graph.state import AgentState
from graph.work import book_outcome, chain_permitting, stop_job
from ledger.jobs import Job
from tools.vendors.base import JobReport


async def monitor(state: AgentState, desk: Desk) -> Command[str]:
    job = await desk.ledger.jobs.current(desk.run)
    if job is None:
        return go(Phase.ASSESS_BUDGET)
    await _judge_open_payments(desk)
    if job.status is JobStatus.COMPLETED:
        return await _complete(desk, job)
    if job.status.ended:
        return _failed(desk, job, job.error_message or f"its job is {job.status}")
    try:
        report = await desk.deps.vendors.job_status(job, job.vendor_job_id)
    except VendorError as error:
        return await _unanswered(desk, job, error)
    if report.status.ended and report.refund:
        # Before the job is written down as ended: it is not polled again after that.
        await desk.deps.refunds.claim(job, report.refund, desk.observe)
    seen = await _write_down(desk, job, report)
    match report.status:
        case JobStatus.COMPLETED:
            return await _complete(desk, job)
        case JobStatus.FAILED | JobStatus.CANCELLED:
            return _failed(desk, job, report.error_message or f"its job {report.status}")
        case _:
            return await _still_running(state, desk, seen, report)


async def _judge_open_payments(desk: Desk) -> None:
    """A job may start before its payment is seen on the chain: look again until it is closed."""
    if not desk.run.reservations:
        return
    with chain_permitting(desk):
        await desk.deps.cashier.judge.judge_open(desk.run, desk.observe)
    await desk.reread()


async def _write_down(desk: Desk, job: Job, report: JobReport) -> Job:
    """Into the journal and the ledger what is new; the job as it is seen now."""
    for number, line in enumerate(report.logs[job.lines :], start=job.lines + 1):
        desk.note("job_log", line, key=f"{job.id}:line:{number}", line=number)
    await desk.flush()
    now = desk.deps.now()
    seen = replace(
        job,
        progress=report.progress,
        lines=max(job.lines, len(report.logs)),
        poll_failures=0,
        progress_at=now if report.progress > job.progress else job.progress_at,
        updated_at=now,
    )
    desk.saw(seen)
    told = {
        "status": report.status.value,
        "metrics": dict(report.final_metrics),
        "artifact_url": report.artifact_url,
        "error_message": report.error_message,
    }
    if any(getattr(job, name) != value for name, value in told.items()):
        await desk.ledger.jobs.update(seen, **told, updated_at=now)
    return seen


async def _still_running(
    state: AgentState, desk: Desk, job: Job, report: JobReport
) -> Command[str]:
    if desk.deps.now() - job.progress_at > timedelta(minutes=desk.deps.limits.stall_minutes):
        return await _lost(desk, job, f"no progress for {desk.deps.limits.stall_minutes:g} minutes")
    if report.used_minutes is not None and job.minutes < job.needed_minutes:
        desk.look_within_s = until_renewal_s(job.minutes, report.used_minutes, job.last_slice)
    decision = state.get("decision")
    return await next_slice(desk, job, report, decision) or rest(Phase.MONITOR, "Job still running")


async def _unanswered(desk: Desk, job: Job, error: VendorError) -> Command[str]:
    failures, limit = job.poll_failures + 1, desk.deps.limits.poll_failure_limit
    desk.note("poll_failed", f"{error} ({failures} of {limit})", vendorId=job.vendor_id)
    seen = replace(job, poll_failures=failures, updated_at=desk.deps.now())
    desk.saw(seen)
    desk.turned = failures == 1
    if failures >= limit:
        return await _lost(desk, seen, f"{failures} polls in a row failed: {error}")
    return rest(Phase.MONITOR, "Job still running")


async def _lost(desk: Desk, job: Job, why: str) -> Command[str]:
    """Give a job up that does not end by itself, after telling its vendor to stop it.

    It may have completed unseen: then it is taken as it is.
    """
    try:
        report = await stop_job(desk, job)
    except VendorError as error:
        desk.note("cancel_failed", str(error), vendorId=job.vendor_id)
    else:
        if report.status is JobStatus.COMPLETED:
            await _write_down(desk, job, report)
            return await _complete(desk, job)
    await desk.ledger.jobs.update(
        job, status=JobStatus.FAILED.value, error_message=why, updated_at=desk.deps.now()
    )
    return _failed(desk, job, why)


async def _complete(desk: Desk, job: Job) -> Command[str]:
    await book_outcome(desk, job, await _fetch_artifact(desk, job))
    return await complete(desk, job.vendor_id)


async def _fetch_artifact(desk: Desk, job: Job) -> Trouble | None:
    """Download the artifact. Without it the run is complete all the same; the journal says why.

    The trouble is a file that does not have the sha256 in the vendor's own final metrics.
    """
    done = await desk.ledger.jobs.find(job.id)
    if done is None or not done.artifact_url:
        return None
    try:
        artifact = await desk.deps.vendors.download(
            job, done.artifact_url, job.vendor_job_id, desk.deps.artifacts / desk.run.id
        )
    except (VendorError, OSError) as error:
        desk.note("artifact_failed", str(error)[:500], key=f"{job.id}:artifact")
        return None
    await desk.ledger.jobs.set_artifact(job.id, artifact.sha256, str(artifact.path))
    desk.note(
        "artifact",
        f"Downloaded {artifact.path.name}, {artifact.size:,} bytes",
        key=f"{job.id}:artifact",
        sha256=artifact.sha256,
    )
    said = str(done.metrics.get("artifactSha256") or artifact.sha256)
    return None if said.lower() == artifact.sha256.lower() else Trouble.DISHONEST


def _failed(desk: Desk, job: Job, why: str) -> Command[str]:
    desk.turned = True
    return go(Phase.RECOVER, failure={"vendor_id": job.vendor_id, "why": why, "job_id": job.id})
