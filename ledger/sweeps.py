"""Whose turn it is to put what is due into the queue: one worker's at a time, for a few seconds.

Two that both think so do no harm: what is enqueued twice is ticked once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from domain.clocks import MOST_OFF
from ledger.store import Store

COLLECTION: Final = "fleet"
TURN: Final = "sweep"


class SweepTurn:
    def __init__(self, store: Store, owner: str, seconds: float) -> None:
        """owner: who asks, different in each process. seconds: how long a turn lasts."""
        self._documents = store.documents(COLLECTION)
        self._owner = owner
        self._seconds = seconds

    async def take(self, now: datetime) -> bool:
        """Take the turn, or keep it; False while another has it."""
        until = now + timedelta(seconds=self._seconds)
        mine = {"owner": self._owner, "until": until}
        theirs = {"$gt": now, "$lte": until + MOST_OFF}  # later than that, no turn can end
        if await self._documents.change(
            TURN, {"$or": [{"owner": self._owner}, {"until": {"$not": theirs}}]}, {"$set": mine}
        ):
            return True
        return await self._documents.insert({"_id": TURN, **mine})

    async def give_back(self, now: datetime) -> None:
        await self._documents.change(TURN, {"owner": self._owner}, {"$set": {"until": now}})
