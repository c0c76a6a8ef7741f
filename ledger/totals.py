"""The ledger in a few numbers, counted by the store itself: one command for each collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from domain.money import Usd
from ledger import jobs, payments, purchases, runs
from ledger.store import Store


@dataclass(frozen=True, slots=True)
class RunTotals:
    """The runs, or purchases, of one status, and what the model has cost them."""

    status: str
    count: int
    budget: Usd
    spent: Usd
    reserved: Usd
    model_calls: int
    tokens_in: int
    tokens_out: int
    model_cost: Usd


@dataclass(frozen=True, slots=True)
class PaymentTotals:
    """The payments of one state."""

    state: str
    count: int
    amount: Usd
    refunded: Usd


@dataclass(frozen=True, slots=True)
class JobTotals:
    """The jobs of one status at one vendor."""

    vendor_id: str
    status: str
    count: int


def _group(by: object, **sums: object) -> list[Mapping[str, Any]]:
    counted = {"count": {"$sum": 1}, **{name: {"$sum": what} for name, what in sums.items()}}
    return [{"$group": {"_id": by, **counted}}]


_RUNS: Final = _group(
    "$status",
    budget="$budgetTotal",
    left="$budgetRemaining",
    spent="$spent",
    calls="$model.calls",
    tokensIn="$model.tokensIn",
    tokensOut="$model.tokensOut",
    cost="$model.cost",
)
_PAYMENTS: Final = _group("$state", amount="$amount", refunded="$refunded")
_JOBS: Final = _group({"vendor": "$vendorId", "status": "$status"})


class Totals:
    """Each method reads the whole collection: for a scrape now and then, not for a request."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def runs(self) -> Sequence[RunTotals]:
        return await self._spenders(runs.COLLECTION)

    async def purchases(self) -> Sequence[RunTotals]:
        return await self._spenders(purchases.COLLECTION)

    async def _spenders(self, collection: str) -> Sequence[RunTotals]:
        return [
            RunTotals(
                status=str(found["_id"]),
                count=found["count"],
                budget=Usd(found["budget"]),
                spent=Usd(found["spent"]),
                reserved=Usd(found["budget"] - found["left"] - found["spent"]),
                model_calls=found["calls"],
                tokens_in=found["tokensIn"],
                tokens_out=found["tokensOut"],
                model_cost=Usd(round(found["cost"])),
            )
            for found in await self._store.documents(collection).aggregate(_RUNS)
        ]

    async def payments(self) -> Sequence[PaymentTotals]:
        return [
            PaymentTotals(
                state=str(found["_id"]),
                count=found["count"],
                amount=Usd(found["amount"]),
                refunded=Usd(found["refunded"]),
            )
            for found in await self._store.documents(payments.COLLECTION).aggregate(_PAYMENTS)
        ]

    async def jobs(self) -> Sequence[JobTotals]:
        return [
            JobTotals(str(found["_id"]["vendor"]), str(found["_id"]["status"]), found["count"])
            for found in await self._store.documents(jobs.COLLECTION).aggregate(_JOBS)
        ]
