"""recover: a failure is booked, and the run looks elsewhere with what is left."""

from __future__ import annotations

from domain.money import Usd
from domain.reliability import Trouble
from domain.slices import SliceRule
from graph.deps import Limits
from mock_vendor.accounts import dev_address
from tests.support.builders import check_books
from tests.support.stack import FreshDatabase
from tests.support.world import AGENT, World

FAST = "gpu_vendor_1"


async def test_a_failure_is_told_with_what_is_left(database: FreshDatabase) -> None:
    async with World.open(database, failing=FAST) as world:
        run = await world.start()
        await world.tick_until(run, "Job failed")
        [entry] = await world.journal(run, "recovery")
        assert entry.note.content.startswith("gpu_vendor_1 failed: GPU node lost")
        assert entry.note.data["vendorId"] == FAST
        assert entry.note.data["jobId"] == (await world.job(run)).id


async def test_a_run_recovers_elsewhere_and_pays_each_vendor_once(database: FreshDatabase) -> None:
    async with World.open(database, failing=FAST) as world:
        run = await world.start()
        await world.ticks(run)
        assert await world.status(run) == "completed"
        assert [transfer.value for transfer in world.transfers()] == [1_400_000, 1_800_000]
        after = await world.run(run)
        check_books(after)
        assert after.spent == Usd.parse("3.2")


async def test_a_run_that_cannot_afford_to_recover_fails_and_says_why(
    database: FreshDatabase,
) -> None:
    async with World.open(database, failing=FAST) as world:
        run = await world.start(dollars="1.7")
        messages = await world.ticks(run)
        assert "$0.30" in messages[-1]
        assert await world.status(run) == "failed"
        assert len(world.transfers()) == 1


async def test_a_refund_on_the_chain_comes_back_into_the_budget(database: FreshDatabase) -> None:
    async with World.open(database, failing=FAST, refund_on_failure=True) as world:
        run = await world.start()
        await world.tick_until(run, "Job failed")
        after = await world.run(run)
        check_books(after)
        back = [
            t.value
            for t in world.chain.transfers
            if t.recipient == world.process.deps.wallet.address
        ]
        assert len(back) == 2  # the funds, and the refund
        await world.ticks(run)
        final = await world.run(run)
        check_books(final)
        paid = sum(transfer.value for transfer in world.transfers())
        assert final.spent == Usd(paid - back[1])


async def test_a_refund_that_a_vendor_only_claims_changes_no_budget(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "submit-job", "never_boot")
        world.vendor_fault(FAST, "cancel-job", "claimed_refund")
        run = await world.start()
        await world.tick(run)
        world.clock.advance(minutes=31)
        assert await world.tick(run) == "Job failed"
        await world.ticks(run)
        final = await world.run(run)
        check_books(final)
        assert final.spent == Usd(sum(transfer.value for transfer in world.transfers()))


async def test_each_outcome_is_counted_once_in_the_vendors_record(
    database: FreshDatabase,
) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        run = await world.start()
        await world.ticks(run)
        await world.tick(run)
        records = {v.vendor_id: (v.completed, v.failed) for v in await world.ledger.vendors.all()}
        assert records == {"gpu_vendor_1": (0, 1), "gpu_vendor_2": (1, 0)}


async def test_a_failure_is_counted_once_though_the_tick_that_booked_it_is_repeated(
    database: FreshDatabase,
) -> None:
    async with World.open(database, failing=FAST) as world:
        run = await world.start()
        await world.tick_until(run, "Job failed")
        await world.lose_checkpoints(run)  # the run goes back to recover, as after a crash
        await world.ticks(run)
        known = await world.ledger.vendors.get(FAST)
        assert known.failed == 1
        assert [block.trouble for block in known.blocks] == [Trouble.LOST_JOB]


async def test_a_job_that_never_boots_blocks_its_vendor_for_that(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "submit-job", "never_boot")
        run = await world.start()
        await world.tick(run)
        world.clock.advance(minutes=31)
        assert await world.tick(run) == "Job failed"
        known = await world.ledger.vendors.get(FAST)
        assert [block.trouble for block in known.blocks] == [Trouble.NEVER_BOOTED]
        await world.ticks(run)
        assert [vendor for vendor, _ in await world.jobs(run)] == [FAST, "gpu_vendor_2"]


async def test_a_job_that_ends_with_its_paid_time_is_not_held_against_its_vendor(
    database: FreshDatabase,
) -> None:
    limits = Limits(slices=SliceRule(60, Usd.parse(5)))
    async with World.open(database, epochs=12, limits=limits) as world:
        run = await world.start("Fine-tune on an A100 for 4 hours", 20)
        await world.tick_until(run, "Job started")
        world.chain.transfer(AGENT, dev_address("gpu_vendor_2"), 10**9 - 1_400_000)
        await world.tick_until(run, "Job failed", most=60, minutes=5)
        assert "holds $0.00" in (await world.told(run, "extension_not_made"))[0]
        known = await world.ledger.vendors.get(FAST)
        assert known.blocks == ()
        assert known.records == ()


async def test_a_vendor_that_sells_no_more_time_is_not_rented_again_at_once(
    database: FreshDatabase,
) -> None:
    limits = Limits(slices=SliceRule(60, Usd.parse(5)))
    async with World.open(database, epochs=12, limits=limits) as world:
        run = await world.start("Fine-tune on an A100 for 4 hours", 20)
        world.vendor_fault(FAST, "extend-job", "redirect")
        await world.tick_until(run, "Job failed", most=60, minutes=5)
        assert (await world.ticks(run, most=60))[-1] == "Job completed"
        assert [vendor for vendor, _ in await world.jobs(run)] == [FAST, "gpu_vendor_2"]


async def test_a_vendor_that_asks_for_more_than_it_quoted_is_blocked_and_no_job_counted(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "submit-job", "price_above_quote")
        run = await world.start()
        await world.ticks(run)
        known = await world.ledger.vendors.get(FAST)
        assert [block.trouble for block in known.blocks] == [Trouble.OTHER_TERMS]
        assert (known.completed, known.failed, known.records[0].lost) == (0, 0, 0.0)


async def test_an_extension_left_open_by_a_dead_job_keeps_nobody_from_renting_elsewhere(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "extend-job", "silent_before_settling")
        run = await world.start("Train on an A100 for 4 hours", 20)
        while len(await world.payments(run)) < 2:
            await world.tick(run)
        world.vendor_fault(FAST, "job-status", "hang")
        await world.tick_until(run, "Job failed", minutes=2)
        await world.tick_until(run, "Job started", most=3)
