"""Runs: made, found, worked on under a lease, and ended."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from pymongo import ASCENDING, IndexModel

from domain.clocks import LONGEST_DUE
from domain.due import Due
from domain.errors import Conflict, LeaseHeld, LeaseLost, NotFound
from domain.goals.left_out import NOTHING_LEFT_OUT, LeftOut
from domain.ids import LONGEST_RUN_ID
from domain.jobs import JobSpec, RunStatus
from domain.money import Usd
from domain.policy import NO_SUCH_LIMIT, OpenRuns
from domain.reasons import Reason
from domain.tokens import UNUSED, ModelUse
from ledger.clock import ClockWatch
from ledger.holder import Holder
from ledger.places import GIVEN_BACK, free_places, place_indexes
from ledger.pruned import COLLECTION as PRUNED
from ledger.run import (
    HeldLease,
    Lease,
    RecordedOffer,
    Run,
    Silence,
    model_counts,
)
from ledger.schedule import FETCH as FETCH
from ledger.schedule import Schedule, free, has_come, is_due
from ledger.store import Document, Documents, Store

COLLECTION: Final = "runs"
_AFTER_EVERY_ID: Final = "{"
"""Comes after every letter and digit that an id is made of."""
LONGEST_RACE: Final = 64
"""Rounds of looking for a free place, each lost to another start."""
PAGE: Final = 500
"""Runs that are read at once where all of them are."""


class Runs:
    def __init__(self, store: Store) -> None:
        self.documents: Documents = store.documents(COLLECTION)
        self.schedule = Schedule(self.documents)
        self._pruned = store.documents(PRUNED)
        self.clock: ClockWatch | None = None
        """Whether our clock is MongoDB's, where that is watched: else nobody takes a lease."""

    async def ensure_indexes(self) -> None:
        await self.documents.ensure_indexes(
            [
                IndexModel([("userId", ASCENDING), ("createdAt", ASCENDING)]),
                IndexModel([("createdAt", ASCENDING)]),
                IndexModel([("endedAt", ASCENDING)]),
                *place_indexes(),
                IndexModel([("updatedAt", ASCENDING)]),
            ]
        )
        await self.schedule.ensure_indexes()

    async def create(
        self,
        run_id: str,
        user_id: str,
        goal: str,
        budget: Usd,
        now: datetime,
        *,
        phase: str = "intake",
        spec: JobSpec | None = None,
        used: ModelUse = UNUSED,
        leaves_out: LeftOut = NOTHING_LEFT_OUT,
        accepted: bool = False,
        most_open: OpenRuns = NO_SUCH_LIMIT,
    ) -> Run:
        """A new run. Creating the same id again changes nothing and gives the first. Raises
        Conflict for one that was removed: its slots' nonces are used up.

        spec: where the goal has been read already. used: what a model used for that. leaves_out:
        what the goal says beside the spec; accepted: the person has seen it and said yes. Raises
        TooManyRuns where as many are open as `most_open` allows.
        """
        if most_open.any and (run := await self.find(run_id)):
            return run
        created = await self._insert(
            most_open,
            {
                "_id": run_id,
                "userId": user_id,
                "goal": goal,
                "status": RunStatus.RUNNING.value,
                "phase": phase,
                "budgetTotal": budget.micros,
                "budgetRemaining": budget.micros,
                "spent": 0,
                "nextSlot": 0,
                "reservations": {},
                "jobSpec": spec.document() if spec else None,
                "currentJobId": None,
                "lease": None,
                "fence": 0,
                "journal": {"seq": 0, "hash": ""},
                "refunds": [],
                "cancelRequested": "",
                "offers": [],
                "reason": "",
                "model": model_counts(used),
                "dueAt": None if phase == FETCH else now,
                "quietTicks": 0,
                "notUsed": list(leaves_out.words),
                "acceptedNotUsed": list(leaves_out.own) if accepted else [],
                "createdAt": now,
                "updatedAt": now,
            },
        )
        if created and (removed := await self._pruned.get(run_id)):
            await self.documents.delete(run_id)
            raise Conflict(
                f"Run {run_id} is over, and was removed on {removed['prunedAt']:%Y-%m-%d}",
                "Its slots are used up: take another id",
            )
        self.schedule.tell()
        return await self.get(run_id)

    async def _insert(self, most_open: OpenRuns, run: Document) -> bool:
        """Insert a run at places of its own; False where there is one of its id."""
        for _ in range(LONGEST_RACE):
            places = await free_places(self.documents, run["userId"], most_open)
            if await self.documents.insert(run | places):
                return True
            if not places or await self.find(run["_id"]):
                return False  # by another request for the same run; else its places were taken
        raise Conflict("Too many runs are being started at once", "Try again in a moment")

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
        """Those of these runs that there are."""
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
        query: dict[str, Any] = {"_id": {"$gte": prefix, "$lt": prefix + _AFTER_EVERY_ID}}
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
        """Delete a run that has ended, holds nothing and is never due. False when it is not so, or
        another took over: it is as it was.
        """
        ended = [status.value for status in RunStatus if status.ended]
        over = {"status": {"$in": ended}, "reservations": {}, "dueAt": None}
        await self.documents.delete_all({"_id": lease.run_id, "fence": lease.fence, **over})
        return await self.find(lease.run_id) is None

    async def first_created(self) -> datetime | None:
        """When the oldest run was made; None if there is none."""
        found = await self.documents.find(
            {}, sort=[("createdAt", 1)], limit=1, fields={"createdAt": 1}
        )
        return found[0]["createdAt"] if found else None

    async def pages(
        self, since: datetime | None = None, *, size: int = PAGE
    ) -> AsyncIterator[list[Run]]:
        """Every run, or those that have changed `since`, a page at a time. For reconciling."""
        changed: Document = {} if since is None else {"updatedAt": {"$gte": since}}
        last = ""
        while True:
            query = {"_id": {"$gt": last}, **changed}
            found = await self.documents.find(query, sort=[("_id", 1)], limit=size)
            if found:
                yield [Run.of(document) for document in found]
            if len(found) < size:
                return
            last = found[-1]["_id"]

    async def slots(self, *, size: int = PAGE) -> AsyncIterator[list[tuple[str, int]]]:
        """The id of every run, and the number of its next slot, a page at a time."""
        last = ""
        while True:
            found = await self.documents.find(
                {"_id": {"$gt": last}}, sort=[("_id", 1)], limit=size, fields={"nextSlot": 1}
            )
            if found:
                yield [(d["_id"], d["nextSlot"]) for d in found]
            if len(found) < size:
                return
            last = found[-1]["_id"]

    async def request_cancel(self, run_id: str, why: str, now: datetime) -> bool:
        """Ask for a run's end; the next tick carries it out. False when it has ended already."""
        asked = await self.documents.change(
            run_id,
            {"status": RunStatus.RUNNING.value},
            {"$set": {"cancelRequested": why, "updatedAt": now, "dueAt": now, "quietTicks": 0}},
        )
        self.schedule.tell()
        return asked

    async def acquire(
        self, run_id: str, now: Callable[[], datetime], seconds: float, *, due: bool = False
    ) -> tuple[Run, Lease]:
        """Read the run, and take its lease. Raises NotFound, and as `take` does.

        Where another holder came and went in between, it is read and tried once more.
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
        """Take the lease of a run as it was read. Gives the run as its holder finds it.

        Raises LeaseHeld while another holder's lasts, or where one came since the run was read, or
        where its end was asked for; LeaseLost when it ran out before it was taken: who stood still
        meanwhile may not go on. due: only if the run is due; LeaseHeld, too, where it is not.

        Another's lease does not last where its holder is known to have ended, nor where it ends
        later than it can. Raises ClockOff where our own clock is not MongoDB's.
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
                    "updatedAt": began,  # who looks for what a crash left looks at what changed
                },
                "$inc": {"fence": 1},
            },
        )
        if taken and not given_back:  # its holder may have written until now
            run = await self.get(run.id)
            taken = run.fence == lease.fence
        if not taken:
            raise await lease_held(run, began)
        lease.check(now())
        held = HeldLease(lease.expires_at, seconds, Holder.me())
        return replace(run, fence=lease.fence, held=held), lease

    async def check_clock(self) -> None:
        """Raise ClockOff while our clock differs from MongoDB's by more than leases bear."""
        if self.clock is not None:
            await self.clock.check()

    async def renew(self, lease: Lease, now: datetime, seconds: float) -> Lease:
        """Prolong a lease. Raises LeaseLost when another took over."""
        expires_at = now + timedelta(seconds=seconds)
        await self.update(lease, {"lease.expiresAt": expires_at})
        return replace(lease, expires_at=expires_at)

    async def free_abandoned(
        self, now: datetime, *, within: timedelta = LONGEST_DUE, alone: bool = False
    ) -> int:
        """Give back the leases of processes that have ended, so that their runs go on now; how
        many. Raises StoreDown.

        within: of runs that are due so soon. alone: nobody of another machine or container can
        have reached this store since we began.
        """
        held = {"dueAt": {"$lte": now + within}, "lease.expiresAt": {"$gt": now}}
        freed = 0
        for document in await self.documents.find(held):
            run = Run.of(document)
            holder = run.held.holder if run.held else None
            gone = holder is not None and await asyncio.to_thread(_is_gone, holder)
            if holder is None or not (gone or (alone and holder.elsewhere)):
                continue
            as_read = {"fence": run.fence, "lease.expiresAt": run.leased_until}
            freed += await self.documents.change(
                run.id, as_read, {"$set": {"lease": None}, "$inc": {"fence": 1}}
            )
        if freed:
            self.schedule.tell()
        return freed

    async def release(
        self,
        lease: Lease,
        now: datetime,
        fields: Mapping[str, Any] | None = None,
        *,
        seen: Run | None = None,
        due: Due | None = None,
    ) -> bool:
        """Give the lease back, with a last change. False when it was lost: nothing changed.

        due: when the run is to be ticked next; it does not replace what somebody asked for since
        the run was `seen`. None: that stays as it is.
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

    async def update(self, lease: Lease, fields: Mapping[str, Any]) -> None:
        """Set fields as the holder of the lease. Raises LeaseLost when another took over."""
        if not await self.documents.change(
            lease.run_id, {"fence": lease.fence}, {"$set": dict(fields)}
        ):
            raise LeaseLost(f"Another tick took over run {lease.run_id}")

    async def set_spec(self, lease: Lease, spec: JobSpec) -> None:
        await self.update(lease, {"jobSpec": spec.document()})

    async def set_offers(
        self,
        lease: Lease,
        offers: Sequence[RecordedOffer],
        silences: Sequence[Silence] | None = None,
    ) -> None:
        """silences: who made no offer; None leaves what is recorded."""
        fields: dict[str, Any] = {"offers": [offer.document() for offer in offers]}
        if silences is not None:
            fields["noQuotes"] = [silence.document() for silence in silences]
        await self.update(lease, fields)

    async def count_model(self, run_id: str, used: ModelUse) -> None:
        """Add what a model call used. It was used whoever holds the lease by now."""
        added = {f"model.{name}": count for name, count in model_counts(used).items()}
        await self.documents.change(run_id, {}, {"$inc": added})

    async def end(
        self,
        lease: Lease,
        status: RunStatus,
        reason: str,
        now: datetime,
        *,
        total: Usd | None = None,
    ) -> bool:
        """End the run. False when its budget is not `total` any more: nothing changed.

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


def _is_gone(holder: Holder) -> bool:
    """Read files to tell: not on an event loop."""
    return holder.gone


async def _unheld(run: Run, now: datetime) -> Document:
    """The condition that nobody holds the lease of a run as it was read."""
    if run.held is None:
        return {"lease": None, "cancelRequested": run.cancel_requested}
    holder = run.held.holder
    ended = holder is not None and await asyncio.to_thread(_is_gone, holder)
    if ended or (run.held.expires_at > now and not run.held.lasts(now)):
        return {"lease.expiresAt": {"$in": [None, run.held.expires_at]}}
    return free(now)


async def lease_held(run: Run, now: datetime) -> LeaseHeld:
    """What keeps a run, as it was read, from being worked on."""
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
