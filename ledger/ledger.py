"""All collections of one database, opened together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from domain.journal import Note
from ledger.allowances import Allowances
from ledger.approvals import Approvals
from ledger.budget import Budget
from ledger.clock import ClockWatch
from ledger.compared import Comparisons
from ledger.idempotency import Idempotency
from ledger.jobs import Jobs
from ledger.keys import Keys
from ledger.observations import Head, Observations
from ledger.payments import Payment, Payments
from ledger.pruned import Pruned
from ledger.purchases import Purchases, RunsAndPurchases
from ledger.run import Lease, Run
from ledger.runs import Runs
from ledger.spenders import Spenders
from ledger.store import Store
from ledger.tallies import Tallies, TokenDays
from ledger.vendors import Vendors


@dataclass(frozen=True, slots=True)
class Ledger:
    store: Store
    runs: Runs
    purchases: Purchases
    spenders: Spenders
    """Runs and purchases: whoever asks about money asks here."""
    budget: Budget
    jobs: Jobs
    payments: Payments
    observations: Observations
    vendors: Vendors
    approvals: Approvals
    allowances: Allowances
    tallies: Tallies
    tokens: TokenDays
    keys: Keys
    idempotency: Idempotency
    pruned: Pruned
    comparisons: Comparisons

    @classmethod
    def over(cls, store: Store) -> Ledger:
        runs, purchases = Runs(store), Purchases(store)
        both = RunsAndPurchases(runs.documents, purchases.documents)
        spenders = Spenders(store, both)
        return cls(
            store=store,
            runs=runs,
            purchases=purchases,
            spenders=spenders,
            budget=Budget(runs, spenders),
            jobs=Jobs(store),
            payments=Payments(store),
            observations=Observations(store),
            vendors=Vendors(store),
            approvals=Approvals(store, runs),
            allowances=Allowances(store),
            tallies=Tallies(store),
            tokens=TokenDays(store),
            keys=Keys(store),
            idempotency=Idempotency(store),
            pruned=Pruned(store),
            comparisons=Comparisons(store),
        )

    async def ensure_indexes(self) -> None:
        """Make the indexes, and move what an older version kept elsewhere: once at start, before
        anything else. Again changes nothing.
        """
        await self.runs.ensure_indexes()
        await self.purchases.ensure_indexes()
        await self.purchases.take_in()
        await self.jobs.ensure_indexes()
        await self.payments.ensure_indexes()
        await self.observations.ensure_indexes()
        await self.approvals.ensure_indexes()
        await self.idempotency.ensure_indexes()
        await self.pruned.ensure_indexes()

    def watch_clock(self, clock: ClockWatch) -> None:
        """From now on, take no lease while our clock differs from MongoDB's."""
        for spenders in (self.runs, self.purchases, self.spenders):
            spenders.clock = clock

    @asynccontextmanager
    async def at_work(
        self, id_: str, now: Callable[[], datetime], seconds: float
    ) -> AsyncIterator[tuple[Run, Lease, list[Note]]]:
        """Hold a run's or purchase's lease in the block. Yields it, the lease, and a list: notes
        put there go into the journal at the end. Raises NotFound, LeaseHeld, LeaseLost.
        """
        run, lease = await self.spenders.acquire(id_, now, seconds)
        notes: list[Note] = []
        try:
            yield run, lease, notes
        finally:
            await asyncio.shield(self._leave(run, lease, notes, now))

    async def _leave(
        self, run: Run, lease: Lease, notes: Sequence[Note], now: Callable[[], datetime]
    ) -> None:
        head = Head(run.journal_seq, run.journal_hash)
        head = await self.observations.append(run.id, head, notes, now())
        journal = {"journal": {"seq": head.seq, "hash": head.hash}}
        await self.spenders.release(lease, now(), journal)

    # What the wallet has paid, of removed runs too. Live payments are read first: a run's are kept
    # in `pruned` before they are deleted, so that none is missed in between.

    async def paid_to(self, pay_to: str, payer: str, network: str) -> list[Payment]:
        """The payments from one account to another that settled."""
        live = await self.payments.paid_to(pay_to, payer, network)
        kept = await self.pruned.payments({"payTo": pay_to, "payer": payer, "network": network})
        return _each_once(live, kept)

    async def settled_in(self, tx_hashes: Sequence[str]) -> list[Payment]:
        """The payments that were settled in these transactions."""
        live = await self.payments.settled_in(tx_hashes)
        return _each_once(live, await self.pruned.payments({"x402TxId": {"$in": list(tx_hashes)}}))

    async def settled_between(self, first: int, last: int) -> list[Payment]:
        """The payments that settled in blocks `first` to `last`, of every wallet and network."""
        live = await self.payments.settled_between(first, last)
        kept = await self.pruned.payments({"settledBlock": {"$gte": first, "$lte": last}})
        return _each_once(live, kept)

    async def refunded_in(self, tx_hash: str) -> list[Payment]:
        """The payments that this transaction pays back, or is said to."""
        live = await self.payments.refunded_in(tx_hash)
        return _each_once(live, await self.pruned.payments({"refundTx": tx_hash}))


def _each_once(live: Sequence[Payment], kept: Sequence[Payment]) -> list[Payment]:
    ids = {payment.id for payment in live}
    return [*live, *(payment for payment in kept if payment.id not in ids)]
