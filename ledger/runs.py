"""Runs: made, found, worked on under a lease, and ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from domain.clocks import LONGEST_DUE
from domain.errors import Conflict, LeaseLost
from domain.goals.left_out import NOTHING_LEFT_OUT, LeftOut
from domain.jobs import JobSpec, RunStatus
from domain.money import Usd
from domain.policy import NO_SUCH_LIMIT, OpenRuns
from domain.tokens import UNUSED, ModelUse
from ledger.places import free_places, place_indexes
from ledger.run import (
    Lease,
    RecordedOffer,
    Run,
    Silence,
    model_counts,
)
from ledger.schedule import Schedule
from ledger.spenders import Spenders, is_gone, opening
from ledger.store import Document, Store

COLLECTION: Final = "runs"
LONGEST_RACE: Final = 64
"""Rounds of looking for a free place, each lost to another start."""


class Runs(Spenders):
    def __init__(self, store: Store) -> None:
        super().__init__(store, store.documents(COLLECTION))
        self.schedule = Schedule(self.documents)

    async def ensure_indexes(self) -> None:
        await super().ensure_indexes()
        await self.documents.ensure_indexes(place_indexes())
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
                **opening(run_id, user_id, goal, budget, now),
                "phase": phase,
                "jobSpec": spec.document() if spec else None,
                "currentJobId": None,
                "offers": [],
                "model": model_counts(used),
                "dueAt": now,
                "quietTicks": 0,
                "notUsed": list(leaves_out.words),
                "acceptedNotUsed": list(leaves_out.own) if accepted else [],
            },
        )
        run = await self._opened(run_id, new=created)
        self.schedule.tell()
        return run

    async def _insert(self, most_open: OpenRuns, run: Document) -> bool:
        """Insert a run at places of its own; False where there is one of its id."""
        for _ in range(LONGEST_RACE):
            places = await free_places(self.documents, run["userId"], most_open)
            if await self.documents.insert(run | places):
                return True
            if not places or await self.find(run["_id"]):
                return False  # by another request for the same run; else its places were taken
        raise Conflict("Too many runs are being started at once", "Try again in a moment")

    async def request_cancel(self, run_id: str, why: str, now: datetime) -> bool:
        """Ask for a run's end; the next tick carries it out. False when it has ended already."""
        asked = await self.documents.change(
            run_id,
            {"status": RunStatus.RUNNING.value},
            {"$set": {"cancelRequested": why, "updatedAt": now, "dueAt": now, "quietTicks": 0}},
        )
        self.schedule.tell()
        return asked

    async def renew(self, lease: Lease, now: datetime, seconds: float) -> Lease:
        """Prolong a lease. Raises LeaseLost when another took over."""
        expires_at = now + timedelta(seconds=seconds)
        await self.update(lease, {"lease.expiresAt": expires_at})
        return replace(lease, expires_at=expires_at)

    async def free_abandoned(
        self, now: datetime, *, within: timedelta = LONGEST_DUE, alone: bool = False
    ) -> int:
        """Give back the leases of processes that have ended, so that their runs go on now; how
        many.

        within: only of runs that are due so soon. alone: nobody on another machine or in another
        container can have reached this store since we began. Raises StoreDown.
        """
        held = {"dueAt": {"$lte": now + within}, "lease.expiresAt": {"$gt": now}}
        freed = 0
        for document in await self.documents.find(held):
            run = Run.of(document)
            holder = run.held.holder if run.held else None
            gone = holder is not None and await asyncio.to_thread(is_gone, holder)
            if holder is None or not (gone or (alone and holder.elsewhere)):
                continue
            as_read = {"fence": run.fence, "lease.expiresAt": run.leased_until}
            freed += await self.documents.change(
                run.id, as_read, {"$set": {"lease": None}, "$inc": {"fence": 1}}
            )
        if freed:
            self.schedule.tell()
        return freed

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
        """Add what a model call used, even if the lease is lost by now."""
        added = {f"model.{name}": count for name, count in model_counts(used).items()}
        await self.documents.change(run_id, {}, {"$inc": added})
