"""intake: turn the goal into a job spec, once, and say what was understood and what was guessed."""

from __future__ import annotations

from langgraph.types import Command

from domain.goals import ASK_FOR_JOB
from domain.journal import NoteType
from domain.utterance import Utterance
from graph.context import TickContext
from graph.goals.goal_request import START_ANYWAY, no_job, spec_of_reading, understood
from graph.planner.meter import MeteredReader, TokenMeter
from graph.routing import Phase, go
from graph.state import AgentState
from graph.steps.ending import give_up
from graph.steps.work import spec_of


async def intake(state: AgentState, context: TickContext) -> Command[str]:  # noqa: ARG001
    goal = Utterance(context.run.goal, context.run.created_at)
    leaves_out = goal.left_out
    if set(leaves_out.own) - set(context.run.accepted):
        return await give_up(context, f"{leaves_out.line} {START_ANYWAY}")
    facts = {}
    if context.run.spec is None:  # a run that a conversation started has its spec already
        meter = TokenMeter(context.deps, context.run.user_id, context.run.id)
        reader = MeteredReader(context.deps.reader, meter)
        heard = await reader.read([goal])
        if heard.used.calls:
            await context.ledger.runs.count_model(context.run.id, heard.used)
        if why := no_job(goal.text, heard.reading):
            return await give_up(context, f"the goal {why}. {ASK_FOR_JOB}")
        spec = await spec_of_reading(context.deps, heard.reading)
        await context.ledger.runs.set_spec(context.lease, spec)
        await context.reread()
        facts = {"reader": heard.reader, "fallback": bool(heard.fallback)}
        facts |= {"fallbackReason": heard.fallback} if heard.fallback else {}
    plan = understood(spec_of(context.run), context.run.budget_total)
    context.note(
        NoteType.JOB_SPEC,
        f"Understood: {plan}",
        key="job_spec",
        understood=plan,
        **facts,
    )
    if leaves_out.words:
        words = list(leaves_out.words)
        context.note(NoteType.NOT_USED, leaves_out.line, key="not_used", words=words)
    return go(Phase.ASSESS_BUDGET)
