"""Why a run has no job, and what its owner can do about it."""

from __future__ import annotations

from typing import Final

from domain.jobs import RunStatus
from domain.journal import NoteType
from domain.names import Names, named
from domain.reasons import Reason
from graph.deps import Deps
from ledger.run import Run
from server.chat.replies import clean

MOST_VENDORS: Final = 5
_TOLD_BY: Final = (
    NoteType.AGENT_REASONING,
    NoteType.PAYMENT_NOT_MADE,
    NoteType.RECOVERY,
    NoteType.JOB_STARTED,
)
_ASKED_AGAIN: Final = (
    'I ask again by myself. You can also say "stop", and name another GPU in a new run.'
)


async def why_no_job(deps: Deps, run: Run, names: Names) -> str:
    """The reason and the remedy; empty where nothing is in the way, or a job was started."""
    if run.status.ended:
        ended = Reason(run.reason, run.reason_data)
        return ended.remedy if run.status is RunStatus.FAILED else ""
    notes = await deps.ledger.observations.of_run(run.id, types=_TOLD_BY)
    decision = NoteType.AGENT_REASONING
    told = [e.note for e in notes if e.note.type is not decision or "decision" in e.note.data]
    if not told or told[-1].type is NoteType.JOB_STARTED or told[-1].data.get("decision") == "rent":
        return ""
    last = told[-1]
    words = str(last.data.get("reason") or last.content.partition("\n")[0])
    why = Reason(words, last.data.get("reasonData"))
    said = [f"Nothing could be rented yet: {clean(named(why, names)).rstrip('.')}."]
    if last.type is decision:  # what was refused names its own remedy
        silent = run.no_quotes[:MOST_VENDORS]
        asked = [f"{names[v.vendor_id]}: {clean(v.why)}" for v in silent]
        said += [f"I asked {'; '.join(asked)}."] if asked else []
        reasons = [*(Reason(v.why, v.reason_data) for v in silent), why]
        remedies = [reason.remedy for reason in reasons if reason.remedy]
        said.append(next(iter(remedies), _ASKED_AGAIN))
    return " ".join(said)
