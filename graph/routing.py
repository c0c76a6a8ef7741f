"""Where a tick goes on: each invocation starts at START and is routed by the saved phase.

A wait point is END, so at rest nothing is pending, and after a crash the phase names the node that
was at work. Every node finds in the ledger what it had done before.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from langgraph.graph import END
from langgraph.types import Command

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
