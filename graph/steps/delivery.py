"""Sending a payment, and opening the job that it bought: for launch, extend and cancel."""

from __future__ import annotations

from contextlib import suppress

from domain.errors import NotFound
from domain.ids import job_id
from domain.jobs import JobStatus
from graph.context import TickContext
from graph.steps.work import spec_of
from ledger.jobs import Job
from ledger.payments import Payment
from tools.payments.purchase import Delivery


async def deliver(context: TickContext, payment: Payment) -> Delivery:
    """Send the payment, and let the chain judge it. An unregistered vendor is sent nothing."""
    try:
        vendor = await context.ledger.vendors.get(payment.vendor_id)
    except NotFound as gone:
        judged = await context.deps.cashier.judge.judge(
            context.run, payment, context.observe, str(gone)
        )
        return Delivery(judged, None, str(gone))
    return await context.deps.cashier.deliver(context.lease, payment, vendor, context.observe)


async def open_job(
    context: TickContext,
    payment: Payment,
    vendor_job_id: str,
    error: str | None = None,
    *,
    current: bool = True,
) -> Job:
    """Store the job that a payment bought; with `error`, one that was paid for and given up.

    current: whether the run follows it from now on. A job without its vendor's id may run all the
    same: closing the run's books asks for it again.
    """
    now, endpoint, secret_env = context.deps.now(), "", None
    with suppress(NotFound):
        vendor = await context.ledger.vendors.get(payment.vendor_id)
        endpoint, secret_env = vendor.endpoint, vendor.secret_env
    job = Job(
        id=job_id(payment.id),
        run_id=context.run.id,
        vendor_id=payment.vendor_id,
        endpoint=endpoint,
        secret_env=secret_env,
        vendor_job_id=vendor_job_id,
        payment_id=payment.id,
        status=JobStatus.FAILED if error else JobStatus.RUNNING,
        gpu_type=payment.gpu_type,
        minutes=payment.minutes,
        needed_minutes=max(payment.minutes, spec_of(context.run).minutes),
        last_slice=payment.minutes,
        created_at=now,
        updated_at=now,
        progress_at=now,
        error_message=error,
        unstopped=None if vendor_job_id else now,
        left_over=tuple(j.id for j in await context.ledger.jobs.of_run(context.run) if j.unstopped),
    )
    await context.ledger.jobs.open(job)
    if current:
        await context.ledger.runs.update(context.lease, {"currentJobId": job.id})
    return job
