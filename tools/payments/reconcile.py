"""Reconcile: close what the chain decides, and hold the ledger against the chain's transfers.

Idempotent, and safe beside running ticks: a run that a tick works on is left to that tick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from domain.errors import LeaseHeld
from domain.journal import Note
from domain.money import ZERO, Usd
from domain.networks import Network
from ledger.ledger import Ledger
from ledger.observations import Head
from ledger.payments import Payment
from ledger.runs import Run
from tools.payments.chain import Chain, Transfer
from tools.payments.judge import Judge
from tools.payments.refunds import Refunds

LEASE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Closed:
    """What closing left: as in Report."""

    runs: int
    busy: tuple[str, ...]
    still_open: tuple[str, ...]


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
    """Runs whose budget is not the sum of its parts."""

    @property
    def ok(self) -> bool:
        """True when the ledger and the chain agree to the micro-dollar."""
        return (
            not (self.unknown_transfers or self.missing or self.unbalanced)
            and self.ledger_total == self.chain_total
        )


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
        self._refunds = Refunds(ledger, chain, now)
        self._chain = chain
        self._network = network
        self._payer = payer
        self._now = now

    async def reconcile(self) -> Report:
        """Close what can be closed, then compare. Raises ChainDown, StoreDown."""
        closed = await self.close_open()
        return await self._compare(closed)

    async def close_open(self) -> Closed:
        """Close what the chain decides in every run that holds money or waits for a refund."""
        held = {run.id for run in await self._ledger.runs.with_open_money()}
        waiting = {p.run_id for p in await self._ledger.payments.awaiting_refund()}
        waiting |= {p.run_id for p in await self._ledger.payments.open_ones()}
        busy = [run_id for run_id in sorted(held | waiting) if not await self._close(run_id)]
        still = [run.id for run in await self._ledger.runs.with_open_money()]
        return Closed(len(held | waiting), tuple(busy), tuple(still))

    async def _close(self, run_id: str) -> bool:
        """Close the slots of one run under its lease; False when a tick holds it."""
        now = self._now()
        try:
            run, lease = await self._ledger.runs.acquire(run_id, now, LEASE_SECONDS)
        except LeaseHeld:
            return False
        notes: list[Note] = []
        head = Head(run.journal_seq, run.journal_hash)
        try:
            await self._judge.judge_open(run, notes.append)
            run = await self._ledger.runs.get(run_id)
            for reservation in run.reservations:
                await self._judge.abandon(run, reservation.slot, notes.append)
            for payment in await self._ledger.payments.of_run(run_id):
                if payment.state.open and run.reservation(payment.slot) is None:
                    await self._judge.close_unsent(payment, notes.append)
            await self._refunds.confirm(run_id, notes.append)
        finally:
            head = await self._ledger.observations.append(run_id, head, notes, self._now())
            journal = {"journal": {"seq": head.seq, "hash": head.hash}}
            await self._ledger.runs.release(lease, self._now(), journal)
        return True

    async def _compare(self, closed: Closed) -> Report:
        payments = await self._ledger.payments.paid_by(self._payer, self._network.caip2)
        start = 0 if self._network.is_local else min((p.from_block for p in payments), default=-1)
        out: list[Transfer] = []
        if start >= 0:
            out = await self._chain.transfers(sender=self._payer, recipient=None, from_block=start)
        by_payment = {(p.tx_id, p.pay_to.lower(), p.amount): p for p in payments}
        seen = {(t.tx_hash, t.recipient.lower(), t.amount) for t in out}
        refunded = sum((p.refunded for p in payments), ZERO)
        return Report(
            runs=closed.runs,
            busy=closed.busy,
            still_open=closed.still_open,
            ledger_total=sum((p.amount for p in payments), ZERO) - refunded,
            chain_total=sum((t.amount for t in out), ZERO) - await self._came_back(payments),
            unknown_transfers=tuple(
                t for t in out if (t.tx_hash, t.recipient.lower(), t.amount) not in by_payment
            ),
            missing=tuple(p.id for key, p in by_payment.items() if key not in seen),
            unbalanced=tuple(run.id for run in await self._ledger.runs.all() if not _sound(run)),
        )

    async def _came_back(self, payments: list[Payment]) -> Usd:
        """What the chain shows as refunded for these payments."""
        total = ZERO
        for payment in payments:
            if payment.refunded and payment.refund_tx:
                transfer = await self._chain.transfer_in(
                    payment.refund_tx, sender=payment.pay_to, recipient=payment.payer
                )
                total += transfer.amount if transfer else ZERO
        return total


def _sound(run: Run) -> bool:
    """Whether the budget is the sum of what is left, spent and held."""
    held = sum((r.amount for r in run.reservations), ZERO)
    return run.budget_total == run.budget_remaining + run.spent + held and (
        run.budget_remaining >= ZERO
    )
