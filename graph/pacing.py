"""What a tick came to, read from where it left the graph and from what it noted."""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import datetime
from typing import Any

from domain.due import TickOutcome
from domain.journal import NoteClass, NoteType, classes_of
from graph.routing import Phase


def outcome_of(before: str, state: Mapping[str, Any], noted: Set[NoteType]) -> TickOutcome:
    """before: the phase in which the tick began. state: the graph's, after it."""
    classes = classes_of(noted)
    if "__interrupt__" in state:
        return TickOutcome.ASKED
    match Phase(state["phase"]):
        case Phase.ENDED:
            return TickOutcome.CLOSING
        case _ if NoteType.PAYMENT_UNCLEAR in noted:
            return TickOutcome.WAITING
        case Phase.MONITOR:
            return TickOutcome.WAITING if NoteClass.TROUBLE in classes else TickOutcome.WATCHING
        case Phase.ASSESS_BUDGET:
            return TickOutcome.ACTED if NoteClass.ANEW in classes else TickOutcome.WAITING
        case Phase.LAUNCH:  # the next slice is delivered at once; what was sent already waits
            return TickOutcome.ACTED if before == Phase.MONITOR.value else TickOutcome.WAITING
        case _:
            return TickOutcome.ACTED


def expiry(state: Mapping[str, Any]) -> datetime | None:
    """Until when the question to a person waits, if one does."""
    for interrupt in state.get("__interrupt__", ()):
        if isinstance(interrupt.value, Mapping) and "expiresAt" in interrupt.value:
            return datetime.fromisoformat(interrupt.value["expiresAt"])
    return None
