"""What a tick came to, read from where it left the graph and from what it noted."""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import datetime
from typing import Any, Final

from domain.due import TickOutcome
from graph.routing import Phase

TROUBLE: Final = frozenset(
    {
        "poll_failed",
        "cancel_failed",
        "chain_unreachable",
        "launch_unanswered",
        "extension_unanswered",
        "payment_not_made",
        "payment_unclear",
    }
)
"""Notes of something that only time, or a person, mends."""
NEWS: Final = frozenset(
    {
        "job_spec",
        "job_started",
        "job_extended",
        "approval_used",
        "payment_refunded",
        "run_completed",
        "run_failed",
        "run_cancelled",
    }
)
"""Notes that a run has moved: it is looked at soon again."""
LIVELY: Final = frozenset({"job_log"})
"""Notes that its job just runs, and has something to tell."""
NEXT_VENDOR: Final = frozenset({"recovery", "approval_expired", "launch_unanswered"})
"""Notes after which the agent chooses again, instead of waiting for other offers."""


def outcome_of(before: str, state: Mapping[str, Any], noted: Set[str]) -> TickOutcome:
    """before: the phase in which the tick began. state: the graph's, after it."""
    if "__interrupt__" in state:
        return TickOutcome.ASKED
    match Phase(state["phase"]):
        case Phase.ENDED:
            return TickOutcome.CLOSING
        case _ if "payment_unclear" in noted:
            return TickOutcome.WAITING
        case Phase.MONITOR:
            return TickOutcome.WAITING if noted & TROUBLE else TickOutcome.WATCHING
        case Phase.ASSESS_BUDGET:
            return TickOutcome.ACTED if noted & NEXT_VENDOR else TickOutcome.WAITING
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
