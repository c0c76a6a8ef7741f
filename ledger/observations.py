"""Observations: the journal of each run, in order, hash-chained, each keyed note once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pymongo import ASCENDING, IndexModel

from domain.errors import Conflict
from domain.journal import (
    LONGEST_CONTENT,
    Entry,
    Note,
    NoteClass,
    NoteType,
    entry,
    event_facts,
    event_line,
)
from ledger.store import Document, DuplicateKey, Store

LOG: Final = logging.getLogger(__name__)
COLLECTION: Final = "observations"
LONGEST_RACE: Final = 32
UNREADABLE: Final = (KeyError, TypeError, ValueError)
"""What reading a journal raises that somebody has changed."""


@dataclass(frozen=True, slots=True)
class Head:
    """A journal's last entry as its writer knows it; `append` notices one that is out of date."""

    seq: int = 0
    hash: str = ""


class Observations:
    def __init__(self, store: Store) -> None:
        self.documents = store.documents(COLLECTION)

    async def ensure_indexes(self) -> None:
        await self.documents.ensure_indexes(
            [
                IndexModel([("runId", ASCENDING), ("seq", ASCENDING)], unique=True),
                IndexModel(
                    [("runId", ASCENDING), ("key", ASCENDING)],
                    unique=True,
                    partialFilterExpression={"key": {"$exists": True}},
                ),
            ]
        )

    async def append(self, run_id: str, head: Head, notes: Sequence[Note], now: datetime) -> Head:
        """Write the notes after `head`, leaving out those whose key is there; give the new head.

        The usual case is one insert. Where another writer was faster, or a crash lost the head,
        the true end is read and the rest goes after it. What tells of money, jobs or the run's end
        is logged as it is written, whoever writes it.
        """
        for _ in range(LONGEST_RACE):
            if not notes:
                return head
            entries = _chain(run_id, head, notes, now)
            try:
                await self.documents.insert_all([_document(e) for e in entries])
            except DuplicateKey:
                head = await self._tail(run_id)
                landed = await self._landed(run_id, entries, head)
                _log(e for e in entries if e.hash in landed)
                notes = await self._unwritten(run_id, [e for e in entries if e.hash not in landed])
            else:
                _log(entries)
                return Head(entries[-1].seq, entries[-1].hash)
        raise Conflict(f"The journal of run {run_id} has too many writers at once", "Try again")

    async def of_run(
        self, run_id: str, *, after: int = 0, limit: int = 0, types: Sequence[NoteType] = ()
    ) -> list[Entry]:
        """Entries after the seq `after`, oldest first."""
        query: dict[str, Any] = {"runId": run_id, "seq": {"$gt": after}}
        if types:
            query["type"] = {"$in": list(types)}
        found = await self.documents.find(query, sort=[("seq", 1)], limit=limit)
        return [_entry(document) for document in found]

    async def newest(self, run_id: str, limit: int) -> list[Entry]:
        """The last `limit` entries, oldest first."""
        found = await self.documents.find({"runId": run_id}, sort=[("seq", -1)], limit=limit)
        return [_entry(document) for document in reversed(found)]

    async def _tail(self, run_id: str) -> Head:
        last = await self.newest(run_id, 1)
        return Head(last[0].seq, last[0].hash) if last else Head()

    async def _landed(self, run_id: str, entries: Sequence[Entry], head: Head) -> set[str]:
        """The hashes of those entries of an interrupted insert that it has written."""
        query = {"runId": run_id, "seq": {"$gte": entries[0].seq, "$lte": head.seq}}
        there = await self.documents.find(query, fields={"hash": 1})
        return {e.hash for e in entries} & {document["hash"] for document in there}

    async def _unwritten(self, run_id: str, entries: Sequence[Entry]) -> list[Note]:
        """The notes of the entries whose keys are not in the journal."""
        keys = [e.note.key for e in entries if e.note.key]
        query = {"runId": run_id, "key": {"$in": keys}}
        keyed = await self.documents.find(query, fields={"key": 1}) if keys else []
        written = {document["key"] for document in keyed}
        return [e.note for e in entries if e.note.key not in written]


def _log(entries: Iterable[Entry]) -> None:
    for e in entries:
        if NoteClass.MONEY in e.note.type.classes:
            LOG.info("%s", event_line(e.note), extra={"facts": event_facts(e.run_id, e.note)})


def _chain(run_id: str, head: Head, notes: Sequence[Note], now: datetime) -> list[Entry]:
    chained: list[Entry] = []
    for note in notes:
        bounded = Note(note.type, note.content[:LONGEST_CONTENT], note.data, note.key)
        last = chained[-1] if chained else None
        seq, prev = (last.seq, last.hash) if last else (head.seq, head.hash)
        chained.append(entry(run_id, seq + 1, prev, bounded, now))
    return chained


def _document(e: Entry) -> Document:
    document: Document = {
        "_id": f"{e.run_id}:{e.seq}",
        "runId": e.run_id,
        "seq": e.seq,
        "type": e.note.type.value,
        "content": e.note.content,
        "data": dict(e.note.data),
        "createdAt": e.created_at,
        "prevHash": e.prev_hash,
        "hash": e.hash,
    }
    return document | {"key": e.note.key} if e.note.key else document


def _entry(document: Document) -> Entry:
    type_ = NoteType(document["type"])
    note = Note(type_, document["content"], document["data"], document.get("key"))
    return Entry(
        document["runId"],
        document["seq"],
        note,
        document["createdAt"],
        document["prevHash"],
        document["hash"],
    )
