"""approve: a payment above the threshold waits for a person. One at or below it passes through.

The question is stored before the graph pauses at `interrupt()`, and it is the stored answer that
counts: given through the API, or to the interrupt itself (Studio). Nothing is reserved meanwhile.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from langgraph.types import Command, interrupt

from domain.approvals import Approval, ApprovalState, approval_id
from domain.errors import Conflict, NotFound
from graph.deps import Desk
from graph.ending import call_off
from graph.purchases import is_extension, purchase_of
from graph.routing import Phase, go, rest
from graph.state import AgentState
from tools.payments.purchase import Purchase


async def approve(state: AgentState, desk: Desk) -> Command[str]:
    decision = state.get("decision") or {}
    try:
        purchase = await purchase_of(desk, decision)
    except NotFound:
        purchase = None
    if purchase is None:
        return go(Phase.ASSESS_BUDGET, decision=None, open_slot=None)
    if not desk.deps.cashier.policy.needs_approval(purchase.quoted):
        return go(Phase.PAY)
    approval = await _ask(desk, purchase)
    if approval.state is ApprovalState.PENDING and not is_extension(decision):
        await desk.flush()
        approval = await _answer(desk, approval, interrupt(_question(approval)))
    return await _follow(desk, approval, extending=is_extension(decision))


async def _ask(desk: Desk, purchase: Purchase) -> Approval:
    """The stored question for these very terms, as it stands now."""
    now, vendor = desk.deps.now(), purchase.vendor
    until = now + timedelta(minutes=desk.deps.limits.approval_minutes)
    if purchase.expires_at is not None:
        until = min(until, purchase.expires_at)
    pay_to, order = vendor.pay_to or "", purchase.order
    quote_id = str(order.get("vendorJobTemplateId") or f"{order['jobId']}+{purchase.minutes}")
    terms = (purchase.slot, vendor.vendor_id, pay_to, purchase.quoted, quote_id)
    approval = await desk.ledger.approvals.ask(
        Approval(
            approval_id(desk.run.id, *terms), desk.run.id, *terms,
            ApprovalState.PENDING, created_at=now, expires_at=until,
        )
    )  # fmt: skip
    desk.note(
        "approval_asked",
        f"{approval.amount} to {vendor.name} ({pay_to}) waits for approval {approval.id}",
        key=f"{approval.id}:asked",
        approvalId=approval.id,
        amountMicros=approval.amount.micros,
    )
    if approval.state is ApprovalState.EXPIRED:
        await desk.ledger.approvals.reopen(approval, until)
        return await desk.ledger.approvals.ask(approval)
    waiting = approval.state in (ApprovalState.PENDING, ApprovalState.APPROVED)
    if waiting and now >= approval.expires_at:
        await desk.ledger.approvals.move(approval, approval.state, ApprovalState.EXPIRED)
        return await desk.ledger.approvals.ask(approval)
    return approval


def _question(approval: Approval) -> dict[str, Any]:
    return {
        "approvalId": approval.id,
        "vendorId": approval.vendor_id,
        "payTo": approval.pay_to,
        "amount": approval.amount.dollars(),
        "expiresAt": approval.expires_at.isoformat(),
    }


async def _answer(desk: Desk, approval: Approval, answer: object) -> Approval:
    """Store an answer that was given to the interrupt: {"approvalId": …, "approve": true}.

    One that names another approval, or none, answers nothing: what is stored counts.
    """
    if isinstance(answer, dict) and answer.get("approvalId") == approval.id:
        yes = answer.get("approve") is True
        try:
            await desk.ledger.approvals.decide(desk.run.id, approval.id, yes, desk.deps.now())
        except Conflict as conflict:
            desk.note("approval_not_taken", str(conflict))
    return await desk.ledger.approvals.ask(approval)


async def _follow(desk: Desk, approval: Approval, *, extending: bool) -> Command[str]:
    match approval.state:
        case ApprovalState.APPROVED:
            used = await desk.ledger.approvals.move(
                approval, ApprovalState.APPROVED, ApprovalState.USED
            )
            if used:
                desk.note("approval_used", f"{approval.amount} was approved",
                          key=f"{approval.id}:used", approvalId=approval.id)  # fmt: skip
            return go(Phase.PAY)
        case ApprovalState.USED:
            return go(Phase.PAY)
        case ApprovalState.REJECTED if extending:
            desk.note("extension_not_made", "more time was rejected", key=f"{approval.id}:closed")
            return rest(Phase.MONITOR, "Job still running", decision=None)
        case ApprovalState.REJECTED:
            why = f"the payment of {approval.amount} to {approval.vendor_id} was rejected"
            return await call_off(desk, why)
        case ApprovalState.EXPIRED if not extending:
            desk.note(
                "approval_expired",
                f"Nobody approved {approval.amount} in time; asking the vendors again",
                key=f"{approval.id}:expired",
            )
            return rest(
                Phase.ASSESS_BUDGET, "Approval expired, asking again", decision=None, open_slot=None
            )
        case _:  # more time waits, and the job is followed meanwhile
            return rest(Phase.MONITOR, "Job still running")
