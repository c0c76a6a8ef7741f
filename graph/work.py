"""Small questions that several nodes ask of a run."""

from __future__ import annotations

from collections import Counter

from domain.errors import Conflict
from domain.jobs import JobSpec, JobStatus
from domain.money import ZERO, Usd
from domain.payments import PaymentState
from graph.deps import Desk
from ledger.runs import Run

_FAILED = (PaymentState.REFUSED, PaymentState.EXPIRED, PaymentState.RELEASED)


def spec_of(run: Run) -> JobSpec:
    """The run's job spec. Raises Conflict where intake has not made it yet."""
    if run.spec is None:
        raise Conflict(f"Run {run.id} has no job spec yet", "Tick it again from the start")
    return run.spec


def left_for(run: Run, slot: int | None) -> Usd:
    """What the run can pay for `slot`: the rest of its budget, and what the slot holds already."""
    held = run.reservation(slot) if slot is not None else None
    return run.budget_remaining + (held.amount if held else ZERO)


async def failures(desk: Desk) -> Counter[str]:
    """How often each vendor failed this run: jobs that died, and purchases that came to nothing."""
    payments = await desk.ledger.payments.of_run(desk.run.id)
    jobs = await desk.ledger.jobs.of_run(desk.run.id)
    return Counter(p.vendor_id for p in payments if p.state in _FAILED) + Counter(
        job.vendor_id for job in jobs if job.status is JobStatus.FAILED
    )


async def book_outcome(desk: Desk, job_id: str, vendor_id: str, *, completed: bool) -> None:
    """Count an ended job in its vendor's record, at most once whatever crashes."""
    if await desk.ledger.jobs.book(job_id):
        await desk.ledger.vendors.record(vendor_id, completed=completed)
