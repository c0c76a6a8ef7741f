"""Answers about a run's money, and what its owner's words change of its budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from domain.goals.currency import is_foreign, is_negative
from domain.intents import Intent, in_all
from domain.journal import LONGEST_CONTENT, Entry, Note, NoteType
from domain.names import Names, named
from domain.payments import PurchaseKind
from graph.deps import Deps
from ledger.observations import Head
from ledger.payments import Payment
from ledger.run import Run
from server.chat.replies import Said, clean, money_of, vendor_names
from server.chat.standstill import why_no_job
from tools.wire.untrusted import clean_text

MOST_PAYMENTS: Final = 20
MOST_TIMES: Final = 10
"""A raise to more than this many times the budget is asked about first."""
LONGEST_AMOUNT: Final = 40


async def what_was_spent(deps: Deps, run: Run) -> Said:
    """Each payment with its state and the reason that the journal has for it."""
    payments, names = await deps.ledger.payments.of_run(run.id), await vendor_names(deps)
    if not payments:
        why = await why_no_job(deps, run, names)
        return Said(" ".join(filter(None, (f"Nothing so far. {money_of(run)}", why))))
    reasons = await deps.ledger.observations.of_run(run.id, types=[NoteType.AGENT_REASONING])
    lines = [money_of(run)]
    if len(payments) > MOST_PAYMENTS:
        lines.append(f"The last {MOST_PAYMENTS} of {len(payments)} payments:")
    lines += [f"- {_payment_line(p, reasons, names)}" for p in payments[-MOST_PAYMENTS:]]
    return Said("\n".join(lines))


async def what_came_back(deps: Deps, run: Run) -> Said:
    """What vendors have paid back, and how the rest could be."""
    payments = await deps.ledger.payments.of_run(run.id)
    names = await vendor_names(deps)
    back = [
        f"{p.refunded} came back from {names[p.vendor_id]} and is in the budget again."
        for p in payments
        if p.refunded
    ]
    said = back[-MOST_PAYMENTS:] or ["No money has come back so far."]
    said.append(money_of(run))
    paid = any(p.state.paid and p.refunded < p.amount for p in payments)
    if not paid and not any(p.state.open for p in payments):
        said.append("There is nothing paid that could come back.")
    elif run.status.ended:
        said.append(
            "The run has ended: what its vendor still pays back is booked once the transfer is on "
            "the chain. Whether it does is up to the vendor."
        )
    else:
        said.append(
            'Say "stop" to cancel: the job is stopped at its vendor, and what the vendor pays back '
            "for the unused time is booked once the transfer is on the chain. I cannot take back "
            "more than that."
        )
    return Said(" ".join(said))


async def raise_budget(deps: Deps, run: Run, intent: Intent, message_id: str) -> Said:
    """More to spend, once for each message."""
    if intent.amount is None:
        return Said('How much more may I spend? Say it like "you may spend $2 more".', "question")
    amount = intent.amount
    if intent.total:
        if intent.amount < run.budget_total:
            return lower_budget(run, intent)
        amount = intent.amount - run.budget_total
        if not amount:
            return Said(f"The budget is {run.budget_total} already. I left it as it is.")
    total = run.budget_total + amount
    if total.micros > MOST_TIMES * run.budget_total.micros and not intent.sure:
        return Said(
            f"That makes {total}, more than {MOST_TIMES} times the budget of {run.budget_total}. "
            f'If you mean it, say "{in_all(total)}".',
            "question",
        )
    seen = run.budget_total if intent.total else None
    after = await deps.ledger.budget.raise_total(run.id, message_id, amount, deps.now(), seen=seen)
    await deps.ledger.observations.append(
        run.id,
        Head(after.journal_seq, after.journal_hash),
        [
            Note(
                NoteType.BUDGET_RAISED,
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
    return Said(said, "action", {"raisedBy": amount.dollars()})


def not_raised(run: Run, intent: Intent) -> Said:
    """What to tell a person whose words name no usable amount: why, and which words would."""
    words = f'"{clean_text(intent.written, LONGEST_AMOUNT)}"'
    if is_negative(intent.written):
        why = f"{words} is less than nothing, and I can raise a budget, not lower it."
    elif is_foreign(intent.written):
        why = f"I count in US dollars, and convert nothing, so I left {words} alone."
    else:
        why = f"I read no single amount of dollars in {words}."
    return Said(
        f'{why} {money_of(run)} To raise it, say it like "you may spend $2 more" or "raise the '
        f'budget to {run.budget_total.scaled(2, 1)}".',
        "question",
    )


def lower_budget(run: Run, intent: Intent) -> Said:
    """That it stays as it is, and how a person gets what they want."""
    if intent.amount and intent.amount > run.budget_total:
        return Said(
            f"I spend no more than {run.budget_total} as it is. If you want me to spend more, say "
            f'"{in_all(intent.amount)}".'
        )
    return Said(
        f"I can raise a budget, not lower it. {money_of(run)} I rent nothing more once you say "
        '"stop".'
    )


def _payment_line(payment: Payment, reasons: Sequence[Entry], names: Names) -> str:
    bought = f"{payment.minutes} minutes of {payment.gpu_type}"
    if payment.kind is PurchaseKind.EXTEND:
        bought = f"{payment.minutes} more minutes"
    line = f"{payment.amount} to {names[payment.vendor_id]} for {bought}: {_state(payment)}"
    if payment.refunded:
        line += f", {payment.refunded} came back"
    if payment.reason:
        line += f' ("{named(clean(payment.reason), names)}")'
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
    """The journal's reason for the choice that led to a payment: the last one before it."""
    told = [
        str(entry.note.data.get("reason", ""))
        for entry in reasons
        if entry.note.data.get("decision") == "rent" and entry.created_at <= payment.created_at
    ]
    return clean_text(told[-1], LONGEST_CONTENT) if told else "the journal names no reason"
