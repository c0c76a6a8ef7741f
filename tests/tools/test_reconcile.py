"""Reconciling: the chain closes what it decides, and the ledger is held against its transfers."""

from __future__ import annotations

import pytest

from domain.money import ZERO, Usd
from domain.payments import PaymentState
from ledger.payments import Payment
from tests.support.stack import FreshDatabase
from tests.support.world import AGENT, World
from tools.payments.reconcile import Report


async def reconcile(world: World) -> Report:
    return await world.process.deps.reconciler.reconcile()


async def test_after_a_run_the_ledger_is_the_chain_to_the_micro_dollar(
    database: FreshDatabase,
) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        await world.ticks(await world.start())
        report = await reconcile(world)
        assert (report.ok, report.ledger_total, report.chain_total) == (
            True, Usd.parse(3.2), Usd.parse(3.2),
        )  # fmt: skip


async def test_a_transfer_that_no_payment_explains_is_reported(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        await world.ticks(await world.start())
        world.chain.transfer(AGENT, "0x" + "77" * 20, 5)
        report = await reconcile(world)
        assert not report.ok
        assert [t.amount for t in report.unknown_transfers] == [Usd(5)]


async def test_an_unknown_payment_stays_unknown_until_the_chain_decides(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        world.vendor_fault("gpu_vendor_1", "submit-job", "silent_before_settling", when="payment")
        await world.tick(run)
        report = await reconcile(world)
        assert (report.ok, report.still_open) == (True, (run.id,))
        world.clock.advance(minutes=11)
        report = await reconcile(world)
        assert (report.ok, report.still_open) == (True, ())
        assert (await world.run(run)).budget_remaining == Usd.parse(5)
        assert await world.payment_states(run) == [("gpu_vendor_1", PaymentState.EXPIRED)]


async def test_a_slot_of_which_not_every_armed_payment_was_read_stays_open(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        world.vendor_fault("gpu_vendor_1", "submit-job", "silent_before_settling", when="payment")
        world.vendor_fault("gpu_vendor_2", "submit-job", "silent_before_settling", when="payment")
        for _ in range(4):
            await world.tick(run)
        armed = (await world.run(run)).reservations[0].armed
        assert len(armed) == 2
        read = world.ledger.payments.of_slot

        async def stale(run_id: str, slot: int) -> list[Payment]:
            return [p for p in await read(run_id, slot) if p.id != armed[1]]

        world.clock.advance(minutes=30)
        with monkeypatch.context() as lagging:
            lagging.setattr(type(world.ledger.payments), "of_slot", staticmethod(stale))
            assert (await reconcile(world)).still_open == (run.id,)
        assert (await reconcile(world)).still_open == ()


async def test_a_payment_that_settled_unseen_is_booked(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        world.vendor_fault("gpu_vendor_1", "submit-job", "silent_before_settling", when="payment")
        await world.tick(run)
        assert len(await world.vendor.billing.settle_held()) == 1
        report = await reconcile(world)
        assert (report.ok, report.ledger_total) == (True, Usd.parse(1.4))
        after = await world.run(run)
        assert (after.spent, after.reserved) == (Usd.parse(1.4), ZERO)


async def test_a_run_that_a_tick_works_on_is_left_to_it(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        world.vendor_fault("gpu_vendor_1", "submit-job", "silent_before_settling", when="payment")
        await world.tick(run)
        await world.ledger.runs.acquire(run.id, world.clock.now, 60)
        assert (await reconcile(world)).busy == (run.id,)


async def test_reconciling_again_changes_nothing(database: FreshDatabase) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        await world.ticks(await world.start())
        first, again = await reconcile(world), await reconcile(world)
        assert first == again


async def test_a_payment_on_another_network_is_not_judged_by_this_chain(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        world.vendor_fault("gpu_vendor_1", "submit-job", "silent_before_settling", when="payment")
        await world.tick(run)
        (payment,) = await world.payments(run)
        elsewhere = {"$set": {"network": "eip155:84532"}}
        assert await world.ledger.payments.documents.change(payment.id, {}, elsewhere)
        world.clock.advance(minutes=11)
        report = await reconcile(world)
        assert report.still_open == (run.id,)
        assert await world.payment_states(run) == [("gpu_vendor_1", PaymentState.AUTHORIZED)]


async def test_a_refund_of_which_nobody_heard_is_found_on_the_chain(
    database: FreshDatabase,
) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        run = await world.start()
        await world.ticks(run)
        failed, _ = await world.payments(run)
        before = (await world.run(run)).budget_remaining
        world.chain.transfer(failed.pay_to, AGENT, 300_000)

        first, again = await reconcile(world), await reconcile(world)

        assert (first.ok, first.unclaimed, again.ok) == (True, (), True)
        assert (await world.run(run)).budget_remaining == before + Usd(300_000)
        assert first.chain_total == first.ledger_total == again.ledger_total == Usd(2_900_000)
        told = await world.told(run, "refund_claimed")
        assert len(told) == 1
        assert "which it had not told" in told[0]


async def test_money_that_two_runs_may_expect_is_given_to_neither(database: FreshDatabase) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        runs = [await world.start(), await world.start()]
        assert [await world.tick(run) for run in runs] == ["Job started"] * 2
        for run in runs:
            await world.ticks(run)
        before = [(await world.run(run)).budget_remaining for run in runs]
        failed = next(p for p in await world.payments(runs[0]) if p.vendor_id == "gpu_vendor_1")
        world.chain.transfer(failed.pay_to, AGENT, 300_000)

        report = await reconcile(world)

        assert [t.amount for t in report.unclaimed] == [Usd(300_000)]
        assert [(await world.run(run)).budget_remaining for run in runs] == before


async def test_money_from_a_vendor_whose_job_completed_is_no_refund(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.ticks(run)
        before = await world.run(run)
        (payment,) = await world.payments(run)
        world.chain.transfer(payment.pay_to, AGENT, 100_000)

        report = await reconcile(world)

        assert (report.ok, [t.amount for t in report.unclaimed]) == (True, [Usd(100_000)])
        assert (await world.run(run)).budget_remaining == before.budget_remaining
