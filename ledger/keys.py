"""API keys as they are kept: who may do what, and of the key itself its SHA-256 alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from domain.errors import NotFound
from ledger.store import Document, Store

COLLECTION: Final = "api_keys"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key. `owner` is the userId it speaks for; None stands for everybody."""

    id: str
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
        return await self.documents.insert(
            {
                "_id": key.id,
                "sha256": key.sha256,
                "owner": key.owner,
                "scopes": list(key.scopes),
                "createdAt": key.created_at,
                "revokedAt": None,
            }
        )

    async def find(self, key_id: str) -> KeyRecord | None:
        """The key of this id, revoked or not."""
        document = await self.documents.get(key_id)
        return _record(document) if document else None

    async def all(self) -> list[KeyRecord]:
        """Every key, the oldest first, the revoked ones too."""
        return [_record(d) for d in await self.documents.find({}, sort=[("createdAt", 1)])]

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


def _record(document: Document) -> KeyRecord:
    return KeyRecord(
        id=document["_id"],
        sha256=document["sha256"],
        owner=document["owner"],
        scopes=tuple(document["scopes"]),
        created_at=document["createdAt"],
        revoked_at=document["revokedAt"],
    )
