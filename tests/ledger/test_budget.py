"""The budget: no order of operations, and no race, makes or loses money."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from domain.errors import BudgetExceeded, Conflict, LeaseLost, SlotClosed
from domain.jobs import RunStatus
from domain.mapping import Unfit
from domain.money import ZERO, Usd
from ledger.ledger import Ledger
from ledger.run import Lease, Reservation, Run
from tests.support.builders import NOON, at, check_books, leased, open_ledger
from tests.support.stack import FreshDatabase

ONE = Usd.parse(1)


@pytest.fixture
async def ledger(database: FreshDatabase) -> AsyncIterator[Ledger]:
    async with open_ledger(database) as opened:
        yield opened


async def test_a_reservation_is_taken_off_the_budget(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    await ledger.budget.reserve(lease, run, 0, ONE)
    after = await ledger.runs.get(run.id)
    assert (after.budget_remaining, after.next_slot) == (Usd.parse(4), 1)
    assert after.reservations == (Reservation(0, ONE),)


@pytest.mark.parametrize("lost", ["armed", "version", "amount"])
async def test_a_reservation_that_does_not_say_whether_it_is_armed_is_taken_for_none(
    ledger: Ledger, lost: str
) -> None:
    run, lease = await leased(ledger)
    await ledger.budget.reserve(lease, run, 0, ONE)
    await ledger.runs.documents.change(run.id, {}, {"$unset": {f"reservations.0.{lost}": ""}})
    with pytest.raises(Unfit, match=lost):
        await ledger.runs.get(run.id)


async def test_reserving_a_slot_again_takes_nothing_more(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    first = await ledger.budget.reserve(lease, run, 0, ONE)
    with_old_view = await ledger.budget.reserve(lease, run, 0, Usd.parse(2))
    assert with_old_view == first
    assert (await ledger.runs.get(run.id)).budget_remaining == Usd.parse(4)


@pytest.mark.parametrize("amount", [ZERO, Usd(-1)])
async def test_nothing_or_less_cannot_be_reserved(ledger: Ledger, amount: Usd) -> None:
    run, lease = await leased(ledger)
    with pytest.raises(BudgetExceeded):
        await ledger.budget.reserve(lease, run, 0, amount)


async def test_more_than_is_left_cannot_be_reserved(ledger: Ledger) -> None:
    run, lease = await leased(ledger, dollars=1)
    with pytest.raises(BudgetExceeded):
        await ledger.budget.reserve(lease, run, 0, Usd(ONE.micros + 1))
    check_books(await ledger.runs.get(run.id))


async def test_the_whole_budget_can_be_reserved(ledger: Ledger) -> None:
    run, lease = await leased(ledger, dollars=1)
    await ledger.budget.reserve(lease, run, 0, ONE)
    assert (await ledger.runs.get(run.id)).budget_remaining == ZERO


async def test_32_reserves_of_one_slot_take_its_money_once(ledger: Ledger) -> None:
    run, lease = await leased(ledger, dollars=1)
    await asyncio.gather(*(ledger.budget.reserve(lease, run, 0, ONE) for _ in range(32)))
    after = await ledger.runs.get(run.id)
    check_books(after)
    assert after.reservations == (Reservation(0, ONE),)


async def test_32_reserves_race_for_the_last_dollar_and_one_gets_it(ledger: Ledger) -> None:
    run, lease = await leased(ledger, dollars=1)

    async def grab(slot: int) -> bool:
        try:
            await ledger.budget.reserve(lease, await ledger.runs.get(run.id), slot % 4, ONE)
        except (BudgetExceeded, Conflict):
            return False
        return True

    got = await asyncio.gather(*(grab(slot) for slot in range(32)))
    after = await ledger.runs.get(run.id)
    check_books(after)
    assert any(got)
    assert sum((held.amount for held in after.reservations), ZERO) == ONE
    assert after.budget_remaining == ZERO


async def test_a_slot_is_used_once(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    held = await ledger.budget.reserve(lease, run, 0, ONE)
    await ledger.budget.release(run.id, held)
    with pytest.raises(SlotClosed):
        await ledger.budget.reserve(lease, run, 0, ONE)
    with pytest.raises(SlotClosed):
        await ledger.budget.share(lease, run, 0, ONE)


async def test_slots_are_used_in_order(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    with pytest.raises(Conflict):
        await ledger.budget.reserve(lease, run, 7, ONE)
    assert (await ledger.runs.get(run.id)).reservations == ()


async def test_posting_spends_what_settled_and_frees_the_rest_once(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    held = await ledger.budget.reserve(lease, run, 0, Usd.parse(2))
    assert await ledger.budget.post(run.id, held, ONE)
    assert not await ledger.budget.post(run.id, held, ONE)
    assert not await ledger.budget.release(run.id, held)
    after = await ledger.runs.get(run.id)
    assert (after.spent, after.budget_remaining, after.reservations) == (ONE, Usd.parse(4), ())


async def test_32_posts_of_one_slot_spend_once(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    held = await ledger.budget.reserve(lease, run, 0, ONE)
    posts = [ledger.budget.post(run.id, held, ONE) for _ in range(16)]
    releases = [ledger.budget.release(run.id, held) for _ in range(16)]
    assert sum(await asyncio.gather(*posts, *releases)) == 1
    check_books(await ledger.runs.get(run.id))


async def test_a_decision_on_a_slot_that_was_shared_since_is_not_carried_out(
    ledger: Ledger,
) -> None:
    run, lease = await leased(ledger)
    held = await ledger.budget.reserve(lease, run, 0, Usd.parse(3))
    shared = await ledger.budget.share(lease, await ledger.runs.get(run.id), 0, ONE)
    assert not await ledger.budget.release(run.id, held)
    assert (await ledger.runs.get(run.id)).reserved == Usd.parse(3)
    assert await ledger.budget.post(run.id, shared, ONE)
    check_books(await ledger.runs.get(run.id))


async def test_a_slot_that_is_armed_meanwhile_is_not_released(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    held = await ledger.budget.reserve(lease, run, 0, ONE)
    armed = await ledger.budget.arm(lease, await ledger.runs.get(run.id), held, "pay_a")
    assert armed.armed == ("pay_a",)
    assert not await ledger.budget.release(run.id, held)
    assert await ledger.budget.arm(lease, await ledger.runs.get(run.id), armed, "pay_a") == armed
    assert await ledger.budget.post(run.id, armed, ONE)


async def test_a_released_slot_cannot_be_armed(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    held = await ledger.budget.reserve(lease, run, 0, ONE)
    seen = await ledger.runs.get(run.id)
    await ledger.budget.release(run.id, held)
    with pytest.raises(SlotClosed):
        await ledger.budget.arm(lease, seen, held, "pay_a")


async def test_who_lost_the_lease_arms_nothing(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    held = await ledger.budget.reserve(lease, run, 0, ONE)
    seen = await ledger.runs.get(run.id)
    await ledger.runs.release(lease, NOON)
    await ledger.runs.acquire(run.id, at(NOON), 60)
    with pytest.raises(LeaseLost):
        await ledger.budget.arm(lease, seen, held, "pay_a")


async def test_sharing_holds_the_larger_of_both_amounts(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    await ledger.budget.reserve(lease, run, 0, Usd.parse(2))
    smaller = await ledger.budget.share(lease, await ledger.runs.get(run.id), 0, ONE)
    assert smaller == Reservation(0, Usd.parse(2), shared=True, version=1)
    larger = await ledger.budget.share(lease, await ledger.runs.get(run.id), 0, Usd.parse(3))
    assert larger == Reservation(0, Usd.parse(3), shared=True, version=2)
    check_books(await ledger.runs.get(run.id))


async def test_sharing_cannot_hold_more_than_the_budget(ledger: Ledger) -> None:
    run, lease = await leased(ledger, dollars=2)
    await ledger.budget.reserve(lease, run, 0, ONE)
    with pytest.raises(BudgetExceeded):
        await ledger.budget.share(lease, await ledger.runs.get(run.id), 0, Usd.parse(3))
    check_books(await ledger.runs.get(run.id))


async def test_a_refund_comes_back_once_per_transaction(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    held = await ledger.budget.reserve(lease, run, 0, ONE)
    await ledger.budget.post(run.id, held, ONE)
    refunds = [ledger.budget.refund(run.id, "0xabc", Usd(400_000)) for _ in range(8)]
    assert sum(await asyncio.gather(*refunds)) == 1
    after = await ledger.runs.get(run.id)
    assert after.spent == Usd(600_000)
    check_books(after)


async def test_no_more_is_refunded_than_was_spent(ledger: Ledger) -> None:
    run, _ = await leased(ledger)
    assert not await ledger.budget.refund(run.id, "0xabc", Usd(1))


async def test_an_ended_run_reserves_nothing(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    await ledger.runs.end(lease, RunStatus.CANCELLED, "the person said so", NOON)
    with pytest.raises(Conflict):
        await ledger.budget.reserve(lease, run, 0, ONE)
    assert (await ledger.runs.get(run.id)).budget_remaining == Usd.parse(5)


async def test_an_ended_run_still_closes_its_slots(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    held = await ledger.budget.reserve(lease, run, 0, ONE)
    await ledger.runs.end(lease, RunStatus.FAILED, "", NOON)
    assert await ledger.budget.post(run.id, held, ONE)
    check_books(await ledger.runs.get(run.id))


async def test_who_lost_the_lease_reserves_and_shares_nothing(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    await ledger.budget.reserve(lease, run, 0, ONE)
    await ledger.runs.release(lease, NOON)
    await ledger.runs.acquire(run.id, at(NOON), 60)
    for view in (run, await ledger.runs.get(run.id)):
        with pytest.raises(LeaseLost):
            await ledger.budget.reserve(lease, view, 1, ONE)
    with pytest.raises(LeaseLost):
        await ledger.budget.share(lease, await ledger.runs.get(run.id), 0, Usd.parse(3))
    after = await ledger.runs.get(run.id)
    assert (after.budget_remaining, len(after.reservations)) == (Usd.parse(4), 1)


amounts = st.integers(1, 6).map(lambda dollars: Usd(dollars * 500_000))


class Bookkeeping(RuleBasedStateMachine):
    """Random histories of one run's budget, from views as old as its beginning, beside a model."""

    database: FreshDatabase
    runs = 0

    def __init__(self) -> None:
        super().__init__()
        Bookkeeping.runs += 1
        self.loop = asyncio.new_event_loop()
        self.opened = open_ledger(self.database)
        self.ledger: Ledger = self.do(self.opened.__aenter__())
        self.run, self.lease = self.do(leased(self.ledger, run_id=f"run_{Bookkeeping.runs}"))
        self.views: list[Run] = [self.run]
        self.slots: dict[int, Usd] = {}
        self.used = 0
        self.spent = ZERO
        self.serial = 0

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def now(self) -> Run:
        run: Run = self.do(self.ledger.runs.get(self.run.id))
        self.views.append(run)
        return run

    @property
    def left(self) -> Usd:
        left: Usd = self.run.budget_total - self.spent - sum(self.slots.values(), ZERO)
        return left

    @rule(amount=amounts, view=st.integers(0, 50))
    def reserve(self, amount: Usd, view: int) -> None:
        seen = self.views[view % len(self.views)]
        try:
            self.do(self.ledger.budget.reserve(self.lease, seen, self.used, amount))
        except BudgetExceeded:
            assert amount > self.left or amount > seen.budget_remaining
        else:
            assert amount <= self.left
            self.slots[self.used] = amount
            self.used += 1

    @precondition(lambda self: self.slots)
    @rule(amount=amounts, pick=st.integers(0, 50))
    def share(self, amount: Usd, pick: int) -> None:
        slot = list(self.slots)[pick % len(self.slots)]
        more = max(amount - self.slots[slot], ZERO)
        try:
            self.do(self.ledger.budget.share(self.lease, self.now(), slot, amount))
        except BudgetExceeded:
            assert more > self.left
        else:
            assert more <= self.left
            self.slots[slot] += more

    @precondition(lambda self: self.slots)
    @rule(pick=st.integers(0, 50), part=st.integers(0, 4), again=st.booleans())
    def post(self, pick: int, part: int, again: bool) -> None:
        slot = list(self.slots)[pick % len(self.slots)]
        settled = self.slots[slot].scaled(part, 4)
        held = self.now().reservation(slot)
        assert held is not None
        assert self.do(self.ledger.budget.post(self.run.id, held, settled))
        if again:
            assert not self.do(self.ledger.budget.post(self.run.id, held, settled))
        self.spent += settled
        del self.slots[slot]

    @rule(amount=amounts, again=st.booleans())
    def refund(self, amount: Usd, again: bool) -> None:
        self.serial += 0 if again else 1
        known = f"0x{self.serial}" in self.now().refunds
        done = self.do(self.ledger.budget.refund(self.run.id, f"0x{self.serial}", amount))
        assert done == (amount <= self.spent and not known)
        if done:
            self.spent -= amount

    @rule()
    def change_hands(self) -> None:
        stale: Lease = self.lease
        self.do(self.ledger.runs.release(stale, NOON))
        _, self.lease = self.do(self.ledger.runs.acquire(self.run.id, at(NOON), 60))
        try:
            self.do(self.ledger.budget.reserve(stale, self.now(), self.used, Usd(1)))
        except LeaseLost:
            self.views = [self.now()]
        else:
            raise AssertionError("a stale lease reserved money")

    @invariant()
    def the_books_agree(self) -> None:
        run = self.do(self.ledger.runs.get(self.run.id))
        check_books(run)
        assert (run.spent, run.budget_remaining) == (self.spent, self.left)
        assert {held.slot: held.amount for held in run.reservations} == self.slots

    def teardown(self) -> None:
        self.do(self.opened.__aexit__(None, None, None))
        self.loop.close()


def test_any_history_keeps_the_books(database: FreshDatabase) -> None:
    class Here(Bookkeeping):
        pass

    Here.database = database
    Here.TestCase.settings = settings(
        max_examples=12,
        stateful_step_count=25,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    Here.TestCase("runTest").runTest()
