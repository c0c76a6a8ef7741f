"""Answers about a run, from the ledger alone; and what its owner's words may change.

Nothing here asks a model, and no number in an answer comes from one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from domain.approvals import Approval, ApprovalState
from domain.errors import Conflict
from domain.goals import ASK_FOR_JOB
from domain.intents import Intent, Wants
from domain.jobs import JobStatus
from domain.journal import Entry, Note
from domain.names import Names, named, names_of
from domain.payments import PurchaseKind
from graph.deps import Deps
from ledger.jobs import Job
from ledger.observations import Head
from ledger.payments import Payment
from ledger.run import Run
from ledger.runs import FETCH
from tools.wire.untrusted import clean_text

LONGEST_WORDS: Final = 200
"""Characters of a vendor's own words that an answer repeats."""
MOST_PAYMENTS: Final = 20
MOST_TIMES: Final = 10
"""A raise to more than this many times the budget is asked about first."""
_NEXT: Final = {
    "intake": "its goal is read first",
    "assess_budget": "its budget is looked at next",
    "choose_vendor": "a vendor is chosen next",
    "approve": "its payment waits for you",
    "pay": "a vendor is paid next",
    "launch": "a vendor is launching it",
    "recover": "another vendor is looked for",
}
"""A phase → what comes next, in words."""
LONGEST_GOAL_SHOWN: Final = 80
MOST_LISTED: Final = 10
MOST_READ: Final = 50
"""Runs that are looked through for them: purchases of `gpu-renter pay` are among these."""
NOT_STARTED: Final = (
    "I have started nothing. Say the goal and its budget alone when you want it; "
    '`gpu-renter plan "…"` shows what I would rent, and pays nothing.'
)
WELCOME: Final = "You are welcome."
HELP: Final = (
    'Ask me "how is it going?", "what did you spend and why?" or "list my runs". You can also say '
    '"stop", "you may spend 2 more", "go on", and "approve" or "reject" when a payment waits for '
    "you."
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the agent says, and whether it did something."""

    text: str
    kind: Literal["words", "action", "question"] = "words"
    data: Mapping[str, Any] = field(default_factory=dict)


async def reply(deps: Deps, run: Run, intent: Intent, message_id: str) -> Reply:
    """The answer to a message about a run, and what the message changes.

    STOP only asks for the end: the next tick carries it out. GO_ON and OTHER are the caller's.
    message_id: the same message again changes nothing more. Raises Conflict, BudgetExceeded.
    """
    match intent.wants:
        case Wants.STATUS:
            return await how_it_goes(deps, run)
        case Wants.SPENT:
            return await what_was_spent(deps, run)
        case Wants.RESULT:
            return await where_the_result_is(deps, run)
        case Wants.RUNS:
            return await list_runs(deps, run.user_id)
        case Wants.THANKS:
            return Reply(WELCOME)
        case Wants.RAISE:
            return await raise_budget(deps, run, intent, message_id)
        case Wants.LOWER:
            return lower_budget(run, intent)
        case Wants.STOP_PERHAPS:
            if run.status.ended:
                return Reply(f"The run has ended already: it is {run.status.value}.")
            return Reply('Shall I end the run? Then say "stop".', "question")
        case Wants.STOP:
            return await stop(deps, run)
        case Wants.APPROVE | Wants.REJECT:
            return await decide(deps, run, intent)
        case _:
            return Reply(HELP)


async def how_it_goes(deps: Deps, run: Run) -> Reply:
    """Status, the jobs' progress, the money, and what waits for a person."""
    jobs, names = await deps.ledger.jobs.of_run(run), await vendor_names(deps)
    why = f" ({named(_clean(run.reason), names)})" if run.reason else ""
    said = [f"Your run is {run.status.value}{why}."]
    if not run.status.ended:
        if run.cancel_requested:
            said.append("It is being cancelled.")
        elif not jobs:
            said.append(f"No job has started yet; {_NEXT.get(run.phase, 'it is about to')}.")
    if jobs:
        job = jobs[-1]
        said += [
            f"Before, it failed at {names[j.vendor_id]}{_because(j)}."
            for j in jobs[:-1]
            if j.status is not JobStatus.COMPLETED
        ]
        said.append(
            f"The job at {names[job.vendor_id]} is {job.status.value}, {job.progress:.0%} done "
            f"({job.minutes} minutes of {job.gpu_type} paid for)."
        )
        if job.error_message:
            said.append(f'It ended with "{_clean(job.error_message)}".')
    said.append(money_of(run))
    for approval in await waiting(deps, run):
        said.append(
            f"A payment of {approval.amount} to {names[approval.vendor_id]} ({approval.pay_to}) "
            f'waits for you: say "approve" or "reject" ({approval.id}).'
        )
    return Reply(" ".join(said), data={"status": run.status.value})


async def list_runs(deps: Deps, user_id: str) -> Reply:
    """The user's newest runs, each with its id, its state and its goal."""
    recent = await deps.ledger.runs.recent(user_id=user_id, limit=MOST_READ)
    runs = [run for run in recent if run.phase != FETCH][:MOST_LISTED]
    if not runs:
        return Reply(f"You have no runs yet. {ASK_FOR_JOB}")
    lines = [
        f"- {run.id}, {run.status.value}: {clean_text(run.goal, LONGEST_GOAL_SHOWN)}"
        for run in runs
    ]
    return Reply("\n".join(["Your newest runs:", *lines]), data={"runIds": [r.id for r in runs]})


async def where_the_result_is(deps: Deps, run: Run) -> Reply:
    """Where the job's file was put, or why there is none."""
    jobs = await deps.ledger.jobs.of_run(run)
    done = next((j for j in jobs if j.artifact_path), None)
    if done is None:
        return Reply(f"There is no result yet. {(await how_it_goes(deps, run)).text}")
    return Reply(
        f"It is on this server, at {done.artifact_path} (sha256 {done.artifact_sha256}).",
        data={"path": done.artifact_path, "sha256": done.artifact_sha256},
    )


def _because(job: Job) -> str:
    return f' with "{_clean(job.error_message)}"' if job.error_message else ""


async def what_was_spent(deps: Deps, run: Run) -> Reply:
    """Each payment with its state and the reason that the journal has for it."""
    payments = await deps.ledger.payments.of_run(run.id)
    if not payments:
        return Reply(f"Nothing so far. {money_of(run)}")
    reasons = await deps.ledger.observations.of_run(run.id, types=["agent_reasoning"])
    names = await vendor_names(deps)
    lines = [money_of(run)]
    if len(payments) > MOST_PAYMENTS:
        lines.append(f"The last {MOST_PAYMENTS} of {len(payments)} payments:")
    lines += [f"- {_payment_line(p, reasons, names)}" for p in payments[-MOST_PAYMENTS:]]
    return Reply("\n".join(lines))


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
    asked = await deps.ledger.approvals.of_run(run.id)
    now = deps.now()
    return [a for a in asked if a.state is ApprovalState.PENDING and now < a.expires_at]


async def raise_budget(deps: Deps, run: Run, intent: Intent, message_id: str) -> Reply:
    """More to spend, once for each message."""
    if intent.amount is None:
        return Reply('How much more may I spend? Say it like "you may spend $2 more".', "question")
    amount = intent.amount
    if intent.total:
        if intent.amount < run.budget_total:
            return lower_budget(run, intent)
        amount = intent.amount - run.budget_total
        if not amount:
            return Reply(f"The budget is {run.budget_total} already. I left it as it is.")
    total = run.budget_total + amount
    if total.micros > MOST_TIMES * run.budget_total.micros and not intent.sure:
        return Reply(
            f"That makes {total}, more than {MOST_TIMES} times the budget of {run.budget_total}. "
            f'If you mean it, say "you may spend {total} in all".',
            "question",
        )
    seen = run.budget_total if intent.total else None
    after = await deps.ledger.budget.raise_total(run.id, message_id, amount, deps.now(), seen=seen)
    await deps.ledger.observations.append(
        run.id,
        Head(after.journal_seq, after.journal_hash),
        [
            Note(
                "budget_raised",
                f"The owner raised the budget by {amount} to {after.budget_total}",
                {"amountMicros": amount.micros},
                f"raise:{message_id}",
            )
        ],
        deps.now(),
    )
    await deps.ledger.runs.schedule.make_due(run.id, deps.now())
    said = f"Done: I may spend {amount} more, {after.budget_total} in all. {money_of(after)}"
    cap = deps.cashier.policy.max_per_run
    if cap is not None and after.budget_total > cap:
        said += f" This server lets no run spend more than {cap}, though."
    return Reply(said, "action", {"raisedBy": amount.dollars()})


def lower_budget(run: Run, intent: Intent) -> Reply:
    """That it stays as it is, and how a person gets what they want."""
    if intent.amount and intent.amount > run.budget_total:
        return Reply(
            f"I spend no more than {run.budget_total} as it is. If you want me to spend more, say "
            f'"you may spend {intent.amount} in all".'
        )
    return Reply(
        f"I can raise a budget, not lower it. {money_of(run)} I rent nothing more once you say "
        '"stop".'
    )


async def stop(deps: Deps, run: Run) -> Reply:
    """Ask for the run's end."""
    if not await deps.ledger.runs.request_cancel(run.id, "stopped by its owner", deps.now()):
        raise Conflict(f"Run {run.id} has ended already", "There is nothing to stop")
    return Reply("Cancelling the run: its job is stopped at the vendor.", "action")


async def decide(deps: Deps, run: Run, intent: Intent) -> Reply:
    """The owner's answer to the one payment that waits, or to the one that it names."""
    approvals = await waiting(deps, run)
    if intent.approval_id:
        approvals = [a for a in approvals if a.id == intent.approval_id]
    if not approvals:
        return Reply("No payment waits for your answer.")
    names = await vendor_names(deps)
    if len(approvals) > 1:
        ids = ", ".join(f"{a.id} ({a.amount} to {names[a.vendor_id]})" for a in approvals)
        return Reply(f"More than one payment waits. Name the one you mean: {ids}", "question")
    [approval] = approvals
    yes = intent.wants is Wants.APPROVE
    decided = await deps.ledger.approvals.decide(run.id, approval.id, yes, deps.now())
    return Reply(
        f"{decided.state.value.capitalize()}: {decided.amount} to {names[decided.vendor_id]}.",
        "action",
        {"approvalId": decided.id},
    )


def _payment_line(payment: Payment, reasons: Sequence[Entry], names: Names) -> str:
    bought = f"{payment.minutes} minutes of {payment.gpu_type}"
    if payment.kind is PurchaseKind.EXTEND:
        bought = f"{payment.minutes} more minutes"
    line = f"{payment.amount} to {names[payment.vendor_id]} for {bought}: {_state(payment)}"
    if payment.refunded:
        line += f", {payment.refunded} came back"
    if payment.reason:
        line += f' ("{named(_clean(payment.reason), names)}")'
    if payment.tx_id:
        line += f" [{payment.tx_id}]"
    if payment.kind is PurchaseKind.LAUNCH:
        line += f". Why: {named(_why(payment, reasons), names)}"
    return line


def _state(payment: Payment) -> str:
    if payment.state.paid:
        return "paid"
    return "under way" if payment.state.open else f"not paid ({payment.state.value})"


def _why(payment: Payment, reasons: Sequence[Entry]) -> str:
    """The journal's reason for the choice that led to a payment."""
    mark = f"to vendor {payment.vendor_id}: "
    told = [
        entry.note.content.partition(mark)[2]
        for entry in reasons
        if mark in entry.note.content and entry.created_at <= payment.created_at
    ]
    return _clean(told[-1]) if told else "the journal names no reason"


def _clean(text: str) -> str:
    return clean_text(text, LONGEST_WORDS)
