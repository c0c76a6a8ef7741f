"""The graph of a run: where it has been, where it is, and how often it came back."""

from __future__ import annotations

from collections import Counter
from typing import Final

from graph.routing import Phase
from ledger.run import Run
from server.dashboard.widgets import box, text

PATH: Final = (
    (Phase.INTAKE, "Intake"),
    (Phase.ASSESS_BUDGET, "Budget"),
    (Phase.CHOOSE_VENDOR, "Choose"),
    (Phase.APPROVE, "Approve"),
    (Phase.PAY, "Pay"),
    (Phase.LAUNCH, "Launch"),
    (Phase.MONITOR, "Monitor"),
)
_SHOWN_AT: Final = {Phase.TOOLS: Phase.CHOOSE_VENDOR}


def now_at(run: Run) -> Phase | None:
    """The node that is next; None when the run has ended."""
    if run.status.ended:
        return None
    if run.cancel_requested:
        return Phase.CANCEL
    try:
        phase = Phase(run.phase)
    except ValueError:
        return None
    return _SHOWN_AT.get(phase, phase)


def draw_graph(run: Run, visits: Counter[Phase]) -> None:
    now = now_at(run)
    before = [phase for phase, _ in PATH]
    passed = before.index(now) if now in before else len(before)
    with box("ol", "graph", aria_label="The agent's steps"):
        for place, (phase, name) in enumerate(PATH):
            # A node without entries of its own was passed if a later one was reached.
            been = visits[phase] > 0 or (not run.status.ended and place < passed)
            been = been or any(visits[later] for later in before[place + 1 :])
            _node(name, phase.value, now=phase is now, been=been, visits=visits[phase])
        _end(run, now)
        failovers = visits[Phase.RECOVER]
        css = "back" + (" was" if failovers else "") + (" now" if now is Phase.RECOVER else "")
        with box("li", css, data_node="recover"):
            text("span", f"Recover, {failovers}×" if failovers else "Recover")


def _node(name: str, node: str, *, now: bool, been: bool, visits: int) -> None:
    css = "node" + (" now running" if now else " was" if been else "")
    with box("li", css, aria_current="step" if now else None, data_node=node):
        text("span", name)
        text("span", f"{visits}×" if visits > 1 else "", "times")


def _end(run: Run, now: Phase | None) -> None:
    if now is Phase.CANCEL:
        _node("Cancelling", "cancel", now=True, been=False, visits=0)
    elif run.status.ended:
        with box("li", f"node now {run.status.value}", aria_current="step", data_node="end"):
            text("span", run.status.value.capitalize())
            text("span", "", "times")
    else:
        _node("Done", "end", now=False, been=False, visits=0)
