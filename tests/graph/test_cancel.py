"""Cancelling: the vendor's job stops, what comes back is booked when the chain shows it."""

from __future__ import annotations

from typing import Any

import pytest

from domain.jobs import JobStatus
from domain.money import ZERO, Usd
from domain.payments import PaymentState
from ledger.jobs import Job, Jobs
from ledger.run import Run
from tests.support.rewritten import Rewritten
from tests.support.stack import FreshDatabase
from tests.support.world import AGENT, World, Wraps

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


async def test_a_vendor_that_is_away_for_the_cancel_is_made_to_stop_and_pay_back_later(
    database: FreshDatabase,
) -> None:
    async with World.open(database, epochs=50) as world:
        run = await world.start()
        await world.tick_until(run, "Job started")
        await away(world)
        await world.ledger.runs.request_cancel(run.id, WHY, world.clock.now())
        assert (await world.ticks(run))[-1] == "Run cancelled"
        world.clock.advance(minutes=30)
        await world.tick(run)
        world.clear_faults()
        await world.tick(run)
        after = await world.run(run)
        assert at_the_vendor(world, await world.job(run)) == "cancelled"
        assert await world.payment_states(run) == [("gpu_vendor_1", PaymentState.REFUNDED)]
        assert after.spent < Usd.parse(1.4)
        assert (await world.process.deps.reconciler.reconcile()).ok
        assert await closed(world, run)


async def test_a_job_that_was_given_up_runs_on_no_longer_than_its_run(
    database: FreshDatabase,
) -> None:
    async with World.open(database, epochs=50) as world:
        run = await world.start(dollars=20)
        await world.tick_until(run, "Job started")
        lost = await world.job(run)
        await away(world)
        await world.tick_until(run, "Job started", minutes=2.5)
        await world.ticks(run, most=60)
        world.clear_faults()
        assert at_the_vendor(world, lost) == "running"
        await world.tick(run)
        assert at_the_vendor(world, lost) == "cancelled"
        assert (await world.payments(run))[0].state is PaymentState.REFUNDED


async def test_a_vendor_that_never_answers_again_is_asked_for_a_day(
    database: FreshDatabase,
) -> None:
    async with World.open(database, epochs=50) as world:
        run = await world.start()
        await world.tick_until(run, "Job started")
        world.clock.advance(minutes=60 * 30)
        await away(world)
        await world.ledger.runs.request_cancel(run.id, WHY, world.clock.now())
        await world.ticks(run)
        for hours, over in ((0, False), (23, False), (1, True)):
            world.clock.advance(minutes=60 * hours)
            await world.tick(run)
            assert await closed(world, run) is over
        [stopped] = await world.told(run, "job_stopped")
        assert "did not say that it stopped" in stopped


async def test_a_job_that_completed_before_the_cancel_is_taken_at_its_vendors_first_word(
    database: FreshDatabase,
) -> None:
    asked = [0]

    def fickle(path: str, answer: dict[str, Any]) -> dict[str, Any] | None:
        asked[0] += path == "/job-status"
        if path == "/cancel-job" or (path == "/job-status" and asked[0] % 2 == 0):
            return {**answer, "status": "completed", "progress": 1.0}
        return None

    wrap = Wraps(http=lambda inner: Rewritten(inner, fickle))
    async with World.open(database, wrap=wrap, epochs=1000) as world:
        run = await world.start()
        await world.tick_until(run, "Job started")
        await world.tick(run)
        await world.ledger.runs.request_cancel(run.id, WHY, world.clock.now())
        assert await world.tick(run) == "Job completed"
        assert await world.status(run) == "completed"


async def test_a_crash_after_a_job_was_found_completed_leaves_it_completed(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def completed(path: str, answer: dict[str, Any]) -> dict[str, Any] | None:
        if path in ("/cancel-job", "/job-status") and cancelling:
            return {**answer, "status": "completed", "progress": 1.0}
        return None

    async def write_and_die(self: Jobs, job: Job, **fields: Any) -> None:
        await update(self, job, **fields)
        raise Crash

    cancelling, update = False, Jobs.update
    wrap = Wraps(http=lambda inner: Rewritten(inner, completed))
    async with World.open(database, wrap=wrap, epochs=1000) as world:
        run = await world.start()
        await world.tick_until(run, "Job started")
        await world.ledger.runs.request_cancel(run.id, WHY, world.clock.now())
        cancelling = True
        with monkeypatch.context() as broken:
            broken.setattr(Jobs, "update", write_and_die)
            with pytest.raises(Crash):
                await world.tick(run)
        world.clock.advance(61)
        assert await world.ticks(run) == ["Job completed"]
        assert (await world.ledger.vendors.get("gpu_vendor_1")).completed == 1


class Crash(BaseException):
    """The process ends here."""


async def away(world: World) -> None:
    """FastGPU does not answer from now on."""
    for call in ("cancel-job", "job-status", "quote"):
        world.vendor_fault("gpu_vendor_1", call, "error_before_settling")


def at_the_vendor(world: World, job: Job) -> str:
    there = world.vendor._store.job(job.vendor_job_id)
    assert there is not None
    return there.status


async def closed(world: World, run: Run) -> bool:
    """Whether nothing is left to do for an ended run."""
    return (await world.run(run)).due_at is None


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
