"""Sending a payment, and opening the job that it bought: for launch, extend and cancel."""

from __future__ import annotations

from contextlib import suppress

from domain.errors import NotFound
from domain.jobs import JobStatus
from graph.deps import Desk
from graph.steps.work import spec_of
from ledger.jobs import Job, job_id
from ledger.payments import Payment
from tools.payments.purchase import Delivery


async def deliver(desk: Desk, payment: Payment) -> Delivery:
    """Send the payment, and let the chain judge it; with its vendor struck off, only the latter."""
    try:
        vendor = await desk.ledger.vendors.get(payment.vendor_id)
    except NotFound as gone:
        judged = await desk.deps.cashier.judge.judge(desk.run, payment, desk.observe, str(gone))
        return Delivery(judged, None, str(gone))
    return await desk.deps.cashier.deliver(desk.lease, payment, vendor, desk.observe)


async def open_job(
    desk: Desk,
    payment: Payment,
    vendor_job_id: str,
    error: str | None = None,
    *,
    current: bool = True,
) -> Job:
    """The job that a payment bought; with `error`, one that was paid for and given up.

    current: whether it is the one that the run looks after from now on. Without a vendor's id for
    it, it may run all the same: whoever closes the run's books asks again.
    """
    now, endpoint, secret_env = desk.deps.now(), "", None
    with suppress(NotFound):
        vendor = await desk.ledger.vendors.get(payment.vendor_id)
        endpoint, secret_env = vendor.endpoint, vendor.secret_env
    job = Job(
        id=job_id(payment.id),
        run_id=desk.run.id,
        vendor_id=payment.vendor_id,
        endpoint=endpoint,
        secret_env=secret_env,
        vendor_job_id=vendor_job_id,
        payment_id=payment.id,
        status=JobStatus.FAILED if error else JobStatus.RUNNING,
        gpu_type=payment.gpu_type,
        minutes=payment.minutes,
        needed_minutes=max(payment.minutes, spec_of(desk.run).minutes),
        last_slice=payment.minutes,
        created_at=now,
        updated_at=now,
        progress_at=now,
        error_message=error,
        unstopped=None if vendor_job_id else now,
        left_over=tuple(j.id for j in await desk.ledger.jobs.of_run(desk.run) if j.unstopped),
    )
    await desk.ledger.jobs.open(job)
    if current:
        await desk.ledger.runs.update(desk.lease, {"currentJobId": job.id})
    return job
