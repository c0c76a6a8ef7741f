"""Ticking what is due, without anybody asking: the in-process worker, over MongoDB alone.

    async with working(Worker(services), grace_s=20):
        …

Ticks of different runs overlap; those of one run never do. Any number of workers may share a
MongoDB.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final, Protocol

from langgraph.runtime import RunControl

from domain.errors import ClockOff, Conflict, NotFound, RenterError, StoreDown
from ledger.schedule import Overdue
from server.runner.tick import Ticker
from server.wiring import Services

LOG: Final = logging.getLogger(__name__)
POLL_S: Final = 0.5
"""How often to ask what is due, where nothing says so sooner."""
MEND_S: Final = 10.0
"""How often to look for due times that cannot be, and for leases of processes that were killed."""
STORE_AWAY_S: Final = (0.5, 10.0)
"""How long to leave MongoDB alone while it does not answer: at first, and at most."""
CANCEL_S: Final = 1.0
"""How long a cancelled worker may take before it is cancelled again."""
READ_AHEAD: Final = 8
"""How many due runs to read at once, for each place in the pool."""


class Tick(Protocol):
    """The signature of `Ticker.tick`."""

    def __call__(
        self, run_id: str, *, due: bool, control: RunControl | None
    ) -> Awaitable[object]: ...


class Pool:
    """Ticks at work: at most so many at once, and of each run one."""

    def __init__(self, tick: Tick, concurrency: int) -> None:
        self._tick = tick
        self._concurrency = concurrency
        self._at_work: dict[str, tuple[asyncio.Task[None], RunControl]] = {}
        self._room = asyncio.Event()
        self.draining = False
        self.store_away = False
        """True when MongoDB did not answer the last tick that asked it."""

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._at_work

    @property
    def free(self) -> int:
        """How many more ticks may begin now."""
        return 0 if self.draining else max(0, self._concurrency - len(self._at_work))

    def offer(self, run_id: str) -> asyncio.Task[None] | None:
        """Begin to tick the run; None when there is no room, or it is being ticked already."""
        if not self.free or run_id in self._at_work:
            return None
        control = RunControl()
        task = asyncio.create_task(self._one(run_id, control))
        self._at_work[run_id] = (task, control)
        return task

    async def take(self, run_id: str) -> None:
        """Tick the run when there is room; return when it has ended, or at once while draining."""
        while not self.free and not self.draining:
            self._room.clear()
            await self._room.wait()
        task = self.offer(run_id)
        if task is not None:
            await asyncio.wait([task])

    async def room(self) -> None:
        """Return when a tick has ended."""
        self._room.clear()
        await self._room.wait()

    async def drain(self, grace_s: float) -> None:
        """Begin nothing more; let each tick come to the end of its step.

        What is not done after `grace_s` is cancelled: like a crash, another tick goes on from it.
        """
        self.draining = True
        self._room.set()
        for _, control in self._at_work.values():
            control.request_drain()
        tasks = [task for task, _ in self._at_work.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, run_id: str, control: RunControl) -> None:
        try:
            await self._tick(run_id, due=True, control=control)
            self.store_away = False
        except StoreDown as error:
            self.store_away = True
            LOG.warning("run %s: %s", run_id, error)
        except (NotFound, Conflict) as error:
            LOG.debug("run %s is not ticked here: %s", run_id, error)
        except RenterError as error:
            LOG.info("run %s: its tick failed: %s", run_id, error)
        except Exception:
            LOG.exception("run %s: its tick failed", run_id)
        finally:
            del self._at_work[run_id]
            self._room.set()


class Worker:
    """Asks MongoDB what is due, and ticks it."""

    def __init__(
        self, services: Services, *, concurrency: int | None = None, tick: Tick | None = None
    ) -> None:
        """tick: instead of `Ticker.tick`."""
        size = concurrency or services.settings.worker_concurrency
        self._now = services.deps.now
        self._runs = services.deps.ledger.runs
        self._schedule = self._runs.schedule
        self._longest_lease = timedelta(seconds=services.deps.limits.lease_seconds)
        self._mend_at = float("-inf")
        self.pool = Pool(tick or Ticker(services).tick, size)
        self._limit = size * READ_AHEAD
        self._backlog: deque[Overdue] = deque()
        self._stale = True
        """Whether to ask MongoDB again before more of the backlog begins."""
        self._ask_at = 0.0
        """Until then, by the loop's clock, the backlog has all that falls due."""
        self._woken = asyncio.Event()
        self._adopted = False
        self._away_s = 0.0
        self._schedule.on_due(self.wake)

    def wake(self) -> None:
        """Ask at once what is due."""
        self._stale = True
        self._woken.set()

    async def run(self) -> None:
        """Tick what is due, until cancelled. A MongoDB that is away is waited for."""
        while not self.pool.draining:
            await self.sleep(await self.look())

    async def sleep(self, seconds: float) -> None:
        """Sleep so long, or until woken; not at all if woken since the last sleep."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()

    async def look(self) -> float:
        """Start the due runs that fit in; returns how many seconds to wait before the next call.

        One query finds what falls due until the next one. Where all places are taken, it returns
        when one is free.
        """
        if not self.pool.free:
            await self.pool.room()
        clock = asyncio.get_running_loop().time
        passed = clock() >= self._ask_at and not self._overdue()
        ask = self._stale or passed or self.pool.store_away
        if ask and not await self._ask():
            return self._away_s
        while self.pool.free and self._overdue():
            self.pool.offer(self._backlog.popleft().run_id)
        if not self._backlog:
            return max(0.0, self._ask_at - clock())
        return min(POLL_S, max(0.0, (self._backlog[0].at - self._now()).total_seconds()))

    def _overdue(self) -> bool:
        return bool(self._backlog) and self._backlog[0].at <= self._now()

    async def _ask(self) -> bool:
        """Read what is due, and what will be until the next question; False when none answers."""
        self._stale, began = False, asyncio.get_running_loop().time()
        found = await self.due(self._limit, within_s=POLL_S)
        if found is None:
            self._stale = True
            return False
        now = self._now()
        overdue = [run for run in found if run.at <= now]
        random.shuffle(overdue)  # other workers have read the same ones
        self._backlog = deque([*overdue, *(run for run in found if run.at > now)])
        answered = asyncio.get_running_loop().time()
        if len(found) < self._limit:
            self._ask_at = max(began + POLL_S, answered + POLL_S / 2)
        else:
            self._ask_at = answered
        return True

    async def due(self, limit: int, within_s: float = 0.0) -> list[Overdue] | None:
        """Runs that are due. None while MongoDB does not answer, or our clock is not its own: then
        it is left alone for a while.
        """
        try:
            if self.pool.store_away:
                self.pool.store_away = False
                raise StoreDown("MongoDB did not answer a tick")
            await self._runs.check_clock()
            clock = asyncio.get_running_loop().time()
            if not self._adopted:
                await self._schedule.adopt_old(self._now())
                self._adopted = True
            if clock >= self._mend_at:
                await self._schedule.mend_times(self._now())
                await self._runs.free_abandoned(self._now(), within=timedelta(0))
                self._mend_at = clock + MEND_S
            found = await self._schedule.due(
                self._now(), limit, within_s=within_s, longest_lease=self._longest_lease
            )
        except (StoreDown, ClockOff) as error:
            first, most = STORE_AWAY_S
            self._away_s = min(most, max(first, 2 * self._away_s))
            LOG.warning("%s; asking again in %g s", error, self._away_s)
            return None
        self._away_s = 0.0
        return found

    async def drain(self, grace_s: float) -> None:
        """See `Pool.drain`."""
        await self.pool.drain(grace_s)


class Works(Protocol):
    """A Worker, or a whole fleet's one."""

    async def run(self) -> None: ...

    async def drain(self, grace_s: float) -> None: ...


@asynccontextmanager
async def working(worker: Works, grace_s: float) -> AsyncIterator[asyncio.Task[None]]:
    """Run the worker beside the block, and drain it at the end. Yields the worker's task."""
    task = asyncio.create_task(worker.run())
    task.add_done_callback(_look_at)
    try:
        yield task
    finally:
        task.cancel()
        await worker.drain(grace_s)
        while not task.done():  # a driver in the middle of a retry may swallow a cancel
            task.cancel()
            await asyncio.wait([task], timeout=CANCEL_S)


def _look_at(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        LOG.critical("the worker ended: nothing is ticked any more", exc_info=error)
