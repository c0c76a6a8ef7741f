"""Sums that may not pass a limit, over all runs: a document each, changed by guarded updates.

    hold    total + amount ≤ limit, the key is new   → total + amount, holds.<key> = amount
    lower   holds.<key> is as it was read            → total − difference, drops + 1

A hold counts until somebody lowers it, so that after any crash a sum is too large and never too
small. Whoever finds one full looks which of its holds still stand for something, and lowers the
rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from domain.errors import Conflict
from domain.money import ZERO, Usd
from ledger.store import Store, field_name, field_text

COLLECTION: Final = "tallies"
TOKEN_DAYS: Final = "token_days"
LONGEST_RACE: Final = 16
"""Rounds of re-reading, each lost to another writer of the same key."""


@dataclass(frozen=True, slots=True)
class Tally:
    """A sum as it was read. holds: what it is made of, by key ("run:slot")."""

    id: str
    total: Usd
    holds: Mapping[str, Usd]
    drops: int = 0
    """Grows whenever a hold is lowered: unchanged, no hold has gone since the read."""


class Tallies:
    def __init__(self, store: Store) -> None:
        self.documents = store.documents(COLLECTION)

    async def read(self, tally_id: str) -> Tally:
        document = await self.documents.get(tally_id) or _EMPTY
        holds = {field_text(key): Usd(amount) for key, amount in document["holds"].items()}
        return Tally(tally_id, Usd(document["total"]), holds, document["drops"])

    async def hold(
        self, tally: Tally, key: str, amount: Usd, limit: Usd, *, drops: int | None = None
    ) -> bool:
        """Count `amount` under `key`, or what it is larger by than before; False when the sum would
        pass `limit`.

        tally: as last read. drops: only as long as no hold was lowered since the sum had that many;
        False otherwise. Raises Conflict when the key changes too fast.
        """
        for round_ in range(LONGEST_RACE):
            before = tally.holds.get(key)
            more = max(ZERO, amount - (before or ZERO))
            if before is not None and not more:
                return True
            if tally.total + more > limit or (drops is not None and tally.drops != drops):
                return False
            if round_ == 0 and tally == Tally(tally.id, ZERO, {}):
                await self.documents.insert({"_id": tally.id, **_EMPTY})
            field = f"holds.{field_name(key)}"
            guard = {
                "total": {"$lte": (limit - more).micros},
                field: {"$exists": False} if before is None else before.micros,
            }
            if await self.documents.change(
                tally.id,
                guard if drops is None else {**guard, "drops": drops},
                {"$inc": {"total": more.micros, field: more.micros}},
            ):
                return True
            tally = await self.read(tally.id)
        raise Conflict(f"{tally.id} changes too fast to be counted", "Try again")

    async def lower(self, tally: Tally, key: str, to: Usd) -> None:
        """Count at most `to` under `key` from now on; 0 forgets the key.

        tally: as read for that decision. Nothing changes if the key has changed since.
        """
        before = tally.holds.get(key)
        if before is None or to >= before:
            return
        field = f"holds.{field_name(key)}"
        kept = {"$set": {field: to.micros}} if to else {"$unset": {field: ""}}
        await self.documents.change(
            tally.id,
            {field: before.micros},
            {"$inc": {"total": (to - before).micros, "drops": 1}, **kept},
        )


_EMPTY: Final[Mapping[str, Any]] = {"total": 0, "holds": {}, "drops": 0}


class TokenDays:
    """What each user's model calls take in a day, over all runs and chats, a document each."""

    def __init__(self, store: Store) -> None:
        self.documents = store.documents(TOKEN_DAYS)

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
