"""Runs and purchases alike, which have budget, slots and a lease: find, lease, end, remove them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from pymongo import ASCENDING, IndexModel

from domain.due import Due
from domain.errors import Conflict, LeaseHeld, LeaseLost, NotFound
from domain.ids import LONGEST_RUN_ID
from domain.jobs import RunStatus
from domain.money import Usd
from domain.reasons import Reason
from ledger.clock import ClockWatch
from ledger.holder import Holder
from ledger.places import GIVEN_BACK
from ledger.pruned import COLLECTION as PRUNED
from ledger.run import HeldLease, Lease, Run
from ledger.schedule import free, has_come, is_due
from ledger.store import Document, Documents, Store, beginning_with

PAGE: Final = 500
"""How many documents are read at once where all are read."""


class Spenders:
    """One collection whose documents each have a budget, slots and a lease."""

    def __init__(self, store: Store, documents: Documents) -> None:
        self.documents = documents
        self._pruned = store.documents(PRUNED)
        self.clock: ClockWatch | None = None
        """Compares our clock with MongoDB's, where set; while they differ, nobody takes a lease."""

    async def ensure_indexes(self) -> None:
        await self.documents.ensure_indexes(
            [
                IndexModel([("userId", ASCENDING), ("createdAt", ASCENDING)]),
                IndexModel([("createdAt", ASCENDING)]),
                IndexModel([("endedAt", ASCENDING)]),
                IndexModel([("updatedAt", ASCENDING)]),
            ]
        )

    async def _opened(self, id_: str, *, new: bool) -> Run:
        """The run just inserted, or the one already there. Raises Conflict for a new one whose id
        was removed before, because that one's slots' nonces are used up.
        """
        if new and (removed := await self._pruned.get(id_)):
            await self.documents.delete(id_)
            raise Conflict(
                f"Run {id_} is over, and was removed on {removed['prunedAt']:%Y-%m-%d}",
                "Its slots are used up: take another id",
            )
        return await self.get(id_)

    async def find(self, run_id: str) -> Run | None:
        document = await self.documents.get(run_id)
        return Run.of(document) if document else None

    async def get(self, run_id: str) -> Run:
        """Raises NotFound."""
        run = await self.find(run_id)
        if run is None:
            raise no_run(run_id)
        return run

    async def of_ids(self, run_ids: Iterable[str]) -> list[Run]:
        """Those of these runs that exist."""
        ids = list(run_ids)
        found = await self.documents.find({"_id": {"$in": ids}}) if ids else []
        return [Run.of(document) for document in found]

    async def recent(self, *, user_id: str | None = None, limit: int = 50) -> list[Run]:
        query = {"userId": user_id} if user_id else {}
        found = await self.documents.find(query, sort=[("createdAt", -1)], limit=limit)
        return [Run.of(document) for document in found]

    async def starting_with(
        self, prefix: str, *, user_id: str | None = None, limit: int = 5
    ) -> list[Run]:
        """Runs whose ids begin with `prefix`, in the order of their ids."""
        query: dict[str, Any] = {"_id": beginning_with(prefix)}
        if user_id:
            query["userId"] = user_id
        found = await self.documents.find(query, sort=[("_id", 1)], limit=limit)
        return [Run.of(document) for document in found]

    async def with_open_money(self, since: datetime | None = None) -> list[str]:
        """The ids of runs that hold a reservation, whatever their status.

        since: only of those that have changed since then.
        """
        query: Document = {"reservations": {"$ne": {}}}
        if since is not None:
            query["updatedAt"] = {"$gte": since}
        return [d["_id"] for d in await self.documents.find(query, fields={"_id": 1})]

    async def ended(
        self, before: datetime, limit: int, *, after: datetime | None = None
    ) -> list[Run]:
        """Runs that ended before then, the oldest first. after: and later than that."""
        when = {"$lt": before} | ({"$gt": after} if after is not None else {})
        found = await self.documents.find({"endedAt": when}, sort=[("endedAt", 1)], limit=limit)
        return [Run.of(document) for document in found]

    async def remove(self, lease: Lease) -> bool:
        """Delete a run that has ended, holds nothing and is never due. False, with nothing changed,
        when that is not so, or another took over.
        """
        ended = [status.value for status in RunStatus if status.ended]
        over = {"status": {"$in": ended}, "reservations": {}, "dueAt": None}
        await self.documents.delete_all({"_id": lease.run_id, "fence": lease.fence, **over})
        return await self.find(lease.run_id) is None

    async def first_created(self) -> datetime | None:
        """The time at which the oldest run was made; None if there is none."""
        found = await self.documents.find(
            {}, sort=[("createdAt", 1)], limit=1, fields={"createdAt": 1}
        )
        return found[0]["createdAt"] if found else None

    async def pages(
        self, since: datetime | None = None, *, size: int = PAGE
    ) -> AsyncIterator[list[Run]]:
        """Every run, or those that have changed `since`, a page at a time. For reconciling."""
        changed: Document = {} if since is None else {"updatedAt": {"$gte": since}}
        async for found in self._paged(size, changed):
            yield [Run.of(document) for document in found]

    async def slots(self) -> AsyncIterator[list[tuple[str, int]]]:
        """The id of every run, and the number of its next slot, a page at a time."""
        async for found in self._paged(PAGE, {}, {"nextSlot": 1}):
            yield [(d["_id"], d["nextSlot"]) for d in found]

    async def _paged(
        self, size: int, query: Document, fields: Document | None = None
    ) -> AsyncIterator[list[Document]]:
        last = ""
        while True:
            after = {"_id": {"$gt": last}, **query}
            found = await self.documents.find(after, sort=[("_id", 1)], limit=size, fields=fields)
            if found:
                yield found
            if len(found) < size:
                return
            last = found[-1]["_id"]

    async def acquire(
        self, run_id: str, now: Callable[[], datetime], seconds: float, *, due: bool = False
    ) -> tuple[Run, Lease]:
        """Read the run, and take its lease. Raises NotFound, and as `take` does.

        If another holder came and went in between, the run is read and tried once more.
        """
        run = await self.get(run_id)
        try:
            return await self.take(run, now, seconds, due=due)
        except LeaseHeld:
            again = await self.get(run_id)
            if again.fence == run.fence or again.leased_until is not None:
                raise
        return await self.take(again, now, seconds, due=due)

    async def take(
        self,
        run: Run,
        now: Callable[[], datetime],
        seconds: float,
        *,
        due: bool = False,
    ) -> tuple[Run, Lease]:
        """Take the lease of a run as it was read; returns the run as now found, and the lease.

        Raises LeaseHeld while another's lease lasts, or when the run was leased, or its end asked
        for, since it was read; LeaseLost when ours ran out while it was taken (in a suspended
        process). due: only if the run is due; else LeaseHeld, too.

        Another's lease does not last if its holder is known to have ended, or if it ends impossibly
        late. Raises ClockOff where our own clock is not MongoDB's.
        """
        await self.check_clock()
        given_back, began = run.leased_until is None, now()
        if due and not has_come(run.due_at, began):
            raise LeaseHeld(f"Run {run.id} is not due", "It will be ticked when it is")
        unheld = await _unheld(run, began)
        lease = Lease(run.id, run.fence + 1, began + timedelta(seconds=seconds))
        taken = await self.documents.change(
            run.id,
            {"fence": run.fence, **unheld, **(is_due(began) if due else {})},
            {
                "$set": {
                    "lease": {
                        "expiresAt": lease.expires_at,
                        "seconds": seconds,
                        "holder": Holder.me().document(),
                    },
                    "updatedAt": began,  # by which recovery finds it
                },
                "$inc": {"fence": 1},
            },
        )
        if taken and not given_back:  # its holder may have written meanwhile
            run = await self.get(run.id)
            taken = run.fence == lease.fence
        if not taken:
            raise await lease_held(run, began)
        lease.check(now())
        held = HeldLease(lease.expires_at, seconds, Holder.me())
        return replace(run, fence=lease.fence, held=held), lease

    async def check_clock(self) -> None:
        """Raise ClockOff while our clock differs from MongoDB's by more than leases allow."""
        if self.clock is not None:
            await self.clock.check()

    async def release(
        self,
        lease: Lease,
        now: datetime,
        fields: Mapping[str, Any] | None = None,
        *,
        seen: Run | None = None,
        due: Due | None = None,
    ) -> bool:
        """Give the lease back, with a last change. False, with nothing changed, when it was lost.

        due: when the run is to be ticked next, unless somebody asked for a tick since the run was
        `seen`. None leaves that as it is.
        """
        update = {"lease": None, "updatedAt": now, **(fields or {})}
        held = {"fence": lease.fence}
        if (
            due is not None
            and seen is not None
            and await self.documents.change(
                lease.run_id,
                {**held, "dueAt": seen.due_at},
                {"$set": {**update, "dueAt": due.at, "quietTicks": due.quiet}},
            )
        ):
            return True
        return await self.documents.change(lease.run_id, held, {"$set": update})

    async def end(
        self,
        lease: Lease,
        status: RunStatus,
        reason: str,
        now: datetime,
        *,
        total: Usd | None = None,
    ) -> bool:
        """End the run. False, with nothing changed, when its budget is not `total` any more.

        Raises LeaseLost when another took over.
        """
        unraised = {} if total is None else {"budgetTotal": total.micros}
        guard = {"fence": lease.fence, **unraised}
        why = {"reason": reason, "reasonData": Reason(reason).data}
        fields = {"status": status.value, **why, "endedAt": now, "updatedAt": now}
        if await self.documents.change(lease.run_id, guard, {"$set": fields, "$unset": GIVEN_BACK}):
            return True
        if (await self.get(lease.run_id)).fence != lease.fence:
            raise LeaseLost(f"Another tick took over run {lease.run_id}")
        return False


def is_gone(holder: Holder) -> bool:
    """Whether the process has ended. It reads files: do not call it on an event loop."""
    return holder.gone


async def _unheld(run: Run, now: datetime) -> Document:
    """The condition that nobody holds the lease of a run as it was read."""
    if run.held is None:
        return {"lease": None, "cancelRequested": run.cancel_requested}
    holder = run.held.holder
    ended = holder is not None and await asyncio.to_thread(is_gone, holder)
    if ended or (run.held.expires_at > now and not run.held.lasts(now)):
        return {"lease.expiresAt": {"$in": [None, run.held.expires_at]}}
    return free(now)


async def lease_held(run: Run, now: datetime) -> LeaseHeld:
    """The error that says who keeps the run, as it was read, from being worked on."""
    held = run.held
    if held is not None and held.lasts(now) and await asyncio.to_thread(held.silent, now):
        seconds = math.ceil((held.expires_at - now).total_seconds())
        return LeaseHeld(
            f"The process that worked on run {run.id} is gone",
            f"It goes on in {seconds} s",
            goes_on_in_s=seconds,
        )
    return LeaseHeld(
        f"Another tick works on run {run.id}", "Try again when it is done, in a moment"
    )


def no_run(run_id: str) -> NotFound:
    return NotFound(f"There is no run {run_id[:LONGEST_RUN_ID]!r}", "Check the runId")


def opening(id_: str, user_id: str, goal: str, budget: Usd, now: datetime) -> Document:
    """The first fields of a new run's or purchase's document."""
    return {
        "_id": id_,
        "userId": user_id,
        "goal": goal,
        "status": RunStatus.RUNNING.value,
        "budgetTotal": budget.micros,
        "budgetRemaining": budget.micros,
        "spent": 0,
        "nextSlot": 0,
        "reservations": {},
        "lease": None,
        "fence": 0,
        "journal": {"seq": 0, "hash": ""},
        "refunds": [],
        "cancelRequested": "",
        "reason": "",
        "createdAt": now,
        "updatedAt": now,
    }
