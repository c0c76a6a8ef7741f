"""A job polled while its run's lease is taken: for who gets the lease, and for nobody else; and
who stands still on the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from langgraph.runtime import RunControl

from domain.errors import LeaseHeld, LeaseLost, NotFound
from domain.jobs import JobStatus
from graph.ahead import poll_ahead
from ledger.following import follow
from ledger.run import Run
from server.ticks import Ticker
from tests.chaos.effects import Life, Moment
from tests.chaos.record import Record
from tests.support.rewritten import Rewritten
from tests.support.stack import FreshDatabase
from tests.support.world import World, Wraps

POLL, LEASE = "http.job-status", "runs.acquire"
POLLED, TAKEN = f"{POLL}:after", f"{LEASE}:after"


@dataclass(slots=True)
class Stage:
    """A run whose job is at work, and what happens at the next moments of its agent."""

    world: World
    run: Run
    acts: dict[str, Callable[[], Awaitable[object]]] = field(default_factory=dict)
    """By an effect's name, or its name and ":after": what happens before it, or after."""
    seen: list[str] = field(default_factory=list)
    """The effects since the job was launched."""

    async def tick(self, *, due: bool = False) -> str:
        return (await Ticker(self.world.process.services).tick(self.run.id, due=due)).message


@asynccontextmanager
async def at_work(database: FreshDatabase) -> AsyncIterator[Stage]:
    stages: list[Stage] = []

    async def hook(moment: Moment) -> None:
        before = moment.when == "before"
        name = moment.name if before else f"{moment.name}:after"
        if stages and before:
            stages[0].seen.append(name)
        if stages and (act := stages[0].acts.get(name)):
            await act()

    life = Life(1, Record(), [hook])
    async with World.open(database, wrap=life.wraps(), epochs=9) as world:
        run = await world.start()
        assert await world.tick(run) == "Job started"
        stages.append(Stage(world, run))
        yield stages[0]


async def test_the_poll_is_under_way_before_the_lease_is_there(database: FreshDatabase) -> None:
    async with at_work(database) as stage:
        polled = asyncio.Event()

        async def poll() -> None:
            polled.set()

        stage.acts = {POLL: poll, LEASE: polled.wait}
        async with asyncio.timeout(10):
            assert await stage.tick() == "Job still running"
        assert stage.seen.count(POLL) == 1
        assert (await stage.world.job(stage.run)).progress > 0


async def test_who_does_not_get_the_lease_drops_its_poll(database: FreshDatabase) -> None:
    async with at_work(database) as stage, stage.world.another_process() as other:
        polled, dropped = asyncio.Event(), asyncio.Event()

        async def poll() -> None:
            polled.set()
            try:
                await asyncio.Event().wait()
            finally:
                dropped.set()

        async def late() -> None:
            await polled.wait()
            await other.tick(stage.run)

        stage.acts = {POLL: poll, LEASE: late}
        async with asyncio.timeout(10):
            with pytest.raises(LeaseHeld):
                await stage.tick()
            await dropped.wait()
        assert sorted(stage.seen) == [POLL, "runs.acquire", "runs.aggregate"], "it wrote nothing"
        assert (await stage.world.run(stage.run)).leased_until is None


async def test_a_run_that_is_not_due_is_not_polled(database: FreshDatabase) -> None:
    async with at_work(database) as stage:
        assert await stage.tick() == "Job still running"
        stage.seen.clear()
        with pytest.raises(LeaseHeld, match="not due"):
            await stage.tick(due=True)
        assert stage.seen == ["runs.aggregate"]


async def test_a_vendor_that_fails_the_poll_is_counted_once(database: FreshDatabase) -> None:
    async with at_work(database) as stage:
        stage.world.vendor_fault("gpu_vendor_1", "job-status", "error_before_settling")
        assert await stage.tick() == "Job still running"
        assert (await stage.world.job(stage.run)).poll_failures == 1


async def test_only_what_would_be_polled_first_is_polled_ahead(database: FreshDatabase) -> None:
    async with at_work(database) as stage:
        runs, vendors = stage.world.ledger.runs, stage.world.process.deps.vendors
        now = stage.world.clock.now()

        async def ahead() -> bool:
            polling = poll_ahead(await follow(runs, stage.run.id), vendors, now)
            if polling:
                polling.drop()
            return polling is not None

        assert await ahead()
        _, lease = await runs.acquire(stage.run.id, stage.world.clock.now, 60)
        assert not await ahead(), "another tick is at work"
        assert await runs.release(lease, now)
        assert await ahead()
        assert await runs.request_cancel(stage.run.id, "enough", now)
        assert not await ahead(), "its job is to be stopped"
        await stage.world.ticks(stage.run)
        assert not await ahead(), "it has ended"


async def test_what_a_tick_needs_is_read_at_once(database: FreshDatabase) -> None:
    async with at_work(database) as stage:
        found = await follow(stage.world.ledger.runs, stage.run.id)
        assert found.run == await stage.world.run(stage.run)
        assert found.job == await stage.world.job(stage.run)
        assert found.state is not None
        assert found.state["thread_id"] == stage.run.id
        await stage.world.lose_checkpoints(stage.run)
        assert (await follow(stage.world.ledger.runs, stage.run.id)).state is None
        with pytest.raises(NotFound):
            await follow(stage.world.ledger.runs, "nobody")
        assert await stage.tick() == "Job still running", "the ledger knows the way"


async def test_a_tick_reads_polls_and_writes_no_more_than_it_must(database: FreshDatabase) -> None:
    async with at_work(database) as stage:
        await stage.tick()
        stage.world.clock.advance(60)
        stage.seen.clear()
        assert await stage.tick(due=True) == "Job still running"
        assert sorted(stage.seen) == sorted(
            ["runs.aggregate", LEASE, POLL, "checkpoint.get", "observations.insert_all",
             "checkpoint.put", "runs.leave"]
        )  # fmt: skip


@pytest.mark.parametrize("moment", [TAKEN, POLLED])
async def test_who_stood_still_stops_no_job_that_another_tick_found_in_good_health(
    moment: str, database: FreshDatabase
) -> None:
    async with at_work(database) as stage, stage.world.another_process() as other:
        world, run = stage.world, stage.run
        world.vendor_fault("gpu_vendor_1", "job-status", "error_before_settling")
        await other.tick(run)
        await other.tick(run)

        async def meanwhile() -> None:
            world.clear_faults()
            world.clock.advance(minutes=6)
            assert (await other.tick(run)).message == "Job still running"

        others: list[asyncio.Task[None]] = []
        leased = asyncio.Event()

        async def taken() -> None:
            leased.set()

        async def stand_still() -> None:
            if moment != TAKEN:
                await leased.wait()
            stage.acts.clear()
            others.append(asyncio.create_task(meanwhile()))
            await asyncio.shield(others[0])  # no drop of our poll stops another process

        stage.acts = {TAKEN: taken, moment: stand_still}
        with suppress(LeaseLost, LeaseHeld):
            await stage.tick()
        await others[0]
        await other.tick(run)
        assert [status for _, status in await world.jobs(run)] == [JobStatus.RUNNING]
        assert len(world.transfers()) == 1


@pytest.mark.parametrize("moment", [TAKEN, POLLED])
async def test_who_stood_still_takes_no_healthy_job_for_hung(
    moment: str, database: FreshDatabase
) -> None:
    async with at_work(database) as stage:
        world, run = stage.world, stage.run
        assert await stage.tick() == "Job still running"

        async def stand_still() -> None:
            stage.acts.clear()
            world.clock.advance(minutes=31)

        stage.acts = {moment: stand_still}
        with suppress(LeaseLost, LeaseHeld):
            await stage.tick()
        assert await stage.tick() == "Job still running"
        assert [status for _, status in await world.jobs(run)] == [JobStatus.RUNNING]


async def test_a_cancel_asked_for_before_the_lease_is_there_is_obeyed(
    database: FreshDatabase,
) -> None:
    acts: list[str] = []

    async def hook(moment: Moment) -> None:
        if acts and (moment.name, moment.when) == (LEASE, "before"):
            asked = {"cancelRequested": "enough", "dueAt": world.clock.now(), "quietTicks": 0}
            await database.db["runs"].update_one({"_id": acts.pop()}, {"$set": asked})

    async with World.open(database, wrap=Life(1, Record(), [hook]).wraps()) as world:
        run = await world.start()
        acts.append(run.id)
        with pytest.raises(LeaseHeld):
            await world.tick(run)
        assert await world.tick(run) == "Run cancelled"
        assert world.transfers() == []


async def test_what_a_broken_off_tick_left_pending_is_not_run_beside_the_poll(
    database: FreshDatabase,
) -> None:
    failing: list[bool] = []

    def rewrite(path: str, answer: dict[str, Any]) -> dict[str, Any] | None:
        failed = answer | {"status": "failed", "errorMessage": "out of memory"}
        return failed if failing and path == "/job-status" else None

    wrap = Wraps(http=lambda inner: Rewritten(inner, rewrite))
    async with World.open(database, wrap=wrap, epochs=30) as world:
        run = await world.start()
        await world.tick(run)
        await world.ledger.runs.acquire(run.id, world.clock.now, 60)  # by a tick that was killed
        world.clock.advance(61)
        control = RunControl()
        control.request_drain("shutdown")
        await Ticker(world.process.services).tick(run.id, control=control)
        failing.append(True)
        assert await world.tick(run) == "Job failed"
        assert await world.told(run, "tick_failed") == []
