"""How a run ends: its status and the reason, a note that says so, and nothing more to do."""

from __future__ import annotations

from typing import Any, Final

from langgraph.types import Command

from domain.jobs import RunStatus
from domain.journal import Note, NoteType
from domain.money import Usd
from graph.context import TickContext
from graph.routing import Phase, rest
from graph.state import FORGET

_SAID: Final = {
    RunStatus.COMPLETED: "The job completed at {}",
    RunStatus.CANCELLED: "The run was cancelled: {}",
    RunStatus.FAILED: "The run failed: {}",
}


def last_note(status: RunStatus, what: str) -> Note:
    """The note of a run's end. what: the vendor of a completed run, else the reason.

    Its key lets it be written once, however often the step that ends the run is repeated.
    """
    return Note(NoteType(f"run_{status}"), _SAID[status].format(what), key="run_ended")


async def complete(context: TickContext, vendor_id: str) -> Command[str]:
    """End the run as completed, at this vendor."""
    await _end(context, RunStatus.COMPLETED, "")
    context.observe(last_note(RunStatus.COMPLETED, vendor_id))
    return rest(Phase.ENDED, "Job completed")


async def call_off(context: TickContext, why: str, **update: Any) -> Command[str]:
    """End the run as cancelled."""
    await _end(context, RunStatus.CANCELLED, why)
    context.observe(last_note(RunStatus.CANCELLED, why))
    return rest(Phase.ENDED, "Run cancelled", **update)


async def give_up(context: TickContext, reason: str, total: Usd | None = None) -> Command[str]:
    """End the run as failed. What is still open of its money is closed later, by the chain.

    total: the budget that the reason was reckoned from; with another by now, it is reckoned anew.
    """
    if not await _end(context, RunStatus.FAILED, reason, total):
        return rest(
            Phase.ASSESS_BUDGET,
            "The budget was raised meanwhile, looking again",
            waits=0,
            planning=[FORGET],
        )
    context.observe(last_note(RunStatus.FAILED, reason))
    return rest(Phase.ENDED, f"Run failed: {reason}")


async def _end(
    context: TickContext, status: RunStatus, reason: str, total: Usd | None = None
) -> bool:
    """End the run, after the notes about what led to it: no further node runs in it."""
    await context.flush()
    return await context.ledger.runs.end(
        context.lease, status, reason, context.deps.now(), total=total
    )
