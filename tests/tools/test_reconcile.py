"""Reconciling: the chain closes what it decides, and the ledger is held against its transfers."""

from __future__ import annotations

from domain.money import ZERO, Usd
from domain.payments import PaymentState
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
        await world.ledger.runs.acquire(run.id, world.clock.now(), 60)
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
