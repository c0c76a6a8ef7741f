"""assess_budget: finish what an interrupted tick began; then, can the rest still reach the goal?"""

from __future__ import annotations

from langgraph.types import Command

from domain.errors import PaymentUnclear
from domain.jobs import MINUTES_PER_HOUR, JobStatus
from domain.journal import Note
from domain.money import ZERO, Usd
from domain.payments import PaymentState
from domain.quotes import able_vendors, nobody_has
from graph.deps import Desk
from graph.routing import Phase, go
from graph.state import AgentState
from graph.steps.changes import note_changes
from graph.steps.ending import give_up
from graph.steps.work import failures, left_for, spec_of, wait_for_person, without_job
from ledger.payments import Payment


async def assess_budget(state: AgentState, desk: Desk) -> Command[str]:
    job = await desk.ledger.jobs.current(desk.run)
    if job and (not job.status.ended or job.status is JobStatus.COMPLETED):
        return go(Phase.MONITOR)
    slot = state.get("open_slot")
    if slot is not None and desk.run.reservation(slot) is None:
        return go(Phase.ASSESS_BUDGET, open_slot=None)
    try:
        unfinished = await _unfinished(desk, slot)
    except PaymentUnclear as unclear:
        return wait_for_person(desk, Phase.ASSESS_BUDGET, unclear)
    if unfinished:
        return go(Phase.LAUNCH, payment_id=unfinished.id, accepted=None, sends=0, open_slot=None)
    run, spec = desk.run, spec_of(desk.run)
    attempts = (await failures(desk)).total()
    if attempts >= desk.deps.limits.max_attempts:
        return await give_up(desk, f"{attempts} attempts came to nothing")
    if too_late := spec.too_late(desk.deps.now()):
        return await give_up(desk, too_late)
    registered = await desk.ledger.vendors.all()
    vendors = able_vendors(registered, spec)
    if not vendors:
        return await give_up(desk, nobody_has(spec, registered))
    left = left_for(run, slot)
    gpu_minutes = spec.minutes * spec.gpu_count
    cheapest = min(v.price_per_hour.scaled(gpu_minutes, MINUTES_PER_HOUR) for v in vendors)
    # List prices only guide, quotes decide: but below half the cheapest none will be.
    if left.scaled(2, 1) < cheapest or left == ZERO:
        return await give_up(desk, _out_of_budget(left, cheapest), run.budget_total)
    able = "1 vendor has" if len(vendors) == 1 else f"{len(vendors)} vendors have"
    note = Note(
        "agent_reasoning",
        f"Budget remaining: {left} of {run.budget_total}\n"
        f"{able} {spec.gpu}, from {cheapest} for {spec.hours:g} h",
    )
    found = note_changes(state, desk, Phase.ASSESS_BUDGET, [note])
    return go(Phase.CHOOSE_VENDOR, found=found)


async def _unfinished(desk: Desk, slot: int | None) -> Payment | None:
    """A launch that an earlier tick paid, or signed, and did not bring to a job: it comes first.

    slot: the one that waits for another vendor on purpose. On the way, what the chain decides is
    closed, and a slot in which nothing was signed is released. Time that was ordered for a job
    that has failed since is left to the chain, and never sent again.
    """
    if desk.run.reservations:
        await desk.deps.cashier.judge.judge_open(desk.run, desk.observe)
        for held in desk.run.reservations:
            if held.slot != slot:
                await desk.deps.cashier.judge.abandon(desk.run, held.slot, desk.observe)
    if await desk.ledger.payments.awaiting_refund(desk.run.id):
        await desk.deps.refunds.confirm(desk.run.id, desk.observe)
    await desk.reread()
    jobs = await desk.ledger.jobs.of_run(desk.run)
    for payment in without_job(await desk.ledger.payments.of_run(desk.run.id), jobs):
        waits = desk.run.reservation(payment.slot) is not None and payment.slot != slot
        signed = payment.state is PaymentState.AUTHORIZED and waits
        if signed or payment.state is PaymentState.SETTLED:
            return payment
    return None


def _out_of_budget(left: Usd, cheapest: Usd) -> str:
    return f"the budget has {left} left, and the cheapest vendor asks about {cheapest}"
