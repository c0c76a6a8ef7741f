"""Reading the ledger for open pages: each thing once a second, however many pages show it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from pymongo.errors import PyMongoError

from domain.approvals import Approval
from domain.errors import DependencyDown, NotFound, RenterError, StoreDown
from domain.journal import Entry
from domain.money import Usd
from domain.networks import Network
from domain.quotes import Vendor
from ledger.jobs import Job
from ledger.observations import Observations
from ledger.payments import Payment
from ledger.run import Run
from ledger.store import store_down
from server.keeper import Keeper

LOG: Final = logging.getLogger(__name__)
EVERY_S: Final = 1.0
READ_DEADLINE_S: Final = 5.0
FUNDS_EVERY_S: Final = 15.0
FUNDS_DEADLINE_S: Final = 4.0
MOST_RUNS: Final = 100
MOST_ENTRIES: Final = 1_000

T = TypeVar("T")
Look = Callable[[T | RenterError], None]
"""A page's callback: it gets what was read, or the error because of which nothing was."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A run with all that belongs to it."""

    at: datetime
    """When it was read."""
    run: Run
    jobs: tuple[Job, ...]
    payments: tuple[Payment, ...]
    approvals: tuple[Approval, ...]
    entries: tuple[Entry, ...]
    """The newest ones, oldest first."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A run, as the list shows it."""

    run: Run
    waiting: tuple[Approval, ...] = ()
    """Its questions that wait for a person."""


@dataclass(frozen=True, slots=True)
class WalletBalance:
    """Which chain payments go over, and what the wallet holds there."""

    network: Network
    balance: Usd | None
    """None where the chain does not tell."""


@dataclass(eq=False)
class Watch(Generic[T]):
    """One thing that is read repeatedly while any page shows it."""

    read: Callable[[], Awaitable[T]]
    every_s: float = EVERY_S
    latest: T | RenterError | None = None
    _looks: list[Look[T]] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self, look: Look[T]) -> Callable[[], None]:
        """Call `look` with each reading until the returned function is called."""
        self._looks.append(look)
        if self.latest is not None:
            look(self.latest)
        if self._task is None:
            self._task = asyncio.create_task(self._keep_reading())

        def stop() -> None:
            with suppress(ValueError):
                self._looks.remove(look)
            if not self._looks and self._task is not None:
                self._task.cancel()
                self._task, self.latest = None, None

        return stop

    @property
    def looked_at(self) -> bool:
        return bool(self._looks)

    def hurry(self) -> None:
        """Read again now, because something was changed."""
        self._hurry.set()

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _keep_reading(self) -> None:
        while True:
            self._hurry.clear()
            self.latest = await self._once()
            for look in list(self._looks):
                try:
                    look(self.latest)
                except Exception:
                    LOG.exception("a page could not be drawn")
            with suppress(TimeoutError):
                async with asyncio.timeout(self.every_s):
                    await self._hurry.wait()

    async def _once(self) -> T | RenterError:
        try:
            async with asyncio.timeout(READ_DEADLINE_S):
                return await self.read()
        except RenterError as error:
            return error
        except TimeoutError:
            return StoreDown("MongoDB has not answered yet", "This page tries again by itself")
        except PyMongoError as error:
            return store_down(error)
        except Exception as error:
            LOG.exception("a page's data could not be read")
            return DependencyDown(f"Reading failed ({type(error).__name__})", "See the log")


class Watches:
    """The watches of one dashboard; pages that show the same thing share one."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._runs: dict[str, Watch[Seen]] = {}
        self._lists: dict[str | None, Watch[list[Listed]]] = {}
        self._vendors = Watch(self._read_vendors, every_s=2 * EVERY_S)
        self._funds = Watch(self._read_funds, every_s=FUNDS_EVERY_S)

    def run(self, run_id: str) -> Watch[Seen]:
        """A run's watch, which gives NotFound where there is no such run."""
        self._drop_idle()
        return self._runs.setdefault(run_id, Watch(_RunReader(self._keeper, run_id).read))

    def runs(self, owner: str | None) -> Watch[list[Listed]]:
        """The newest runs of an owner, or of everybody."""
        self._drop_idle()
        return self._lists.setdefault(owner, Watch(lambda: self._read_runs(owner)))

    def vendors(self) -> Watch[list[Vendor]]:
        return self._vendors

    def funds(self) -> Watch[WalletBalance]:
        return self._funds

    def hurry(self) -> None:
        """Read everything that is shown again now, because something was changed."""
        for watch in self._all():
            watch.hurry()

    async def close(self) -> None:
        for watch in self._all():
            await watch.close()

    def _all(self) -> list[Watch[Any]]:
        return [*self._runs.values(), *self._lists.values(), self._vendors, self._funds]

    def _drop_idle(self) -> None:
        self._runs = {k: w for k, w in self._runs.items() if w.looked_at}
        self._lists = {k: w for k, w in self._lists.items() if w.looked_at}

    async def _read_runs(self, owner: str | None) -> list[Listed]:
        deps = (await self._keeper.services()).deps
        found = await deps.ledger.runs.recent(user_id=owner, limit=MOST_RUNS)
        running = [run.id for run in found if not run.status.ended]
        waiting = await deps.ledger.approvals.pending_of(running, deps.now())
        return [Listed(r, tuple(waiting.get(r.id, ()))) for r in found]

    async def _read_vendors(self) -> list[Vendor]:
        return await (await self._keeper.services()).deps.ledger.vendors.all()

    async def _read_funds(self) -> WalletBalance:
        services = await self._keeper.services()
        deps, balance = services.deps, None
        with suppress(RenterError, TimeoutError):
            async with asyncio.timeout(FUNDS_DEADLINE_S):
                balance = await deps.chain.balance(deps.wallet.address)
        return WalletBalance(services.settings.network, balance)


class _RunReader:
    """Reads a run; of its journal, after the first time, only what is new."""

    def __init__(self, keeper: Keeper, run_id: str) -> None:
        self._keeper = keeper
        self._run_id = run_id
        self._entries: tuple[Entry, ...] = ()

    async def read(self) -> Seen:
        deps, run_id = (await self._keeper.services()).deps, self._run_id
        ledger = deps.ledger
        run = await ledger.runs.find(run_id)
        if run is None:
            raise NotFound(f"There is no run {run_id!r}", "Look for it on the first page")
        jobs, payments, approvals, fresh = await asyncio.gather(
            ledger.jobs.of_run(run),
            ledger.payments.of_run(run_id),
            ledger.approvals.of_run(run_id),
            self._new_entries(ledger.observations),
        )
        self._entries = (*self._entries, *fresh)[-MOST_ENTRIES:]
        return Seen(deps.now(), run, tuple(jobs), tuple(payments), tuple(approvals), self._entries)

    async def _new_entries(self, observations: Observations) -> list[Entry]:
        if not self._entries:
            return await observations.newest(self._run_id, MOST_ENTRIES)
        return await observations.of_run(self._run_id, after=self._entries[-1].seq)
