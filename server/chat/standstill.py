"""Why a run has no job, and what its owner can do about it."""

from __future__ import annotations

from typing import Final

from domain.jobs import RunStatus
from domain.journal import NoteType
from domain.names import Names, named
from graph.deps import Deps
from ledger.run import Run
from server.chat.replies import clean

MOST_VENDORS: Final = 5
_OTHER_GPU: Final = (
    'Name another GPU or vendor in a new run; "show me the prices" lists what there is.'
)
_REMEDIES: Final = (
    (
        "MAX_EXPOSURE_USD",
        "Ask for fewer or cheaper GPUs in a new run, or have MAX_EXPOSURE_USD "
        "raised where this server runs.",
    ),
    ("no registered vendor has", _OTHER_GPU),
    ("to rent from alone, has no", _OTHER_GPU),
    ("budget has", "Start it again with a larger budget, or for less time."),
    (" is left", "Start it again with a larger budget, or for less time."),
    ("cannot be done by", "Start it again with a later deadline, or for less time."),
    ("can be done in", "Start it again with a later deadline, or for less time."),
)
"""Words of a reason → what helps; the first that is found counts."""
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
        return _remedy(run.reason) if run.status is RunStatus.FAILED else ""
    notes = await deps.ledger.observations.of_run(run.id, types=_TOLD_BY)
    decision = NoteType.AGENT_REASONING
    told = [e.note for e in notes if e.note.type is not decision or "decision" in e.note.data]
    if not told or told[-1].type is NoteType.JOB_STARTED or told[-1].data.get("decision") == "rent":
        return ""
    last = told[-1]
    why = str(last.data.get("reason") or last.content.partition("\n")[0])
    said = [f"Nothing could be rented yet: {clean(named(why, names)).rstrip('.')}."]
    if last.type is decision:  # what was refused names its own remedy
        asked = [f"{names[v.vendor_id]}: {clean(v.why)}" for v in run.no_quotes[:MOST_VENDORS]]
        said += [f"I asked {'; '.join(asked)}."] if asked else []
        said.append(_remedy(" ".join((why, *asked))) or _ASKED_AGAIN)
    return " ".join(said)


def _remedy(why: str) -> str:
    return next((remedy for mark, remedy in _REMEDIES if mark in why), "")
