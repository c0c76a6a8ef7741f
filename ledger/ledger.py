"""All collections of one database, opened together."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.allowances import Allowances
from ledger.approvals import Approvals
from ledger.budget import Budget
from ledger.idempotency import Idempotency
from ledger.jobs import Jobs
from ledger.keys import Keys
from ledger.observations import Observations
from ledger.payments import Payment, Payments
from ledger.pruned import Pruned
from ledger.runs import Runs
from ledger.store import Store
from ledger.tallies import Tallies
from ledger.token_days import TokenDays
from ledger.vendors import Vendors


@dataclass(frozen=True, slots=True)
class Ledger:
    store: Store
    runs: Runs
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

    @classmethod
    def over(cls, store: Store) -> Ledger:
        runs = Runs(store)
        return cls(
            store=store,
            runs=runs,
            budget=Budget(runs),
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
        )

    async def ensure_indexes(self) -> None:
        """Make the indexes, once at start; making them again changes nothing."""
        await self.runs.ensure_indexes()
        await self.jobs.ensure_indexes()
        await self.payments.ensure_indexes()
        await self.observations.ensure_indexes()
        await self.approvals.ensure_indexes()
        await self.idempotency.ensure_indexes()
        await self.pruned.ensure_indexes()

    async def paid_by(self, payer: str, network: str) -> list[Payment]:
        """All payments that settled on `network` from the account `payer`, of removed runs too.

        In this order: a payment that is deleted meanwhile was kept before.
        """
        live = await self.payments.paid_by(payer, network)
        ids = {payment.id for payment in live}
        kept = await self.pruned.paid_by(payer, network)
        return [*live, *(payment for payment in kept if payment.id not in ids)]
