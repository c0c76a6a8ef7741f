"""More time for a running job: when to order its next slice, and the delivery of its payment."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from langgraph.types import Command

from domain.due import until_renewal_s
from domain.errors import ChainDown, PaymentUnclear
from domain.journal import NoteType
from domain.money import Usd
from domain.payments import PaymentState, PurchaseKind
from domain.reliability import trust
from domain.slices import price_of
from graph.context import TickContext
from graph.routing import Phase, go, rest
from graph.steps.delivery import deliver
from graph.steps.purchases import is_extension
from graph.steps.work import most_ahead
from ledger.jobs import Job
from ledger.payments import Payment
from tools.payments.cashier import unclear_note
from tools.vendors.base import JobReport

LEAST_MINUTES: Final = 10
"""Fewer minutes are not worth a purchase while other runs leave no room: it is tried again soon."""
MOST_REFUSALS: Final = 3
"""Failed purchases of more time, after which a job is left to the time that it has."""


async def deliver_extension(context: TickContext, payment: Payment) -> Command[str]:
    """Send the payment; whatever comes of it, the job is followed on.

    As long as the outcome is unknown, each tick sends the same bytes again.
    """
    job = await context.ledger.jobs.find(payment.order["jobId"])
    if job is None:
        return go(Phase.ASSESS_BUDGET, payment_id=None)
    look_before_it_lapses(context, job)
    if not payment.on_chain and payment.state is PaymentState.SETTLED:
        # Booked when the vendor gave the time; asked again, it would give it twice.
        return await _extended(context, job, payment)
    try:
        delivery = await deliver(context, payment)
    except ChainDown as away:  # the job is followed all the same
        context.note(NoteType.CHAIN_UNREACHABLE, str(away))
        return rest(Phase.MONITOR, "Job still running", payment_id=None, decision=None)
    except PaymentUnclear as unclear:
        context.observe(unclear_note(unclear))
        return rest(Phase.MONITOR, "Job still running", payment_id=None, decision=None)
    open_still = delivery.payment.state in (PaymentState.AUTHORIZED, PaymentState.SETTLED)
    if open_still and delivery.goods is not None:
        return await _extended(context, job, payment)
    if open_still:
        context.note(NoteType.EXTENSION_UNANSWERED, f"{payment.vendor_id}: {delivery.problem}")
    else:
        await context.ledger.jobs.close_extension(job.id, payment.id)
        context.note(NoteType.EXTENSION_NOT_MADE, delivery.payment.reason)
    return rest(Phase.MONITOR, "Job still running", payment_id=None, decision=None, sends=0)


async def _extended(context: TickContext, job: Job, payment: Payment) -> Command[str]:
    """Book the time that the payment bought."""
    await context.ledger.jobs.extend(job, payment.id, payment.minutes, context.deps.now())
    context.note(
        NoteType.JOB_EXTENDED,
        f"{payment.vendor_id} gives the job {payment.minutes} more minutes",
        key=f"{payment.id}:extended",
    )
    return rest(Phase.MONITOR, "Job still running", payment_id=None, decision=None, sends=0)


def look_before_it_lapses(context: TickContext, job: Job) -> None:
    """Have the next tick come before the job's paid time ends by our clock."""
    context.look_within_s = until_renewal_s(job.minutes, _passed(context, job), job.last_slice)


async def next_slice(
    context: TickContext, job: Job, report: JobReport, pending: Mapping[str, Any] | None
) -> Command[str] | None:
    """What to do about the job's paid time: buy more in the next tick, or nothing (None).

    pending: more time that was decided for and waits for approval.
    """
    if pending and is_extension(pending) and pending["job_id"] == job.id:
        return rest(Phase.APPROVE, "Job still running", decision=dict(pending))
    if job.extension_id:
        return rest(Phase.LAUNCH, "Job still running", payment_id=job.extension_id, accepted=None)
    missing = job.needed_minutes - job.minutes
    slices = context.deps.limits.slices
    used = _used(context, job, report)
    if missing <= 0 or used is None:
        return None
    if not slices.due(job.minutes, used, job.last_slice):
        return None
    if await refusals(context, job) >= MOST_REFUSALS:
        context.note(
            NoteType.EXTENSION_GIVEN_UP, "the vendor does not sell more time", f"{job.id}:no_more"
        )
        return None
    launched = await context.ledger.payments.get(job.payment_id)
    per_hour = launched.amount.scaled(60, launched.minutes)
    unused = max(0, round(job.minutes - used))
    known = {v.vendor_id: v for v in await context.ledger.vendors.all()}
    if job.vendor_id not in known:
        return None
    vendor = known[job.vendor_id]
    fitting = partial(
        slices.minutes,
        missing,
        per_hour,
        earned=trust(vendor.records, job.gpu_type, context.deps.now()) + job.slices,
        at_risk=price_of(unused, paid=launched.amount, for_minutes=launched.minutes),
    )
    minutes = fitting()
    if minutes and vendor.pay_to is not None:
        wanted = price_of(minutes, paid=launched.amount, for_minutes=launched.minutes)
        bound = most_ahead(context, vendor)
        room = await context.deps.cashier.exposure.room(vendor.vendor_id, bound, wanted)
        if room < wanted:
            shorter = fitting(room=room)
            minutes = shorter if shorter >= min(minutes // 2 + 1, LEAST_MINUTES) else 0
            if not minutes:
                _waits_for_room(context, job, bound)
    if minutes == 0:
        return None
    decision = {
        "kind": "extend",
        "job_id": job.id,
        "vendor_id": job.vendor_id,
        "minutes": minutes,
        "slot": context.run.next_slot,
    }
    return rest(Phase.APPROVE, "Job still running", decision=decision)


def _waits_for_room(context: TickContext, job: Job, bound: Usd) -> None:
    context.note(
        NoteType.EXTENSION_WAITS,
        f"No more time is bought now: {job.vendor_id} holds all of the {bound} that it may be paid "
        "ahead over all runs (MAX_EXPOSURE_USD)",
        key=f"{job.id}:{job.slices}:waits",
        vendorId=job.vendor_id,
    )


def _used(context: TickContext, job: Job, report: JobReport) -> float | None:
    """How much of the paid time is used. A vendor's word is believed up to what our clock shows:
    one that counts faster would be prepaid beyond the exposure limit.
    """
    if report.used_minutes is None or context.deps.limits.vendors_clock:
        return report.used_minutes
    return min(report.used_minutes, _passed(context, job))


def _passed(context: TickContext, job: Job) -> float:
    """Minutes since the job's launch, by our clock."""
    return (context.deps.now() - job.created_at).total_seconds() / 60


async def refusals(context: TickContext, job: Job) -> int:
    """How many purchases of more time for this job came to nothing."""
    return sum(
        p.kind is PurchaseKind.EXTEND and p.order["jobId"] == job.id and p.state.in_vain
        for p in await context.ledger.payments.of_run(context.run.id)
    )
