"""Which runs are to be ticked, and when: `dueAt` on each run's document.

Set with the end of each tick, by its last write of the run; moved to now by whoever has something
for the run to see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pymongo import ASCENDING, IndexModel

from domain.clocks import LONGEST_DUE, LONGEST_LEASE, MOST_OFF, impossible
from domain.jobs import RunStatus
from ledger.store import Document, Documents, Store

FLEET: Final = "fleet"
TURN: Final = "sweep"
EARLY_S: Final = 1.0
"""A run counts as due so much early, because clocks of machines differ."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """A run that is to be ticked, and since when."""

    run_id: str
    at: datetime


class Schedule:
    """The schedule of all runs, over their documents."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._listeners: list[Callable[[], None]] = []

    async def ensure_indexes(self) -> None:
        await self._documents.ensure_indexes([IndexModel([("dueAt", ASCENDING)])])

    def on_due(self, act: Callable[[], None]) -> None:
        """Have `act` called whenever this process makes a run due now. It must not block."""
        self._listeners.append(act)

    def tell(self) -> None:
        """Say that a run was made due now."""
        for act in self._listeners:
            act()

    async def make_due(self, run_id: str, now: datetime) -> bool:
        """Have a run ticked as soon as possible; False when it has ended or does not exist.

        If a tick is at work, the run is ticked once more after it.
        """
        made = await self._documents.change(
            run_id,
            {"status": RunStatus.RUNNING.value},
            {"$set": {"dueAt": now, "quietTicks": 0}},
        )
        self.tell()
        return made

    async def due(
        self,
        now: datetime,
        limit: int,
        *,
        within_s: float = 0.0,
        longest_lease: timedelta = LONGEST_LEASE,
    ) -> list[Overdue]:
        """Runs that are due and that nobody works on, the longest overdue first.

        within_s: include those due so soon. longest_lease: a lease that ends later than one of this
        length can is ignored. Reads ids and times, nothing else.
        """
        found = await self._documents.find(
            {"dueAt": {"$lte": now + timedelta(seconds=within_s)}, **free(now, longest_lease)},
            sort=[("dueAt", 1)],
            limit=limit,
            fields={"dueAt": 1},
        )
        return [Overdue(document["_id"], document["dueAt"]) for document in found]

    async def mend_times(self, now: datetime) -> int:
        """Make due the runs that a wrong clock put off for impossibly long; how many that were."""
        beyond = now + LONGEST_DUE + MOST_OFF
        return await self._documents.change_all(
            {"dueAt": {"$gt": beyond}}, {"$set": {"dueAt": now, "quietTicks": 0}}
        )

    async def adopt_old(self, now: datetime) -> None:
        """Schedule the runs of an older version, which have no due time."""
        unscheduled = {"dueAt": None, "quietTicks": None}  # both absent; the index finds them
        unfinished: tuple[Document, ...] = (
            {"status": RunStatus.RUNNING.value},
            {"reservations": {"$ne": {}}},
        )
        for these in unfinished:
            await self._documents.change_all(
                {**unscheduled, **these}, {"$set": {"dueAt": now, "quietTicks": 0}}
            )
        await self._documents.change_all(unscheduled, {"$set": {"quietTicks": 0}})


def free(now: datetime, longest: timedelta = LONGEST_LEASE) -> Document:
    """The condition that nobody holds a run's lease, in a form that can use indexes. It ignores a
    lease that ends impossibly late.
    """
    return {"lease.expiresAt": {"$not": {"$gt": now, "$lte": now + longest + MOST_OFF}}}


def is_due(now: datetime) -> Document:
    """The condition that a run is to be ticked."""
    return {"dueAt": {"$lte": now + timedelta(seconds=EARLY_S)}}


def has_come(due_at: datetime | None, now: datetime) -> bool:
    """Whether a run with this due time is to be ticked."""
    if due_at is None:
        return False
    return due_at <= now + timedelta(seconds=EARLY_S) or impossible(due_at, now, LONGEST_DUE)


class SweepTurn:
    """The right to put due runs into the queue: one worker has it at a time, for seconds.

    Two that both have it do no harm: a run that is enqueued twice is ticked once.
    """

    def __init__(self, store: Store, owner: str, seconds: float) -> None:
        """owner: who asks, different in each process. seconds: how long a turn lasts."""
        self._documents = store.documents(FLEET)
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
