"""launch: send the stored payment; take the job from whom the chain shows as paid."""

from __future__ import annotations

from datetime import timedelta

from langgraph.types import Command

from domain.errors import PaymentUnclear
from domain.ids import job_id
from domain.jobs import JobStatus
from domain.journal import NoteType
from domain.payments import PaymentState, PurchaseKind
from graph.context import TickContext
from graph.routing import Phase, go, rest
from graph.state import AgentState
from graph.steps.delivery import deliver, open_job
from graph.steps.extension import deliver_extension
from graph.steps.work import wait_for_person
from ledger.payments import Payment
from tools.payments.purchase import Delivery
from tools.vendors.base import Accepted

GIVE_UP_AFTER = 3
"""Sends after which a paid vendor without a job is given up, if it was also silent for long."""


async def launch(state: AgentState, context: TickContext) -> Command[str]:
    payment = await context.ledger.payments.find(state.get("payment_id") or "")
    if payment is None or payment.run_id != context.run.id:
        # A state may be forged: no other run's payment is sent from here.
        return go(
            Phase.ASSESS_BUDGET,
            payment_id=None,
            accepted=None,
            decision=None,
            open_slot=None,
            sends=0,
        )
    if payment.kind is PurchaseKind.EXTEND:
        return await deliver_extension(context, payment)
    if past := await _long_past(context, payment):
        return past
    try:
        delivery = await _deliver(state, context, payment)
    except PaymentUnclear as unclear:
        return wait_for_person(context, Phase.LAUNCH, unclear)
    if delivery.payment.resolved and not delivery.payment.header:
        # A person has closed it, and its bytes are lost: the vendor can't be asked for the job.
        return go(Phase.ASSESS_BUDGET, payment_id=None, decision=None, open_slot=None, sends=0)
    payment, sends = delivery.payment, (state.get("sends") or 0) + 1
    if payment.state in (PaymentState.AUTHORIZED, PaymentState.SETTLED):
        if isinstance(delivery.goods, Accepted):
            return await _started(context, payment, delivery.goods)
        return await _silent(context, payment, delivery, sends)
    for rival in await context.ledger.payments.of_slot(context.run.id, payment.slot):
        if rival.state is PaymentState.SETTLED:
            context.note(
                NoteType.SLOT_PAID_ELSEWHERE,
                f"{rival.vendor_id} was paid for this slot, so the job is taken from there",
                key=f"{rival.id}:taken",
            )
            return go(Phase.LAUNCH, payment_id=rival.id, sends=0)
    return _failed(payment, f"it was not paid: {payment.reason}")


async def _long_past(context: TickContext, payment: Payment) -> Command[str] | None:
    """Where to go on from a state that is long past: its payment's job has ended, or has a
    successor.
    """
    job = await context.ledger.jobs.find(job_id(payment.id))
    if job is None:
        return None
    current = await context.ledger.jobs.current(context.run)
    update = {"payment_id": None, "accepted": None, "decision": None, "sends": 0}
    if current and current.id == job.id:
        return go(Phase.MONITOR, **update) if job.status.ended else None
    if job.status.ended or (current and not current.status.ended):
        return go(Phase.ASSESS_BUDGET, open_slot=None, **update)
    return None


async def _deliver(state: AgentState, context: TickContext, payment: Payment) -> Delivery:
    accepted = state.get("accepted")
    if accepted:
        status = JobStatus(accepted["status"])
        return Delivery(payment, Accepted(accepted["vendor_job_id"], status, None))
    return await deliver(context, payment)


async def _started(context: TickContext, payment: Payment, accepted: Accepted) -> Command[str]:
    job = await open_job(context, payment, accepted.vendor_job_id)
    context.note(
        NoteType.JOB_STARTED,
        f"{payment.vendor_id} runs job {job.vendor_job_id}",
        key=f"{job.id}:started",
        vendorId=payment.vendor_id,
        vendorJobId=job.vendor_job_id,
    )
    return rest(
        Phase.MONITOR,
        "Job started",
        payment_id=None,
        accepted=None,
        decision=None,
        open_slot=None,
        sends=0,
        failure=None,
    )


async def _silent(
    context: TickContext, payment: Payment, delivery: Delivery, sends: int
) -> Command[str]:
    """The vendor gave no job yet. An unsettled payment's slot may be tried with another vendor."""
    context.note(
        NoteType.LAUNCH_UNANSWERED, f"No job from {payment.vendor_id} yet: {delivery.problem}"
    )
    if payment.state is PaymentState.SETTLED:
        silent = context.deps.now() - payment.created_at
        if sends >= GIVE_UP_AFTER and silent >= timedelta(
            minutes=context.deps.limits.silent_minutes
        ):
            why = f"it was paid and gives no job: {delivery.problem}"
            job = await open_job(context, payment, "", error=why)
            return _failed(payment, why, job.id)
        how = f"but {delivery.problem}" if delivery.answered else "the vendor is silent"
        return rest(Phase.LAUNCH, f"Job not started yet: paid, {how}", sends=sends)
    if sends >= context.deps.limits.silent_sends:
        return rest(
            Phase.ASSESS_BUDGET,
            "Job not started yet: trying another vendor with the same payment slot",
            open_slot=payment.slot,
            sends=sends,
        )
    return rest(
        Phase.LAUNCH, "Job not started yet: the outcome of the payment is unknown", sends=sends
    )


def _failed(payment: Payment, why: str, job: str | None = None) -> Command[str]:
    failure = {
        "vendor_id": payment.vendor_id,
        "why": why,
        "job_id": job,
        "unfunded": payment.unfunded,
    }
    return go(Phase.RECOVER, failure=failure)
