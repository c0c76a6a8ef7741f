"""choose_vendor: quotes, a decision, and beside each offer why it was taken or not."""

from __future__ import annotations

from dataclasses import replace

from domain.goals import read_goal
from graph.deps import Limits
from mock_vendor.settings import seeded_vendors, vendor_profile
from tests.support.stack import FreshDatabase
from tests.support.world import World


async def verdicts(world: World, run_id: str) -> dict[str, str]:
    run = await world.ledger.runs.get(run_id)
    return {offer.quote.vendor_id: offer.verdict for offer in run.offers}


async def test_the_cheapest_offer_is_taken_and_the_other_is_told_why_not(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.tick(run)
        assert await verdicts(world, run.id) == {
            "gpu_vendor_1": "taken",
            "gpu_vendor_2": "dearer",
        }
        reasoning = (await world.journal(run, "agent_reasoning"))[-1].note
        assert "Quote: $1.40" in reasoning.content
        assert (reasoning.data["planner"], reasoning.data["fallback"]) == ("ranking", False)


async def test_every_quote_and_every_silence_is_noted(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        world.vendor_fault("gpu_vendor_1", "quote", "error_before_settling")
        run = await world.start()
        assert await world.tick(run) == "Job started"
        assert len(await world.told(run, "quote")) == 1
        [silence] = await world.told(run, "no_quote")
        assert silence.startswith("gpu_vendor_1: ")
        assert await world.jobs(run) == [("gpu_vendor_2", (await world.job(run)).status)]


async def test_a_vendor_slower_than_the_deadline_delays_nobody(database: FreshDatabase) -> None:
    async with World.open(database, limits=Limits(quote_deadline_s=2.0)) as world:
        world.vendor_fault("gpu_vendor_1", "quote", "hang")
        run = await world.start()
        assert await world.tick(run) == "Job started"
        assert (await world.job(run)).vendor_id == "gpu_vendor_2"


async def test_without_any_quote_the_run_waits_and_goes_on_later(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        world.vendor_fault("*", "quote", "refuse")
        run = await world.start()
        assert (await world.tick(run)).startswith("Waiting: ")
        assert await world.status(run) == "running"
        world.clear_faults()
        assert await world.tick(run) == "Job started"


async def test_a_vendor_that_failed_the_run_is_avoided(database: FreshDatabase) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        run = await world.start()
        await world.ticks(run)
        assert [vendor for vendor, _ in await world.jobs(run)] == ["gpu_vendor_1", "gpu_vendor_2"]
        assert (await verdicts(world, run.id))["gpu_vendor_1"].startswith("failed this run")


async def test_a_vendor_that_failed_is_tried_again_when_it_is_the_only_one(
    database: FreshDatabase,
) -> None:
    async with World.open(database, vendors=seeded_vendors()[:1]) as world:
        world.vendor_fault("gpu_vendor_1", "submit-job", "refuse", times=1, when="challenge")
        run = await world.start()
        await world.ticks(run)
        assert await world.status(run) == "completed"
        assert len(world.transfers()) == 1


async def test_a_vendor_the_person_excluded_is_not_asked(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        leased, lease = await world.ledger.runs.acquire(run.id, world.clock.now(), 60)
        spec = replace(read_goal(leased.goal), excluded_vendors=("gpu_vendor_1",))
        await world.ledger.runs.set_spec(lease, spec)
        await world.ledger.runs.release(lease, world.clock.now())
        await world.tick(run)
        assert list(await verdicts(world, run.id)) == ["gpu_vendor_2"]


async def test_a_vendor_without_the_gpu_is_not_asked(database: FreshDatabase) -> None:
    vendors = (*seeded_vendors(), vendor_profile("cheap", "Cheap", "0.1", gpu_types=("T4",)))
    async with World.open(database, vendors=vendors) as world:
        run = await world.start()
        await world.tick(run)
        assert "cheap" not in await verdicts(world, run.id)
