"""Small questions that several nodes ask of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from langgraph.types import Command

from domain.errors import ChainDown, Conflict, PaymentUnclear, VendorError
from domain.ids import job_id
from domain.jobs import JobSpec, JobStatus
from domain.journal import NoteType
from domain.money import ZERO, Usd
from domain.payments import PaymentState, PurchaseKind
from domain.quotes import Vendor
from domain.reliability import Trouble, trust
from graph.context import TickContext
from graph.routing import Phase, rest
from ledger.jobs import Job
from ledger.payments import Payment
from ledger.run import Run
from ledger.vendors import End
from tools.payments.cashier import unclear_note
from tools.vendors.base import JobReport


def spec_of(run: Run) -> JobSpec:
    """The run's job spec. Raises Conflict where intake has not made it yet."""
    if run.spec is None:
        raise Conflict(f"Run {run.id} has no job spec yet", "Tick it again from the start")
    return run.spec


def left_for(run: Run, slot: int | None) -> Usd:
    """What the run can pay for `slot`: the rest of its budget, and what the slot holds already."""
    held = run.reservation(slot) if slot is not None else None
    return run.budget_remaining + (held.amount if held else ZERO)


def most_ahead(context: TickContext, vendor: Vendor) -> Usd:
    """The most that all runs together may prepay the vendor."""
    now = context.deps.now()
    earned = max((trust(vendor.records, r.gpu_type, now) for r in vendor.records), default=0)
    return context.deps.limits.slices.vendor_bound(earned)


async def failures(context: TickContext) -> Counter[str]:
    """How often each vendor failed this run: jobs that died, and launches that came to nothing."""
    payments = await context.ledger.payments.of_run(context.run.id)
    jobs = await context.ledger.jobs.of_run(context.run)
    launches = (p for p in payments if p.kind is PurchaseKind.LAUNCH)
    in_vain = (p for p in launches if p.state.in_vain and not p.unfunded)
    return Counter(p.vendor_id for p in in_vain) + Counter(
        job.vendor_id for job in jobs if job.status in (JobStatus.FAILED, JobStatus.CANCELLED)
    )


def without_job(payments: Iterable[Payment], jobs: Iterable[Job]) -> list[Payment]:
    """A run's launch payments for which `jobs` has no job.

    Left out are those that a person closed and whose signed bytes are lost: no vendor can be asked.
    """
    known = {job.id for job in jobs}
    askable = (p for p in payments if p.header or not p.resolved)
    launches = (p for p in askable if p.kind is PurchaseKind.LAUNCH)
    return [p for p in launches if job_id(p.id) not in known]


def needs_no_other(job: Job | None) -> bool:
    """Whether a job still runs, or has completed: its run buys no other one."""
    return job is not None and (not job.status.ended or job.status is JobStatus.COMPLETED)


def unfinished_launch(
    run: Run, payments: Iterable[Payment], jobs: Sequence[Job], slot: int | None
) -> Payment | None:
    """A launch that was paid, or signed, and did not come to a job: it goes first.

    slot: the one that waits for another vendor on purpose.
    """
    for payment in without_job(payments, jobs):
        waits = run.reservation(payment.slot) is not None and payment.slot != slot
        signed = payment.state is PaymentState.AUTHORIZED and waits
        if signed or payment.state is PaymentState.SETTLED:
            return payment
    return None


async def under_way(context: TickContext, slot: int | None) -> bool:
    """Whether a job, or a payment for one, is under way, so that the run may buy no other.

    The graph only chooses when nothing is; but it may be resumed from a state that is long past
    (Studio's history, a suspended process). slot: one that waits for another vendor on purpose, or
    is being paid.
    """
    if context.assessed:
        return False
    jobs = await context.ledger.jobs.of_run(context.run)
    if needs_no_other(next((job for job in jobs if job.id == context.run.job_id), None)):
        return True
    payments = await context.ledger.payments.of_run(context.run.id)
    return unfinished_launch(context.run, payments, jobs, slot) is not None


@contextmanager
def chain_permitting(context: TickContext) -> Iterator[None]:
    """Let work on the books wait for the chain: when it does not answer or explain a payment, that
    is noted, and tried again later.
    """
    try:
        yield
    except ChainDown as error:
        context.note(NoteType.CHAIN_UNREACHABLE, str(error))
    except PaymentUnclear as unclear:
        context.observe(unclear_note(unclear))


def wait_for_person(
    context: TickContext, phase: Phase, unclear: PaymentUnclear, **update: Any
) -> Command[str]:
    """Go no further with a run that has a payment nobody can explain, until a person has."""
    context.observe(unclear_note(unclear))
    return rest(phase, f"Waiting: {unclear}", **update)


async def close_slots(context: TickContext) -> None:
    """Release what was never signed, and book what the chain shows of the rest. Raises ChainDown
    and PaymentUnclear, with the first part done.
    """
    judge = context.deps.cashier.judge
    for held in context.run.reservations:
        await judge.abandon(context.run, held.slot, context.observe)
    await context.reread()
    await judge.judge_open(context.run, context.observe)


async def book_outcome(context: TickContext, job: Job, trouble: Trouble | None = None) -> None:
    """Count an ended job in its vendor's record, once, even after a crash.

    job: as last seen before its end, so that the time between two ticks is not held against its
    vendor. trouble: what went wrong; None when it completed.
    """
    end = End(
        key=job.id,
        gpu_type=job.gpu_type,
        trouble=trouble,
        worked_minutes=job.needed_minutes * (1.0 if trouble is None else job.progress),
        taken_minutes=(job.updated_at - job.created_at) / timedelta(minutes=1),
    )
    await context.ledger.vendors.record(job.vendor_id, end, context.deps.now())


async def stop_job(context: TickContext, job: Job) -> JobReport:
    """Stop a job at its vendor; returns its report after the stop, and claims a refund named there.

    The report counts, because the answer to the cancellation may be lost. Raises VendorError while
    the job is not seen to end.
    """
    try:
        cancelled = await context.deps.vendors.cancel_job(job, job.vendor_job_id)
        if cancelled.refund:
            await context.deps.refunds.claim(job, cancelled.refund, context.observe)
    except VendorError as error:
        context.note(NoteType.CANCEL_REFUSED, str(error), vendorId=job.vendor_id)
    report = await context.deps.vendors.job_status(job, job.vendor_job_id)
    if report.refund:
        await context.deps.refunds.claim(job, report.refund, context.observe)
    if not report.status.ended:
        raise VendorError(job.vendor_id, "cancel-job", "its job still runs", "It is tried again")
    return report
