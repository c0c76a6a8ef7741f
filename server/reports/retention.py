"""Removing runs that are over, with all that is theirs, and keeping what explains their money.

The order makes each step repeatable after a crash: what stays is kept first (ledger/pruned.py);
then the run itself goes, in one guarded delete under its lease; then its other documents and files.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from domain.errors import LeaseHeld, LeaseLost, NotFound, RenterError
from domain.journal import first_broken
from domain.payments import PaymentState
from graph.persistence.checkpoints import CHECKPOINTS, WRITES
from graph.persistence.transcripts import COLLECTION as TRANSCRIPTS
from graph.persistence.transcripts import SESSION, session_of
from ledger.deliveries import COLLECTION as DELIVERIES
from ledger.ledger import Ledger
from ledger.observations import UNREADABLE, Head
from ledger.run import Run
from server.wiring import Services

LOG: Final = logging.getLogger(__name__)
LEASE_SECONDS: Final = 60.0
AT_ONCE: Final = 100
"""Runs that are read together."""
PAUSE_S: Final = 3600.0
"""Seconds between two rounds of a server."""
A_ROUND: Final = 1_000
"""Runs that a server removes in one, and headers of older versions that it drops."""


@dataclass(slots=True)
class Pruned:
    """What a round did."""

    removed: list[str] = field(default_factory=list)
    """In a dry run: what would be removed."""
    kept: dict[str, str] = field(default_factory=dict)
    """Runs that are old enough and stay, and why."""


class Retention:
    def __init__(self, ledger: Ledger, artifacts: Path, now: Callable[[], datetime]) -> None:
        """artifacts: the folder with one subfolder a run, where this machine has it."""
        self._ledger = ledger
        self._artifacts = artifacts
        self._now = now

    async def prune(
        self, before: datetime, *, most: int | None = None, dry_run: bool = False
    ) -> Pruned:
        """Remove runs that ended before then, the oldest first. Raises StoreDown.

        most: how many, at most. Goes on first with what a crash left half removed.
        """
        outcome = Pruned()
        if not dry_run:
            await self._go_on()
        after: datetime | None = None
        while batch := await self._ledger.spenders.ended(before, AT_ONCE, after=after):
            after = batch[-1].ended_at
            for run in batch:
                if most is not None and len(outcome.removed) >= most:
                    return outcome
                why = await self._owed(run)
                if why or not (dry_run or await self._remove(run)):
                    outcome.kept[run.id] = why or "it is being worked on"
                else:
                    outcome.removed.append(run.id)
        return outcome

    async def _owed(self, run: Run) -> str:
        """Why a run cannot be removed yet; empty where it can."""
        if not run.status.ended or run.reservations or run.due_at is not None:
            return "its books are not closed"
        for payment in await self._ledger.payments.of_run(run.id):
            if payment.state.open:
                return f"payment {payment.id} is not decided"
            if payment.state is PaymentState.SETTLED and payment.refund_tx:
                return f"the refund of payment {payment.id} has not come"
        for job in await self._ledger.jobs.of_run(run):
            if job.unstopped or not job.status.ended:
                return f"job {job.id} may still run"
        try:
            entries = await self._ledger.observations.of_run(run.id)
        except UNREADABLE:
            entries = []
        if first_broken(entries) is not None or len(entries) < run.journal_seq:
            return "its journal is not whole: see gpu-renter audit"
        return ""

    async def _remove(self, seen: Run) -> bool:
        """Remove a run with all its documents and files. False when somebody works on it."""
        gone, at_work = False, self._ledger.at_work(seen.id, self._now, LEASE_SECONDS)
        with suppress(LeaseHeld, LeaseLost, NotFound):
            async with at_work as (run, lease, _):
                if not await self._owed(run):
                    payments = await self._ledger.payments.of_run(run.id)
                    last = await self._ledger.observations.newest(run.id, 1)
                    head = Head(last[0].seq, last[0].hash) if last else Head()
                    kept = await self._ledger.pruned.keep(lease, run, payments, head, self._now())
                    gone = kept and await self._ledger.spenders.remove(lease)
        if gone:
            await self._clear(seen.id)
        return gone

    async def _go_on(self) -> None:
        """Delete what a crash left of runs that are gone."""
        for run_id in await self._ledger.pruned.unfinished(AT_ONCE):
            if await self._ledger.spenders.find(run_id) is None:
                await self._clear(run_id)

    async def _clear(self, run_id: str) -> None:
        """Delete all that is left of a run whose document is gone; its payments are kept."""
        ledger, store = self._ledger, self._ledger.store
        await store.documents(CHECKPOINTS).delete_all({"thread_id": run_id})
        await store.documents(WRITES).delete_all({"thread_id": run_id})
        await store.documents(TRANSCRIPTS).delete_all({SESSION: session_of("", run_id)})
        await store.documents(DELIVERIES).delete_all({"runId": run_id})
        for documents in (
            ledger.approvals.documents,
            ledger.observations.documents,
            ledger.jobs.documents,
            ledger.payments.documents,
        ):
            await documents.delete_all({"runId": run_id})
        folder = self._artifacts / run_id
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        await ledger.pruned.done(run_id)


@asynccontextmanager
async def retaining(services: Services) -> AsyncIterator[None]:
    """Forget what is not needed any more, for as long as the services are open: now and hourly."""
    over = asyncio.Event()
    task = asyncio.create_task(_retain(services, over))
    try:
        yield
    finally:
        over.set()  # beside the cancel, which a driver in the middle of a retry may swallow
        task.cancel()
        await asyncio.wait([task])


async def _retain(services: Services, over: asyncio.Event) -> None:
    deps, days = services.deps, services.settings.retention_days
    retention = Retention(deps.ledger, deps.artifacts, deps.now)
    while not over.is_set():
        try:
            await deps.ledger.payments.drop_old_headers(A_ROUND)
            if days is not None:
                outcome = await retention.prune(deps.now() - timedelta(days=days), most=A_ROUND)
                if outcome.removed:
                    LOG.info("%d runs were over for %g days: removed", len(outcome.removed), days)
        except RenterError as error:
            LOG.warning("old runs could not be removed: %s", error)
        except Exception:  # an outermost edge: the next round may fare better
            LOG.exception("old runs could not be removed")
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), PAUSE_S)
