"""intake: turn the goal into a job spec, once, and say what was understood and what was guessed."""

from __future__ import annotations

from langgraph.types import Command

from domain.goals import unused
from graph.deps import Desk
from graph.goals.goal_request import START_ANYWAY, says_no_job, spec_of_reading, understood
from graph.planner.meter import MeteredReader, TokenMeter
from graph.routing import Phase, go
from graph.state import AgentState
from graph.steps.ending import give_up
from graph.steps.work import spec_of
from ledger.drafts import Utterance


async def intake(state: AgentState, desk: Desk) -> Command[str]:  # noqa: ARG001
    leaves_out = unused(desk.run.goal, desk.run.created_at)
    if set(leaves_out.own) - set(desk.run.accepted):
        return await give_up(desk, f"{leaves_out.line} {START_ANYWAY}")
    facts = {}
    if desk.run.spec is None:  # a run that a conversation started has its spec already
        meter = TokenMeter(desk.deps, desk.run.user_id, desk.run.id)
        reader = MeteredReader(desk.deps.reader, meter)
        heard = await reader.read([Utterance(desk.run.goal, desk.run.created_at)])
        if heard.used.calls:
            await desk.ledger.runs.count_model(desk.run.id, heard.used)
        if no_job := says_no_job(desk.run.goal, heard.reading):
            return await give_up(desk, no_job)
        spec = await spec_of_reading(desk.deps, heard.reading)
        await desk.ledger.runs.set_spec(desk.lease, spec)
        await desk.reread()
        facts = {"reader": heard.reader, "fallback": bool(heard.fallback)}
        facts |= {"fallbackReason": heard.fallback} if heard.fallback else {}
    desk.note(
        "job_spec",
        f"Understood: {understood(spec_of(desk.run), desk.run.budget_total)}",
        key="job_spec",
        **facts,
    )
    if leaves_out.words:
        desk.note("not_used", leaves_out.line, key="not_used", words=list(leaves_out.words))
    return go(Phase.ASSESS_BUDGET)
