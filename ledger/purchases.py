"""Purchases: what a person buys with `gpu-renter pay`, each with a budget and one slot.

A purchase spends money like a run, but rents nothing and is never ticked.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Final

from domain.ids import PURCHASE_PREFIX, is_purchase
from domain.money import Usd
from ledger import runs
from ledger.run import Run
from ledger.spenders import Spenders, opening
from ledger.store import Document, Documents, Query, Store, beginning_with

COLLECTION: Final = "purchases"
MOVING: Final = timedelta(minutes=1)
"""For this long nobody else works on a purchase that is being moved."""
USER: Final = "pay"
"""The user of every purchase."""


class Purchases(Spenders):
    def __init__(self, store: Store) -> None:
        super().__init__(store, store.documents(COLLECTION))
        self._store, self._runs = store, store.documents(runs.COLLECTION)

    async def create(self, id_: str, what: str, most: Usd, now: datetime) -> Run:
        """A new purchase of at most that much. Creating the same id again changes nothing and gives
        the first. Raises Conflict for one that was removed.
        """
        new = await self.documents.insert(opening(id_, USER, what, most, now))
        return await self._opened(id_, new=new)

    async def take_in(self) -> None:
        """Move here the purchases that an older version kept among the runs; call it at every
        start.

        Each is copied, then deleted; after a crash in between, the next start deletes the old one.
        A slot may be closed meanwhile, which takes no lease, and be open in the copy: whoever
        judges it closes it again, with the same payment.
        """
        old = {"_id": beginning_with(PURCHASE_PREFIX), "phase": "fetch"}
        for found in await self._runs.find(old, fields={"_id": 1}):
            await self._take_in(found["_id"], await self._store.time())

    async def _take_in(self, id_: str, now: datetime) -> None:
        lease = {"expiresAt": now + MOVING, "seconds": MOVING.total_seconds()}
        while document := await self._runs.get(id_):
            fence = {"fence": document["fence"]}
            # Whoever works on it there writes nothing more by their lease, and nobody takes one.
            taken = {"$set": {"lease": lease}, "$inc": {"fence": 1}}
            if await self._runs.change(id_, fence, taken):
                copy = {name: document[name] for name in document if name not in ("phase", "dueAt")}
                copy |= {"fence": document["fence"] + 1, "updatedAt": now}  # reconcile looks at it
                await self.documents.insert(copy)  # or it was before a crash: that one counts
                await self._runs.delete(id_)
                return


class RunsAndPurchases(Documents):
    """Runs and purchases as one collection, for questions about money; an id tells which has it."""

    def __init__(self, runs: Documents, purchases: Documents) -> None:
        self._runs, self._purchases = runs, purchases

    def _of(self, id_: str) -> Documents:
        return self._purchases if is_purchase(id_) else self._runs

    def _in(self, query: Query) -> Sequence[Documents]:
        id_ = query.get("_id")
        return [self._of(id_)] if isinstance(id_, str) else [self._runs, self._purchases]

    async def get(self, id_: str) -> Document | None:
        return await self._of(id_).get(id_)

    async def change(self, id_: str, guard: Query, update: Query) -> bool:
        return await self._of(id_).change(id_, guard, update)

    async def delete_all(self, query: Query) -> None:
        for documents in self._in(query):
            await documents.delete_all(query)

    async def find(
        self,
        query: Query,
        *,
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
        fields: Query | None = None,
    ) -> list[Document]:
        found = [
            document
            for documents in self._in(query)
            for document in await documents.find(query, sort=sort, limit=limit, fields=fields)
        ]
        for field, direction in reversed(sort):
            found.sort(key=itemgetter(field), reverse=direction < 0)
        return found[:limit] if limit else found
