"""pay: reserve the money, check the vendor's challenge, sign, persist. It sends no payment.

What a person has to approve first goes back to `approve`, whoever led the run here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langgraph.types import Command

from domain.errors import (
    ApprovalRequired,
    BudgetExceeded,
    ChainDown,
    ConfigError,
    IllegalTransition,
    NotFound,
    PaymentUnclear,
    PolicyRefused,
    SlotClosed,
    VendorError,
    WalletDown,
    WalletEmpty,
)
from domain.journal import Note, NoteType
from domain.payments import PaymentState
from graph.context import TickContext
from graph.routing import Phase, go, rest
from graph.state import AgentState
from graph.steps.changes import note_if_changed
from graph.steps.ending import give_up
from graph.steps.extension import look_before_it_lapses
from graph.steps.purchases import is_extension, purchase_of
from graph.steps.work import under_way, wait_for_person
from tools.payments.cashier import unclear_note
from tools.payments.purchase import Purchase
from tools.vendors.base import Accepted

CAPS: Final = frozenset(
    {"max_user_day", "max_user_hour", "max_vendor_day", "max_wallet_day", "max_exposure"}
)
"""The owner's caps, which end with time and are no vendor's fault."""
STALE: Final = "Waiting: the quote expired, asking again"


async def pay(state: AgentState, context: TickContext) -> Command[str]:
    decision = state.get("decision") or {}
    extending = is_extension(decision)
    try:
        purchase = await purchase_of(context, decision)
        if purchase is None:
            return go(Phase.ASSESS_BUDGET, decision=None, open_slot=None)
        slot, run = purchase.slot, context.run
        if slot < run.next_slot and run.reservation(slot) is None:
            return await _resume(context, slot)
        if not extending and await under_way(context, slot):
            return go(Phase.ASSESS_BUDGET, decision=None, open_slot=None)
        if _stale(context, purchase):
            return rest(Phase.ASSESS_BUDGET, STALE, decision=None, open_slot=None)
        delivery = await context.deps.cashier.authorize(
            context.lease, context.run, purchase, context.observe
        )
    except SlotClosed:
        return await _resume(context, decision["slot"])
    except ApprovalRequired as refusal:
        return await _ask_first(context, decision, refusal)
    except (BudgetExceeded, IllegalTransition, WalletEmpty, PolicyRefused, VendorError) as refusal:
        if extending:
            return _without_extension(context, refusal)
        if isinstance(refusal, PolicyRefused) and refusal.rule == "max_per_run":
            return await give_up(context, str(refusal))
        return _without_launch(state, context, decision, refusal)
    except NotFound as gone:
        return _without_launch(state, context, decision, gone)
    except PaymentUnclear as unclear:
        if not extending:
            return wait_for_person(context, Phase.PAY, unclear)
        context.observe(unclear_note(unclear))
        return await _extend_later(context)
    except (ChainDown, WalletDown, ConfigError) as away:
        if not extending:
            raise
        context.note(NoteType.CHAIN_UNREACHABLE, str(away))
        return await _extend_later(context)
    if extending:
        await context.ledger.jobs.set_extension(decision["job_id"], delivery.payment.id)
    accepted = isinstance(delivery.goods, Accepted) and {
        "vendor_job_id": delivery.goods.vendor_job_id,
        "status": delivery.goods.status.value,
    }
    return go(Phase.LAUNCH, payment_id=delivery.payment.id, accepted=accepted or None, sends=0)


async def _ask_first(
    context: TickContext, decision: Mapping[str, Any], refusal: ApprovalRequired
) -> Command[str]:
    """Ask a person to approve it; where the slot is used up by now, choose again first."""
    context.note(NoteType.PAYMENT_NOT_MADE, str(refusal))
    run, slot = await context.reread(), decision["slot"]
    if slot >= run.next_slot or run.reservation(slot) is not None:
        return go(Phase.APPROVE)
    if is_extension(decision):
        return _without_extension(context, refusal)
    return go(Phase.ASSESS_BUDGET, decision=None, open_slot=None)


async def _extend_later(context: TickContext) -> Command[str]:
    """Follow the job meanwhile. The decision stays, and is tried again."""
    if job := await context.ledger.jobs.current(context.run):
        look_before_it_lapses(context, job)
    return rest(Phase.MONITOR, "Job still running")


def _stale(context: TickContext, purchase: Purchase) -> bool:
    """Whether the quote has ended before anything was held for it: then all are asked again."""
    ended = purchase.expires_at is not None and context.deps.now() >= purchase.expires_at
    if not ended or context.run.reservation(purchase.slot) is not None:
        return False
    vendor = purchase.vendor.vendor_id
    context.note(
        NoteType.QUOTE_EXPIRED, f"The quote of {vendor} has expired, asking again", vendorId=vendor
    )
    return True


def _without_launch(
    state: AgentState, context: TickContext, decision: Mapping[str, Any], refusal: Exception
) -> Command[str]:
    match refusal:
        case WalletEmpty():
            return _wait(state, context, refusal, f"Waiting for funds: {refusal}")
        case PolicyRefused(rule=rule) if rule in CAPS:
            return _wait(state, context, refusal, f"Waiting: {refusal}")
        case BudgetExceeded() | IllegalTransition():
            return _wait(state, context, refusal, f"Waiting: {refusal}")
        case _:
            failure = {
                "vendor_id": decision.get("vendor_id"),
                "why": str(refusal),
                "job_id": None,
                "rule": refusal.rule if isinstance(refusal, PolicyRefused) else None,
            }
            return go(Phase.RECOVER, failure=failure, decision=None)


def _wait(
    state: AgentState, context: TickContext, refusal: Exception, message: str
) -> Command[str]:
    """Look around again in a while."""
    note = Note(NoteType.PAYMENT_NOT_MADE, str(refusal))
    found = note_if_changed(state, context, Phase.PAY, [note])
    return rest(Phase.ASSESS_BUDGET, message, decision=None, found=found)


def _without_extension(context: TickContext, refusal: Exception) -> Command[str]:
    """The job runs on until its paid time ends; the next poll may try again."""
    context.note(NoteType.EXTENSION_NOT_MADE, str(refusal))
    return go(Phase.MONITOR, decision=None)


async def _resume(context: TickContext, slot: int) -> Command[str]:
    """A decision for a slot that is used up: take what it was paid for, or choose again."""
    for payment in await context.ledger.payments.of_slot(context.run.id, slot):
        if payment.state is PaymentState.SETTLED and (payment.header or not payment.resolved):
            return go(Phase.LAUNCH, payment_id=payment.id, decision=None, accepted=None, sends=0)
    return go(Phase.ASSESS_BUDGET, decision=None, open_slot=None)
