"""All collections of one database, opened together."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.allowances import Allowances
from ledger.approvals import Approvals
from ledger.budget import Budget
from ledger.compared import Comparisons
from ledger.idempotency import Idempotency
from ledger.jobs import Jobs
from ledger.keys import Keys
from ledger.observations import Observations
from ledger.payments import Payments
from ledger.runs import Runs
from ledger.store import Store
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
    keys: Keys
    idempotency: Idempotency
    comparisons: Comparisons

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
            keys=Keys(store),
            idempotency=Idempotency(store),
            comparisons=Comparisons(store),
        )

    async def ensure_indexes(self) -> None:
        """Make the indexes, once at start; making them again changes nothing."""
        await self.runs.ensure_indexes()
        await self.jobs.ensure_indexes()
        await self.payments.ensure_indexes()
        await self.observations.ensure_indexes()
        await self.approvals.ensure_indexes()
        await self.idempotency.ensure_indexes()
