"""What stays of a run that was removed: who it was for, how it ended, what it paid, and the end of
its journal.

It is kept before anything of the run is deleted, so that what the wallet has paid can be explained
at any moment. Where both are there still, what the run's own documents say counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pymongo import ASCENDING, IndexModel

from domain.jobs import RunStatus
from domain.mapping import Id, Mapped
from domain.money import Usd
from ledger.observations import Head
from ledger.payments import Payment, document_of
from ledger.run import Lease, Run
from ledger.store import Query, Store

COLLECTION: Final = "pruned"
_KEPT: Final = (
    "user_id",
    "status",
    "reason",
    "budget_total",
    "spent",
    "created_at",
    "ended_at",
)


@dataclass(frozen=True, slots=True)
class PrunedRun(Mapped):
    """A run that was removed."""

    id: Id
    user_id: str
    status: RunStatus
    reason: str
    budget_total: Usd
    spent: Usd
    created_at: datetime
    ended_at: datetime | None
    pruned_at: datetime
    journal: Head
    """Its last entry: a copy of the journal that was made before can be held against it."""
    payments: tuple[Payment, ...]
    """Those that were paid, without what was bought and without the signed bytes."""


class Pruned:
    def __init__(self, store: Store) -> None:
        self.documents = store.documents(COLLECTION)

    async def ensure_indexes(self) -> None:
        await self.documents.ensure_indexes(
            [
                IndexModel([("payments.x402TxId", ASCENDING)]),
                IndexModel([("payments.refundTx", ASCENDING)]),
                IndexModel([("payments.settledBlock", ASCENDING)]),
                IndexModel([("payments.payTo", ASCENDING)]),
                IndexModel([("done", ASCENDING)]),
            ]
        )

    async def find(self, run_id: str) -> PrunedRun | None:
        document = await self.documents.get(run_id)
        return PrunedRun.of(document) if document else None

    async def keep(
        self, lease: Lease, run: Run, payments: Sequence[Payment], journal: Head, now: datetime
    ) -> bool:
        """Keep what stays of a run, as the holder of its lease. False when another took over."""
        fields = {
            **run.document(*_KEPT),
            "prunedAt": now,
            "journal": {"seq": journal.seq, "hash": journal.hash},
            "payments": [
                document_of(p) | {"order": {}, "header": ""} for p in payments if p.state.paid
            ],
            "fence": lease.fence,
            "done": False,
        }
        if await self.documents.insert({"_id": run.id, **fields}):
            return True
        older = {"fence": {"$lt": lease.fence}, "done": False}
        return await self.documents.change(run.id, older, {"$set": fields})

    async def done(self, run_id: str) -> None:
        """Nothing else of the run is left."""
        await self.documents.change(run_id, {}, {"$set": {"done": True}})

    async def unfinished(self, limit: int) -> list[str]:
        """Runs of which something may be left to delete."""
        found = await self.documents.find({"done": False}, limit=limit, fields={"_id": 1})
        return [document["_id"] for document in found]

    async def payments(self, query: Query) -> list[Payment]:
        """The payments of removed runs that match `query`, which names fields of a payment's
        document.
        """
        pipeline: list[Query] = [
            {"$match": {"payments": {"$elemMatch": dict(query)}}},
            {"$unwind": "$payments"},
            {"$match": {f"payments.{name}": value for name, value in query.items()}},
        ]
        found = await self.documents.aggregate(pipeline)
        return [Payment.of(document["payments"]) for document in found]
