"""After a run's end: its books are closed as the chain decides, and nothing is left running."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from domain.errors import VendorError, VendorRefused
from domain.jobs import JobStatus, RunStatus
from domain.payments import PaymentState
from graph.artifacts import fetch_later
from graph.delivery import deliver, open_job
from graph.deps import Desk
from graph.ending import last_note
from graph.routing import Phase
from graph.work import PATIENCE, close_slots, stop_job, without_job
from ledger.jobs import Job
from tools.vendors.base import Accepted

GONE: Final = (404, 410)
"""A vendor's answers about a job that it does not have: then nothing of it runs there."""


async def close_books(desk: Desk) -> bool:
    """What an ended run still holds, waits for or has running; True when nothing is left open.

    Raises ChainDown.
    """
    if desk.run.phase != Phase.ENDED.value:  # the tick that ended it got no further
        await _tell_the_end(desk)
    if desk.run.reservations:
        await close_slots(desk)
        await desk.reread()
    jobs = await desk.ledger.jobs.of_run(desk.run)
    stopped = await _stop_what_runs(desk, jobs)
    refunded = await desk.deps.refunds.confirm(desk.run.id, desk.observe) or _long_over(desk)
    current = next((job for job in jobs if job.id == desk.run.job_id), None)
    fetched = current is None or await fetch_later(desk, current)
    await desk.flush()
    return stopped and refunded and fetched and not desk.run.reservations


def _long_over(desk: Desk) -> bool:
    """Whether a refund that was claimed is waited for no more; reconcile books one that comes."""
    ended_at = desk.run.ended_at
    return ended_at is not None and desk.deps.now() - ended_at >= PATIENCE


async def _tell_the_end(desk: Desk) -> None:
    """The journal's last note, which is there once however often it is told."""
    run, what = desk.run, desk.run.reason
    if run.status is RunStatus.COMPLETED:
        job = await desk.ledger.jobs.current(run)
        what = job.vendor_id if job else ""
    desk.observe(last_note(run.status, what))
    await desk.flush()


async def _stop_what_runs(desk: Desk, jobs: list[Job]) -> bool:
    """Stop jobs that run on; True when none may. One is unseen where its payment settled late.

    jobs: the run's; the unseen are put to them.
    """
    done = True
    for payment in without_job(await desk.ledger.payments.of_run(desk.run.id), jobs):
        if payment.state is PaymentState.SETTLED:
            jobs.append(await open_job(desk, payment, "", current=False))
    for job in jobs:
        if job.unstopped or not job.status.ended:
            done = await _stopped(desk, job) and done
    return done


async def _stopped(desk: Desk, job: Job) -> bool:
    """Stop one; False while its vendor is to be asked again."""
    status, why, now = JobStatus.CANCELLED, "the run had ended", desk.deps.now()
    since = job.unstopped or now
    try:
        job = await _named(desk, job)
        if (await stop_job(desk, job)).status is JobStatus.COMPLETED:
            status = JobStatus.COMPLETED
    except VendorError as error:
        gone = isinstance(error, VendorRefused) and error.status_code in GONE
        if not gone and now - since < PATIENCE:
            await desk.ledger.jobs.unstopped(job.id, since)
            return False
        status, why = JobStatus.FAILED, f"its vendor did not say that it stopped: {error}"
    await desk.ledger.jobs.update(job, status=status.value, error_message=why, updated_at=now)
    await desk.ledger.jobs.unstopped(job.id, None)
    desk.note("job_stopped", f"{job.vendor_id}: job {job.vendor_job_id} is {status}, for {why}",
              key=f"{job.id}:stopped")  # fmt: skip
    return True


async def _named(desk: Desk, job: Job) -> Job:
    """The job with the id that its vendor knows it by, asked for where it never came. Raises
    VendorError while it does not come.
    """
    if job.vendor_job_id:
        return job
    delivery = await deliver(desk, await desk.ledger.payments.get(job.payment_id))
    if not isinstance(delivery.goods, Accepted):
        raise VendorError(job.vendor_id, "submit-job", delivery.problem, "It is tried again")
    await desk.ledger.jobs.name(job.id, delivery.goods.vendor_job_id)
    return replace(job, vendor_job_id=delivery.goods.vendor_job_id)
