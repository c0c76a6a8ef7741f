"""What the agent says in a chat, and what an answer about a run is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from domain.approvals import Approval
from domain.names import Names, names_of
from graph.deps import Deps
from ledger.run import Run
from tools.wire.untrusted import clean_text

LONGEST_WORDS: Final = 200
"""Characters of a vendor's own words that an answer repeats."""
APPROVE_OR_REJECT: Final = 'say "approve" or "reject"'
"""What the answer to a payment that waits is."""


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that the agent says or does. data: of `run`, {"runId": …}."""

    text: str
    kind: Literal["words", "action", "question", "run", "error"] = "words"
    data: Mapping[str, Any] = field(default_factory=dict)
    asks_approval: bool = False
    """Whether it tells of a payment that waits for a yes or a no."""


def money_of(run: Run) -> str:
    reserved = f", {run.reserved} held for a payment under way" if run.reserved else ""
    return (
        f"Of {run.budget_total} I have spent {run.spent}{reserved}; {run.budget_remaining} is left."
    )


async def vendor_names(deps: Deps) -> Names:
    return names_of(await deps.ledger.vendors.all())


async def waiting(deps: Deps, run: Run) -> list[Approval]:
    """The payments that wait for a person now."""
    if run.status.ended:
        return []
    return (await deps.ledger.approvals.pending_of([run.id], deps.now())).get(run.id, [])


def clean(text: str) -> str:
    return clean_text(text, LONGEST_WORDS)
