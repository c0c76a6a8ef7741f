"""Payments that the ledger cannot explain: a restored backup, and what a person says to it."""

from __future__ import annotations

import pytest

from domain.errors import Conflict, InvalidInput, PaymentUnclear
from domain.ids import slot_nonce
from domain.jobs import JobStatus
from domain.money import Usd
from domain.networks import LOCAL
from domain.payments import PaymentState
from ledger.budget import Budget
from ledger.run import Run
from tests.graph.test_closing import Nodes
from tests.support.backups import back_up, restore
from tests.support.builders import check_books
from tests.support.stack import FreshDatabase
from tests.support.world import AGENT, World, Wraps
from tools.payments.cashier import Cashier
from tools.payments.reconcile import Report
from tools.payments.resolve import Resolver

STRANGER = "0x" + "77" * 20
WHY = "the receipt is in the mail"


async def reconcile(world: World) -> Report:
    return await world.process.deps.reconciler.reconcile()


def resolver(world: World) -> Resolver:
    deps = world.process.deps
    return Resolver(deps.ledger, deps.cashier.judge, deps.chain, LOCAL, AGENT, deps.now)


async def test_a_payment_that_a_restored_backup_does_not_know_waits_for_a_person(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run, other = await world.start(), await world.start()
        backup = await back_up(database)
        await world.tick_until(run, "Job started")
        [lost] = world.transfers()
        await restore(database, backup)

        assert (await world.tick(run)).startswith("Waiting: Payment")
        due = (await world.run(run)).due_at
        assert due is not None
        assert due > world.clock.now(), "it is not ticked on and on"
        assert await world.tick(other) == "Job started", "every other run goes on"
        report = await reconcile(world)

        assert not report.ok
        [line] = report.unclear
        assert (line.run_id, line.slot, line.tx_hash) == (run.id, 0, lost.tx_hash)
        assert f"--resolve {run.id} --paid {lost.tx_hash}" in str(line)
        assert report.unknown_transfers == ()
        assert report.chain_total - report.ledger_total == Usd(lost.value)
        assert "cannot be explained" in await world.tick(run)
        assert len(world.transfers()) == 2, "nothing is paid twice"

        [booked] = await resolver(world).paid(run.id, lost.tx_hash, WHY)

        assert (booked.amount, booked.vendor_id) == (Usd(lost.value), "gpu_vendor_1")
        assert (await reconcile(world)).ok
        after = await world.run(run)
        assert (after.spent, after.reserved) == (Usd(lost.value), Usd(0))
        assert WHY in (await world.told(run, "payment_resolved"))[0]
        with pytest.raises(InvalidInput, match="explain"):
            await resolver(world).acknowledge(lost.tx_hash, "")
        assert (await world.ticks(run))[-1] == "Job completed", "the run goes on, in another slot"
        for each in (run, other):
            check_books(await world.run(each))
        assert (await reconcile(world)).ok


async def test_a_slot_that_the_lost_history_had_given_up_hides_no_payment_in_the_next(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        backup = await back_up(database)
        world.vendor_fault("gpu_vendor_1", "submit-job", "price_above_quote", times=1)
        await world.tick(run)
        nonce = slot_nonce(run.id, 1)
        if not world.transfers():
            await world.tick_until(run, "Job started")
        assert [t.nonce for t in world.transfers()] == [nonce], "slot 0 was given up"
        world.clear_faults()
        await restore(database, backup)
        assert "for slot 1 of run" in await world.tick(run)
        assert len(world.transfers()) == 1
        await reconcile(world)
        assert "for slot 1 of run" in await world.tick(run)
        assert len(world.transfers()) == 1
        await resolver(world).paid(run.id, world.transfers()[0].tx_hash, WHY)
        after = await world.run(run)
        assert (after.spent, after.next_slot) == (Usd(world.transfers()[0].value), 2)
        assert (await reconcile(world)).ok
        check_books(await world.run(run))


async def test_without_the_look_at_its_nonces_a_restored_run_would_pay_again(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unchecked(*_: object) -> None:
        """The defence, taken away."""

    monkeypatch.setattr(Cashier, "_check_unspent", unchecked)
    with pytest.raises(AssertionError):
        await test_a_slot_that_the_lost_history_had_given_up_hides_no_payment_in_the_next(database)
    paid = await database.db["payments"].count_documents({"state": "settled"})
    assert paid == 1, "and a second one, which the restored ledger does not know"


async def test_a_nonce_that_paid_somebody_else_blocks_its_run_alone(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run, other = await world.start(), await world.start()
        world.vendor_fault("gpu_vendor_1", "submit-job", "silent_before_settling", when="payment")
        await world.tick(run)
        world.clear_faults()
        [payment] = await world.payments(run)
        paid = world.chain.transfer_with_authorization(
            AGENT, STRANGER, 5, 0, payment.valid_before_s, payment.nonce
        )
        closed = await world.process.deps.reconciler.close_open()
        assert [(e.run_id, e.payment_id) for e in closed.unclear] == [(run.id, payment.id)]
        assert (await world.tick(run)).startswith("Waiting: Payment")
        assert await world.tick(other) == "Job started"
        [line] = (await reconcile(world)).unclear
        assert (line.tx_hash, line.payment_id) == (paid, payment.id)
        with pytest.raises(Conflict, match="shows that it paid"):
            await resolver(world).unpaid(run.id, WHY)
        with pytest.raises(InvalidInput, match="used no nonce of run"):
            await resolver(world).paid(other.id, paid, WHY)
        with pytest.raises(InvalidInput, match="--resolve"):
            await resolver(world).acknowledge(paid, WHY)
        await resolver(world).paid(run.id, paid, WHY)
        assert (await world.run(run)).spent == Usd(5)
        assert await world.payment_states(run) == [
            ("gpu_vendor_1", PaymentState.EXPIRED),
            ("unknown", PaymentState.SETTLED),
        ]
        assert (await reconcile(world)).ok
        assert (await world.ticks(run))[-1] == "Job completed"
        check_books(await world.run(run))


async def test_a_payment_by_hand_may_be_larger_than_the_budget_it_lost(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start(dollars=5)
        paid = world.chain.transfer_with_authorization(
            AGENT, STRANGER, 9_000_000, 0, 2**40, slot_nonce(run.id, 0)
        )
        await resolver(world).paid(run.id, paid, WHY)
        after = await world.run(run)
        assert (after.budget_total, after.budget_remaining) == (Usd.parse(9), Usd(0))
        assert (await reconcile(world)).ok


async def test_a_larger_payment_by_hand_is_booked_whole_after_a_crash(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World.open(database) as world:
        run = await world.start(dollars=5)
        world.vendor_fault("gpu_vendor_1", "submit-job", "silent_before_settling", when="payment")
        await world.tick(run)
        [payment] = await world.payments(run)
        till = (payment.valid_before_s, payment.nonce)
        paid = world.chain.transfer_with_authorization(AGENT, STRANGER, 9_000_000, 0, *till)
        with monkeypatch.context() as dying:
            dying.setattr(Budget, "post_by_hand", _crash)
            with pytest.raises(Crash):
                await resolver(world).paid(run.id, paid, WHY)
        assert (await reconcile(world)).still_open == (run.id,)
        world.clock.advance(minutes=2)
        for _ in range(2):
            await resolver(world).paid(run.id, paid, WHY)
            after = await world.run(run)
            check_books(after)
            assert (after.budget_total, after.spent) == (Usd.parse(9), Usd.parse(9))
            assert (await reconcile(world)).ok


class Crash(BaseException):
    """The process ends here."""


async def _crash(*_: object) -> None:
    raise Crash


async def unclear_run(world: World, nodes: Nodes) -> Run:
    """A run whose vendor was paid and gave no answer, and whose payment nobody can explain."""
    run = await world.start()
    world.vendor_fault("gpu_vendor_1", "submit-job", "silent_after_settling", when="payment")
    nodes.are = "unclear"
    assert (await world.tick(run)).startswith("Waiting: Payment")
    world.clear_faults()
    return run


async def test_a_cancelled_runs_paid_job_is_stopped_though_its_payment_is_unclear(
    database: FreshDatabase,
) -> None:
    nodes = Nodes()
    async with World.open(database, wrap=Wraps(chain=nodes), epochs=50) as world:
        run = await unclear_run(world, nodes)
        await world.ledger.runs.request_cancel(run.id, "enough", world.clock.now())
        assert (await world.ticks(run))[-1] == "Run cancelled"
        await world.tick(run)
        assert await world.jobs(run) == [("gpu_vendor_1", JobStatus.CANCELLED)]
        assert [p.state for p in await world.payments(run)] == [PaymentState.AUTHORIZED]
        assert (await world.told(run, "payment_unclear"))[0].startswith("Payment")


async def test_a_person_may_say_that_nothing_was_paid_once_nothing_can_settle(
    database: FreshDatabase,
) -> None:
    nodes = Nodes()
    async with World.open(database, wrap=Wraps(chain=nodes)) as world:
        run = await unclear_run(world, nodes)
        with pytest.raises(Conflict, match="may still settle until"):
            await resolver(world).unpaid(run.id, WHY)
        assert (await world.run(run)).reserved == Usd.parse(1.4)
        world.clock.advance(minutes=20)
        world.chain.mine()
        closed = await resolver(world).unpaid(run.id, WHY)
        assert (closed.state, closed.resolved) == (PaymentState.EXPIRED, WHY)
        assert (await world.run(run)).budget_remaining == Usd.parse(5)
        with pytest.raises(Conflict, match="nothing to decide"):
            await resolver(world).unpaid(run.id, WHY)


async def test_what_the_chain_decides_no_person_does(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        world.vendor_fault("gpu_vendor_1", "submit-job", "silent_before_settling", when="payment")
        await world.tick(run)
        with pytest.raises(Conflict, match="may still settle until"):
            await resolver(world).unpaid(run.id, WHY)
        await world.vendor.billing.settle_held()
        with pytest.raises(Conflict, match="nothing to decide"):
            await resolver(world).unpaid(run.id, WHY)
        assert await world.payment_states(run) == [("gpu_vendor_1", PaymentState.SETTLED)]


def test_the_error_carries_its_data() -> None:
    error = PaymentUnclear("r1", 2, "0xab", "why", payment_id="pay_1", tx_hash="0xcd")
    assert (error.run_id, error.slot, error.nonce, error.problem) == ("r1", 2, "0xab", "why")
    assert (error.payment_id, error.tx_hash) == ("pay_1", "0xcd")
    assert "--resolve r1 --paid 0xcd" in error.remedy
