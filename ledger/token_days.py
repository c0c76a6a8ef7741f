"""What each user's model calls take in a day, over all runs and chats, a document each."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from ledger.store import Store

COLLECTION: Final = "token_days"


class TokenDays:
    def __init__(self, store: Store) -> None:
        self.documents = store.documents(COLLECTION)

    @staticmethod
    def day(user_id: str, now: datetime) -> str:
        """The document of a user's day."""
        return f"{now:%Y-%m-%d}|{user_id}"

    async def hold(self, day: str, tokens: int, limit: int) -> bool:
        """Count a call that may take so many tokens; False where they are more than are left."""
        await self.documents.insert({"_id": day, "used": 0})
        room = {"used": {"$lte": limit - tokens}}
        return await self.documents.change(day, room, {"$inc": {"used": tokens}})

    async def settle(self, day: str, held: int, used: int) -> None:
        """Count what a call took in the place of what was held for it."""
        if used != held:
            await self.documents.change(day, {}, {"$inc": {"used": used - held}})

    async def used(self, day: str) -> int:
        document = await self.documents.get(day)
        return int(document["used"]) if document else 0
