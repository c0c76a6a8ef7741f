"""intake: turn the goal into a job spec, once."""

from __future__ import annotations

from langgraph.types import Command

from domain.goals import read_goal
from graph.deps import Desk
from graph.routing import Phase, go
from graph.state import AgentState


async def intake(state: AgentState, desk: Desk) -> Command[str]:  # noqa: ARG001
    if desk.run.spec is None:
        spec = read_goal(desk.run.goal)
        await desk.ledger.runs.set_spec(desk.lease, spec)
        guessed = f" (guessed: {', '.join(spec.guessed)})" if spec.guessed else ""
        desk.note(
            "job_spec",
            f"Understood: {spec.job_type} on {spec.gpu_count} × {spec.gpu_type} "
            f"for {spec.hours:g} h, within {desk.run.budget_total}{guessed}",
            key="job_spec",
        )
        await desk.reread()
    return go(Phase.ASSESS_BUDGET)
