"""Where a tick goes on: each invocation starts at START and is routed by the saved phase.

A wait point is END, so at rest nothing is pending, and after a crash the phase names the node that
was at work. Every node finds in the ledger what it had done before.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import datetime
from enum import StrEnum
from typing import Any

from langgraph.graph import END
from langgraph.types import Command

from domain.due import TickOutcome
from domain.journal import NoteClass, NoteType, classes_of
from graph.state import AgentState


class Phase(StrEnum):
    """The nodes, by name; ENDED is where no node is next."""

    INTAKE = "intake"
    ASSESS_BUDGET = "assess_budget"
    CHOOSE_VENDOR = "choose_vendor"
    TOOLS = "tools"
    APPROVE = "approve"
    PAY = "pay"
    LAUNCH = "launch"
    MONITOR = "monitor"
    RECOVER = "recover"
    CANCEL = "cancel"
    ENDED = "ended"


def route(state: AgentState) -> str:
    """The node for this tick."""
    if state.get("cancel"):
        return Phase.CANCEL.value
    phase = Phase(state.get("phase") or Phase.INTAKE)
    if phase is Phase.TOOLS:
        return Phase.CHOOSE_VENDOR.value
    return END if phase is Phase.ENDED else phase.value


def go(phase: Phase, **update: Any) -> Command[str]:
    """On to `phase`, in this tick."""
    return Command(goto=phase.value, update={**update, "phase": phase.value})


def rest(phase: Phase, message: str, **update: Any) -> Command[str]:
    """This tick is done, with `message`; the next one begins at `phase`."""
    return Command(goto=END, update={**update, "phase": phase.value, "message": message})


def outcome_of(before: str, state: Mapping[str, Any], noted: Set[NoteType]) -> TickOutcome:
    """How a tick ended, by where it left the graph and what it noted. before: the phase in which it
    began. state: the graph's, after it.
    """
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
    """When the question to a person expires; None where there is no question."""
    for interrupt in state.get("__interrupt__", ()):
        if isinstance(interrupt.value, Mapping) and "expiresAt" in interrupt.value:
            return datetime.fromisoformat(interrupt.value["expiresAt"])
    return None
