"""Answers that were given under an `Idempotency-Key`, and who works on one now.

A marker is pending while its request is handled, and done once it is answered. After a crash a
pending one is left, which the next request with the key takes over when its time is up. It keeps
the first `born_at`, from which ids are derived, so that it finds what the first one made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Final

from pydantic import Field
from pymongo import ASCENDING, IndexModel

from domain.clocks import impossible
from domain.errors import Conflict
from domain.ids import new_token, run_id_of
from domain.mapping import Mapped
from ledger.store import Document, Store

COLLECTION: Final = "idempotency"
KEPT: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Given(Mapped):
    """An answer as it went out."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Marker(Mapped):
    """The right, until `locked_until`, to answer one request."""

    id: Annotated[str, Field(alias="_id", exclude=True)]
    fingerprint: str
    """A hash of the request's body."""
    token: str
    """Names this holder; whoever takes over has another."""
    born_at: datetime
    locked_until: datetime

    @property
    def run_id(self) -> str:
        """The id of a run that this request starts: the same whenever it is repeated."""
        return run_id_of(self.id, self.born_at)


class KeyReused(Conflict):
    """The key was used for a request with another body."""


class KeyBusy(Conflict):
    """A request with this key is being handled."""


class Idempotency:
    def __init__(self, store: Store) -> None:
        self.documents = store.documents(COLLECTION)

    async def ensure_indexes(self) -> None:
        await self.documents.ensure_indexes(
            [IndexModel([("expiresAt", ASCENDING)], expireAfterSeconds=0)]
        )

    async def begin(
        self, id_: str, fingerprint: str, now: datetime, patience: timedelta
    ) -> Marker | Given:
        """Take the request on, or give the answer that it got before.

        id_: of key, owner and address together. Raises KeyReused and KeyBusy.
        """
        fresh = Marker(id_, fingerprint, new_token(), now, now + patience)
        if await self.documents.insert({"_id": id_, **_fields(fresh)}):
            return fresh
        document = await self.documents.get(id_)
        if document is None:  # it expired just now
            raise KeyBusy("A request with this Idempotency-Key is just ending", "Try again")
        if document["expiresAt"] <= now:
            return await self._take_over(document, fresh)
        if document["fingerprint"] != fingerprint:
            raise KeyReused(
                "This Idempotency-Key was used with another body", "Use a fresh key for it"
            )
        if document["answer"] is not None:
            return Given.of(document["answer"])
        locked = document["lockedUntil"]
        if locked > now and not impossible(locked, now, patience):
            raise KeyBusy(
                "A request with this Idempotency-Key is being handled", "Try again in a moment"
            )
        return await self._take_over(document, replace(fresh, born_at=document["bornAt"]))

    async def done(self, marker: Marker, given: Given) -> bool:
        """Keep the answer. False when another took over: its answer will be kept."""
        return await self.documents.change(
            marker.id, {"token": marker.token}, {"$set": {"answer": given.document()}}
        )

    async def give_up(self, marker: Marker, now: datetime) -> None:
        """Keep no answer: the next request with the key is handled anew, at once."""
        await self.documents.change(
            marker.id, {"token": marker.token, "answer": None}, {"$set": {"lockedUntil": now}}
        )

    async def _take_over(self, seen: Document, marker: Marker) -> Marker:
        guard = {"token": seen["token"], "answer": seen["answer"]}
        if not await self.documents.change(marker.id, guard, {"$set": _fields(marker)}):
            raise KeyBusy(
                "Another request with this Idempotency-Key was faster", "Try again in a moment"
            )
        return marker


def _fields(marker: Marker) -> Document:
    return marker.document() | {"answer": None, "expiresAt": marker.born_at + KEPT}
