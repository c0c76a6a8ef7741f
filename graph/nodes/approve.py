"""approve: a payment that a person has to approve waits for one. Any other passes through.

The question is stored before the graph pauses at `interrupt()`, and it is the stored answer that
counts: given through the API, or to the interrupt itself (Studio). Nothing is reserved meanwhile.
Whether an approval is needed, and given, is judged in tools/payments/approving.py, as it is again
before anything is signed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from langgraph.types import Command, interrupt

from domain.approvals import Approval, ApprovalState, approval_id
from domain.errors import Conflict, NotFound
from graph.deps import Desk
from graph.ending import call_off
from graph.purchases import is_extension, purchase_of
from graph.routing import Phase, go, rest
from graph.state import AgentState
from tools.payments.approving import Standing
from tools.payments.purchase import Purchase

WAITING: Final = "Waiting for approval"
YES: Final = (ApprovalState.APPROVED, ApprovalState.USED)
TERMS: Final = ("vendorId", "payTo", "amount", "price")
"""What an answer to the interrupt may repeat of its question: then it has to be the same."""


async def approve(state: AgentState, desk: Desk) -> Command[str]:
    decision = state.get("decision") or {}
    try:
        purchase = await purchase_of(desk, decision)
    except NotFound:
        purchase = None
    if purchase is None:
        return go(Phase.ASSESS_BUDGET, decision=None, open_slot=None)
    gate = desk.deps.cashier.approvals
    standing = await gate.standing(desk.run, purchase)
    if standing.allowed:
        return go(Phase.PAY)
    approval = await _ask(desk, purchase, standing)
    if approval.state is ApprovalState.PENDING and not is_extension(decision):
        await desk.flush()
        question = _question(approval, purchase.vendor.name)
        approval = await _answer(desk, approval, question, interrupt(question))
    if approval.state in YES and (await gate.standing(desk.run, purchase)).allowed:
        return go(Phase.PAY)
    return await _follow(desk, approval, extending=is_extension(decision))


async def _ask(desk: Desk, purchase: Purchase, standing: Standing) -> Approval:
    """The stored question for these very terms, as it stands now; any other waits no more."""
    ledger, now = desk.ledger, desk.deps.now()
    until = now + timedelta(minutes=desk.deps.limits.approval_minutes)
    if purchase.expires_at is not None:
        until = min(until, purchase.expires_at)
    approval = _open_question(purchase, standing)
    if approval is None:
        approval = await ledger.approvals.ask(_new(desk, purchase, standing, until))
        await ledger.approvals.withdraw(desk.run.id, but=approval.id)
    name = purchase.vendor.name
    desk.note(
        "approval_asked",
        f"Waiting for your approval: {approval.asks_for(name)}, paid to "
        f"{approval.pay_to or 'no address'} ({approval.id})",
        key=f"{approval.id}:asked",
        **_facts(approval),
    )
    if approval.state is ApprovalState.EXPIRED:
        await ledger.approvals.reopen(approval, until)
        return await ledger.approvals.ask(approval)
    waiting = approval.state in (ApprovalState.PENDING, ApprovalState.APPROVED)
    if waiting and now >= approval.expires_at:
        await ledger.approvals.move(approval, approval.state, ApprovalState.EXPIRED)
        return await ledger.approvals.ask(approval)
    return approval


def _open_question(purchase: Purchase, standing: Standing) -> Approval | None:
    """The last question about the purchase's job, if it is about this price, or was answered no."""
    last = standing.asked[-1] if standing.asked else None
    if last is None or last.state is ApprovalState.REJECTED:
        return last
    room = standing.job_paid + purchase.quoted <= last.amount
    same = last.state is not ApprovalState.USED and last.price == purchase.quoted
    return last if same and (room or last.slot != purchase.launch_slot) else None


def _new(desk: Desk, purchase: Purchase, standing: Standing, until: datetime) -> Approval:
    vendor, amount = purchase.vendor, standing.ceiling.whole_cents()
    pay_to = vendor.pay_to or ""
    terms = (purchase.launch_slot, vendor.vendor_id, pay_to, amount, purchase.quote_id)
    return Approval(
        approval_id(desk.run.id, *terms),
        desk.run.id,
        *terms,
        ApprovalState.PENDING,
        created_at=desk.deps.now(),
        expires_at=until,
        price=purchase.quoted,
        minutes=purchase.minutes,
        gpu_type=purchase.gpu_type,
        paid=standing.job_paid,
    )


def _facts(approval: Approval) -> dict[str, Any]:
    return {
        "approvalId": approval.id,
        "vendorId": approval.vendor_id,
        "payTo": approval.pay_to,
        "amountMicros": approval.amount.micros,
        "priceMicros": approval.price.micros,
        "minutes": approval.minutes,
    }


def _question(approval: Approval, vendor: str) -> dict[str, Any]:
    return {
        "approvalId": approval.id,
        "vendorId": approval.vendor_id,
        "payTo": approval.pay_to,
        "amount": approval.amount.dollars(),
        "price": approval.price.dollars(),
        "minutes": approval.minutes,
        "gpuType": approval.gpu_type,
        "what": approval.asks_for(vendor),
        "expiresAt": approval.expires_at.isoformat(),
    }


async def _answer(
    desk: Desk, approval: Approval, question: dict[str, Any], answer: object
) -> Approval:
    """Store an answer that was given to the interrupt: {"approvalId": …, "approve": true}.

    One that names another approval or other terms, or none, answers nothing: what is stored counts.
    """
    if isinstance(answer, dict) and answer.get("approvalId") == approval.id:
        other = [name for name in TERMS if name in answer and answer[name] != question[name]]
        yes = answer.get("approve") is True
        try:
            if other:
                raise Conflict(
                    f"The answer to approval {approval.id} names another {' and '.join(other)}",
                    "Answer what is asked",
                )
            await desk.ledger.approvals.decide(desk.run.id, approval.id, yes, desk.deps.now())
        except Conflict as conflict:
            desk.note("approval_not_taken", str(conflict))
    return await desk.ledger.approvals.ask(approval)


async def _follow(desk: Desk, approval: Approval, *, extending: bool) -> Command[str]:
    """What an approval comes to on which nothing may be paid now."""
    match approval.state:
        case ApprovalState.REJECTED if extending:
            desk.note("extension_not_made", "more time was rejected", key=f"{approval.id}:closed")
            return rest(Phase.MONITOR, "Job still running", decision=None)
        case ApprovalState.REJECTED:
            why = f"the payment of {approval.amount} to {approval.vendor_id} was rejected"
            return await call_off(desk, why)
        case _ if extending:  # more time waits, and the job is followed meanwhile
            return rest(Phase.MONITOR, "Job still running")
        case ApprovalState.EXPIRED:
            desk.note(
                "approval_expired",
                f"Nobody approved {approval.amount} in time; asking the vendors again",
                key=f"{approval.id}:expired",
            )
            return rest(
                Phase.ASSESS_BUDGET, "Approval expired, asking again", decision=None, open_slot=None
            )
        case _:  # its answer came too late, or named other terms
            return rest(Phase.APPROVE, WAITING)
