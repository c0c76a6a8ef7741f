"""Reconciling: the chain closes what it decides, and the ledger is held against its transfers."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace

import pytest
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from domain.errors import InvalidInput
from domain.money import ZERO, Usd
from domain.networks import LOCAL
from domain.payments import PaymentState
from domain.slices import SliceRule
from graph.deps import Limits
from ledger.compared import Sums
from ledger.payments import Payment
from tests.support.stack import FreshDatabase
from tests.support.world import AGENT, World
from tools.payments.compare import Comparison
from tools.payments.reconcile import Report
from tools.payments.resolve import Resolver


async def reconcile(world: World) -> Report:
    return await world.process.deps.reconciler.reconcile()


async def test_after_a_run_the_ledger_is_the_chain_to_the_micro_dollar(
    database: FreshDatabase,
) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        await world.ticks(await world.start())
        report = await reconcile(world)
        assert (report.ok, report.ledger_total, report.chain_total) == (
            True,
            Usd.parse(3.2),
            Usd.parse(3.2),
        )


async def test_a_budget_that_is_spent_to_the_last_micro_dollar_is_sound(
    database: FreshDatabase,
) -> None:
    """And one that is overdrawn, or does not add up, is not."""
    async with World.open(database) as world:
        run = await world.start("Fine-tune a 7B model on an A100", 1.4)
        await world.ticks(run)
        after = await world.run(run)
        assert (after.spent, after.budget_remaining) == (Usd.parse(1.4), ZERO)
        assert (await reconcile(world)).unbalanced == ()
        for wrong in (
            {"budgetRemaining": -1, "budgetTotal": 1_399_999},
            {"budgetRemaining": 1, "budgetTotal": 1_400_000},
            {"budgetRemaining": 1, "spent": 1_399_999, "budgetTotal": 1_400_000},
        ):
            await world.ledger.runs.documents.change(run.id, {}, {"$set": wrong})
            report = await reconcile(world)
            assert (report.unbalanced, report.mismatches, report.ok) == ((run.id,), 1, False)


async def test_a_transfer_that_no_payment_explains_is_reported(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        await world.ticks(await world.start())
        world.chain.transfer(AGENT, "0x" + "77" * 20, 5)
        report = await reconcile(world)
        assert not report.ok
        assert [t.amount for t in report.unknown_transfers] == [Usd(5)]


async def test_a_withdrawal_that_its_owner_acknowledges_is_explained(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        await world.ticks(await world.start())
        savings = "0x" + "77" * 20
        tx = world.chain.batch([(AGENT, savings, 5), (AGENT, savings, 5), (AGENT, AGENT, 9)])
        assert [t.amount for t in (await reconcile(world)).unknown_transfers] == [Usd(5)] * 2
        deps = world.process.deps
        resolver = Resolver(deps.ledger, deps.cashier.judge, deps.chain, LOCAL, AGENT, deps.now)
        for _ in range(2):
            assert len(await resolver.acknowledge(tx, "to savings")) == 2
        world.chain.transfer(savings, AGENT, 3)
        report = await reconcile(world)
        assert (report.ok, report.acknowledged, report.unclaimed) == (True, Usd(10), ())
        assert report.chain_total == report.ledger_total + Usd(10)
        assert await deps.reconciler.reconcile(full=True) == await reconcile(world) == report
        for strange in (world.transfers()[0].tx_hash, "0x" + "12" * 32, "none"):
            with pytest.raises(InvalidInput, match="--acknowledge"):
                await resolver.acknowledge(strange, "not mine")


async def test_transfers_of_nothing_leave_reconcile_as_it_is(database: FreshDatabase) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        run = await world.start()
        await world.ticks(run)
        before = await reconcile(world)
        payee = (await world.payments(run))[0].pay_to
        world.chain.transfer(payee, AGENT, 0)
        world.chain.transfer(AGENT, "0x" + "77" * 20, 0)
        assert await reconcile(world) == before
        states = [state for _, state in await world.payment_states(run)]
        assert states == [PaymentState.SETTLED] * 2


async def test_two_payments_of_one_transaction_are_each_one_transfer(
    database: FreshDatabase,
) -> None:
    """Same payee, same amount, and the ledger knows of one: the other is a stranger's."""
    async with World.open(database) as world:
        run = await world.start()
        await world.ticks(run)
        [payment] = await world.payments(run)
        tx = world.chain.batch([(AGENT, payment.pay_to, 1_400_000)] * 2)
        moved = {"$set": {"x402TxId": tx, "settledBlock": world.chain.head().number}}
        await world.ledger.payments.documents.change(payment.id, {}, moved)
        report = await reconcile(world)
        assert [(t.tx_hash, t.amount) for t in report.unknown_transfers] == [(tx, Usd.parse(1.4))]
        assert [error.run_id for error in report.unclear] == [run.id], "what its nonce paid really"
        assert report.missing == ()


async def test_what_an_older_version_booked_is_compared_by_its_transaction(
    database: FreshDatabase,
) -> None:
    async with World.open(database, failing="gpu_vendor_1", refund_on_failure=True) as world:
        run = await world.start()
        await world.ticks(run)
        new = ("settledBlock", "refundLog", "refundClaim", "resolved")
        await world.ledger.payments.documents.change_all({}, {"$unset": dict.fromkeys(new, "")})
        before = await world.payments(run)
        assert before[0].state is PaymentState.REFUNDED
        report = await reconcile(world)
        assert (report.ok, report.unclaimed) == (True, ())
        assert all(p.settled_block for p in await world.payments(run))
        assert await world.process.deps.reconciler.reconcile(full=True) == report


class Counted(CommandListener):
    """Documents that MongoDB gave."""

    def __init__(self) -> None:
        self.documents = 0

    def started(self, event: CommandStartedEvent) -> None:
        pass

    def succeeded(self, event: CommandSucceededEvent) -> None:
        cursor = event.reply.get("cursor", {})
        self.documents += len(cursor.get("firstBatch", [])) + len(cursor.get("nextBatch", []))

    def failed(self, event: CommandFailedEvent) -> None:
        pass


async def test_history_that_was_compared_is_not_read_again(database: FreshDatabase) -> None:
    counted, history = Counted(), 300
    async with World.open(database, listeners=[counted]) as world:
        run = await world.start()
        await world.ticks(run)
        runs, payments = world.ledger.runs.documents, world.ledger.payments.documents
        [payment], old = await world.payments(run), await runs.get(run.id)
        paid = await payments.get(payment.id)
        assert old
        assert paid
        moves = [(AGENT, payment.pay_to, 1)] * history
        tx = world.chain.batch(moves)
        block = {"x402TxId": tx, "settledBlock": world.chain.head().number, "amount": 1}
        spent = {"spent": 1, "budgetRemaining": old["budgetTotal"] - 1}
        old |= {"offers": [], "jobSpec": None, **spent}
        await runs.insert_all([{**old, "_id": f"old_{n}"} for n in range(history)])
        await payments.insert_all(
            [{**paid, "_id": f"pay_old_{n}", "runId": f"old_{n}", **block} for n in range(history)]
        )
        world.clock.advance(minutes=120)
        first = await reconcile(world)
        assert (first.ok, first.ledger_total) == (True, Usd.parse(1.4) + Usd(history))
        assert counted.documents > 2 * history

        another = await world.start()
        await world.ticks(another)
        counted.documents = 0
        second = await reconcile(world)

        assert (second.ok, second.ledger_total) == (True, Usd.parse(2.8) + Usd(history))
        assert counted.documents < 30


async def test_a_sum_that_went_wrong_is_found_and_all_is_compared_anew(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        await world.ticks(await world.start())
        before = await reconcile(world)
        await world.ledger.comparisons.documents.change_all({}, {"$inc": {"sums.ledger": 7}})
        assert await reconcile(world) == before
        assert await world.process.deps.reconciler.reconcile(full=True) == before


async def test_a_local_chain_that_was_begun_anew_is_compared_anew(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        await world.ticks(await world.start())
        before = await reconcile(world)
        longer = {"$set": {"block": 10_000, "sums": asdict(Sums(ledger=7, chain=7))}}
        await world.ledger.comparisons.documents.change_all({}, longer)
        assert await reconcile(world) == before


async def test_a_first_comparison_on_a_public_chain_begins_with_the_first_run(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        for _ in range(5):
            world.clock.advance(minutes=60)
            world.chain.mine()
        first = world.chain.head().number
        await world.ticks(await world.start())
        deps, public = world.process.deps, replace(LOCAL, is_local=False)
        await world.ledger.payments.documents.delete_all({})
        state = await Comparison(deps.ledger, deps.chain, public, AGENT).state()
        assert first - 2 <= state.start <= first, "an hour before it, as clocks differ"


async def test_a_reconciliation_that_another_overtakes_counts_nothing_twice(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        await world.ticks(await world.start())
        reconciler = world.process.deps.reconciler
        async with world.another_process() as other:
            both = await asyncio.gather(
                *(r.reconcile() for r in (reconciler, other.deps.reconciler) * 3)
            )
        assert [(r.ok, r.ledger_total) for r in both] == [(True, Usd.parse(1.4))] * 6


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
    both = Limits(slices=SliceRule(60, Usd.parse(5)))
    async with World.open(database, failing="gpu_vendor_1", limits=both) as world:
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


async def test_what_a_dead_process_held_is_freed_however_old_its_run_is(
    database: FreshDatabase,
) -> None:
    """`gpu-renter pay` under an id of long ago, and no tick ever comes to it."""
    async with World.open(database) as world:
        run = await world.start()
        await world.ledger.runs.documents.change(run.id, {}, {"$set": {"dueAt": None}})
        for _ in range(2):
            world.clock.advance(minutes=300)
            assert (await reconcile(world)).ok
        world.clock.advance(minutes=30)
        held, lease = await world.ledger.runs.acquire(run.id, world.clock.now, 60)
        await world.ledger.budget.reserve(lease, held, 0, Usd.parse(1))
        world.clock.advance(minutes=60)
        assert (await reconcile(world)).still_open == ()
        assert (await world.run(run)).reserved == ZERO
