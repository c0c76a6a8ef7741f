"""Cancelling: the vendor's job stops, what comes back is booked when the chain shows it."""

from __future__ import annotations

from domain.jobs import JobStatus
from domain.money import ZERO, Usd
from domain.payments import PaymentState
from tests.support.stack import FreshDatabase
from tests.support.world import AGENT, World

WHY = "the user asked for it"


async def test_a_cancelled_run_stops_its_job_and_gets_the_unused_time_back(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.tick_until(run, "Job started")
        await world.tick(run)
        await world.ledger.runs.request_cancel(run.id, WHY, world.clock.now())
        assert await world.ticks(run) == ["Run cancelled"]
        after = await world.run(run)
        refunds = [t for t in world.chain.transfers if t.recipient == AGENT and t.value < 10**7]
        assert [t.value for t in refunds] == [933_333]
        assert after.spent == Usd(1_400_000 - 933_333)
        assert after.budget_remaining == Usd.parse(5) - after.spent
        assert await world.jobs(run) == [("gpu_vendor_1", JobStatus.CANCELLED)]
        assert await world.payment_states(run) == [("gpu_vendor_1", PaymentState.REFUNDED)]


async def test_a_run_without_a_job_is_cancelled_at_once(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.ledger.runs.request_cancel(run.id, WHY, world.clock.now())
        assert await world.ticks(run) == ["Run cancelled"]
        assert (await world.run(run)).spent == ZERO


async def test_an_ended_run_cannot_be_cancelled(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.ticks(run)
        assert not await world.ledger.runs.request_cancel(run.id, WHY, world.clock.now())
        assert await world.status(run) == "completed"


async def test_a_claimed_refund_that_is_not_on_the_chain_changes_nothing(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.tick_until(run, "Job started")
        world.vendor_fault("gpu_vendor_1", "cancel-job", "claimed_refund")
        await world.ledger.runs.request_cancel(run.id, WHY, world.clock.now())
        assert await world.ticks(run) == ["Run cancelled"]
        for _ in range(3):
            await world.tick(run)
        assert (await world.run(run)).spent == Usd.parse(1.4)
        assert await world.payment_states(run) == [("gpu_vendor_1", PaymentState.SETTLED)]


async def test_a_vendor_that_does_not_answer_is_asked_again_and_then_given_up(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.tick_until(run, "Job started")
        for call in ("cancel-job", "job-status"):
            world.vendor_fault("gpu_vendor_1", call, "error_before_settling")
        await world.ledger.runs.request_cancel(run.id, WHY, world.clock.now())
        said = await world.ticks(run)
        assert said[0].startswith("Cancelling: gpu_vendor_1")
        assert said[-1] == "Run cancelled"
        assert "did not confirm" in (await world.run(run)).reason


async def test_a_crash_while_cancelling_books_the_refund_once(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.tick_until(run, "Job started")
        await world.ledger.runs.request_cancel(run.id, WHY, world.clock.now())
        await world.tick(run)
        spent = (await world.run(run)).spent
        async with world.another_process() as restarted:
            for _ in range(2):
                await restarted.tick(run)
            report = await restarted.deps.reconciler.reconcile()
        assert (await world.run(run)).spent == spent
        assert (report.ok, report.ledger_total) == (True, spent)
