"""Raising a run's budget: once for each request, never for a run that has ended."""

from __future__ import annotations

import asyncio

import pytest

from domain.errors import BudgetExceeded, Conflict, NotFound
from domain.jobs import RunStatus
from domain.money import LARGEST, Usd
from ledger.budget import MOST_RAISES
from ledger.ledger import Ledger
from tests.support.builders import NOON, check_books, leased, open_ledger
from tests.support.stack import FreshDatabase

TWO = Usd.parse(2)


@pytest.fixture
async def ledger(database: FreshDatabase):  # type: ignore[no-untyped-def]
    async with open_ledger(database) as opened:
        yield opened


async def test_a_raise_adds_to_the_total_and_to_what_is_left(ledger: Ledger) -> None:
    run, _ = await leased(ledger)
    after = await ledger.budget.raise_total(run.id, "m1", TWO, NOON)
    assert (after.budget_total, after.budget_remaining) == (Usd.parse(7), Usd.parse(7))
    check_books(after)


async def test_16_of_one_message_raise_once_and_of_16_messages_each(ledger: Ledger) -> None:
    run, _ = await leased(ledger)
    await asyncio.gather(*(ledger.budget.raise_total(run.id, "m1", TWO, NOON) for _ in range(16)))
    assert (await ledger.runs.get(run.id)).budget_total == Usd.parse(7)
    await asyncio.gather(
        *(ledger.budget.raise_total(run.id, f"n{n}", Usd.parse(1), NOON) for n in range(16))
    )
    after = await ledger.runs.get(run.id)
    assert after.budget_total == Usd.parse(23)
    check_books(after)


async def test_raises_among_reservations_posts_and_refunds_keep_the_books(ledger: Ledger) -> None:
    run, lease = await leased(ledger, dollars=3)

    async def buy(slot: int) -> None:
        try:
            held = await ledger.budget.reserve(
                lease, await ledger.runs.get(run.id), slot, Usd.parse(1)
            )
        except (BudgetExceeded, Conflict):
            return
        assert await ledger.budget.post(run.id, held, Usd(700_000))

    async def raise_(number: int) -> None:
        await ledger.budget.raise_total(run.id, f"m{number}", TWO, NOON)
        check_books(await ledger.runs.get(run.id))

    await asyncio.gather(*(buy(n) for n in range(4)), *(raise_(n) for n in range(8)))
    after = await ledger.runs.get(run.id)
    check_books(after)
    assert after.budget_total == Usd.parse(19)


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED])
async def test_an_ended_run_cannot_be_raised(ledger: Ledger, status: RunStatus) -> None:
    run, lease = await leased(ledger)
    await ledger.runs.end(lease, status, "", NOON)
    with pytest.raises(Conflict):
        await ledger.budget.raise_total(run.id, "m1", TWO, NOON)
    assert (await ledger.runs.get(run.id)).budget_total == Usd.parse(5)


async def test_a_run_that_is_being_cancelled_cannot_be_raised(ledger: Ledger) -> None:
    run, _ = await leased(ledger)
    await ledger.runs.request_cancel(run.id, "enough", NOON)
    with pytest.raises(Conflict, match="being cancelled"):
        await ledger.budget.raise_total(run.id, "m1", TWO, NOON)


async def test_a_raise_reckoned_from_another_total_is_refused(ledger: Ledger) -> None:
    run, _ = await leased(ledger)
    await ledger.budget.raise_total(run.id, "m1", TWO, NOON)
    with pytest.raises(Conflict, match="has just changed"):
        await ledger.budget.raise_total(run.id, "m2", TWO, NOON, seen=run.budget_total)


@pytest.mark.parametrize("micros", [0, -1, LARGEST])
async def test_an_amount_that_makes_no_sense_raises_nothing(ledger: Ledger, micros: int) -> None:
    run, _ = await leased(ledger)
    with pytest.raises(BudgetExceeded):
        await ledger.budget.raise_total(run.id, "m1", Usd(micros), NOON)
    check_books(await ledger.runs.get(run.id))


async def test_an_unknown_run_is_not_found(ledger: Ledger) -> None:
    with pytest.raises(NotFound):
        await ledger.budget.raise_total("nobody", "m1", TWO, NOON)


async def test_the_document_does_not_grow_without_end(ledger: Ledger) -> None:
    run, _ = await leased(ledger)
    keys = [f"m{n}" for n in range(MOST_RAISES)]
    await ledger.runs.documents.change(run.id, {}, {"$set": {"raises": keys}})
    with pytest.raises(BudgetExceeded):
        await ledger.budget.raise_total(run.id, "one more", TWO, NOON)
    assert (await ledger.budget.raise_total(run.id, "m7", TWO, NOON)).budget_total == Usd.parse(5)
