"""approve: a payment that a person has to approve waits for one. Any other passes through.

The question is stored before the graph pauses at `interrupt()`, and it is the stored answer that
counts: given through the API, or to the interrupt itself (Studio). Nothing is reserved meanwhile.
Whether an approval is needed, and given, is judged in tools/payments/approving.py, as it is again
before anything is signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from langgraph.types import Command, interrupt

from domain.approvals import Approval, ApprovalState
from domain.errors import Conflict, NotFound
from domain.ids import approval_id
from domain.intents import Wants, read_intent
from domain.journal import NoteType
from graph.context import TickContext
from graph.routing import Phase, go, rest
from graph.state import AgentState
from graph.steps.ending import call_off
from graph.steps.purchases import is_extension, purchase_of
from graph.steps.work import under_way
from tools.payments.approving import Standing
from tools.payments.purchase import Purchase

YES: Final = (ApprovalState.APPROVED, ApprovalState.USED)
TERMS: Final = ("vendorId", "payTo", "amount", "price")
"""What an answer to the interrupt may repeat of its question: then it has to be the same."""


async def approve(state: AgentState, context: TickContext) -> Command[str]:
    decision = state.get("decision") or {}
    try:
        purchase = await purchase_of(context, decision)
    except NotFound:
        purchase = None
    if purchase is None:
        return go(Phase.ASSESS_BUDGET, decision=None, open_slot=None)
    if not is_extension(decision) and await under_way(context, purchase.slot):
        return go(Phase.ASSESS_BUDGET, decision=None, open_slot=None)
    gate = context.deps.cashier.approvals
    standing = await gate.standing(context.run, purchase)
    if standing.allowed:
        return go(Phase.PAY)
    asked = await context.ledger.approvals.of_run(context.run.id)
    asked_before = asked[0].id if len(asked) == 1 else ""
    approval = await _ask(context, purchase, standing)
    if approval.state is ApprovalState.PENDING and not is_extension(decision):
        await context.flush()
        question = _question(approval, purchase.vendor.name)
        answer = read_answer(interrupt(question), question, asked_before=asked_before)
        approval = await _take(context, approval, answer)
    if approval.state in YES and (await gate.standing(context.run, purchase)).allowed:
        return go(Phase.PAY)
    asked_again = state.get("asked_again", 0)
    return await _follow(context, approval, asked_again, extending=is_extension(decision))


async def _ask(context: TickContext, purchase: Purchase, standing: Standing) -> Approval:
    """The stored question for these very terms; all others are withdrawn."""
    ledger, now = context.ledger, context.deps.now()
    until = now + timedelta(minutes=context.deps.limits.approval_minutes)
    if purchase.expires_at is not None:
        until = min(until, purchase.expires_at)
    approval = _open_question(purchase, standing)
    if approval is None:
        approval = await ledger.approvals.ask(_new(context, purchase, standing, until))
        await ledger.approvals.withdraw(context.run.id, but=approval.id)
    name = purchase.vendor.name
    context.note(
        NoteType.APPROVAL_ASKED,
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


def _new(context: TickContext, purchase: Purchase, standing: Standing, until: datetime) -> Approval:
    vendor, amount = purchase.vendor, standing.ceiling.whole_cents()
    pay_to = vendor.pay_to or ""
    terms = (purchase.launch_slot, vendor.vendor_id, pay_to, amount, purchase.quote_id)
    return Approval(
        approval_id(context.run.id, *terms),
        context.run.id,
        *terms,
        ApprovalState.PENDING,
        created_at=context.deps.now(),
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
    """What the interrupt asks: for programs by name, and for LangGraph's inbox and chat page, which
    draw buttons, in their form (HumanInterrupt).
    """
    what = approval.asks_for(vendor)
    return {
        "action_request": {"action": "Approve a payment", "args": {"approvalId": approval.id}},
        "config": {
            "allow_accept": True,
            "allow_ignore": True,
            "allow_respond": True,
            "allow_edit": False,
        },
        "description": f"{what}. Accept it, or ignore it: then nothing is paid, and the run ends. "
        "Or answer approve or reject.",
        "approvalId": approval.id,
        "vendorId": approval.vendor_id,
        "payTo": approval.pay_to,
        "amount": approval.amount.dollars(),
        "price": approval.price.dollars(),
        "minutes": approval.minutes,
        "gpuType": approval.gpu_type,
        "what": what,
        "expiresAt": approval.expires_at.isoformat(),
    }


@dataclass(frozen=True, slots=True)
class ApprovalAnswer:
    """What a person's answer to the interrupt means."""

    yes: bool | None
    """None: it is neither yes nor no."""
    problem: str = ""
    """Why the answer is not accepted, if it is not; empty, too, where nothing was answered."""


def read_answer(given: object, question: Mapping[str, Any], *, asked_before: str) -> ApprovalAnswer:
    """A person's answer to a question: {"approvalId": …, "approve": true}, true, "approve", or what
    LangGraph's inbox and chat page send: [{"type": "accept"}].

    asked_before: the run's only approval so far; empty where there is none, or several. An answer
    without an id means that one; among several, nobody knows which the person saw.
    """
    if isinstance(given, Mapping) and "approvalId" in given:
        if given["approvalId"] != question["approvalId"]:
            return ApprovalAnswer(None, f"it names approval {given['approvalId']}")
        if other := [n for n in TERMS if n in given and given[n] != question[n]]:
            return ApprovalAnswer(None, f"it names another {' and '.join(other)}")
        return ApprovalAnswer(given.get("approve") is True)
    yes = _yes(given)
    if yes is None:
        return ApprovalAnswer(None, "it is neither approve nor reject" if given is not None else "")
    if asked_before != question["approvalId"]:
        return ApprovalAnswer(
            None,
            "it names none of the several that were asked: name it, or say it in a message",
        )
    return ApprovalAnswer(yes)


def _yes(given: object) -> bool | None:
    """The yes or no of an answer that names no approval."""
    match given:
        case [one]:
            return _yes(one)
        case bool():
            return given
        case str():
            wants = read_intent(given).wants
            return {Wants.APPROVE: True, Wants.REJECT: False}.get(wants)
        case {"approve": bool() as approve}:
            return approve
        case {"type": "accept"}:
            return True
        case {"type": "ignore"}:
            return False
        case {"type": "response", "args": str() as said}:
            return _yes(said)
        case _:
            return None


async def _take(context: TickContext, approval: Approval, answer: ApprovalAnswer) -> Approval:
    """Store an answer; the approval as it is stored afterwards, which is what counts."""
    problem = answer.problem
    if answer.yes is not None:
        try:
            now = context.deps.now()
            await context.ledger.approvals.decide(context.run.id, approval.id, answer.yes, now)
        except Conflict as conflict:
            problem = str(conflict)
    if problem:
        context.note(
            NoteType.APPROVAL_NOT_TAKEN,
            f"The answer to approval {approval.id} is not taken: {problem}. Answer approve or "
            "reject, to what is asked now",
        )
    return await context.ledger.approvals.ask(approval)


async def _follow(
    context: TickContext, approval: Approval, asked_again: int, *, extending: bool
) -> Command[str]:
    """Where the run goes on, when this approval allows no payment now."""
    match approval.state:
        case ApprovalState.REJECTED if extending:
            context.note(
                NoteType.EXTENSION_NOT_MADE, "more time was rejected", key=f"{approval.id}:closed"
            )
            return rest(Phase.MONITOR, "Job still running", decision=None)
        case ApprovalState.REJECTED:
            why = f"the payment of {approval.amount} to {approval.vendor_id} was rejected"
            return await call_off(context, why)
        case _ if extending:  # more time waits, and the job is followed meanwhile
            return rest(Phase.MONITOR, "Job still running")
        case ApprovalState.EXPIRED:
            context.note(
                NoteType.APPROVAL_EXPIRED,
                f"Nobody approved {approval.amount} in time; asking the vendors again",
                key=f"{approval.id}:expired",
            )
            return rest(
                Phase.ASSESS_BUDGET, "Approval expired, asking again", decision=None, open_slot=None
            )
        case _:  # its answer was none, came too late, or named other terms: it is asked again
            return go(Phase.APPROVE, asked_again=asked_again + 1)
