"""Limits that add up over runs: what a vendor holds of ours, and what the wallet has promised."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from domain.errors import PolicyRefused, WalletEmpty
from domain.money import Usd
from domain.networks import LOCAL
from domain.payments import PaymentState, PurchaseKind
from domain.policy import Caps, SpendingPolicy
from domain.slices import SliceRule
from graph.deps import Limits
from ledger.allowances import Allowances
from ledger.payments import Payment, Payments
from mock_vendor.accounts import AGENT_FUNDS, dev_address
from mock_vendor.vendor.settings import vendor_profile
from tests.chaos.planted import planted
from tests.graph.test_closing import Nodes
from tests.support.stack import FreshDatabase
from tests.support.world import AGENT, World, Wraps
from tools.payments.funds import Funds
from tools.payments.wallets import TypedData, Wallet

HALF_A_DOLLAR = vendor_profile("gpu_vendor_1", "FastGPU", "0.5")
BOUND = Usd.parse(2)
LIMITS = Limits(slices=SliceRule(first_minutes=60, exposure=BOUND))
HOUR = "Fine-tune on an A100 for 1 hour"


def ahead(world: World) -> int:
    """Micro-dollars that the chain shows as paid, and the vendor's own books as not worked for."""
    earned = 0
    for row in world.vendor._store._all("select job_id from jobs"):
        job = world.vendor._store.job(row["job_id"])
        assert job is not None
        earned += job.paid_amount - (job.unused_amount if job.status == "running" else 0)
    return sum(transfer.value for transfer in world.transfers()) - earned


async def many_at_once(database: FreshDatabase, many: int) -> tuple[list[str], list[int]]:
    """The first messages of so many runs ticked at once, and what was ahead after that and after
    each tick of a few of them. The vendor's jobs die, so that it never has a record.
    """
    async with World.open(
        database, vendors=(HALF_A_DOLLAR,), failing="gpu_vendor_1", epochs=2, limits=LIMITS
    ) as world:
        runs = [await world.start(HOUR) for _ in range(many)]
        messages = list(await asyncio.gather(*(world.tick(run) for run in runs)))
        seen = [ahead(world)]
        begun = [run for run, said in zip(runs, messages, strict=True) if said == "Job started"]
        waiting = [run for run in runs if run not in begun]
        for run in [*begun[:2], *begun[:2], *waiting[:3]]:
            await world.tick(run)
            seen.append(ahead(world))
        records = (await world.ledger.vendors.get("gpu_vendor_1")).records
        assert all(record.completed == 0 for record in records)
        return messages, seen


async def test_forty_runs_at_once_never_prepay_a_new_vendor_more_than_its_bound(
    database: FreshDatabase,
) -> None:
    messages, seen = await many_at_once(database, 40)
    assert messages.count("Job started") == 4
    waiting = [said for said in messages if said != "Job started"]
    assert all("max_exposure" in said and "MAX_EXPOSURE_USD" in said for said in waiting)
    assert max(seen) <= BOUND.micros, seen
    assert seen[-1] > min(seen), "what a job has used or lost is paid ahead to another"


async def test_the_check_above_finds_a_vendor_without_a_bound(database: FreshDatabase) -> None:
    with planted("exposure_of_each_run_alone"):
        _, seen = await many_at_once(database, 6)
    assert max(seen) > BOUND.micros


async def test_a_full_vendor_is_passed_over_for_another_and_blamed_for_nothing(
    database: FreshDatabase,
) -> None:
    async with World.open(database, limits=LIMITS) as world:
        first, second = [await world.start(HOUR) for _ in range(2)]
        await world.tick(first)
        assert await world.tick(second) == "Job started"
        vendors = [(await world.job(run)).vendor_id for run in (first, second)]
        assert sorted(vendors) == ["gpu_vendor_1", "gpu_vendor_2"]
        for vendor in await world.ledger.vendors.all():
            assert vendor.records == ()


async def test_what_a_crash_left_counted_is_found_out_when_it_stands_in_the_way(
    database: FreshDatabase,
) -> None:
    """Counted for a slot whose reservation was released, and for a run that is gone."""
    async with World.open(database, vendors=(HALF_A_DOLLAR,), limits=LIMITS) as world:
        run = await world.start(HOUR)
        cashier = world.process.deps.cashier
        other = await world.start(HOUR)
        for key in (f"{other.id}:0", "gone:0"):
            await cashier.exposure.hold("gpu_vendor_1", key, Usd.parse(1), BOUND)
            await cashier.funds.promise(key, Usd(AGENT_FUNDS // 2))
        assert await world.tick(run) == "Job started"
        held = await world.ledger.tallies.read("exposure|gpu_vendor_1")
        assert held.holds == {f"{run.id}:0": Usd.parse("0.5")}


async def test_time_that_was_used_is_no_longer_ahead(database: FreshDatabase) -> None:
    async with World.open(database, vendors=(HALF_A_DOLLAR,), limits=LIMITS, epochs=4) as world:
        run = await world.start(HOUR)
        exposure = world.process.deps.cashier.exposure
        room = []
        for _ in range(6):
            await world.tick(run)
            most = Usd.parse("0.5")
            room.append(await exposure.room("gpu_vendor_1", most, most))
        assert room[0] == Usd(0)
        assert room == sorted(room)
        assert room[-1] == Usd.parse("0.5"), "the job has ended"
        assert 0 < room[2].micros < 500_000


async def test_two_runs_at_once_are_never_promised_the_same_money(database: FreshDatabase) -> None:
    trusting = Limits(slices=SliceRule(first_minutes=60, exposure=Usd.parse(100)))
    async with World.open(database, limits=trusting) as world:
        world.chain.transfer(AGENT, dev_address("owner"), AGENT_FUNDS - 2_000_000)
        runs = [await world.start(HOUR) for _ in range(4)]
        said = await asyncio.gather(*(world.tick(run) for run in runs))
        assert said.count("Job started") == 1, said
        short = [one for one in said if one.startswith("Waiting for funds: ")]
        assert len(short) == 3, said
        assert sum(t.value for t in world.transfers() if t.sender == AGENT) <= AGENT_FUNDS


async def test_what_a_slot_may_still_be_signed_for_stays_promised(database: FreshDatabase) -> None:
    """Long after its run has stopped: nothing was signed, so no time runs out."""
    async with World.open(database) as world:
        deps = world.process.deps
        run = await world.start(HOUR)
        run, lease = await deps.ledger.runs.acquire(run.id, deps.now, 60)
        await deps.ledger.budget.reserve(lease, run, 0, Usd.parse(1))
        funds, most = deps.cashier.funds, Usd(AGENT_FUNDS)
        await funds.promise(f"{run.id}:0", Usd.parse(1))
        world.clock.advance(minutes=24 * 60)
        with pytest.raises(WalletEmpty, match=r"\$1\.00 of it is promised"):
            await funds.check("another:0", most)


async def test_a_promise_is_not_made_on_a_balance_read_before_another_was_kept(
    database: FreshDatabase,
) -> None:
    """The other payment settles, and its promise goes, between the two reads."""
    async with World.open(database) as world:
        deps = world.process.deps
        other = await world.start(HOUR)

        class Meanwhile:
            """A chain whose answer is old when it arrives."""

            async def balance(self, address: str) -> Usd:
                before = await deps.chain.balance(address)
                world.chain.transfer(AGENT, dev_address("shop"), world.chain.balance_of(AGENT))
                tally = await deps.ledger.tallies.read(promises._id)
                await deps.ledger.tallies.lower(tally, f"{other.id}:0", Usd(0))
                return before

        chain: Any = Meanwhile()
        promises = Funds(deps.ledger, chain, deps.wallet, LOCAL)
        await Funds(deps.ledger, deps.chain, deps.wallet, LOCAL).promise(
            f"{other.id}:0", Usd.parse(1)
        )
        with pytest.raises(WalletEmpty):
            await promises.promise("another:0", Usd.parse(1))


class Emptied:
    """A wallet that somebody else empties as soon as it has signed."""

    def __init__(self, inner: Wallet) -> None:
        self._inner = inner
        self.world: World | None = None

    @property
    def address(self) -> str:
        return self._inner.address

    async def sign_typed_data(self, typed_data: TypedData) -> str:
        assert self.world is not None
        self.world.chain.transfer(AGENT, dev_address("owner"), self.world.chain.balance_of(AGENT))
        return await self._inner.sign_typed_data(typed_data)


async def test_a_vendor_is_not_blamed_for_a_wallet_that_ran_dry(database: FreshDatabase) -> None:
    wallets: list[Emptied] = []

    def empty(inner: Wallet) -> Emptied:
        wallets.append(Emptied(inner))
        return wallets[-1]

    async with World.open(database, vendors=(HALF_A_DOLLAR,), wrap=Wraps(wallet=empty)) as world:
        wallets[0].world = world
        run = await world.start(HOUR)
        await world.tick(run)
        (payment,) = await world.payments(run)
        assert payment.state is PaymentState.AUTHORIZED
        assert payment.unfunded
        world.clock.advance(minutes=20)
        await world.tick_until(run, "Waiting for funds: ", most=4)
        (payment,) = await world.payments(run)
        assert payment.state in (PaymentState.REFUSED, PaymentState.EXPIRED)
        assert (await world.ledger.vendors.get("gpu_vendor_1")).records == ()
        assert len(await world.told(run, "wallet_short")) == 1
        wallets[0].world.chain.mint(AGENT, AGENT_FUNDS)


async def test_what_everyone_spends_in_a_day_is_capped_once(database: FreshDatabase) -> None:
    policy = SpendingPolicy(LOCAL, Usd.parse(100), caps=Caps(wallet_day=Usd.parse("1.2")))
    async with World.open(database, vendors=(HALF_A_DOLLAR,), policy=policy) as world:
        runs = [
            await world.ledger.runs.create(
                f"run_{n}", f"user_{n}", HOUR, Usd.parse(5), world.clock.now()
            )
            for n in range(4)
        ]
        said = await asyncio.gather(*(world.tick(run) for run in runs))
        assert said.count("Job started") == 2
        assert sum("MAX_WALLET_DAY_USD" in one for one in said) == 2
        assert (await world.ledger.vendors.get("gpu_vendor_1")).records == ()


async def test_what_a_person_closed_and_no_vendor_can_be_asked_for_is_not_ahead(
    database: FreshDatabase,
) -> None:
    async with World.open(database, vendors=(HALF_A_DOLLAR,), limits=LIMITS) as world:
        run = await world.start(HOUR)
        world.vendor_fault("gpu_vendor_1", "submit-job", "silent_after_settling", when="payment")
        await world.tick(run)
        [payment] = await world.payments(run)
        exposure, most = world.process.deps.cashier.exposure, Usd.parse("0.5")
        assert await exposure.room("gpu_vendor_1", most, most) == Usd(0)
        by_hand = {"$set": {"resolved": "seen on the explorer", "header": ""}}
        await world.ledger.payments.documents.change(payment.id, {}, by_hand)
        assert await exposure.room("gpu_vendor_1", most, most) == most


@pytest.mark.parametrize("hold", ["hold", "check"])
async def test_money_that_a_crash_left_held_is_free_again_when_a_limit_refuses_it(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch, hold: str
) -> None:
    """More time for a job, which nobody looks after as they do after a launch."""
    slices = Limits(slices=SliceRule(first_minutes=60, exposure=BOUND))
    policy = SpendingPolicy(LOCAL, Usd.parse(100), caps=Caps(wallet_day=Usd.parse(50)))
    async with World.open(
        database, vendors=(HALF_A_DOLLAR,), limits=slices, policy=policy, epochs=12
    ) as world:
        run = await world.start("Fine-tune on an A100 for 4 hours")
        with monkeypatch.context() as broken:
            broken.setattr(Payments, "open", _crash_with_more_time)
            with pytest.raises(Crash):
                await world.ticks(run)
        assert (await world.run(run)).reserved != Usd(0)
        world.clock.advance(61)
        with monkeypatch.context() as full:
            full.setattr(Allowances, hold, _refuse)
            await world.tick(run)
        after = await world.run(run)
        assert (after.reserved, after.status.ended) == (Usd(0), False)
        assert "max_wallet_day" in (await world.told(run, "extension_not_made"))[0]


class Crash(BaseException):
    """The process ends here."""


OPEN = Payments.open


async def _crash_with_more_time(self: Payments, payment: Payment) -> Payment:
    if payment.kind is PurchaseKind.EXTEND:
        raise Crash
    return await OPEN(self, payment)


async def _refuse(*_: object) -> None:
    raise PolicyRefused("max_wallet_day", "others were faster")


async def test_what_a_crash_left_counted_against_a_cap_is_given_back(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died between closing the slot and counting what it had spent."""
    caps = Caps(user_day=Usd.parse(50), wallet_day=Usd.parse(50))
    policy = SpendingPolicy(LOCAL, Usd.parse(100), caps=caps)
    async with World.open(database, vendors=(HALF_A_DOLLAR,), policy=policy) as world:
        unpaid, paid, held = [await world.start(HOUR) for _ in range(3)]
        silent = ("gpu_vendor_1", "submit-job", "silent_before_settling")
        world.vendor_fault(*silent, times=1, when="payment")
        await world.tick(unpaid)
        world.clock.advance(minutes=11)
        with monkeypatch.context() as dying:
            dying.setattr(Allowances, "settle", _nothing)
            await world.process.deps.reconciler.reconcile()
            await world.tick(paid)
        world.vendor_fault(*silent, times=1, when="payment")
        await world.tick(held)
        assert [(await world.run(r)).reserved for r in (unpaid, paid)] == [Usd(0)] * 2

        async def counted() -> list[int]:
            found = await database.db["allowances"].find().sort("_id", 1).to_list()
            return [document["day"] for document in found]

        assert await counted() == [1_500_000] * 2
        for _ in range(2):
            await world.process.deps.reconciler.reconcile()
            assert await counted() == [1_000_000] * 2


async def test_a_payment_that_nobody_can_explain_blocks_no_other_run_for_ever(
    database: FreshDatabase,
) -> None:
    """Neither at its vendor nor out of the wallet, though nobody comes to close it."""
    nodes = Nodes()
    async with World.open(
        database, vendors=(HALF_A_DOLLAR,), limits=LIMITS, wrap=Wraps(chain=nodes)
    ) as world:
        world.vendor_fault("gpu_vendor_1", "submit-job", "silent_after_settling", when="payment")
        nodes.are, cashier = "unclear", world.process.deps.cashier
        unclear = await world.start(HOUR)
        assert (await world.tick(unclear)).startswith("Waiting: Payment")
        rest = AGENT_FUNDS - 500_000

        async def room() -> Usd:
            return await cashier.exposure.room("gpu_vendor_1", BOUND, BOUND)

        assert await room() == BOUND - Usd.parse("0.5")
        with pytest.raises(WalletEmpty):
            await cashier.funds.check("another:0", Usd(rest))
        world.clock.advance(minutes=10 + 60 + 61)
        world.chain.mine()
        assert await room() == BOUND
        await cashier.funds.check("another:0", Usd(rest))
        assert (await world.run(unclear)).reserved == Usd.parse("0.5"), "it is as it was itself"


async def _nothing(*_: object) -> None:
    pass
