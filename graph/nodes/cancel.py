"""cancel: stop the vendor's job, verify that it stopped, claim the refund, end the run."""

from __future__ import annotations

from langgraph.types import Command

from domain.errors import VendorError
from domain.jobs import JobStatus
from domain.journal import NoteType
from domain.payments import PaymentState
from graph.context import TickContext
from graph.routing import Phase, go, rest
from graph.state import AgentState
from graph.steps.delivery import deliver, open_job
from graph.steps.ending import call_off
from graph.steps.job_reports import write_down
from graph.steps.work import chain_permitting, close_slots, stop_job, without_job
from ledger.jobs import Job
from tools.vendors.base import Accepted

MOST_TRIES = 5
"""Ticks that try to stop a job at a vendor that does not answer, before the run ends anyway; the
closing of its books goes on trying.
"""


async def cancel(state: AgentState, context: TickContext) -> Command[str]:
    current = await context.ledger.jobs.current(context.run)
    if current and current.status is JobStatus.COMPLETED:  # stored before an interruption
        return go(Phase.MONITOR, cancel=False)
    job = await _job(context, current)
    why, ended, unstopped = context.run.cancel_requested, None, None
    if job:
        tries = (state.get("stops") or 0) + 1
        try:
            ended = await stop_job(context, job)
        except VendorError as error:
            context.note(NoteType.CANCEL_FAILED, str(error), vendorId=job.vendor_id)
            if tries < MOST_TRIES:
                phase = Phase(state.get("phase") or Phase.MONITOR)
                return rest(phase, f"Cancelling: {error}", stops=tries)
            why += f"; {job.vendor_id} did not confirm that its job stopped"
            unstopped = context.deps.now()
        if ended and ended.status is JobStatus.COMPLETED:
            await write_down(context, job, ended, context.deps.now())
            context.note(
                NoteType.CANCEL_TOO_LATE, "The job had completed before it could be cancelled"
            )
            return go(Phase.MONITOR, cancel=False)
        await context.ledger.jobs.update(
            job,
            status=JobStatus.CANCELLED,
            error_message=why,
            unstopped=unstopped,
            updated_at=context.deps.now(),
        )
    with chain_permitting(context):  # what the chain cannot tell is closed later
        await close_slots(context)
        await context.deps.refunds.confirm(context.run.id, context.observe)
    return await call_off(context, why, cancel=False)


async def _job(context: TickContext, current: Job | None) -> Job | None:
    """The run's job; where one was paid for and its vendor has not said which, it is asked."""
    if current and not current.status.ended:
        return current
    jobs = await context.ledger.jobs.of_run(context.run)
    for payment in without_job(await context.ledger.payments.of_run(context.run.id), jobs):
        if payment.state is PaymentState.SETTLED:
            delivery = await deliver(context, payment)
            if isinstance(delivery.goods, Accepted):
                return await open_job(context, payment, delivery.goods.vendor_job_id)
    return None
