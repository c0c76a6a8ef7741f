"""Answers about a run, from the ledger alone; and what its owner's words may change.

Nothing here asks a model, and no number in an answer comes from one.

progress   how runs go, and where their results are
money      what was spent, what came back, and raising the budget
market     what vendors ask
"""

from __future__ import annotations

from typing import Final

from domain.approvals import asked_for
from domain.errors import Conflict
from domain.intents import Intent, Wants
from graph.deps import Deps
from ledger.run import Run
from server.chat.market import prices
from server.chat.money import lower_budget, not_raised, raise_budget, what_came_back, what_was_spent
from server.chat.progress import how_it_goes, list_runs, where_the_result_is
from server.chat.replies import APPROVE_OR_REJECT, Said, vendor_names, waiting

NOT_STARTED: Final = (
    "I have started nothing. Say the goal and its budget alone when you want it; "
    '`gpu-renter plan "…"` shows what I would rent, and pays nothing.'
)
WELCOME: Final = "You are welcome."
ELSEWHERE: Final = (
    "That is a new goal, and here we talk about run {}, which goes on as it is. Tell it to me in a "
    "chat of its own: on the first page, with `gpu-renter chat`, or over the API without a runId."
)
HELP: Final = (
    "Tell me what to run, on which GPU, for how long, and for how much at most, like "
    '"Fine-tune a 7B model on an A100 for 2 hours, under $5". "Show me the prices" lists what '
    'vendors ask. Of a run, ask "how is it going?", "what did you spend and why?", "where is my '
    'model?" or "list my runs". You can also say "stop", "you may spend 2 more", "go on", and '
    '"approve" or "reject" when a payment waits for you.'
)


async def reply(deps: Deps, run: Run, intent: Intent, message_id: str) -> Said:
    """The answer to a message about a run, and what the message changes.

    STOP only asks for the end: the next tick carries it out. GO_ON and OTHER are the caller's.
    message_id: the same message again changes nothing more. Raises Conflict, BudgetExceeded.
    """
    match intent.wants:
        case Wants.STATUS:
            return await how_it_goes(deps, run)
        case Wants.SPENT:
            return await what_was_spent(deps, run)
        case Wants.REFUND:
            return await what_came_back(deps, run)
        case Wants.RESULT:
            return await where_the_result_is(deps, run)
        case Wants.RUNS:
            return await list_runs(deps, run.user_id)
        case Wants.PRICES:
            return await prices(deps)
        case Wants.THANKS:
            return Said(WELCOME)
        case Wants.RAISE:
            return await raise_budget(deps, run, intent, message_id)
        case Wants.RAISE_UNCLEAR:
            return not_raised(run, intent)
        case Wants.LOWER:
            return lower_budget(run, intent)
        case Wants.STOP_PERHAPS:
            if run.status.ended:
                return Said(f"The run has ended already: it is {run.status.value}.")
            return Said('Shall I end the run? Then say "stop".', "question")
        case Wants.STOP:
            return await stop(deps, run)
        case Wants.APPROVE | Wants.REJECT:
            return await decide(deps, run, intent)
        case Wants.YES | Wants.NO:
            return await yes_or_no(deps, run)
        case _:
            return Said(HELP)


async def stop(deps: Deps, run: Run) -> Said:
    """Ask for the run's end."""
    if not await deps.ledger.runs.request_cancel(run.id, "stopped by its owner", deps.now()):
        raise Conflict(f"Run {run.id} has ended already", "There is nothing to stop")
    job = await deps.ledger.jobs.current(run)
    stops = "" if job is None or job.status.ended else ": its job is stopped at the vendor"
    return Said(f"Cancelling the run{stops}.", "action")


async def decide(deps: Deps, run: Run, intent: Intent) -> Said:
    """The owner's answer to the one payment that waits, or to the one that it names."""
    approvals = await waiting(deps, run)
    if intent.approval_id:
        approvals = [a for a in approvals if a.id == intent.approval_id]
    if not approvals:
        return Said("No payment waits for your answer.")
    names = await vendor_names(deps)
    if len(approvals) > 1:
        ids = ", ".join(f"{a.id} ({asked_for([a], names)})" for a in approvals)
        return Said(f"More than one payment waits. Name the one you mean: {ids}", "question")
    [approval] = approvals
    yes = intent.wants is Wants.APPROVE
    decided = await deps.ledger.approvals.decide(run.id, approval.id, yes, deps.now())
    return Said(
        f"{decided.state.value.capitalize()}: {asked_for([decided], names)}.",
        "action",
        {"approvalId": decided.id},
    )


async def yes_or_no(deps: Deps, run: Run) -> Said:
    """What can be said instead of a bare yes or no, which may be meant for another question: money
    moves by the word "approve" alone.
    """
    approvals = await waiting(deps, run)
    if not approvals:
        return Said(f"I do not know what that answers: nothing waits for a yes or a no. {HELP}")
    names = await vendor_names(deps)
    return Said(
        f"Waiting for your approval: {asked_for(approvals, names)}. To answer it, "
        f"{APPROVE_OR_REJECT}.",
        "question",
        asks_approval=True,
    )
