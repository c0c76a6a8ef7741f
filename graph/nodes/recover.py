"""recover: book a failure, claim what is owed, and send the run back to look for another vendor."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from langgraph.types import Command

from domain.journal import NoteType
from domain.reliability import Trouble
from graph.context import TickContext
from graph.routing import Phase, rest
from graph.state import AgentState
from graph.steps.extension import refusals
from graph.steps.work import book_outcome, chain_permitting, spec_of
from ledger.jobs import Job
from ledger.vendors import End

_NEARLY: Final = 0.95
"""The share of the paid time that counts as all of it: progress is told in steps."""
TERMS: Final = frozenset({"scheme", "network", "asset", "payee", "amount", "quote", "validity"})
"""The spending rules that a challenge breaks by asking for something else than was agreed."""


async def recover(state: AgentState, context: TickContext) -> Command[str]:
    failure = state.get("failure") or {}
    vendor, why = failure.get("vendor_id", "a vendor"), failure.get("why", "it failed")
    await _book(context, failure)
    if context.deps.cashier.policy.approval_threshold is not None:
        await context.ledger.approvals.withdraw(context.run.id)  # of a job that is no more
    with chain_permitting(context):  # later refunds are booked by later ticks
        await context.deps.refunds.confirm(context.run.id, context.observe)
    run = await context.reread()
    context.note(
        NoteType.RECOVERY,
        f"{_what_failed(failure)}: {why}\nLooking for another vendor with {run.budget_remaining}",
        key=f"{failure['job_id']}:recovery" if failure.get("job_id") else None,
        vendorId=vendor,
        jobId=failure.get("job_id"),
    )
    return rest(
        Phase.ASSESS_BUDGET,
        "Job failed" if failure.get("job_id") else _message(failure, why),
        failure=None,
        decision=None,
        payment_id=None,
        accepted=None,
        sends=0,
        open_slot=None,
    )


def _what_failed(failure: Mapping[str, Any]) -> str:
    vendor = failure.get("vendor_id", "a vendor")
    if failure.get("unfunded"):
        return f"The wallet was short of money for {vendor}"
    return f"{vendor} failed"


def _message(failure: Mapping[str, Any], why: str) -> str:
    return f"Waiting for funds: {why}" if failure.get("unfunded") else f"Vendor failed: {why}"


async def _book(context: TickContext, failure: Mapping[str, Any]) -> None:
    """The failure into the vendor's record, and the vendor behind the others for a while."""
    vendor, job_id = failure.get("vendor_id"), failure.get("job_id")
    if job_id:
        job = await context.ledger.jobs.find(job_id)
        if job and not await _ran_out(context, job):
            await book_outcome(context, job, _trouble(job))
    elif vendor and not failure.get("unfunded"):
        # A purchase takes a slot, so the next failure to buy from the same vendor is another one.
        key = f"{context.run.id}:{context.run.next_slot}:not_bought"
        trouble = Trouble.OTHER_TERMS if failure.get("rule") in TERMS else Trouble.REFUSED
        offered = (o.quote.gpu_type for o in context.run.offers if o.quote.vendor_id == vendor)
        end = End(key, next(offered, spec_of(context.run).gpu_type), trouble)
        await context.ledger.vendors.record(vendor, end, context.deps.now())


async def _ran_out(context: TickContext, job: Job) -> bool:
    """Whether the job ended with the time that was paid for it, all of it worked, and its vendor
    would have sold more: it owed nothing.
    """
    worked = job.progress * job.needed_minutes
    passed = (job.updated_at - job.created_at) / timedelta(minutes=1)
    if context.deps.limits.vendors_clock:
        passed = worked
    used_up = job.minutes < job.needed_minutes and min(worked, passed) >= _NEARLY * job.minutes
    return used_up and await refusals(context, job) == 0


def _trouble(job: Job) -> Trouble:
    if not job.vendor_job_id:
        return Trouble.NO_JOB
    return Trouble.LOST_JOB if job.progress > 0 else Trouble.NEVER_BOOTED
