"""Sequences that a review found: each once broke a promise, or left a run standing."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr

from domain.jobs import JobStatus
from domain.money import ZERO, Usd
from domain.networks import LOCAL
from domain.payments import PaymentState as S
from domain.policy import Caps, SpendingPolicy
from mock_vendor.accounts import dev_address, dev_key
from mock_vendor.vendor.settings import vendor_profile
from tests.support.rewritten import Rewritten
from tests.support.stack import FreshDatabase
from tests.support.world import World, Wraps
from tools.payments.chain import AuthorizationFate, Block, Chain, Unused
from tools.payments.wallets import LocalWallet

FAST, RELIABLE = "gpu_vendor_1", "gpu_vendor_2"
HUNDRED = Usd.parse(100)


async def sound(world: World) -> bool:
    return (await world.process.deps.reconciler.reconcile()).ok


async def test_a_slot_that_may_still_settle_is_not_given_to_a_vendor_outside_x402(
    database: FreshDatabase,
) -> None:
    outside = vendor_profile(RELIABLE, "ReliableGPU", "1.8", rail="legacy402")
    vendors = (vendor_profile(FAST, "FastGPU", "1.4"), outside)
    async with World.open(database, vendors=vendors) as world:
        world.vendor_fault(FAST, "submit-job", "silent_before_settling", when="payment")
        run = await world.start()
        for _ in range(4):
            await world.tick(run)
        await world.vendor.billing.settle_held()
        world.clear_faults()
        await world.ticks(run)
        assert [t.value for t in world.transfers()] == [1_400_000]
        assert (await world.run(run)).spent == Usd.parse(1.4)
        assert await sound(world)


async def test_a_slot_begun_with_one_wallet_is_not_signed_with_another(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "submit-job", "silent_before_settling", when="payment")
        run = await world.start()
        await world.tick(run)
        await world.tick(run)
        world.chain.mint(dev_address("other"), 10**9)
        other = Wraps(wallet=lambda _: LocalWallet(SecretStr(dev_key("other"))))
        async with world.another_process(other) as changed:
            for _ in range(2):
                await changed.tick(run)
            await world.vendor.billing.settle_held()
            await changed.tick(run)
        paid = [t.value for t in world.chain.transfers if t.sender != "0x" + "0" * 40]
        assert paid == [1_400_000]
        assert dict(await world.payment_states(run)) == {FAST: S.SETTLED, RELIABLE: S.RELEASED}


async def test_a_vendor_that_cancels_a_job_is_left_for_another(database: FreshDatabase) -> None:
    def preempted(path: str, answer: dict[str, Any]) -> dict[str, Any] | None:
        return {**answer, "status": "cancelled"} if path == "/job-status" else None

    wrap = Wraps(http=lambda inner: Rewritten(inner, preempted))
    async with World.open(database, wrap=wrap) as world:
        run = await world.start()
        await world.tick_until(run, "Job failed")
        await world.tick_until(run, "Job started")
        jobs = await world.jobs(run)
        assert [vendor for vendor, _ in jobs] == [FAST, RELIABLE]
        assert jobs[0][1] is JobStatus.CANCELLED


async def test_a_run_above_its_owners_cap_ends_instead_of_asking_for_ever(
    database: FreshDatabase,
) -> None:
    policy = SpendingPolicy(LOCAL, HUNDRED, max_per_run=Usd.parse(0.5))
    async with World.open(database, policy=policy) as world:
        run = await world.start()
        assert "max_per_run" in (await world.ticks(run))[-1]
        assert world.transfers() == []


async def test_a_full_day_makes_a_run_wait_and_uses_up_no_slot(database: FreshDatabase) -> None:
    policy = SpendingPolicy(LOCAL, HUNDRED, caps=Caps(user_day=Usd.parse(1)))
    async with World.open(database, policy=policy) as world:
        run = await world.start()
        for _ in range(7):
            assert (await world.tick(run)).startswith("Waiting: ")
        after = await world.run(run)
        assert (after.next_slot, after.reserved) == (0, ZERO)


async def test_a_refund_named_by_a_vendor_outside_x402_troubles_nobody(
    database: FreshDatabase,
) -> None:
    tx = "0x" + "ab" * 32

    def refunding(path: str, answer: dict[str, Any]) -> dict[str, Any] | None:
        failed = {"status": "failed", "refund": {"amount": 1, "txHash": tx}}
        return {**answer, **failed} if path == "/job-status" else None

    vendors = (vendor_profile(FAST, "FastGPU", "1.4", rail="legacy402"),)
    wrap = Wraps(http=lambda inner: Rewritten(inner, refunding))
    async with World.open(database, vendors=vendors, wrap=wrap) as world:
        run = await world.start()
        await world.tick_until(run, "Job failed")
        await world.tick_until(run, "Job started")
        assert await sound(world)


class Lagging:
    """A chain that shows nothing new until `caught_up`."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.caught_up = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    async def authorization(
        self, payer: str, nonce: str, *, from_block: int, valid_before_s: int | None = None
    ) -> AuthorizationFate:
        if not self.caught_up:
            return Unused(Block(1, 1))
        return await self._chain.authorization(
            payer, nonce, from_block=from_block, valid_before_s=valid_before_s
        )


async def test_a_refund_that_comes_before_its_payment_is_seen_is_not_lost(
    database: FreshDatabase,
) -> None:
    chains: list[Lagging] = []

    def lag(chain: Chain) -> Chain:
        chains.append(Lagging(chain))
        return chains[-1]

    async with World.open(database, wrap=Wraps(chain=lag)) as world:
        run = await world.start()
        await world.tick(run)
        await world.tick(run)
        await world.ledger.runs.request_cancel(run.id, "enough", world.clock.now())
        await world.tick(run)
        chains[0].caught_up = True
        await world.tick(run)
        assert await world.payment_states(run) == [(FAST, S.REFUNDED)]
        assert await sound(world)


async def test_a_vendor_struck_off_while_its_payment_is_unknown_holds_nobody_up(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "submit-job", "silent_before_settling", when="payment")
        run = await world.start()
        await world.tick(run)
        await world.ledger.vendors.remove(FAST)
        world.clock.advance(minutes=60)
        await world.ticks(run)
        assert dict(await world.jobs(run)) == {RELIABLE: JobStatus.COMPLETED}
        assert await sound(world)


async def test_a_vendor_that_sells_no_more_time_is_asked_three_times(
    database: FreshDatabase,
) -> None:
    def nearly_used_up(path: str, answer: dict[str, Any]) -> dict[str, Any] | None:
        if path == "/job-status" and answer["status"] == "running":
            return {**answer, "usedMinutes": 58}
        return None

    wrap = Wraps(http=lambda inner: Rewritten(inner, nearly_used_up))
    async with World.open(database, epochs=200, wrap=wrap) as world:
        world.vendor_fault(FAST, "extend-job", "refuse")
        run = await world.start("Fine-tune on an A100 for 3 hours", 10)
        for _ in range(16):
            await world.tick(run)
        assert [s for _, s in await world.payment_states(run)] == [S.SETTLED, *[S.RELEASED] * 3]
        assert await world.status(run) == "running"


async def test_a_question_that_expired_unchanged_is_asked_again(database: FreshDatabase) -> None:
    policy = SpendingPolicy(LOCAL, HUNDRED, approval_threshold=Usd.parse(1))
    async with World.open(database, policy=policy) as world:
        run = await world.start()
        await world.tick(run)
        (asked,) = await world.ledger.approvals.of_run(run.id)
        world.clock.advance(minutes=90)
        await world.tick(run)
        assert await world.ledger.approvals.reopen(asked, world.clock.now())
        assert not await world.ledger.approvals.reopen(asked, world.clock.now())
