"""choose_vendor: quotes, a decision, and beside each offer why it was taken or not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from domain.jobs import JobSpec, Preference
from domain.reliability import Trouble
from graph.deps import Limits
from ledger.run import Run
from ledger.vendors import End
from mock_vendor.vendor.settings import seeded_vendors, vendor_profile
from tests.support.stack import FreshDatabase
from tests.support.world import AGENT, World


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
        assert (await verdicts(world, run.id))["gpu_vendor_1"].startswith("blocked until")
        assert (await verdicts(world, run.id))["gpu_vendor_1"].endswith("lost a job")


async def test_a_vendor_that_failed_is_tried_again_when_it_is_the_only_one(
    database: FreshDatabase,
) -> None:
    async with World.open(database, vendors=seeded_vendors()[:1]) as world:
        world.vendor_fault("gpu_vendor_1", "submit-job", "refuse", times=1, when="challenge")
        run = await world.start()
        await world.ticks(run)
        assert await world.status(run) == "completed"
        assert len(world.transfers()) == 1


async def with_spec(world: World, **changes: Any) -> Run:
    """A run whose job spec is this, and not read from a goal."""
    run = await world.start()
    _, lease = await world.ledger.runs.acquire(run.id, world.clock.now, 60)
    await world.ledger.runs.set_spec(lease, replace(JobSpec("training", "A100", 60), **changes))
    await world.ledger.runs.release(lease, world.clock.now())
    return run


async def test_a_vendor_the_person_excluded_is_not_asked(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await with_spec(world, excluded_vendors=("gpu_vendor_1",))
        await world.tick(run)
        assert list(await verdicts(world, run.id)) == ["gpu_vendor_2"]


async def test_only_the_vendors_that_a_goal_names_are_asked_and_paid(
    database: FreshDatabase,
) -> None:
    async with World.open(database, failing="gpu_vendor_2") as world:
        run = await world.start("Fine-tune on an A100 for 1 hour, only from ReliableGPU", dollars=9)
        messages = await world.ticks(run)
        assert "Job failed" in messages
        assert {p.vendor_id for p in await world.payments(run)} == {"gpu_vendor_2"}
        assert (await world.run(run)).spec.only_vendors == ("gpu_vendor_2",)  # type: ignore[union-attr]


async def test_who_is_to_be_rented_from_alone_and_is_unknown_is_not_replaced(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start("Fine-tune on an A100 for 1 hour, only from RunPod")
        await world.ticks(run)
        assert (await world.run(run)).reason.startswith("no vendor is registered as RunPod")
        assert world.transfers() == []


async def test_who_asks_for_reliable_gets_the_dearer_vendor_that_fails_less(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start(dollars=3)
        assert await world.tick(run) == "Job started"
        assert (await world.job(run)).vendor_id == "gpu_vendor_2"  # one attempt is in the budget
        run = await with_spec(world, preference=Preference.CHEAPEST)
        assert await world.tick(run) == "Job started"
        assert (await world.job(run)).vendor_id == "gpu_vendor_1"


async def test_an_offer_that_cannot_be_done_by_the_deadline_is_not_taken(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        fast = await with_spec(world, deadline=world.clock.now() + timedelta(minutes=61))
        assert await world.tick(fast) == "Job started"
        late = await with_spec(world, deadline=world.clock.now() + timedelta(minutes=59))
        assert "cannot be done by" in await world.tick(late)
        assert await world.status(late) == "failed"
        assert len(world.transfers()) == 1


async def test_a_block_lasts_from_run_to_run_and_ends_by_itself(database: FreshDatabase) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        await world.ticks(await world.start())
        run = await world.start()
        await world.tick(run)
        assert (await world.job(run)).vendor_id == "gpu_vendor_2"
        world.clock.advance(minutes=61)
        run = await world.start()
        await world.tick(run)
        assert not (await verdicts(world, run.id))["gpu_vendor_1"].startswith("blocked")


async def test_the_only_vendor_is_rented_though_it_is_blocked(database: FreshDatabase) -> None:
    async with World.open(database, vendors=seeded_vendors()[:1]) as world:
        end = End("job_before", "A100", Trouble.DISHONEST)
        await world.ledger.vendors.record("gpu_vendor_1", end, world.clock.now())
        run = await world.start()
        assert await world.tick(run) == "Job started"


async def test_a_vendor_with_a_good_record_is_prepaid_for_longer(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        for number in range(40):
            end = End(f"job_{number}", "A100", worked_minutes=600, taken_minutes=600)
            await world.ledger.vendors.record("gpu_vendor_1", end, world.clock.now())
        run = await world.start("Fine-tune on an A100 for 5 hours", 20)
        await world.tick(run)
        minutes = {o.quote.vendor_id: o.quote.minutes for o in (await world.run(run)).offers}
        assert minutes["gpu_vendor_2"] == 60
        assert 60 < minutes["gpu_vendor_1"] <= 85  # $2 of exposure at $1.40 an hour


async def test_a_vendor_without_the_gpu_is_not_asked(database: FreshDatabase) -> None:
    vendors = (*seeded_vendors(), vendor_profile("cheap", "Cheap", "0.1", gpu_types=("T4",)))
    async with World.open(database, vendors=vendors) as world:
        run = await world.start()
        await world.tick(run)
        assert "cheap" not in await verdicts(world, run.id)


async def test_a_run_that_waits_and_finds_the_same_again_notes_it_once_more_at_most(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        for vendor in ("gpu_vendor_1", "gpu_vendor_2", "gpu_vendor_3"):
            world.vendor_fault(vendor, "quote", "error_before_settling", times=12)
        run = await world.start()
        noted = []
        for _ in range(6):
            assert (await world.tick(run)).startswith("Waiting: no vendor made an offer")
            noted.append(len(await world.ledger.observations.of_run(run.id)))
        assert noted[-1] == noted[1]


async def test_the_decision_that_pays_is_noted_though_it_was_made_before(
    database: FreshDatabase,
) -> None:
    """First vendor 1, then vendor 2 for want of it, then vendor 1 again: three notes."""
    async with World.open(database) as world:
        funds = world.chain.balance_of(AGENT)
        world.chain.transfer(AGENT, "0x" + "11" * 20, funds)
        run = await world.start()
        await world.tick(run)
        await world.tick(run)
        world.vendor_fault("gpu_vendor_1", "quote", "error_before_settling", times=1)
        await world.tick(run)
        world.chain.mint(AGENT, funds)
        assert await world.tick(run) == "Job started"
        told = [
            e.note for e in await world.journal(run, "agent_reasoning") if "planner" in e.note.data
        ]
        named = ["gpu_vendor_1" if "gpu_vendor_1" in n.content else "gpu_vendor_2" for n in told]
        assert named == ["gpu_vendor_1", "gpu_vendor_2", "gpu_vendor_1"]
        [payment] = await world.payments(run)
        assert payment.vendor_id == "gpu_vendor_1"
        quotes = await world.told(run, "quote")
        assert len(quotes) == 2 + 1 + 2
