"""Reconcile: close what the chain decides, and hold the ledger against the chain's transfers.

Idempotent, and safe beside running ticks: a run that a tick works on is left to that tick.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from domain.errors import DependencyDown, LeaseHeld, LeaseLost, RenterError
from domain.jobs import JobStatus
from domain.journal import Note
from domain.money import ZERO, Usd
from domain.networks import Network
from domain.payments import PaymentState
from ledger.jobs import Job
from ledger.ledger import Ledger
from ledger.observations import Head
from ledger.payments import Payment
from ledger.run import Run
from tools.payments.chain import Chain, Transfer
from tools.payments.judge import Judge
from tools.payments.refunds import Refunds
from tools.vendors.base import ClaimedRefund

LEASE_SECONDS: Final = 60.0
LONGEST_WINDOW: Final = 1_900_000
"""Blocks that are searched for transfers on a public chain: 44 days of Base."""

Returned = list[tuple[Job, Transfer]]
"""Jobs that came to nothing, each with a transfer that pays back for it."""


@dataclass(frozen=True, slots=True)
class Closed:
    """What closing left: as in Report."""

    runs: int
    busy: tuple[str, ...]
    still_open: tuple[str, ...]
    problems: tuple[str, ...] = ()
    unclaimed: tuple[Transfer, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What a reconciliation found. Amounts are of this wallet on this network, all runs."""

    runs: int
    """Runs that held money or waited for a refund."""
    busy: tuple[str, ...]
    """Runs left to the ticks that work on them."""
    still_open: tuple[str, ...]
    """Runs that hold money whose fate the chain has not decided yet: unknown, and called so."""
    ledger_total: Usd
    """Settled payments, less refunds, by the ledger."""
    chain_total: Usd
    """The same by the chain's transfers."""
    unknown_transfers: tuple[Transfer, ...]
    """Transfers out of the wallet that no payment in the ledger explains."""
    missing: tuple[str, ...]
    """Payments that the ledger calls settled and the chain does not show."""
    unbalanced: tuple[str, ...] = field(default=())
    """Runs whose budget is not the sum of its parts, or not what their payments say."""
    problems: tuple[str, ...] = field(default=())
    """Runs that could not be closed, and why."""
    unclaimed: tuple[Transfer, ...] = field(default=())
    """Transfers from vendors into the wallet that no run can be said to expect."""

    @property
    def mismatches(self) -> int:
        """How many transfers, payments and runs are wrong; 1 where only the totals differ."""
        found = len(self.unknown_transfers) + len(self.missing) + len(self.unbalanced)
        return found or int(self.ledger_total != self.chain_total)

    @property
    def ok(self) -> bool:
        """True when the ledger and the chain agree to the micro-dollar."""
        return self.mismatches == 0


class Reconciler:
    def __init__(
        self,
        ledger: Ledger,
        judge: Judge,
        chain: Chain,
        network: Network,
        payer: str,
        now: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._judge = judge
        self._refunds = Refunds(ledger, chain, network, now)
        self._chain = chain
        self._network = network
        self._payer = payer
        self._now = now

    async def reconcile(self) -> Report:
        """Close what can be closed, then compare. Raises ChainDown, StoreDown."""
        closed = await self.close_open()
        return await self.compare(closed)

    async def close_open(self) -> Closed:
        """Close what the chain decides in every run that holds money or waits for a refund.

        One run's trouble is reported, and keeps no other from being closed. Raises StoreDown, and
        ChainDown when nobody can be asked.
        """
        wanted = {run.id for run in await self._ledger.runs.with_open_money()}
        wanted |= {p.run_id for p in await self._ledger.payments.awaiting_refund()}
        wanted |= {p.run_id for p in await self._ledger.payments.open_ones()}
        busy, problems = await self._close_each({run_id: [] for run_id in sorted(wanted)})
        returned, unclaimed = await self._returned()
        more_busy, more_problems = await self._close_each(returned)
        still = [run.id for run in await self._ledger.runs.with_open_money()]
        return Closed(
            len(wanted | set(returned)),
            tuple(dict.fromkeys(busy + more_busy)),
            tuple(still),
            tuple(problems + more_problems),
            tuple(unclaimed),
        )

    async def _close_each(self, returned: Mapping[str, Returned]) -> tuple[list[str], list[str]]:
        """Close these runs; those that are busy, and the problems of others."""
        busy, problems = [], []
        for run_id, refunds in returned.items():
            try:
                if not await self._close(run_id, refunds):
                    busy.append(run_id)
            except DependencyDown:
                raise
            except RenterError as error:
                problems.append(f"{run_id}: {error}")
        return busy, problems

    async def _returned(self) -> tuple[dict[str, Returned], list[Transfer]]:
        """What vendors paid back without our knowing, by run; and what no one run can expect.

        A vendor may pay back for a job and never be heard again, or its answer may be lost after
        the job was given up. The chain says who paid; a job of that payee that came to nothing
        says what for.
        """
        mine = await self._ledger.paid_by(self._payer, self._network.caip2)
        if not mine:
            return {}, []
        known = {(p.refund_tx, p.pay_to.lower()): p for p in mine}
        payees = {p.pay_to.lower() for p in mine}
        start = await self._window(mine)
        incoming = await self._chain.transfers(sender=None, recipient=self._payer, from_block=start)
        returned: dict[str, Returned] = {}
        unclaimed = []
        for transfer in incoming:
            sender = transfer.sender.lower()
            if sender not in payees:
                continue
            if (payment := known.get((transfer.tx_hash.lower(), sender))) is not None:
                if payment.state is PaymentState.REFUNDED and transfer.amount > payment.refunded:
                    rest = transfer.amount - payment.refunded
                    unclaimed.append(replace(transfer, amount=rest))
                continue
            job = await self._lost_job(transfer, mine)
            if job is None:
                unclaimed.append(transfer)
            else:
                returned.setdefault(job.run_id, []).append((job, transfer))
        return returned, unclaimed

    async def _lost_job(self, transfer: Transfer, mine: Sequence[Payment]) -> Job | None:
        """The newest job of the sender's that came to nothing, or is still being stopped after its
        run's end, and is not paid back yet; None where there is none, or where more than one run
        has one: nobody's money is given to another.
        """
        paid = {
            p.id: p.run_id
            for p in mine
            if p.state is PaymentState.SETTLED
            and p.pay_to.lower() == transfer.sender.lower()
            and p.from_block <= transfer.block_number
        }
        lost = []
        for run_id in set(paid.values()):
            run = await self._ledger.runs.find(run_id)
            if run is None:
                continue
            jobs = [
                job
                for job in await self._ledger.jobs.of_run(run)
                if (job.status in (JobStatus.FAILED, JobStatus.CANCELLED) or _outlived(job, run))
                and not paid.keys().isdisjoint({job.payment_id, *job.extensions})
            ]
            lost += jobs[-1:]
        return lost[0] if len(lost) == 1 else None

    async def _close(self, run_id: str, returned: Returned) -> bool:
        """Close the slots of one run under its lease, and book what was `returned` to it; False
        when a tick holds it.
        """
        try:
            run, lease = await self._ledger.runs.acquire(run_id, self._now, LEASE_SECONDS)
        except (LeaseHeld, LeaseLost):
            return False
        notes: list[Note] = []
        head = Head(run.journal_seq, run.journal_hash)
        try:
            await self._judge.judge_open(run, notes.append)
            run = await self._ledger.runs.get(run_id)
            if run.fence != lease.fence:
                return False
            for reservation in run.reservations:
                await self._judge.abandon(run, reservation.slot, notes.append)
            for payment in await self._ledger.payments.of_run(run_id):
                if payment.state.open and run.reservation(payment.slot) is None:
                    await self._judge.close_unsent(payment, notes.append)
            await self._refunds.confirm(run_id, notes.append)
            for job, transfer in returned:
                found = ClaimedRefund(transfer.amount, transfer.tx_hash)
                await self._refunds.claim(job, found, notes.append, said=False)
                await self._refunds.confirm(run_id, notes.append)
        finally:
            head = await self._ledger.observations.append(run_id, head, notes, self._now())
            journal = {"journal": {"seq": head.seq, "hash": head.hash}}
            await self._ledger.runs.release(lease, self._now(), journal)
        return True

    async def compare(self, closed: Closed) -> Report:
        """Hold the ledger against the chain's transfers; changes nothing. Raises as above."""
        all_mine = await self._ledger.paid_by(self._payer, self._network.caip2)
        start = await self._window(all_mine)
        mine = [p for p in all_mine if p.from_block >= start]
        unbooked = {
            (p.pay_to.lower(), p.amount)
            for p in await self._ledger.payments.open_ones()
            if p.payer == self._payer
        }
        out = await self._chain.transfers(sender=self._payer, recipient=None, from_block=start)
        by_payment = {(p.tx_id, p.pay_to.lower(), p.amount): p for p in mine}
        seen = {(t.tx_hash, t.recipient.lower(), t.amount) for t in out}
        extra = [t for t in out if (t.tx_hash, t.recipient.lower(), t.amount) not in by_payment]
        # One that is about to be booked by the tick, or the next reconcile, is no mystery.
        unknown = tuple(t for t in extra if (t.recipient.lower(), t.amount) not in unbooked)
        booked = [t for t in out if t not in extra or t in unknown]
        return Report(
            runs=closed.runs,
            busy=closed.busy,
            still_open=closed.still_open,
            ledger_total=sum((p.amount - p.refunded for p in mine), ZERO),
            chain_total=sum((t.amount for t in booked), ZERO) - await self._came_back(mine),
            unknown_transfers=unknown,
            missing=tuple(p.id for key, p in by_payment.items() if key not in seen),
            unbalanced=await self._unbalanced(),
            problems=closed.problems,
            unclaimed=closed.unclaimed,
        )

    async def _window(self, payments: Sequence[Payment]) -> int:
        """The first block that is compared: all of a local chain, else what can be searched."""
        if self._network.is_local:
            return 0
        head = await self._chain.head()
        oldest = max(0, head.number - LONGEST_WINDOW)
        return max(oldest, min((p.from_block for p in payments), default=head.number))

    async def _unbalanced(self) -> tuple[str, ...]:
        """Runs whose books are wrong, looked at twice: a tick may be in the middle of one."""
        suspects = await self._suspects(await self._ledger.runs.all())
        return await self._suspects([await self._ledger.runs.get(run_id) for run_id in suspects])

    async def _suspects(self, runs: Sequence[Run]) -> tuple[str, ...]:
        spent: defaultdict[str, list[tuple[int, Usd]]] = defaultdict(list)
        for p in await self._ledger.payments.paid():
            spent[p.run_id].append((p.slot, p.amount - p.refunded))
        wrong = []
        for run in runs:
            held = {r.slot for r in run.reservations}
            closed = sum((u for slot, u in spent[run.id] if slot not in held), ZERO)
            if not _sound(run) or run.spent != closed:
                wrong.append(run.id)
        return tuple(wrong)

    async def _came_back(self, payments: list[Payment]) -> Usd:
        """What the chain shows as refunded for these payments."""
        total = ZERO
        for payment in payments:
            if payment.refunded and payment.refund_tx:
                transfer = await self._chain.transfer_in(
                    payment.refund_tx, sender=payment.pay_to, recipient=payment.payer
                )
                total += min(transfer.amount, payment.refunded) if transfer else ZERO
        return total


def _outlived(job: Job, run: Run) -> bool:
    """Whether the job outlived its run, which stops it and asks for the money back."""
    return run.status.ended and not job.status.ended


def _sound(run: Run) -> bool:
    """Whether the budget is the sum of what is left, spent and held."""
    held = sum((r.amount for r in run.reservations), ZERO)
    return run.budget_total == run.budget_remaining + run.spent + held and (
        run.budget_remaining >= ZERO
    )
