"""Going on from a state that is long past: by Studio's history, or by a process that stood still.

Any state may become a run's newest one. What was paid is not paid again, and its job goes on.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from domain.errors import LeaseLost
from domain.jobs import JobStatus
from domain.money import Usd
from domain.networks import LOCAL
from domain.policy import SpendingPolicy
from graph.context import TickContext
from graph.persistence.checkpoints import MOST_STATES, PRUNED_EVERY
from ledger.run import Run
from ledger.runs import Runs
from tests.support.stack import FreshDatabase
from tests.support.studio import studio_graph
from tests.support.world import World

DEAR = "9"
ALMOST_ONE = "1.5"
"""Enough for one job, not for two."""


async def replay(world: World, run: Run, node: str) -> None:
    """Go on from the run's first state at which `node` came next, as Studio does."""
    graph = studio_graph(world.process.services)
    thread = RunnableConfig(configurable={"thread_id": run.id})
    states = [s async for s in graph.aget_state_history(thread) if s.next == (node,)]
    await graph.ainvoke(None, states[-1].config)


@pytest.mark.parametrize("node", ["assess_budget", "choose_vendor", "approve", "pay", "launch"])
@pytest.mark.parametrize("budget", [DEAR, ALMOST_ONE])
async def test_a_healthy_job_goes_on_whatever_state_is_gone_on_from(
    database: FreshDatabase, node: str, budget: str
) -> None:
    capped = SpendingPolicy(LOCAL, Usd.parse(5), max_per_run=Usd.parse("1.5"))
    async with World.open(database, policy=capped, epochs=9) as world:
        run = await world.start("Fine-tune on an A100", budget)
        await world.tick(run)
        await world.tick(run)
        await replay(world, run, node)
        assert (await world.ticks(run))[-1] == "Job completed"
        assert len(world.transfers()) == 1
        assert await world.told(run, "job_stopped") == []


async def test_the_launch_of_a_job_that_failed_does_not_take_the_place_of_its_successor(
    database: FreshDatabase,
) -> None:
    async with World.open(database, failing="gpu_vendor_1", epochs=6) as world:
        run = await world.start("Fine-tune on an A100", DEAR)
        while len(world.transfers()) < 2:
            await world.tick(run)
        at_work = (await world.run(run)).job_id
        await replay(world, run, "launch")
        assert (await world.run(run)).job_id == at_work
        assert (await world.ticks(run))[-1] == "Job completed"
        assert len(world.transfers()) == 2


async def test_a_job_that_completed_is_not_bought_again(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed between the job's end and its run's."""
    async with World.open(database, epochs=1) as world:
        run = await world.start("Fine-tune on an A100", DEAR)
        await world.tick(run)
        with monkeypatch.context() as killed:
            killed.setattr(Runs, "end", _dies)
            with pytest.raises(RuntimeError):
                await world.ticks(run)
        assert [status for _, status in await world.jobs(run)] == [JobStatus.COMPLETED]
        await replay(world, run, "choose_vendor")
        await world.ticks(run)
        assert await world.status(run) == "completed"
        assert len(world.transfers()) == 1


async def _dies(*_: object, **__: object) -> bool:
    raise RuntimeError("killed")


async def test_who_stood_still_before_its_state_was_stored_stores_none(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World.open(database, epochs=3) as world, world.another_process() as other:
        run = await world.start("Fine-tune on an A100", ALMOST_ONE)
        real, stood = TickContext.flush, list[bool]()

        async def flush(self: TickContext) -> None:
            await real(self)
            if self.assessed and not stood:
                stood.append(True)
                world.clock.advance(minutes=10)
                assert (await other.tick(run)).message == "Job started"

        monkeypatch.setattr(TickContext, "flush", flush)
        with pytest.raises(LeaseLost):
            await world.tick(run)
        assert (await world.ticks(run))[-1] == "Job completed"
        assert len(world.transfers()) == 1


async def test_a_bare_yes_is_no_answer_where_another_payee_is_asked_about_by_now(
    database: FreshDatabase,
) -> None:
    careful = SpendingPolicy(LOCAL, Usd.parse(100), approval_threshold=Usd.parse("0.5"))
    async with World.open(database, policy=careful) as world:
        run = await world.start()
        await world.tick(run)
        [shown] = await world.ledger.approvals.of_run(run.id)
        vendor = await world.ledger.vendors.get(shown.vendor_id)
        moved = replace(vendor, pay_to="0x" + "ab" * 20)
        await world.ledger.vendors.put(moved, world.clock.now())
        await world.tick(run)
        await world.process.resume(run, Command(resume=True))
        asked = await world.ledger.approvals.of_run(run.id)
        assert len(asked) == 2
        assert not any(approval.state in ("approved", "used") for approval in asked)
        assert world.transfers() == []


async def test_a_signed_payment_without_a_reservation_keeps_no_run_in_a_circle(
    database: FreshDatabase,
) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        run = await world.start("Fine-tune on an A100", DEAR)
        await world.tick_until(run, "Job failed")
        left = await database.db["payments"].find_one({"runId": run.id})
        assert left
        rival = {"_id": "pay_rival", "vendorId": "gpu_vendor_2", "state": "authorized"}
        await database.db["payments"].insert_one(left | rival)
        assert await world.tick(run) == "Job started"


async def test_replaying_one_state_again_and_again_leaves_no_more_than_the_bound(
    database: FreshDatabase,
) -> None:
    async with World.open(database, epochs=300) as world:
        run = await world.start("Fine-tune on an A100", DEAR)
        await world.tick(run)
        for _ in range(15):
            await replay(world, run, "assess_budget")
        assert await world.checkpoint_count(run) <= MOST_STATES + PRUNED_EVERY
