"""monitor: poll the vendor once, and write down what is new."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from langgraph.types import Command

from domain.due import until_renewal_s
from domain.errors import VendorError
from domain.jobs import JobStatus
from domain.journal import NoteType
from graph.context import TickContext
from graph.routing import Phase, go, rest
from graph.state import AgentState
from graph.steps.artifacts import fetch_artifact
from graph.steps.ending import complete
from graph.steps.extension import next_slice
from graph.steps.job_reports import write_down
from graph.steps.settlement import stop_left_over
from graph.steps.work import book_outcome, chain_permitting, stop_job
from ledger.jobs import Job
from tools.vendors.base import JobReport


async def monitor(state: AgentState, context: TickContext) -> Command[str]:
    await _judge_open_payments(context)
    job = await context.current_job()
    if job is None:
        return go(Phase.ASSESS_BUDGET)
    if job.status is JobStatus.COMPLETED:
        return await _complete(context, job)
    if job.status.ended:
        return _failed(context, job, job.error_message or f"its job is {job.status}")
    # An answer may arrive late, so it is judged by the time of the question.
    at = context.deps.now()
    try:
        report = await context.deps.vendors.job_status(job, job.vendor_job_id)
    except VendorError as error:
        return await _unanswered(context, job, error, at)
    if report.status.ended and report.refund:
        # Before the job is written down as ended: it is not polled again after that.
        await context.deps.refunds.claim(job, report.refund, context.observe)
    seen = await write_down(context, job, report, at)
    match report.status:
        case JobStatus.COMPLETED:
            return await _complete(context, job)
        case JobStatus.FAILED | JobStatus.CANCELLED:
            return _failed(context, job, report.error_message or f"its job {report.status}")
        case _:
            return await _still_running(state, context, seen, report, at)


async def _judge_open_payments(context: TickContext) -> None:
    """Judge open payments again: a job may start before the chain shows its payment."""
    if not context.run.reservations:
        return
    with chain_permitting(context):
        await context.deps.cashier.judge.judge_open(context.run, context.observe)
    await context.reread()


async def _still_running(
    state: AgentState, context: TickContext, job: Job, report: JobReport, at: datetime
) -> Command[str]:
    if job.left_over and _is_time(context.run.quiet_ticks):
        await stop_left_over(context, job)
    if at - job.progress_at > timedelta(minutes=context.deps.limits.stall_minutes):
        return await _lost(
            context, job, f"no progress for {context.deps.limits.stall_minutes:g} minutes"
        )
    if report.used_minutes is not None and job.minutes < job.needed_minutes:
        context.look_within_s = until_renewal_s(job.minutes, report.used_minutes, job.last_slice)
    decision = state.get("decision")
    return await next_slice(context, job, report, decision) or rest(
        Phase.MONITOR, "Job still running"
    )


def _is_time(quiet_ticks: int) -> bool:
    """Whether to try again, ever more rarely: at the 4th tick without news, the 8th, the 16th …"""
    return quiet_ticks >= 4 and quiet_ticks.bit_count() == 1


async def _unanswered(
    context: TickContext, job: Job, error: VendorError, at: datetime
) -> Command[str]:
    """Give the job up once its vendor missed several polls over a long time: a restarting vendor is
    away for a minute, and still has the paid job afterwards.
    """
    failures, limits = job.poll_failures + 1, context.deps.limits
    since = min(job.failing_since or at, at)
    context.note(NoteType.POLL_FAILED, f"{error} ({failures} in a row)", vendorId=job.vendor_id)
    seen = replace(
        job,
        poll_failures=failures,
        failing_since=since,
        seen_in=context.tick,
        updated_at=at,
    )
    context.saw(seen)
    context.turned = failures == 1
    minutes = (at - since) / timedelta(minutes=1)
    if failures >= limits.poll_failure_limit and minutes >= limits.silent_minutes:
        return await _lost(context, seen, f"{failures} polls in a row failed: {error}")
    return rest(Phase.MONITOR, "Job still running")


async def _lost(context: TickContext, job: Job, why: str) -> Command[str]:
    """Give up a job that does not end by itself, after telling its vendor to stop it.

    If it completed unseen, it counts as completed. If its vendor does not stop it now, it is
    stopped after the run's end.
    """
    context.check_lease()  # a suspended tick must not stop a healthy job
    now, unstopped = context.deps.now(), None
    try:
        report = await stop_job(context, job)
    except VendorError as error:
        context.note(NoteType.CANCEL_FAILED, str(error), vendorId=job.vendor_id)
        unstopped = now
    else:
        if report.status is JobStatus.COMPLETED:
            await write_down(context, job, report, now)
            return await _complete(context, job)
    await context.ledger.jobs.update(
        job,
        status=JobStatus.FAILED,
        error_message=why,
        unstopped=unstopped,
        updated_at=now,
    )
    return _failed(context, job, why)


async def _complete(context: TickContext, job: Job) -> Command[str]:
    """job: as it was seen last, before its end."""
    done = await context.ledger.jobs.find(job.id)
    trouble = await fetch_artifact(context, done) if done else None
    await book_outcome(context, job, trouble)
    return await complete(context, job.vendor_id)


def _failed(context: TickContext, job: Job, why: str) -> Command[str]:
    context.turned = True
    return go(Phase.RECOVER, failure={"vendor_id": job.vendor_id, "why": why, "job_id": job.id})
