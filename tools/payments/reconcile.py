"""Reconcile: close what the chain decides, and hold the ledger against the chain's transfers.

Idempotent, and safe beside running ticks: a run that a tick works on is left to that tick. What
has been compared once is not read again (compare.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from domain.errors import DependencyDown, LeaseHeld, LeaseLost, PaymentUnclear, RenterError
from domain.jobs import JobStatus
from domain.money import ZERO, Usd
from domain.networks import Network
from domain.payments import PaymentState
from ledger.compared import Compared, Stray
from ledger.jobs import Job
from ledger.ledger import Ledger
from ledger.run import Run
from tools.payments.cashier import unclear_note
from tools.payments.chain import Chain
from tools.payments.compare import Comparison
from tools.payments.judge import Judge
from tools.payments.refunds import Refunds
from tools.vendors.base import ClaimedRefund

LEASE_SECONDS: Final = 60.0
OVERLAP: Final = timedelta(hours=1)
"""By how much clocks, and a write and its time, may be apart: runs that changed shortly before the
last reconciliation are looked at again.
"""

Returned = list[tuple[Job, Stray]]
"""Jobs that came to nothing, each with the transfer that refunds it."""


@dataclass(frozen=True, slots=True)
class Closed:
    """What closing left; the fields are as in Report."""

    runs: int
    busy: tuple[str, ...]
    still_open: tuple[str, ...]
    problems: tuple[str, ...] = ()
    unclear: tuple[PaymentUnclear, ...] = ()
    complete: bool = False
    """Whether every run had its turn."""


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
    """Transfers out of the wallet less those back from addresses it had paid, by the chain."""
    unknown_transfers: tuple[Stray, ...]
    """Transfers out of the wallet that no payment in the ledger explains."""
    missing: tuple[str, ...]
    """Payments that the ledger calls settled and the chain does not show."""
    unbalanced: tuple[str, ...] = ()
    """Runs whose budget is not the sum of its parts, or not what their payments say."""
    problems: tuple[str, ...] = ()
    """Runs that could not be closed, and why."""
    unclear: tuple[PaymentUnclear, ...] = ()
    """Payments that nobody can explain, one for each: a person closes them."""
    unclaimed: tuple[Stray, ...] = ()
    """Transfers from vendors into the wallet that no run can be said to expect."""
    acknowledged: Usd = ZERO
    """What left the wallet without the ledger, and a person has acknowledged."""
    unexplained: Usd = ZERO
    """What the two totals differ by beyond all that is listed here."""

    @property
    def mismatches(self) -> int:
        """How many transfers, payments and runs are wrong; 1 where only the totals differ."""
        lists = (self.unknown_transfers, self.missing, self.unbalanced, self.unclear)
        return sum(map(len, lists)) or int(self.unexplained != ZERO)

    @property
    def ok(self) -> bool:
        """True when all is explained, to the micro-dollar."""
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
        self._comparison = Comparison(ledger, chain, network, payer)
        self._network = network
        self._payer = payer
        self._now = now

    async def reconcile(self, *, full: bool = False) -> Report:
        """Close what can be closed, then compare what has happened since the last time.

        full: compare everything. Raises ChainDown, StoreDown.
        """
        closed = await self.close_open()
        return await self.compare(closed, full=full)

    async def close_open(self) -> Closed:
        """Close what the chain decides in every run that holds money or waits for a refund.

        One run's trouble is reported, and keeps no other from being closed. Raises StoreDown, and
        ChainDown when nobody can be asked.
        """
        state = await self._comparison.state()
        wanted = set(await self._ledger.spenders.with_open_money(state.since))
        wanted |= {p.run_id for p in await self._ledger.payments.awaiting_refund()}
        wanted |= {p.run_id for p in await self._ledger.payments.open_ones()}
        busy: list[str] = []
        problems: list[str] = []
        unclear: list[PaymentUnclear] = []
        tried = {run_id: Returned() for run_id in sorted(wanted)}
        await self._close_each(tried, busy, problems, unclear)
        await self._comparison.explain()  # the owner's own payees owe nothing
        await self._comparison.catch_up()
        returned = await self._returned(await self._comparison.explain())
        await self._close_each(returned, busy, problems, unclear)
        wanted |= set(returned)
        await self._judge.settle_allowances()
        looked_at = await self._ledger.spenders.of_ids(sorted(wanted))
        return Closed(
            len(wanted),
            tuple(dict.fromkeys(busy)),
            tuple(sorted(run.id for run in looked_at if run.reserved)),
            tuple(problems),
            tuple(unclear),
            complete=not busy,
        )

    async def _close_each(
        self,
        returned: Mapping[str, Returned],
        busy: list[str],
        problems: list[str],
        unclear: list[PaymentUnclear],
    ) -> None:
        """Close these runs; note those that are busy, and what is wrong with others."""
        for run_id, refunds in returned.items():
            try:
                if not await self._close(run_id, refunds):
                    busy.append(run_id)
            except DependencyDown:
                raise
            except PaymentUnclear as error:
                unclear.append(error)
            except RenterError as error:
                problems.append(f"{run_id}: {error}")

    async def _returned(self, state: Compared) -> dict[str, Returned]:
        """What vendors paid back without our knowing, by run.

        A vendor may pay back for a job and never be heard again, or its answer may be lost after
        the job was given up. The chain says who paid; a job of that payee that came to nothing
        says what for.
        """
        returned: dict[str, Returned] = {}
        for stray in state.strays.values():
            if stray.outgoing or stray.traced:
                continue
            job = await self._lost_job(stray)
            if job is not None:
                returned.setdefault(job.run_id, []).append((job, stray))
        return returned

    async def _lost_job(self, transfer: Stray) -> Job | None:
        """The sender's newest job that came to nothing, or is still being stopped after its run's
        end, and is not paid back yet. None where there is none, or where several runs have one:
        then nobody can tell whose money it is.
        """
        mine = await self._ledger.payments.paid_to(transfer.other, self._payer, self._network.caip2)
        if any(p.refund_tx == transfer.tx_hash and p.refund_log is None for p in mine):
            return None  # it is claimed, and being confirmed
        paid = {
            p.id: p.run_id
            for p in mine
            if p.state is PaymentState.SETTLED and p.from_block <= transfer.block
        }
        lost = []
        for run_id in set(paid.values()):
            run = await self._ledger.spenders.find(run_id)
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

        Raises PaymentUnclear, once all else of the run is done.
        """
        unclear = None
        at_work = self._ledger.at_work(run_id, self._now, LEASE_SECONDS)
        try:
            async with at_work as (run, lease, notes):
                try:
                    await self._judge.judge_open(run, notes.append)
                except PaymentUnclear as error:
                    unclear = error
                    notes.append(unclear_note(error))
                run = await self._ledger.spenders.get(run_id)
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
        except (LeaseHeld, LeaseLost):
            return False
        if unclear:
            raise unclear
        return True

    async def compare(self, closed: Closed, *, full: bool = False) -> Report:
        """Hold the ledger against the chain's transfers; changes nothing of either. Raises as
        `reconcile`.

        Where the sums of what was compared before do not hold, everything is compared anew.
        """
        report = await self._report(closed, await self._compared(closed, full=full))
        if not full and (report.missing or report.unexplained):
            report = await self._report(closed, await self._compared(closed, full=True))
        return report

    async def _compared(self, closed: Closed, *, full: bool) -> Compared:
        began = self._now()
        if full:
            await self._comparison.all_of_it()
        else:
            await self._comparison.catch_up()
        await self._comparison.explain()

        async def looked_at(state: Compared) -> Compared:
            wrong = await self._unbalanced(state)
            since = began - OVERLAP if closed.complete else state.since
            return replace(state, unbalanced=wrong, since=since)

        return await self._comparison.change(looked_at)

    async def _report(self, closed: Closed, state: Compared) -> Report:
        unknown, traced = await self._comparison.unclear(state)
        unclear = {(e.run_id, e.slot): e for e in (*traced, *closed.unclear)}
        back = [stray for stray in state.strays.values() if not stray.outgoing]
        out = sum(s.amount.micros for s in state.strays.values() if s.outgoing)
        unclaimed = sum(s.amount.micros for s in back) + state.sums.unlisted
        explained = state.sums.ledger + out + state.sums.acknowledged - unclaimed
        return Report(
            runs=closed.runs,
            busy=closed.busy,
            still_open=closed.still_open,
            ledger_total=Usd(state.sums.ledger),
            chain_total=Usd(state.sums.chain),
            unknown_transfers=tuple(unknown),
            missing=state.missing,
            unbalanced=state.unbalanced,
            problems=closed.problems,
            unclear=tuple(unclear.values()),
            unclaimed=tuple(back),
            acknowledged=Usd(state.sums.acknowledged),
            unexplained=Usd(state.sums.chain - explained),
        )

    async def _unbalanced(self, state: Compared) -> tuple[str, ...]:
        """Runs whose books are wrong, looked at twice: a tick may be in the middle of one."""
        suspects = set(state.unbalanced)
        async for page in self._ledger.spenders.pages(state.since):
            suspects |= set(await self._suspects(page))
        again = await self._ledger.spenders.of_ids(sorted(suspects))
        return tuple(await self._suspects(again))

    async def _suspects(self, runs: Sequence[Run]) -> list[str]:
        spent: defaultdict[str, list[tuple[int, Usd]]] = defaultdict(list)
        for p in await self._ledger.payments.paid_of_runs([run.id for run in runs]):
            spent[p.run_id].append((p.slot, p.amount - p.refunded))
        wrong = []
        for run in runs:
            held = {r.slot for r in run.reservations}
            closed = sum((u for slot, u in spent[run.id] if slot not in held), ZERO)
            if not _sound(run) or run.spent != closed:
                wrong.append(run.id)
        return wrong


def _outlived(job: Job, run: Run) -> bool:
    """Whether the job outlived its run, which stops it and asks for the money back."""
    return run.status.ended and not job.status.ended


def _sound(run: Run) -> bool:
    """Whether the budget is the sum of what is left, spent and held."""
    held = sum((r.amount for r in run.reservations), ZERO)
    return run.budget_total == run.budget_remaining + run.spent + held and (
        run.budget_remaining >= ZERO
    )
