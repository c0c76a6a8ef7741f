"""The ledger in a few numbers, counted by the store itself: one command for each collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AliasPath, BeforeValidator, Field

from domain.mapping import Id, Mapped
from domain.money import Usd
from ledger import jobs, payments, purchases, runs
from ledger.store import Store


@dataclass(frozen=True, slots=True)
class RunTotals(Mapped):
    """The runs, or purchases, of one status, and what the model has cost them."""

    status: Id
    count: int
    budget: Usd
    left: Usd
    spent: Usd
    model_calls: int
    tokens_in: int
    tokens_out: int
    model_cost: Annotated[Usd, BeforeValidator(round)]

    @property
    def reserved(self) -> Usd:
        return self.budget - self.left - self.spent


@dataclass(frozen=True, slots=True)
class PaymentTotals(Mapped):
    """The payments of one state."""

    state: Id
    count: int
    amount: Usd
    refunded: Usd


@dataclass(frozen=True, slots=True)
class JobTotals(Mapped):
    """The jobs of one status at one vendor."""

    vendor_id: Annotated[str, Field(validation_alias=AliasPath("_id", "vendor"))]
    status: Annotated[str, Field(validation_alias=AliasPath("_id", "status"))]
    count: int


def _group(by: object, **sums: object) -> list[Mapping[str, Any]]:
    counted = {"count": {"$sum": 1}, **{name: {"$sum": what} for name, what in sums.items()}}
    return [{"$group": {"_id": by, **counted}}]


_RUNS: Final = _group(
    "$status",
    budget="$budgetTotal",
    left="$budgetRemaining",
    spent="$spent",
    modelCalls="$model.calls",
    tokensIn="$model.tokensIn",
    tokensOut="$model.tokensOut",
    modelCost="$model.cost",
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
        found = await self._store.documents(collection).aggregate(_RUNS)
        return [RunTotals.of(document) for document in found]

    async def payments(self) -> Sequence[PaymentTotals]:
        found = await self._store.documents(payments.COLLECTION).aggregate(_PAYMENTS)
        return [PaymentTotals.of(document) for document in found]

    async def jobs(self) -> Sequence[JobTotals]:
        found = await self._store.documents(jobs.COLLECTION).aggregate(_JOBS)
        return [JobTotals.of(document) for document in found]
