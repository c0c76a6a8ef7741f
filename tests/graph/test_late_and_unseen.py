"""What comes late, or unseen: each of these sequences once lost money, a job or the sight of it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from domain.errors import ChainDown, LeaseLost, StoreDown
from domain.jobs import JobStatus
from domain.journal import Note
from domain.money import ZERO, Usd
from domain.payments import PaymentState as S
from ledger.payments import Payment
from mock_vendor.vendor.settings import vendor_profile
from tests.graph.test_hostile_timing import FAST, RELIABLE, sound
from tests.support.rewritten import Rewritten
from tests.support.stack import FreshDatabase
from tests.support.world import World, Wraps
from tools.payments.chain import AuthorizationFate, Block, Chain


async def test_a_payment_that_was_closed_unsent_is_never_sent(database: FreshDatabase) -> None:
    """Its bytes are good for minutes yet, and nothing is held for them any more."""
    async with World.open(database) as world:
        run = await world.start()
        world.vendor_fault(FAST, "submit-job", "silent_before_settling", when="payment")
        await world.tick(run)
        (payment,) = await world.payments(run)
        await world.ledger.payments.close(payment, S.EXPIRED, now=world.clock.now(), reason="late")
        world.clear_faults()
        held, lease = await world.ledger.runs.acquire(run.id, world.clock.now, 60)
        vendor = await world.ledger.vendors.get(FAST)

        closed = await world.ledger.payments.get(payment.id)
        told: list[Note] = []
        delivery = await world.process.deps.cashier.deliver(lease, closed, vendor, told.append)

        assert held.reservations
        assert (delivery.goods, delivery.problem) == (None, "late")
        assert world.transfers() == []


async def test_a_job_that_completed_unseen_is_not_bought_again(database: FreshDatabase) -> None:
    async with World.open(database, epochs=3) as world:
        run = await world.start()
        await world.tick(run)
        world.vendor_fault(FAST, "job-status", "error_after_settling", times=3)
        await world.ticks(run)
        assert await world.jobs(run) == [(FAST, JobStatus.COMPLETED)]
        assert [t.value for t in world.transfers()] == [1_400_000]
        assert await world.status(run) == "completed"


async def test_a_job_whose_payment_settles_after_the_cancel_is_stopped(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        world.vendor_fault(FAST, "submit-job", "silent_before_settling", when="payment")
        await world.tick(run)
        await world.ledger.runs.request_cancel(run.id, "enough", world.clock.now())
        assert await world.tick(run) == "Run cancelled"
        assert (await world.run(run)).reservations
        world.clear_faults()
        assert len(await world.vendor.billing.settle_held()) == 1

        for _ in range(2):
            assert await world.tick(run) == "Run already cancelled"

        assert await world.jobs(run) == [(FAST, JobStatus.CANCELLED)]
        assert await world.payment_states(run) == [(FAST, S.REFUNDED)]
        assert (await world.run(run)).job_id is None
        assert await sound(world)


async def test_a_vendor_that_never_names_the_job_of_an_ended_run_is_asked_for_a_day(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        world.vendor_fault(FAST, "submit-job", "silent_before_settling", when="payment")
        await world.tick(run)
        await world.ledger.runs.request_cancel(run.id, "enough", world.clock.now())
        await world.tick(run)
        await world.vendor.billing.settle_held()
        world.clear_faults()
        world.vendor_fault(FAST, "*", "hang")
        await world.tick(run)
        assert await world.jobs(run) == [(FAST, JobStatus.RUNNING)]
        world.clock.advance(minutes=25 * 60)
        await world.tick(run)
        assert await world.jobs(run) == [(FAST, JobStatus.FAILED)]
        assert await sound(world)


async def test_what_an_ended_run_holds_for_nothing_is_given_back(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.tick(run)
        now = world.clock.now()
        held, lease = await world.ledger.runs.acquire(run.id, world.clock.now, 60)
        await world.ledger.budget.reserve(lease, held, held.next_slot, Usd.parse(1), None)
        await world.ledger.runs.release(lease, now)
        await world.ticks(run)
        await world.tick(run)
        after = await world.run(run)
        assert (after.reserved, after.budget_remaining) == (ZERO, Usd.parse(3.6))


class Away:
    """A chain that cannot be read while `away`."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.away = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    async def head(self) -> Block:
        self._answering()
        return await self._chain.head()

    async def balance(self, account: str) -> Usd:
        self._answering()
        return await self._chain.balance(account)

    async def authorization(
        self, payer: str, nonce: str, *, from_block: int, valid_before_s: int | None = None
    ) -> AuthorizationFate:
        self._answering()
        return await self._chain.authorization(
            payer, nonce, from_block=from_block, valid_before_s=valid_before_s
        )

    def _answering(self) -> None:
        if self.away:
            raise ChainDown("the RPC does not answer")


async def test_a_job_is_followed_while_no_time_can_be_bought_for_it(
    database: FreshDatabase,
) -> None:
    chains: list[Away] = []

    def away(chain: Chain) -> Chain:
        chains.append(Away(chain))
        return chains[-1]

    def nearly_used_up(path: str, answer: dict[str, Any]) -> dict[str, Any] | None:
        if path == "/job-status" and answer["status"] == "running":
            return {**answer, "usedMinutes": 58}
        return None

    wrap = Wraps(http=lambda inner: Rewritten(inner, nearly_used_up), chain=away)
    async with World.open(database, epochs=5, wrap=wrap) as world:
        run = await world.start("Fine-tune on an A100 for 3 hours", 10)
        await world.tick(run)
        chains[0].away = True
        for _ in range(6):
            assert await world.tick(run) == "Job still running"
        assert len(await world.told(run, "chain_unreachable")) >= 2
        assert "paid time used up" in (await world.told(run, "job_log"))[-1]
        chains[0].away = False
        for _ in range(4):
            await world.tick(run)
        assert await world.told(run, "job_extended")
        assert await sound(world)


async def test_who_stood_still_while_taking_a_lease_has_none(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        runs = world.ledger.runs
        change = runs.documents.change

        async def slow(*args: Any) -> bool:
            runs.documents.change = change  # type: ignore[method-assign]
            done = await change(*args)
            world.clock.advance(61)
            _, lease = await runs.acquire(run.id, world.clock.now, 60)
            assert lease.fence == 2
            return done

        runs.documents.change = slow  # type: ignore[method-assign, assignment]
        with pytest.raises(LeaseLost):
            await world.tick(run)
        assert world.transfers() == []


async def test_a_vendor_outside_x402_is_asked_again_after_a_crash(database: FreshDatabase) -> None:
    outside = vendor_profile(FAST, "FastGPU", "1.4", rail="legacy402")
    async with World.open(database, vendors=(outside,)) as world:
        cashier = world.process.deps.cashier
        book = cashier._book

        async def lost(*_: object) -> Payment:
            cashier._book = book  # type: ignore[method-assign]
            raise StoreDown("MongoDB is away")

        cashier._book = lost  # type: ignore[method-assign, assignment]
        run = await world.start()
        with pytest.raises(StoreDown):
            await world.tick(run)
        assert await world.tick(run) == "Job started"
        await world.ticks(run)
        assert await world.jobs(run) == [(FAST, JobStatus.COMPLETED)]
        assert await sound(world)


async def test_failed_ticks_leave_nothing_in_the_checkpoints(database: FreshDatabase) -> None:
    chains: list[Away] = []

    def away(chain: Chain) -> Chain:
        chains.append(Away(chain))
        return chains[-1]

    async with World.open(database, wrap=Wraps(chain=away)) as world:
        run = await world.start()
        chains[0].away = True
        for _ in range(3):
            with pytest.raises(ChainDown):
                await world.tick(run)
        assert await database.db["checkpoint_writes"].count_documents({}) == 0
        chains[0].away = False
        await world.ticks(run)
        assert await world.status(run) == "completed"


async def test_a_tick_that_outlived_its_lease_stores_no_state(database: FreshDatabase) -> None:
    """Those who took over may have changed nothing, and so stored nothing newer."""
    async with World.open(database, epochs=9) as world:
        run = await world.start()
        for _ in range(3):
            await world.tick(run)
        states = database.db["checkpoints"]
        stored = await states.distinct("checkpoint_id", {"thread_id": run.id})

        class Late(Rewritten):
            """The job has failed by this answer, which comes after the lease has run out."""

            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                answer = await super().handle_async_request(request)
                world.clock.advance(61)
                return answer

        def failed(path: str, answer: dict[str, Any]) -> dict[str, Any] | None:
            failed = {**answer, "status": "failed", "errorMessage": "late"}
            return failed if path == "/job-status" else None

        async with world.another_process(Wraps(http=lambda inner: Late(inner, failed))) as late:
            with pytest.raises(LeaseLost):
                await late.tick(run)
        assert await states.distinct("checkpoint_id", {"thread_id": run.id}) == stored


async def test_a_tick_goes_by_the_state_where_the_document_was_left_behind(
    database: FreshDatabase,
) -> None:
    async with World.open(database, failing=FAST) as world:
        run = await world.start()
        await world.tick_until(run, "Job failed")
        assert (await world.run(run)).phase == "assess_budget"
        await world.ledger.runs.documents.change(run.id, {}, {"$set": {"phase": "monitor"}})
        assert await world.tick(run) == "Job started"
        await world.ticks(run)
        assert await world.jobs(run) == [(FAST, JobStatus.FAILED), (RELIABLE, JobStatus.COMPLETED)]
        assert await sound(world)
