"""How a run ends: its status and the reason, the journal's last note, and nothing more to do."""

from __future__ import annotations

from typing import Any

from langgraph.types import Command

from domain.jobs import RunStatus
from domain.money import Usd
from graph.deps import Desk
from graph.routing import Phase, rest
from graph.state import FORGET

_KEY = "run_ended"
"""A run ends once, however often the step that ends it is repeated."""


async def complete(desk: Desk, vendor_id: str) -> Command[str]:
    """End the run as completed, at this vendor."""
    await desk.ledger.runs.end(desk.lease, RunStatus.COMPLETED, "", desk.deps.now())
    desk.note("run_completed", f"The job completed at {vendor_id}", key=_KEY)
    return rest(Phase.ENDED, "Job completed")


async def call_off(desk: Desk, why: str, **update: Any) -> Command[str]:
    """End the run as cancelled."""
    await desk.ledger.runs.end(desk.lease, RunStatus.CANCELLED, why, desk.deps.now())
    desk.note("run_cancelled", f"The run was cancelled: {why}", key=_KEY)
    return rest(Phase.ENDED, "Run cancelled", **update)


async def give_up(desk: Desk, reason: str, total: Usd | None = None) -> Command[str]:
    """End the run as failed. What is still open of its money is closed later, by the chain.

    total: the budget that the reason was reckoned from; with another by now, it is reckoned anew.
    """
    if not await desk.ledger.runs.end(
        desk.lease, RunStatus.FAILED, reason, desk.deps.now(), total=total
    ):
        return rest(
            Phase.ASSESS_BUDGET, "The budget was raised meanwhile, looking again", waits=0,
            planning=[FORGET],
        )  # fmt: skip
    desk.note("run_failed", f"The run failed: {reason}", key=_KEY)
    return rest(Phase.ENDED, f"Run failed: {reason}")
