"""recover: book a failure, claim what is owed, and send the run back to look for another vendor."""

from __future__ import annotations

from langgraph.types import Command

from graph.deps import Desk
from graph.routing import Phase, rest
from graph.state import AgentState
from graph.work import book_outcome, chain_permitting


async def recover(state: AgentState, desk: Desk) -> Command[str]:
    failure = state.get("failure") or {}
    vendor, why = failure.get("vendor_id", "a vendor"), failure.get("why", "it failed")
    if failure.get("job_id"):
        await book_outcome(desk, failure["job_id"], vendor, completed=False)
    with chain_permitting(desk):  # later refunds are booked by later ticks
        await desk.deps.refunds.confirm(desk.run.id, desk.observe)
    run = await desk.reread()
    desk.note(
        "recovery",
        f"{vendor} failed: {why}\nLooking for another vendor with {run.budget_remaining}",
        key=f"{failure['job_id']}:recovery" if failure.get("job_id") else None,
        vendorId=vendor,
        jobId=failure.get("job_id"),
    )
    return rest(
        Phase.ASSESS_BUDGET,
        "Job failed" if failure.get("job_id") else f"Vendor failed: {why}",
        failure=None, decision=None, payment_id=None, accepted=None, sends=0, open_slot=None,
    )  # fmt: skip
