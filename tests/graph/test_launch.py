"""launch: the same bytes until the chain decides, and one payment whatever gets lost."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from domain.jobs import JobStatus
from domain.money import Usd
from domain.payments import PaymentState
from graph.context import TickContext
from graph.nodes.launch import launch
from graph.routing import Phase
from mock_vendor.accounts import dev_address
from mock_vendor.vendor.billing import Billing, Receipt
from mock_vendor.vendor.challenge import Purchase
from mock_vendor.vendor.settings import seeded_vendors
from tests.support.builders import check_books
from tests.support.stack import FreshDatabase
from tests.support.world import World, Wraps

S = PaymentState
FAST, RELIABLE = "gpu_vendor_1", "gpu_vendor_2"


def paid(world: World) -> list[str]:
    """Who was paid, as the chain has it."""
    names = {dev_address(vendor): vendor for vendor in (FAST, RELIABLE)}
    return [names[transfer.recipient] for transfer in world.transfers()]


async def check_money(world: World, run_id: str) -> None:
    """The ledger's total is the chain's, and nothing is held any more."""
    run = await world.ledger.runs.get(run_id)
    check_books(run)
    assert run.spent == Usd(sum(transfer.value for transfer in world.transfers()))
    assert run.reservations == ()


@pytest.mark.parametrize(
    "fault", ["drop_response_after_settling", "error_after_settling", "silent_after_settling"]
)
async def test_a_lost_answer_after_settlement_is_paid_once(
    database: FreshDatabase, fault: str
) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "submit-job", fault, times=1)
        run = await world.start()
        assert await world.tick(run) == "Job not started yet: paid, the vendor is silent"
        assert await world.tick(run) == "Job started"
        assert paid(world) == [FAST]
        await check_money(world, run.id)


async def test_a_vendor_that_was_paid_and_asks_for_payment_again_is_not_called_silent(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    pay = Billing.pay

    async def again(till: Billing, purchase: Purchase, *rest: Any) -> Receipt:
        await pay(till, purchase, *rest)
        raise till.challenge(purchase, "pay once more")

    async with World.open(database) as world:
        run = await world.start()
        with monkeypatch.context() as greedy:
            greedy.setattr(Billing, "pay", again)
            message = await world.tick(run)
        assert message.startswith("Job not started yet: paid, but the vendor did not take")
        assert "pay once more" in message
        assert await world.tick(run) == "Job started"
        await check_money(world, run.id)


@pytest.mark.parametrize("fault", ["hang", "error_before_settling", "silent_before_settling"])
async def test_a_request_lost_before_settlement_is_sent_again_and_paid_once(
    database: FreshDatabase, fault: str
) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "submit-job", fault, times=1, when="payment")
        run = await world.start()
        assert "unknown" in await world.tick(run)
        assert (await world.payment_states(run)) == [(FAST, S.AUTHORIZED)]
        assert await world.tick(run) == "Job started"
        assert paid(world) == [FAST]
        await check_money(world, run.id)


@pytest.mark.parametrize("fault", ["hang", "silent_before_settling", "refuse"])
async def test_a_silent_vendors_slot_goes_to_the_other_vendor_which_settles_first(
    database: FreshDatabase, fault: str
) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "submit-job", fault, when="payment")
        run = await world.start()
        await world.tick(run)
        assert "another vendor with the same payment slot" in await world.tick(run)
        assert await world.tick(run) == "Job started"
        first, second = await world.payments(run)
        assert (first.slot, first.nonce) == (second.slot, second.nonce)
        assert (await world.job(run)).vendor_id == RELIABLE
        await world.vendor.billing.settle_held()
        assert paid(world) == [RELIABLE]
        assert (first.state, second.state) == (S.EXPIRED, S.SETTLED)
        await world.ticks(run)
        await check_money(world, run.id)


async def test_a_first_vendor_that_settled_before_the_second_was_asked_keeps_the_job(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "submit-job", "silent_before_settling")
        run = await world.start()
        await world.tick(run)
        await world.tick(run)
        await world.vendor.billing.settle_held()
        world.clear_faults()
        assert await world.tick(run) == "Job started"
        assert (await world.job(run)).vendor_id == FAST
        assert paid(world) == [FAST]
        assert dict(await world.payment_states(run)) == {FAST: S.SETTLED}
        await world.ticks(run)
        await check_money(world, run.id)


class SettlesFirst(httpx.AsyncBaseTransport):
    """The first vendor settles just as the second is about to get its payment."""

    def __init__(self, inner: httpx.AsyncBaseTransport, worlds: list[World]) -> None:
        self._inner = inner
        self._worlds = worlds

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        second = request.headers.get("x-vendor-id") == RELIABLE
        if second and "payment-signature" in request.headers:
            for world in self._worlds:
                await world.vendor.billing.settle_held()
                world.clear_faults()
        return await self._inner.handle_async_request(request)


async def test_when_the_first_vendor_settles_after_all_its_job_is_taken(
    database: FreshDatabase,
) -> None:
    worlds: list[World] = []
    wrap = Wraps(http=lambda inner: SettlesFirst(inner, worlds))
    async with World.open(database, wrap=wrap) as world:
        worlds.append(world)
        world.vendor_fault(FAST, "submit-job", "silent_before_settling")
        run = await world.start()
        await world.tick(run)
        await world.tick(run)
        assert await world.tick(run) == "Job started"
        assert (await world.job(run)).vendor_id == FAST
        assert paid(world) == [FAST]
        assert dict(await world.payment_states(run)) == {FAST: S.SETTLED, RELIABLE: S.REFUSED}
        await world.ticks(run)
        await check_money(world, run.id)


async def test_a_shared_slot_holds_the_dearer_of_both_amounts(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        world.vendor_fault("*", "submit-job", "silent_before_settling")
        run = await world.start()
        for _ in range(3):
            await world.tick(run)
        after = await world.run(run)
        check_books(after)
        assert [held.amount for held in after.reservations] == [Usd.parse("1.8")]


async def test_when_both_vendors_stay_silent_at_most_one_is_ever_paid(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        world.vendor_fault("*", "submit-job", "silent_before_settling")
        run = await world.start()
        for _ in range(8):
            await world.tick(run)
        await world.vendor.billing.settle_held()
        world.clear_faults()
        await world.ticks(run)
        assert len(paid(world)) == 1
        assert [vendor for vendor, _ in await world.jobs(run)] == paid(world)
        await check_money(world, run.id)


async def test_what_never_settled_is_free_again_only_after_its_last_second(
    database: FreshDatabase,
) -> None:
    async with World.open(database, vendors=seeded_vendors()[:1]) as world:
        world.vendor_fault(FAST, "submit-job", "hang", when="payment")
        run = await world.start()
        await world.tick(run)
        [payment] = await world.payments(run)
        for _ in range(6):
            await world.tick(run)
            assert (await world.payment_states(run)) == [(FAST, S.AUTHORIZED)]
        world.clock.advance(payment.valid_before_s - world.clock.seconds() - 1)
        await world.tick(run)
        assert (await world.payment_states(run)) == [(FAST, S.AUTHORIZED)]
        world.clock.advance(2)
        await world.tick_until(run, "Vendor failed", most=3)
        assert (await world.payments(run))[0].state in (S.EXPIRED, S.REFUSED)
        assert (await world.run(run)).budget_remaining == run.budget_total
        world.clear_faults()
        await world.ticks(run)
        assert paid(world) == [FAST]
        await check_money(world, run.id)


async def test_a_402_after_the_payment_is_no_proof_that_it_failed(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        world.vendor_fault(FAST, "submit-job", "silent_before_settling", times=1)
        await world.tick(run)
        world.vendor_fault(FAST, "submit-job", "refuse", times=1, when="payment")
        await world.tick(run)
        assert (await world.payment_states(run)) == [(FAST, S.AUTHORIZED)]


async def test_a_cancelled_nonce_is_no_payment(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "submit-job", "hang", when="payment")
        run = await world.start()
        await world.tick(run)
        [payment] = await world.payments(run)
        world.chain.cancel(payment.payer, payment.nonce)
        assert (await world.tick(run)).startswith("Vendor failed")
        assert (await world.payment_states(run)) == [(FAST, S.REFUSED)]
        assert (await world.run(run)).budget_remaining == run.budget_total


async def test_a_vendor_that_is_paid_and_gives_no_job_is_left_for_another(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "submit-job", "silent_after_settling", when="payment")
        run = await world.start()
        await world.tick_until(run, "Job failed", minutes=2.5)
        assert (await world.ticks(run))[-1] == "Job completed"
        assert await world.jobs(run) == [(FAST, JobStatus.FAILED), (RELIABLE, JobStatus.COMPLETED)]
        assert paid(world) == [FAST, RELIABLE]
        await check_money(world, run.id)


async def test_a_job_whose_vendor_never_said_which_it_is_is_stopped_when_its_run_is_over(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "submit-job", "silent_after_settling", when="payment")
        run = await world.start()
        await world.tick_until(run, "Job failed", minutes=2.5)
        world.clear_faults()
        await world.ticks(run)
        query = f"select status from jobs where vendor_id = '{FAST}'"
        assert [job["status"] for job in world.vendor._store._all(query)] == ["running"]
        await world.tick(run)
        assert [job["status"] for job in world.vendor._store._all(query)] == ["cancelled"]
        [lost, _] = await world.payments(run)
        assert lost.state is PaymentState.REFUNDED
        assert (await world.run(run)).due_at is None
        assert (await world.process.deps.reconciler.reconcile()).ok


async def test_a_vendor_that_was_paid_may_be_silent_for_some_minutes(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "submit-job", "silent_after_settling", when="payment")
        run = await world.start()
        for _ in range(8):
            assert "paid, the vendor is silent" in await world.tick(run)
            world.clock.advance(35)
        world.clear_faults()
        assert await world.tick(run) == "Job started"
        assert paid(world) == [FAST]


async def test_the_payment_of_another_run_is_never_sent(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "submit-job", "silent_before_settling", when="payment")
        other, run = await world.start(), await world.start()
        await world.tick(other)
        [theirs] = await world.payments(other)
        held, lease = await world.ledger.runs.acquire(run.id, world.clock.now, 60)
        context = TickContext(world.process.deps, held, lease)
        for payment_id in (theirs.id, "pay_of_nobody", None):
            forged = {"vendor_job_id": "job_1", "status": "running"}
            said = await launch({"payment_id": payment_id, "accepted": forged}, context)
            assert said.goto == Phase.ASSESS_BUDGET.value
        assert await world.ledger.jobs.of_run(await world.run(run)) == []
