"""Who stands still between two steps of a tick, alone or while others go on: nothing is done by
what it heard long ago.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from domain.errors import LeaseHeld, LeaseLost
from domain.jobs import JobStatus
from domain.money import Usd
from domain.slices import SliceRule
from graph.deps import Limits
from tests.graph.at_work import POLLED, TAKEN, at_work
from tests.support.stack import FreshDatabase


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

        async def stand_still() -> None:
            stage.acts.clear()
            others.append(asyncio.create_task(meanwhile()))
            await asyncio.shield(others[0])  # no drop of our poll stops another process

        stage.acts = {moment: stand_still}
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


async def test_who_stood_still_alone_does_not_act_on_what_it_heard_long_ago(
    database: FreshDatabase,
) -> None:
    async with at_work(database) as stage, stage.world.another_process() as other:
        world, run = stage.world, stage.run
        world.vendor_fault("gpu_vendor_1", "job-status", "error_before_settling")
        await other.tick(run)
        await other.tick(run)
        world.clock.advance(minutes=6)

        async def stand_still() -> None:
            stage.acts.clear()
            world.clear_faults()
            world.clock.advance(minutes=30)

        stage.acts = {POLLED: stand_still}
        with pytest.raises(LeaseLost):
            await stage.tick()
        assert await stage.tick() == "Job still running"
        assert [status for _, status in await world.jobs(run)] == [JobStatus.RUNNING]


async def test_who_stood_still_alone_buys_no_time_by_what_it_heard_long_ago(
    database: FreshDatabase,
) -> None:
    by_the_hour = Limits(slices=SliceRule(60, Usd.parse(5)))
    async with at_work(database, by_the_hour, "Fine-tune on an A100 for 4 hours", 12) as stage:

        async def stand_still() -> None:
            stage.world.clock.advance(minutes=2)

        stage.acts = {POLLED: stand_still}
        lost = 0
        for _ in range(8):
            try:
                await stage.tick()
            except LeaseLost:
                lost += 1
        assert lost > 0, "more time was wanted"
        assert len(stage.world.transfers()) == 1
        stage.acts.clear()
        for _ in range(3):
            await stage.tick()
        assert len(stage.world.transfers()) == 2
