"""Every tick takes the run's lease and goes through the graph; of two, one is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.runtime import RunControl

from domain.errors import LeaseHeld, NotFound
from ledger.jobs import follow
from server.runner.tick import INTERRUPTED, Ticker
from tests.chaos.effects import Life, Moment
from tests.chaos.record import Record
from tests.graph.at_work import LEASE, POLL, RELEASE, TAKEN, at_work
from tests.support.rewritten import Rewritten
from tests.support.stack import FreshDatabase
from tests.support.world import World, Wraps


async def test_a_vendor_that_takes_its_time_is_asked_by_one_tick(database: FreshDatabase) -> None:
    async with at_work(database) as stage, stage.world.another_process() as other:
        assert await stage.tick() == "Job still running"
        asked, answered = asyncio.Event(), asyncio.Event()

        async def hang() -> None:
            asked.set()
            await answered.wait()

        stage.acts = {POLL: hang}
        slow = asyncio.create_task(stage.tick())
        async with asyncio.timeout(10):
            await asked.wait()
            with pytest.raises(LeaseHeld):
                await other.tick(stage.run)
            answered.set()
            assert await slow == "Job still running"


async def test_who_asks_for_the_end_during_a_tick_is_heard_by_the_next(
    database: FreshDatabase,
) -> None:
    async with at_work(database) as stage:
        runs, now = stage.world.ledger.runs, stage.world.clock.now
        assert await stage.tick() == "Job still running"

        async def stop() -> None:
            assert await runs.request_cancel(stage.run.id, "enough", now())

        stage.acts = {RELEASE: stop}
        assert await stage.tick() == "Job still running"
        assert (await stage.world.run(stage.run)).due_at == now()
        stage.acts.clear()
        assert await stage.tick(due=True) == "Run cancelled"


async def test_a_tick_that_is_drained_leaves_the_run_to_the_next(database: FreshDatabase) -> None:
    async with at_work(database) as stage:
        assert await stage.tick() == "Job still running"
        before, control = await stage.world.run(stage.run), RunControl()
        control.request_drain("shutdown")
        ticked = await Ticker(stage.world.process.services).tick(stage.run.id, control=control)
        assert ticked.message == INTERRUPTED
        after = await stage.world.run(stage.run)
        assert (after.phase, after.leased_until) == (before.phase, None)
        assert await stage.tick() == "Job still running"


async def test_who_is_cancelled_while_the_lease_is_taken_gives_it_back(
    database: FreshDatabase,
) -> None:
    """A client that hangs up."""
    async with at_work(database) as stage:
        world, run = stage.world, stage.run
        assert await stage.tick() == "Job still running"
        ticking: list[asyncio.Task[str]] = []

        async def hang_up() -> None:
            stage.acts.clear()
            ticking[0].cancel()
            await asyncio.sleep(0)

        stage.acts = {TAKEN: hang_up}
        ticking.append(asyncio.create_task(stage.tick()))
        with pytest.raises(asyncio.CancelledError):
            await ticking[0]
        after = await world.run(run)
        assert (after.leased_until, after.due_at) == (None, world.clock.now())
        assert await stage.tick() == "Job still running"


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


async def test_what_a_tick_needs_is_read_at_once(database: FreshDatabase) -> None:
    async with at_work(database) as stage:
        found = await follow(stage.world.ledger.runs, stage.run.id)
        assert found.run == await stage.world.run(stage.run)
        assert found.job == await stage.world.job(stage.run)
        await stage.world.lose_checkpoints(stage.run)
        with pytest.raises(NotFound):
            await follow(stage.world.ledger.runs, "nobody")
        assert await stage.tick() == "Job still running", "the ledger knows the way"


async def test_a_tick_reads_polls_and_writes_no_more_than_it_must(database: FreshDatabase) -> None:
    async with at_work(database) as stage:
        await stage.tick()
        stage.world.clock.advance(60)
        stage.seen.clear()
        assert await stage.tick(due=True) == "Job still running"
        told = [name for name in stage.seen if not name.startswith("checkpoint.")]
        assert told == ["runs.aggregate", LEASE, POLL, "observations.insert_all", RELEASE]


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
