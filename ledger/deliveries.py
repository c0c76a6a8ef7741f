"""How far each run's journal was told to the outside: a cursor for each, and one for all.

A run has a cursor from the moment that something of it is to be told. `seq` only grows, and only
after the receiver has taken the entry, so a crash repeats the last one and loses none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from pymongo import ASCENDING, IndexModel

from domain.clocks import MOST_OFF, impossible
from domain.mapping import Mapped
from ledger.observations import COLLECTION as OBSERVATIONS
from ledger.store import Document, Store

COLLECTION: Final = "deliveries"
LONGEST_WAIT: Final = timedelta(days=1)
"""The longest wait between two tries of one entry."""
LOOK_BACK: Final = timedelta(days=1)
"""How far back to search for entries after a fast clock had moved the watermark past them."""


@dataclass(frozen=True, slots=True)
class Cursor(Mapped):
    """A run of which something is to be told."""

    run_id: str
    seq: int
    """The last entry that the receiver has taken, or that was given up."""
    attempts: int
    """Failures in a row with the entry after it."""
    due_at: datetime


class Deliveries:
    def __init__(self, store: Store, receiver: str) -> None:
        """receiver: the name of the one who is told; each has cursors of its own."""
        self._receiver = receiver
        self.documents = store.documents(COLLECTION)
        self._observations = store.documents(OBSERVATIONS)

    async def ensure_indexes(self) -> None:
        """Make the indexes, where anybody is told: the one on observations slows writers."""
        await self.documents.ensure_indexes(
            [IndexModel([("receiver", ASCENDING), ("open", ASCENDING), ("dueAt", ASCENDING)])]
        )
        await self._observations.ensure_indexes(
            [IndexModel([("type", ASCENDING), ("createdAt", ASCENDING)])]
        )

    async def watermark(self, now: datetime) -> datetime:
        """The time up to which entries were found; at first `now`: the past is not told."""
        await self.documents.insert(self._head(now))
        head = await self.documents.get(self._receiver)
        at: datetime = head["at"] if head else now
        if impossible(at, now, timedelta(0)):  # look for what came since
            at = now - LOOK_BACK
            await self.documents.change(self._receiver, {"at": {"$gt": now}}, {"$set": {"at": at}})
        return at

    async def advance(self, at: datetime) -> None:
        await self.documents.change(self._receiver, {"at": {"$lt": at}}, {"$set": {"at": at}})

    async def disable(self, why: str) -> None:
        """The receiver wants no more. It stays so until WEBHOOK_URL changes."""
        await self.documents.change(self._receiver, {}, {"$set": {"disabled": why}})

    async def disabled(self) -> str:
        """Why the receiver is told nothing any more; empty while it is told."""
        head = await self.documents.get(self._receiver)
        return str(head["disabled"]) if head else ""

    async def discover(self, types: Sequence[str], since: datetime, now: datetime) -> None:
        """Make a cursor due for each run that has a newer entry of these types."""
        query = {"type": {"$in": list(types)}, "createdAt": {"$gte": since}}
        found = await self._observations.find(query, fields={"runId": 1, "seq": 1})
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for entry in found:
            run_id, seq = entry["runId"], entry["seq"]
            first[run_id] = min(seq, first.get(run_id, seq))
            last[run_id] = max(seq, last.get(run_id, seq))
        ids = [self._id(run_id) for run_id in first]
        known = {d["_id"]: d for d in await self.documents.find({"_id": {"$in": ids}})}
        for run_id, seq in first.items():
            id_ = self._id(run_id)
            if id_ not in known:
                await self.documents.insert(self._cursor(run_id, seq - 1, now))
            elif known[id_]["seq"] < last[run_id] and not known[id_]["open"]:
                await self.documents.change(
                    id_,
                    {"open": False, "seq": {"$lt": last[run_id]}},
                    {"$set": {"open": True, "dueAt": now, "attempts": 0}},
                )

    async def due(self, now: datetime, limit: int) -> list[Cursor]:
        """Cursors whose next entry is to be told now."""
        query = {"receiver": self._receiver, "open": True, "dueAt": {"$lte": now}}
        found = await self.documents.find(query, sort=[("dueAt", 1)], limit=limit)
        return [Cursor.of(document) for document in found]

    async def mend_times(self, now: datetime) -> int:
        """Make due what a wrong clock put off for impossibly long; how many that were."""
        beyond = {"$gt": now + LONGEST_WAIT + MOST_OFF}
        query = {"receiver": self._receiver, "open": True, "dueAt": beyond}
        return await self.documents.change_all(query, {"$set": {"dueAt": now}})

    async def claim(self, cursor: Cursor, until: datetime) -> Cursor | None:
        """Take a due cursor until `until`. None when another process was faster."""
        taken = await self._move(cursor, {"dueAt": until})
        return replace(cursor, due_at=until) if taken else None

    async def told(self, cursor: Cursor, seq: int, until: datetime) -> Cursor | None:
        """The entry was taken, or given up: go on after it. None when the claim was lost."""
        if await self._move(cursor, {"seq": seq, "attempts": 0, "dueAt": until}):
            return Cursor(cursor.run_id, seq, 0, until)
        return None

    async def failed(self, cursor: Cursor, again_at: datetime) -> None:
        await self._move(cursor, {"attempts": cursor.attempts + 1, "dueAt": again_at})

    async def finished(self, cursor: Cursor) -> None:
        """Nothing is left to tell of this run, for now."""
        await self._move(cursor, {"open": False, "attempts": 0})

    async def _move(self, cursor: Cursor, fields: dict[str, Any]) -> bool:
        guard = {"seq": cursor.seq, "dueAt": cursor.due_at}
        return await self.documents.change(self._id(cursor.run_id), guard, {"$set": fields})

    def _id(self, run_id: str) -> str:
        return f"{self._receiver}:{run_id}"

    def _head(self, now: datetime) -> Document:
        return {"_id": self._receiver, "at": now, "disabled": ""}

    def _cursor(self, run_id: str, seq: int, now: datetime) -> Document:
        beside = {"_id": self._id(run_id), "receiver": self._receiver, "open": True}
        return beside | Cursor(run_id, seq, 0, now).document()
