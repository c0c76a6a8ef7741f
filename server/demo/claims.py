"""What the demo claims at its end, and whether it is so: pure, over what was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from domain.jobs import JobStatus, RunStatus
from domain.money import ZERO, Usd
from domain.payments import PaymentState
from server.demo.story import FAILING

if TYPE_CHECKING:
    from server.demo.story import StoryOutcome


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence, and whether it holds."""

    text: str
    holds: bool


def ledger_total(outcome: StoryOutcome) -> Usd:
    """What the ledger's settled payments add up to."""
    settled = (p.amount for p in outcome.payments if p.state is PaymentState.SETTLED)
    return sum(settled, ZERO)


def chain_total(outcome: StoryOutcome) -> Usd:
    """What the chain's own Transfer logs say has left the wallet."""
    return sum((transfer.amount for transfer in outcome.transfers), ZERO)


def claims(outcome: StoryOutcome) -> list[Claim]:
    """Everything that the demo says about money and work."""
    run, jobs, payments = outcome.run, outcome.jobs, outcome.payments
    ledger, chain = ledger_total(outcome), chain_total(outcome)
    booked = sorted((p.tx_id or "", p.pay_to, p.amount.micros) for p in payments)
    moved = sorted((t.tx_hash, t.recipient, t.amount.micros) for t in outcome.transfers)
    return [
        Claim(
            f"the run completed, and cost less than its budget of {run.budget_total}",
            run.status is RunStatus.COMPLETED and run.spent < run.budget_total,
        ),
        Claim(
            "the first vendor failed part-way, and another finished the job",
            [job.status for job in jobs] == [JobStatus.FAILED, JobStatus.COMPLETED]
            and jobs[0].vendor_id == FAILING != jobs[1].vendor_id
            and 0 < jobs[0].progress < 1
            and bool(jobs[1].artifact_url),
        ),
        Claim(
            "each job was paid exactly once, and nothing else was paid",
            [p.state for p in payments] == [PaymentState.SETTLED] * len(jobs)
            and [p.vendor_id for p in payments] == [job.vendor_id for job in jobs],
        ),
        Claim(
            "the chain knows each payment: same transaction, payee and amount",
            len(payments) == 2
            and all(
                (found := outcome.known.get(p.tx_id or "")) is not None
                and (found.recipient, found.amount) == (p.pay_to, p.amount)
                for p in payments
            )
            and booked == moved,
        ),
        Claim(
            f"the ledger's total is the chain's: {ledger.exact()} and {chain.exact()}",
            ledger == chain == run.spent,
        ),
        Claim(
            f"the wallet holds exactly {chain.exact()} less than before",
            outcome.balance_before - outcome.balance_after == ledger,
        ),
        Claim(
            f"{run.budget_remaining} is left: the budget less the payments, to the micro-dollar",
            run.budget_remaining == run.budget_total - ledger and not run.reservations,
        ),
        Claim(
            "the artifact on disk has the sha256 that was recorded",
            bool(jobs)
            and outcome.artifact_sha256 is not None
            and outcome.artifact_sha256 == jobs[-1].artifact_sha256,
        ),
        Claim(
            "no entry of the run's hash-chained journal was changed or lost",
            outcome.broken_entry is None,
        ),
    ]
