"""API keys as they are kept: who may do what, and of the key itself its SHA-256 alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from domain.errors import NotFound
from domain.mapping import Id, Mapped
from ledger.store import Store

COLLECTION: Final = "api_keys"


@dataclass(frozen=True, slots=True)
class KeyRecord(Mapped):
    """One key. `owner` is the userId it speaks for; None stands for everybody."""

    id: Id
    sha256: str = field(repr=False)
    owner: str | None
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None = None


class Keys:
    def __init__(self, store: Store) -> None:
        self.documents = store.documents(COLLECTION)

    async def add(self, key: KeyRecord) -> bool:
        """Keep a new key. False when its id is taken: nothing changed."""
        return await self.documents.insert(key.document())

    async def find(self, key_id: str) -> KeyRecord | None:
        """The key of this id, revoked or not."""
        document = await self.documents.get(key_id)
        return KeyRecord.of(document) if document else None

    async def all(self) -> list[KeyRecord]:
        """Every key, the oldest first, the revoked ones too."""
        return [KeyRecord.of(d) for d in await self.documents.find({}, sort=[("createdAt", 1)])]

    async def any_in_force(self) -> bool:
        """Whether somebody can sign in."""
        return bool(await self.documents.find({"revokedAt": None}, limit=1, fields={"_id": 1}))

    async def revoke(self, key_id: str, now: datetime) -> None:
        """End a key; it is refused from the next request on. Revoking it again changes nothing.

        Raises NotFound.
        """
        ended = {"$set": {"revokedAt": now}}
        revoked = await self.documents.change(key_id, {"revokedAt": None}, ended)
        if not revoked and await self.find(key_id) is None:
            raise NotFound(f"There is no key {key_id[:64]!r}", "See: gpu-renter keys list")
