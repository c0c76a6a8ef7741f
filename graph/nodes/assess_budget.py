"""assess_budget: finish what an interrupted tick began; then, can the rest still reach the goal?"""

from __future__ import annotations

from langgraph.types import Command

from domain.errors import PaymentUnclear
from domain.jobs import MINUTES_PER_HOUR
from domain.journal import Note, NoteType
from domain.money import ZERO
from domain.quotes import able_vendors, nobody_has
from domain.reasons import Reason, ReasonCode
from graph.context import TickContext
from graph.routing import Phase, go
from graph.state import AgentState
from graph.steps.changes import note_if_changed
from graph.steps.ending import give_up
from graph.steps.work import (
    failures,
    left_for,
    needs_no_other,
    spec_of,
    unfinished_launch,
    wait_for_person,
)
from ledger.payments import Payment


async def assess_budget(state: AgentState, context: TickContext) -> Command[str]:
    if needs_no_other(await context.ledger.jobs.current(context.run)):
        return go(Phase.MONITOR)
    slot = state.get("open_slot")
    if slot is not None and context.run.reservation(slot) is None:
        return go(Phase.ASSESS_BUDGET, open_slot=None)
    try:
        unfinished = await _unfinished(context, slot)
    except PaymentUnclear as unclear:
        return wait_for_person(context, Phase.ASSESS_BUDGET, unclear)
    if unfinished:
        return go(Phase.LAUNCH, payment_id=unfinished.id, accepted=None, sends=0, open_slot=None)
    run, spec = context.run, spec_of(context.run)
    attempts = (await failures(context)).total()
    if attempts >= context.deps.limits.max_attempts:
        return await give_up(context, f"{attempts} attempts came to nothing")
    if too_late := spec.too_late(context.deps.now()):
        return await give_up(context, too_late)
    registered = await context.ledger.vendors.all()
    vendors = able_vendors(registered, spec)
    if not vendors:
        return await give_up(context, nobody_has(spec, registered))
    left = left_for(run, slot)
    gpu_minutes = spec.minutes * spec.gpu_count
    cheapest = min(v.price_per_hour.scaled(gpu_minutes, MINUTES_PER_HOUR) for v in vendors)
    # List prices only guide, quotes decide: but below half the cheapest none will be.
    if left.scaled(2, 1) < cheapest or left == ZERO:
        why = Reason.of(ReasonCode.SHORT, left=str(left), cheapest=str(cheapest))
        return await give_up(context, why, run.budget_total)
    able = "1 vendor has" if len(vendors) == 1 else f"{len(vendors)} vendors have"
    note = Note(
        NoteType.AGENT_REASONING,
        f"Budget remaining: {left} of {run.budget_total}\n"
        f"{able} {spec.gpu}, from {cheapest} for {spec.hours:g} h",
    )
    found = note_if_changed(state, context, Phase.ASSESS_BUDGET, [note])
    context.assessed = True
    return go(Phase.CHOOSE_VENDOR, found=found)


async def _unfinished(context: TickContext, slot: int | None) -> Payment | None:
    """A launch that an earlier tick paid, or signed, and did not bring to a job: it comes first.

    slot: the one that waits for another vendor on purpose. On the way, what the chain decides is
    closed, and a slot in which nothing was signed is released. Time that was ordered for a job
    that has failed since is left to the chain, and never sent again.
    """
    if context.run.reservations:
        await context.deps.cashier.judge.judge_open(context.run, context.observe)
        for held in context.run.reservations:
            if held.slot != slot:
                await context.deps.cashier.judge.abandon(context.run, held.slot, context.observe)
    if await context.ledger.payments.awaiting_refund(context.run.id):
        await context.deps.refunds.confirm(context.run.id, context.observe)
    await context.reread()
    jobs = await context.ledger.jobs.of_run(context.run)
    payments = await context.ledger.payments.of_run(context.run.id)
    return unfinished_launch(context.run, payments, jobs, slot)
