"""cancel: stop the vendor's job, verify that it stopped, claim the refund, end the run."""

from __future__ import annotations

from langgraph.types import Command

from domain.errors import ChainDown, VendorError
from domain.jobs import JobStatus, RunStatus
from graph.deps import Desk
from graph.routing import Phase, go, rest
from graph.state import AgentState
from ledger.jobs import Job
from tools.vendors.base import JobReport

MOST_TRIES = 5
"""Ticks that try to stop a job at a vendor that does not answer, before the run ends anyway."""


async def cancel(state: AgentState, desk: Desk) -> Command[str]:
    job = await desk.ledger.jobs.find(desk.run.job_id) if desk.run.job_id else None
    why, ended = desk.run.cancel_requested, None
    if job and not job.status.ended:
        tries = (state.get("sends") or 0) + 1
        try:
            ended = await _stop(desk, job)
        except VendorError as error:
            desk.note("cancel_failed", str(error), vendorId=job.vendor_id)
            if tries < MOST_TRIES:
                phase = Phase(state.get("phase") or Phase.MONITOR)
                return rest(phase, f"Cancelling: {error}", sends=tries)
            why += f"; {job.vendor_id} did not confirm that its job stopped"
        if ended and ended.status is JobStatus.COMPLETED:
            desk.note("cancel_too_late", "The job had completed before it could be cancelled")
            return go(Phase.MONITOR, cancel=False)
        await desk.ledger.jobs.update(
            job,
            status=JobStatus.CANCELLED.value,
            error_message=why,
            updated_at=desk.deps.now(),
        )
    await _close_books(desk)
    await desk.ledger.runs.end(desk.lease, RunStatus.CANCELLED, why, desk.deps.now())
    desk.note("run_cancelled", f"The run was cancelled: {why}", key="run_ended")
    return rest(Phase.ENDED, "Run cancelled", cancel=False)


async def _stop(desk: Desk, job: Job) -> JobReport:
    """The vendor's report after the stop. Raises VendorError while the job is not seen to end."""
    try:
        cancelled = await desk.deps.vendors.cancel_job(job, job.vendor_job_id)
        if cancelled.refund:
            await desk.deps.refunds.claim(job, cancelled.refund, desk.observe)
    except VendorError as error:
        desk.note("cancel_refused", str(error), vendorId=job.vendor_id)
    report = await desk.deps.vendors.job_status(job, job.vendor_job_id)
    if report.refund:
        await desk.deps.refunds.claim(job, report.refund, desk.observe)
    if not report.status.ended:
        raise VendorError(job.vendor_id, "cancel-job", "its job still runs", "It is tried again")
    return report


async def _close_books(desk: Desk) -> None:
    """Release what was never signed, and book what the chain shows; the rest is closed later."""
    for held in desk.run.reservations:
        await desk.deps.cashier.judge.abandon(desk.run, held.slot, desk.observe)
    await desk.reread()
    try:
        await desk.deps.cashier.judge.judge_open(desk.run, desk.observe)
        await desk.deps.refunds.confirm(desk.run.id, desk.observe)
    except ChainDown as error:
        desk.note("chain_unreachable", str(error))
