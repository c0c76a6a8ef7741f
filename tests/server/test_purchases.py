"""Purchases beside runs: kept apart, paid once whatever crashes, and moved from where they were."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from domain.errors import Conflict, LeaseHeld, LeaseLost
from domain.ids import purchase_id_of
from domain.money import Usd
from domain.networks import LOCAL
from domain.payments import PaymentState
from domain.policy import Caps
from ledger.budget import Budget
from ledger.ledger import Ledger
from server.buying import Outcome
from server.reports.retention import Retention
from tests.chaos.effects import Crash, Moment, When
from tests.server.till import Till, open_till
from tests.support.paid_shop import AGENT
from tests.support.stack import FreshDatabase
from tools.payments.judge import Judge
from tools.payments.reconcile import Reconciler

PRICE = 250_000


@pytest.fixture
async def till(database: FreshDatabase) -> AsyncIterator[Till]:
    async with open_till(database) as till:
        threshold, cap = Usd.parse("0.2"), Usd.parse(1_000)
        caps = Caps(user_day=cap, wallet_day=cap)
        till.policy = replace(till.policy, approval_threshold=threshold, caps=caps)
        yield till


async def dies_at(moment: Moment, till: Till, purchase_id: str) -> None:
    """Buy in a process that ends at this moment, and wait until its lease has run out."""

    async def hook(reached: Moment) -> None:
        if reached == moment:
            raise Crash(reached)

    dying, _ = till.life(hook)
    with pytest.raises(Crash):
        await dying.buy(purchase_id)
    till.clock.advance(61)


async def test_a_crash_at_any_effect_of_a_purchase_pays_once(till: Till) -> None:
    await paid(till)  # what is made once, like the wallet's tally, is there from now on
    living, life = till.life()
    assert (await living.buy("none")).outcome is Outcome.PAID
    moments = [moment for moment in life.moments if moment.when is When.BEFORE]
    assert len(moments) > 30
    for n, moment in enumerate([*moments, life.moments[-1]]):
        await dies_at(moment, till, f"p{n}")
        bought = await till.buy(f"p{n}")
        assert (bought.outcome, bought.had_goods) == (Outcome.PAID, True), moment
        purchase = await till.ledger.purchases.get(bought.run_id)
        assert (purchase.spent, purchase.reservations) == (Usd(PRICE), ()), moment
        assert len(till.shop.transfers()) == n + 3, moment
    assert len(set(till.shop.payments)) == len(till.shop.transfers())


async def test_a_removed_purchase_is_never_bought_again(till: Till, tmp_path: Path) -> None:
    await till.buy()
    till.clock.advance(60)
    outcome = await Retention(till.ledger, tmp_path, till.clock.now).prune(till.clock.now())
    assert outcome.removed == [purchase_id_of("one")]
    with pytest.raises(Conflict, match="was removed"):
        await till.buy()
    assert await till.ledger.purchases.recent() == []
    assert len(till.shop.transfers()) == 1


async def test_lists_of_both_are_in_one_order_and_of_one_length(till: Till) -> None:
    ledger, now = till.ledger, till.clock.now()
    for n in range(3):
        at = now + timedelta(minutes=n)
        await ledger.runs.create(f"{n}", "user", "Train", Usd.parse(1), at)
        await ledger.purchases.create(f"fetch_{n}", "GET", Usd.parse(1), at + timedelta(seconds=1))
    both = ledger.spenders
    assert [s.id for s in await both.recent(limit=4)] == ["fetch_2", "2", "fetch_1", "1"]
    paged = [[s.id for s in page] async for page in both.pages(size=2)]
    assert paged == [["0", "1"], ["2", "fetch_0"], ["fetch_1", "fetch_2"]]
    assert await both.first_created() == now
    assert [r.id for r in await ledger.runs.recent()] == ["2", "1", "0"]


# What an older version kept among the runs.


async def as_an_older_version_kept_it(till: Till, purchase_id: str = "one") -> None:
    document = await till.ledger.purchases.documents.get(purchase_id_of(purchase_id))
    assert document is not None
    of_runs: dict[str, object] = {
        "phase": "fetch",
        "dueAt": None,
        "jobSpec": None,
        "currentJobId": None,
        "offers": [],
    }
    await till.ledger.runs.documents.insert(document | of_runs)
    await till.ledger.purchases.documents.delete(document["_id"])


async def not_begun(till: Till) -> None:
    await till.ledger.purchases.create(purchase_id_of("one"), "GET", Usd.parse(1), till.clock.now())


async def lost(till: Till) -> None:
    till.wire.lose = "request"
    assert (await till.buy()).outcome is Outcome.UNKNOWN
    till.wire.lose = ""


async def settled_unseen(till: Till) -> None:
    till.wire.crash = "after_answer"
    with pytest.raises(Crash):
        await till.buy()
    till.wire.crash = ""


async def paid(till: Till) -> None:
    assert (await till.buy()).outcome is Outcome.PAID


STATES = (not_begun, lost, settled_unseen, paid)


@pytest.mark.parametrize("begin", STATES, ids=lambda begin: begin.__name__)
async def test_an_old_purchase_is_moved_whatever_crashes_and_paid_once(
    database: FreshDatabase, begin: object
) -> None:
    async def moved(till: Till, dies: Moment | None = None) -> list[Moment]:
        async def hook(moment: Moment) -> None:
            if moment == dies:
                raise Crash(moment)

        process, life = till.life(hook)
        await process.ledger.ensure_indexes()
        return life.moments

    async with open_till(database) as till:
        await begin(till)  # type: ignore[operator]
        await as_an_older_version_kept_it(till)
        kept = [await database.db[name].find().to_list() for name in ("runs", "purchases")]
        moments = await moved(till)
        assert [m.name for m in moments if m.when is When.BEFORE] == [
            "runs.find",
            "runs.get",
            "runs.acquire",
            "purchases.insert",
            "runs.delete",
        ]
        for moment in moments:
            for name, documents in zip(("runs", "purchases"), kept, strict=True):
                await database.db[name].delete_many({})
                if documents:
                    await database.db[name].insert_many(documents)
            with pytest.raises(Crash):
                await moved(till, moment)
            await moved(till)
            assert await till.ledger.runs.recent() == []
            assert [p.id for p in await till.ledger.purchases.recent()] == [purchase_id_of("one")]
        assert (await till.buy()).outcome is Outcome.PAID
        await till.check(PRICE)
        assert len(set(till.shop.payments)) == 1


async def test_what_was_bought_between_two_moves_is_not_overwritten(till: Till) -> None:
    """A process that died between the copy and the delete; another one starts, and buys."""
    await not_begun(till)
    document = await till.ledger.purchases.documents.get(purchase_id_of("one"))
    assert document is not None
    await till.ledger.runs.documents.insert(document | {"phase": "fetch"})
    await paid(till)
    await till.ledger.purchases.take_in()
    assert await till.ledger.runs.recent() == []
    await till.check(PRICE)
    assert (await till.buy()).outcome is Outcome.PAID
    await till.check(PRICE)


async def test_who_works_on_it_where_it_was_reserves_nothing_beside_the_move(till: Till) -> None:
    await not_begun(till)
    await as_an_older_version_kept_it(till)
    old = till.ledger.runs
    run, lease = await old.acquire(purchase_id_of("one"), till.clock.now, 60)
    tried: list[Moment] = []

    async def beside(moment: Moment) -> None:
        if moment == Moment("purchases.insert", 1, When.BEFORE):
            tried.append(moment)
            with pytest.raises(LeaseLost):
                await Budget(old, old).reserve(lease, run, 0, Usd.parse(1))

    process, _ = till.life(beside)
    await process.ledger.ensure_indexes()
    assert tried
    with pytest.raises(LeaseHeld):  # it may be asking its seller still
        await till.buy()
    till.clock.advance(61)
    assert (await till.buy()).outcome is Outcome.PAID
    await till.check(PRICE)


async def test_a_run_whose_id_only_looks_so_is_not_moved(till: Till) -> None:
    await till.ledger.runs.create("fetch_me", "user", "Train", Usd.parse(1), till.clock.now())
    await till.ledger.purchases.take_in()
    assert [run.id for run in await till.ledger.runs.recent()] == ["fetch_me"]


def reconciler(till: Till, ledger: Ledger) -> Reconciler:
    chain, now = till.chain(), till.clock.now
    return Reconciler(ledger, Judge(ledger, chain, LOCAL, now), chain, LOCAL, AGENT, now)


async def test_an_old_purchase_with_open_money_is_closed_by_reconcile(till: Till) -> None:
    await settled_unseen(till)
    await as_an_older_version_kept_it(till)
    await till.ledger.purchases.take_in()
    till.clock.advance(61)
    [payment] = await till.ledger.payments.of_run(purchase_id_of("one"))
    assert payment.state is PaymentState.AUTHORIZED
    closed = await reconciler(till, till.ledger).close_open()
    assert (closed.still_open, closed.problems) == ((), ())
    await till.check(PRICE)


async def test_a_slot_that_is_closed_beside_the_move_is_closed_again(till: Till) -> None:
    await settled_unseen(till)
    await as_an_older_version_kept_it(till)
    till.clock.advance(61)
    runs = till.ledger.runs
    old = replace(till.ledger, spenders=runs, budget=Budget(runs, runs))

    async def beside(moment: Moment) -> None:
        if moment == Moment("purchases.insert", 1, When.BEFORE):
            assert (await reconciler(till, old).reconcile()).ok
            assert (await runs.get(purchase_id_of("one"))).spent == Usd(PRICE)

    process, _ = till.life(beside)
    await process.ledger.ensure_indexes()
    assert (await till.ledger.purchases.get(purchase_id_of("one"))).spent == Usd(0)
    assert (await reconciler(till, till.ledger).reconcile()).ok
    purchase = await till.ledger.purchases.get(purchase_id_of("one"))
    assert (purchase.spent, purchase.reservations) == (Usd(PRICE), ())
    assert (await till.buy()).outcome is Outcome.PAID
    await till.check(PRICE)
