"""After a run's end: close its books as the chain decides, and leave nothing running."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from domain.errors import PaymentUnclear, VendorError, VendorRefused
from domain.jobs import JobStatus, RunStatus
from domain.journal import NoteType
from domain.payments import PaymentState
from graph.context import TickContext
from graph.routing import Phase
from graph.steps.artifacts import fetch_later
from graph.steps.delivery import deliver, open_job
from graph.steps.ending import last_note
from graph.steps.work import chain_permitting, close_slots, stop_job, without_job
from ledger.jobs import Job
from ledger.payments import Payment
from tools.payments.cashier import unclear_note
from tools.vendors.base import Accepted

PATIENCE: Final = timedelta(days=1)
"""How long after a run's end a vendor is asked to stop its job, and the refund that it claims is
looked for on the chain.
"""
GONE: Final = (404, 410)
"""A vendor's answers for "no such job". A proxy before a restarting vendor may give them too, so
they have to last.
"""


async def settle_ended(context: TickContext) -> bool:
    """Close what an ended run holds, waits for or has running; True when all is closed.

    Raises ChainDown, after everything that needs no chain.
    """
    if context.run.phase != Phase.ENDED.value:  # the tick that ended it got no further
        await _tell_the_end(context)
    jobs = await context.ledger.jobs.of_run(context.run)
    stopped = await _stop(context, [job for job in jobs if job.unstopped or not job.status.ended])
    unclear: list[Payment] = []
    if context.run.reservations:
        try:
            await close_slots(context)
        except PaymentUnclear as error:
            context.observe(unclear_note(error))
            unclear = await _unclear(context, jobs)
        await context.reread()
    unseen = [await open_job(context, payment, "", current=False) for payment in unclear]
    stopped = await _stop(context, unseen + await _unseen(context, jobs)) and stopped
    refunded = await context.deps.refunds.confirm(context.run.id, context.observe) or _long_over(
        context
    )
    await context.flush()  # a download may take long, and be cut off
    current = next((job for job in jobs if job.id == context.run.job_id), None)
    fetched = current is None or await fetch_later(context, current)
    await context.flush()
    if not (stopped and refunded and fetched) or context.run.reservations:
        return False
    await context.ledger.payments.drop_headers(context.run.id)
    return True


def _long_over(context: TickContext) -> bool:
    """Whether a claimed refund is awaited no longer; reconcile books one that comes later."""
    ended_at = context.run.ended_at
    return ended_at is not None and context.deps.now() - ended_at >= PATIENCE


async def _tell_the_end(context: TickContext) -> None:
    """Write the journal's last note, which is there once however often this is repeated."""
    run = context.run
    what: str = run.reason
    if run.status is RunStatus.COMPLETED:
        job = await context.ledger.jobs.current(run)
        what = job.vendor_id if job else ""
    context.observe(last_note(run.status, what))
    await context.flush()
    context.noted.clear()  # as news it would bring the next tick soon


async def stop_left_over(context: TickContext, job: Job) -> None:
    """Try once more to stop the jobs that were given up before `job` was launched: the run can
    still spend what is refunded for their unused time.
    """
    lost = [await context.ledger.jobs.find(job_id) for job_id in job.left_over]
    left = [j.id for j in lost if j and j.unstopped and not await _stopped(context, j)]
    if len(left) < len(job.left_over):
        await context.ledger.jobs.set_left_over(job.id, left)
        with chain_permitting(context):
            await context.deps.refunds.confirm(context.run.id, context.observe)


async def _unseen(context: TickContext, jobs: Sequence[Job]) -> list[Job]:
    """Jobs that were paid for and never reported: a payment may settle late."""
    payments = without_job(await context.ledger.payments.of_run(context.run.id), jobs)
    paid = [p for p in payments if p.state is PaymentState.SETTLED]
    return [await open_job(context, payment, "", current=False) for payment in paid]


async def _unclear(context: TickContext, jobs: Sequence[Job]) -> list[Payment]:
    """Signed payments that gave no job, and that nobody can explain: what they may have started is
    stopped. To send them again is safe, for their nonce is used.
    """
    payments = without_job(await context.ledger.payments.of_run(context.run.id), jobs)
    found = []
    for payment in payments:
        if payment.state is PaymentState.AUTHORIZED:
            try:
                await context.deps.cashier.judge.judge(context.run, payment, context.observe)
            except PaymentUnclear:
                found.append(payment)
    return found


async def _stop(context: TickContext, jobs: Sequence[Job]) -> bool:
    """Stop jobs; True when none of them may run on."""
    stopped = [await _stopped(context, job) for job in jobs]
    return all(stopped)


async def _stopped(context: TickContext, job: Job) -> bool:
    """Stop one; False while its vendor is to be asked again."""
    now = context.deps.now()
    why = "the run had ended" if context.run.status.ended else "it had been given up"
    since = min(job.unstopped or now, now)
    try:
        job = await _named(context, job)
        status = await _stop_at_vendor(context, job)
    except VendorError as error:
        silent = timedelta(minutes=context.deps.limits.silent_minutes)
        if now - since < (silent if _gone(error) else PATIENCE):
            await context.ledger.jobs.unstopped(job.id, since)
            return False
        status, why = JobStatus.FAILED, f"its vendor did not say that it stopped: {error}"
    await context.ledger.jobs.update(job, status=status, error_message=why, updated_at=now)
    await context.ledger.jobs.unstopped(job.id, None)
    context.note(
        NoteType.JOB_STOPPED,
        f"{job.vendor_id}: job {job.vendor_job_id} is {status}, for {why}",
        key=f"{job.id}:stopped",
    )
    return True


async def _stop_at_vendor(context: TickContext, job: Job) -> JobStatus:
    """How the job ended there. Where the vendor does not know the job's id, the id that its payment
    gives now is tried instead. Raises VendorError.
    """
    try:
        report = await stop_job(context, job)
    except VendorRefused as error:
        payment = await context.ledger.payments.get(job.payment_id)
        if not (_gone(error) and payment.on_chain and payment.state is PaymentState.SETTLED):
            raise
        other = await _named(context, replace(job, vendor_job_id=""))
        if other.vendor_job_id == job.vendor_job_id:
            raise
        report = await stop_job(context, other)
    completed = report.status is JobStatus.COMPLETED
    return JobStatus.COMPLETED if completed else JobStatus.CANCELLED


def _gone(error: VendorError) -> bool:
    return isinstance(error, VendorRefused) and error.status_code in GONE


async def _named(context: TickContext, job: Job) -> Job:
    """The job with the id that its vendor knows it by, asked for where it never came. Raises
    VendorError while it does not come.
    """
    if job.vendor_job_id:
        return job
    try:
        delivery = await deliver(context, await context.ledger.payments.get(job.payment_id))
    except PaymentUnclear as unclear:
        raise VendorError(
            job.vendor_id, "submit-job", unclear.problem, "It is tried again"
        ) from None
    if not isinstance(delivery.goods, Accepted):
        raise VendorError(job.vendor_id, "submit-job", delivery.problem, "It is tried again")
    await context.ledger.jobs.name(job.id, delivery.goods.vendor_job_id)
    return replace(job, vendor_job_id=delivery.goods.vendor_job_id)
