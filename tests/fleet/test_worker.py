"""The worker in one process: what is due is ticked, each run once at a time, and none is waited
for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from langgraph.runtime import RunControl

from domain.clocks import LONGEST_DUE
from domain.errors import ClockOff, StoreDown, VendorUnreachable
from domain.jobs import RunStatus
from ledger.clock import ClockWatch
from ledger.holder import Holder
from ledger.run import Run
from ledger.schedule import Overdue
from server.runner.worker import POLL_S, Pool, Worker, working
from server.wiring import now
from tests.support.stack import FreshDatabase
from tests.support.world import SIDE_BY_SIDE, World

DEADLINE_S = 20


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 -- what it waits for tells nobody
            await asyncio.sleep(0)


class Ticks:
    """Ticks that take as long as the test says, and whether two of one run ever met."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.gates: dict[str, asyncio.Event] = {}
        self.errors: dict[str, Exception] = {}
        self.drained: set[str] = set()

    def slow(self, run_id: str) -> None:
        self.gates[run_id] = asyncio.Event()

    async def __call__(self, run_id: str, *, due: bool, control: RunControl | None) -> None:
        assert due
        assert control is not None
        self.begun[run_id] += 1
        self.now[run_id] += 1
        self.most[run_id] = max(self.most[run_id], self.now[run_id])
        try:
            if run_id in self.errors:
                raise self.errors.pop(run_id)
            if gate := self.gates.get(run_id):
                await until(lambda: gate.is_set() or control.drain_requested)
                if control.drain_requested:
                    self.drained.add(run_id)
        finally:
            self.now[run_id] -= 1


async def test_of_one_run_there_is_one_tick_at_a_time() -> None:
    ticks = Ticks()
    ticks.slow("run")
    pool = Pool(ticks, concurrency=8)
    assert pool.offer("run") is not None
    assert [pool.offer("run") for _ in range(5)] == [None] * 5
    await pool.take("run")
    ticks.gates["run"].set()
    await pool.drain(DEADLINE_S)
    assert ticks.most["run"] == 1


async def test_a_slow_vendor_holds_up_nobody_elses_run() -> None:
    ticks = Ticks()
    for n in range(3):
        ticks.slow(f"slow_{n}")
    pool = Pool(ticks, concurrency=4)
    for n in range(3):
        pool.offer(f"slow_{n}")
    for n in range(20):
        await pool.take(f"quick_{n}")
    assert sum(ticks.begun[f"quick_{n}"] for n in range(20)) == 20
    await pool.drain(DEADLINE_S)


async def test_no_more_ticks_begin_than_there_is_room_for() -> None:
    ticks = Ticks()
    for n in range(5):
        ticks.slow(f"run_{n}")
    pool = Pool(ticks, concurrency=2)
    taking = [asyncio.create_task(pool.take(f"run_{n}")) for n in range(5)]
    await until(lambda: ticks.begun.total() == 2)
    assert pool.free == 0
    for gate in ticks.gates.values():
        gate.set()
    await asyncio.gather(*taking)
    assert ticks.begun.total() == 5


async def test_a_drain_ends_each_tick_at_its_step_and_begins_none() -> None:
    ticks = Ticks()
    ticks.slow("at_work")
    pool = Pool(ticks, concurrency=1)
    pool.offer("at_work")
    waiting = asyncio.create_task(pool.take("waiting"))
    await until(lambda: ticks.begun.total() == 1)
    await pool.drain(DEADLINE_S)
    await waiting
    assert ticks.drained == {"at_work"}
    assert ticks.begun == {"at_work": 1}
    assert pool.offer("later") is None


async def test_what_outlasts_the_grace_is_cut_off() -> None:
    async def deaf(run_id: str, *, due: bool, control: RunControl | None) -> None:  # noqa: ARG001
        await asyncio.Event().wait()

    pool = Pool(deaf, concurrency=1)
    task = pool.offer("run")
    await asyncio.sleep(0)
    await pool.drain(grace_s=0.01)
    assert task is not None
    assert task.cancelled()


@asynccontextmanager
async def a_worker(world: World, ticks: Ticks | None = None) -> AsyncIterator[Worker]:
    worker = Worker(world.process.services, tick=ticks)
    async with working(worker, grace_s=DEADLINE_S):
        yield worker


async def ended(world: World, run: Run) -> None:
    """Wait until the run has ended, with its clock going on."""
    async with asyncio.timeout(DEADLINE_S):
        while (await world.run(run)).due_at is not None:
            world.clock.advance(1)
            await asyncio.sleep(0.02)


async def test_runs_end_by_themselves_whatever_their_vendors_do(database: FreshDatabase) -> None:
    async with World.open(database, failing="gpu_vendor_1", limits=SIDE_BY_SIDE) as world:
        async with a_worker(world):
            runs = [await world.start() for _ in range(3)]
            for run in runs:
                await ended(world, run)
        assert {(await world.run(run)).status for run in runs} == {RunStatus.COMPLETED}
        assert len(world.transfers()) == 6


async def test_a_run_made_due_in_this_process_is_ticked_without_a_poll(
    database: FreshDatabase,
) -> None:
    ticks = Ticks()
    async with World.open(database) as world, a_worker(world, ticks) as worker:
        await until(lambda: worker.pool.free > 0)
        run = await world.start()
        await until(lambda: ticks.begun[run.id] > 0)


async def test_a_failing_tick_ends_neither_the_worker_nor_the_other_runs(
    database: FreshDatabase,
) -> None:
    ticks = Ticks()
    async with World.open(database) as world:
        errors = (VendorUnreachable("v", "quote", "no"), StoreDown("away"), ValueError("a bug"))
        runs = [await world.start() for _ in errors]
        ticks.errors = {run.id: error for run, error in zip(runs, errors, strict=True)}
        async with a_worker(world, ticks):
            await until(lambda: all(ticks.begun[run.id] > 1 for run in runs))


async def test_one_question_tells_what_falls_due_until_the_next(database: FreshDatabase) -> None:
    ticks = Ticks()
    async with World.open(database) as world:
        runs = [await world.start() for _ in range(3)]
        for n, run in enumerate(runs):
            at = world.clock.now() + timedelta(seconds=n / 10)
            await world.ledger.runs.schedule.make_due(run.id, at)
        worker, asked = Worker(world.process.services, tick=ticks), Counter[str]()

        async def due(limit: int, within_s: float = 0.0) -> list[Overdue] | None:
            asked["times"] += 1
            return await Worker.due(worker, limit, within_s)

        worker.due = due  # type: ignore[method-assign]
        for n in range(3):
            wait_s = await worker.look()
            await asyncio.sleep(0)
            assert ticks.begun.total() == n + 1
            assert 0 <= wait_s <= (0.1 if n < 2 else POLL_S)
            world.clock.advance(0.1)
        assert asked["times"] == 1
        worker.wake()
        await worker.look()
        assert asked["times"] == 2, "somebody made a run due meanwhile"
        await worker.drain(DEADLINE_S)


async def test_a_worker_whose_clock_is_off_ticks_nothing_until_it_is_set(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        runs, worker = world.ledger.runs, Worker(world.process.services)
        runs.clock = ClockWatch(world.ledger.store, world.clock.now)  # MongoDB's is this year's
        assert await worker.due(5) is None
        with pytest.raises(ClockOff):
            await world.tick(run)
        runs.clock._now = now
        assert await worker.due(5) == [Overdue(run.id, run.due_at or world.clock.now())]


async def test_a_worker_finds_what_was_killed_and_what_a_clock_had_put_off(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        killed, put_off = await world.start(), await world.start()
        await world.ledger.runs.acquire(killed.id, world.clock.now, 3600)
        dead = replace(Holder.me(), born="before").document()
        runs = world.database.db["runs"]
        await runs.update_one({"_id": killed.id}, {"$set": {"lease.holder": dead}})
        beyond = world.clock.now() + 2 * LONGEST_DUE
        await runs.update_one({"_id": put_off.id}, {"$set": {"dueAt": beyond}})
        due = await Worker(world.process.services).due(5)
        assert {run.run_id for run in due or []} == {killed.id, put_off.id}
