"""Ticks that look whether a job still runs: without a lease where there is nothing to do, which
holds for who was alone with the run, and for nobody else.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from langgraph.runtime import RunControl

from domain.errors import LeaseHeld, NotFound
from domain.journal import first_broken
from graph.ahead import poll_ahead
from graph.deps import Limits
from ledger.following import follow
from server.ticks import INTERRUPTED, Ticker
from tests.chaos.effects import Life, Moment
from tests.chaos.record import Record
from tests.graph.at_work import LEASE, LOOK, POLL, SLOW, TAKEN, at_work
from tests.support.rewritten import Rewritten
from tests.support.stack import FreshDatabase
from tests.support.world import World, Wraps


async def test_a_job_that_just_runs_is_looked_at_without_a_lease(database: FreshDatabase) -> None:
    async with at_work(database) as stage:
        before = await stage.world.run(stage.run)
        assert await stage.tick() == "Job still running"
        stage.seen.clear()
        assert await stage.tick() == "Job still running"
        assert [stage.seen.count(name) for name in (POLL, LEASE, LOOK)] == [1, 0, 1]
        job, after = await stage.world.job(stage.run), await stage.world.run(stage.run)
        assert job.progress > 0
        assert (after.fence, job.seen_in) == (before.fence + 2, before.fence + 2)
        assert after.leased_until is None


async def test_a_look_is_remembered_only_where_no_other_tick_was_at_the_run(
    database: FreshDatabase,
) -> None:
    async with at_work(database) as stage, stage.world.another_process() as other:
        assert await stage.tick() == "Job still running"

        async def meanwhile() -> None:
            stage.acts.clear()
            await other.tick(stage.run)

        stage.acts = {LOOK: meanwhile}
        before = await stage.world.run(stage.run)
        with pytest.raises(LeaseHeld):
            await stage.tick()
        after = await stage.world.run(stage.run)
        assert (after.fence, after.leased_until) == (before.fence + 1, None)
        assert (await stage.world.job(stage.run)).progress == 0.3333, "as the other saw it"


async def test_lines_that_two_looks_tell_are_in_the_journal_once(database: FreshDatabase) -> None:
    async with at_work(database) as stage, stage.world.another_process() as other:
        world, run = stage.world, stage.run

        async def meanwhile() -> None:
            stage.acts.clear()
            await other.tick(run)

        stage.acts = {f"{POLL}:after": meanwhile}
        with suppress(LeaseHeld):
            await stage.tick()
        await other.tick(run)
        numbers = [entry.note.data["line"] for entry in await world.journal(run, "job_log")]
        assert numbers == list(range(1, len(numbers) + 1))
        assert first_broken(await world.journal(run)) is None


async def test_what_is_to_be_done_is_done_under_the_lease(database: FreshDatabase) -> None:
    async with at_work(database) as stage, stage.world.another_process() as other:
        stage.world.vendor_fault("gpu_vendor_1", "job-status", "error_before_settling")
        assert await stage.tick() == "Job still running"
        assert (stage.seen.count(LEASE), stage.seen.count(LOOK)) == (1, 0)

        async def meanwhile() -> None:
            stage.acts.clear()
            await other.tick(stage.run)

        stage.acts = {LEASE: meanwhile}
        with pytest.raises(LeaseHeld):
            await stage.tick()
        assert (await stage.world.job(stage.run)).poll_failures == 2, "the other's"
        assert len(await stage.world.told(stage.run, "poll_failed")) == 2


async def test_a_vendor_that_takes_its_time_is_asked_by_one_tick(database: FreshDatabase) -> None:
    async with at_work(database, SLOW) as stage, stage.world.another_process() as other:
        assert await stage.tick() == "Job still running"
        asked, answered = asyncio.Event(), asyncio.Event()

        async def hang() -> None:
            await answered.wait()

        async def taken() -> None:
            asked.set()

        stage.acts = {POLL: hang, TAKEN: taken}
        slow = asyncio.create_task(stage.tick())
        async with asyncio.timeout(10):
            await asked.wait()
            with pytest.raises(LeaseHeld):
                await other.tick(stage.run)
            answered.set()
            assert await slow == "Job still running"


async def test_who_asks_for_the_end_during_a_look_is_heard_by_the_next_tick(
    database: FreshDatabase,
) -> None:
    async with at_work(database) as stage:
        runs, now = stage.world.ledger.runs, stage.world.clock.now
        assert await stage.tick() == "Job still running"

        async def stop() -> None:
            assert await runs.request_cancel(stage.run.id, "enough", now())

        stage.acts = {LOOK: stop}
        assert await stage.tick() == "Job still running"
        assert (await stage.world.run(stage.run)).due_at == now()
        stage.acts.clear()
        assert await stage.tick(due=True) == "Run cancelled"


async def test_who_does_not_get_the_lease_drops_its_poll(database: FreshDatabase) -> None:
    async with at_work(database, SLOW) as stage, stage.world.another_process() as other:
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
        reads = {POLL, LEASE, "runs.aggregate"}
        stored = {name for name in stage.seen if not name.startswith("checkpoint.")} - reads
        assert (stored, stage.seen.count(LEASE)) == (set(), 1), "it wrote nothing"
        assert (await stage.world.run(stage.run)).leased_until is None


async def test_a_look_that_is_drained_leaves_the_run_as_it_was(database: FreshDatabase) -> None:
    async with at_work(database) as stage:
        assert await stage.tick() == "Job still running"
        before, control = await stage.world.run(stage.run), RunControl()
        control.request_drain("shutdown")
        ticked = await Ticker(stage.world.process.services).tick(stage.run.id, control=control)
        assert ticked.message == INTERRUPTED
        assert await stage.world.run(stage.run) == before
        assert await stage.tick() == "Job still running"


@pytest.mark.parametrize("limits", [None, SLOW])
async def test_who_is_cancelled_while_the_lease_is_taken_gives_it_back(
    limits: Limits | None, database: FreshDatabase
) -> None:
    """A client that hangs up. With its job just running, the lease is taken for a slow poll alone;
    without, the tick begins with it.
    """
    async with at_work(database, limits) as stage:
        world, run = stage.world, stage.run
        assert await stage.tick() == "Job still running"
        if limits is None:
            await world.ledger.runs.documents.change(run.id, {}, {"$set": {"phase": "pay"}})
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
            ["runs.aggregate", POLL, "checkpoint.get", "observations.insert_all", "checkpoint.put",
             LOOK]
        )  # fmt: skip


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
