"""Which runs are due: what is stored, who changes it, and what a tick leaves behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from domain.due import Due
from domain.errors import LeaseHeld
from domain.money import Usd
from ledger.ledger import Ledger
from ledger.schedule import SweepTurn
from tests.support.builders import NOON, at, open_ledger
from tests.support.stack import FreshDatabase

LATER = NOON + timedelta(seconds=61)
NEXT = NOON + timedelta(hours=1)


@pytest.fixture
async def ledger(database: FreshDatabase) -> AsyncIterator[Ledger]:
    async with open_ledger(database) as opened:
        yield opened


async def a_run(ledger: Ledger, run_id: str = "run_1", phase: str = "intake") -> None:
    await ledger.runs.create(run_id, "user_1", "Train", Usd.parse(5), NOON, phase=phase)


async def due_ids(ledger: Ledger, limit: int = 10) -> list[str]:
    return [run.run_id for run in await ledger.runs.schedule.due(NOON, limit)]


async def test_a_new_run_is_due_and_a_purchase_by_a_person_never(ledger: Ledger) -> None:
    await a_run(ledger)
    await ledger.purchases.create("fetch_1", "GET", Usd.parse(1), NOON)
    assert not await ledger.runs.schedule.make_due("fetch_1", NOON)
    assert await due_ids(ledger) == ["run_1"]


async def test_a_run_at_work_is_not_due_until_its_lease_ends(ledger: Ledger) -> None:
    await a_run(ledger)
    await ledger.runs.acquire("run_1", at(NOON), 60)
    assert await due_ids(ledger) == []
    assert [run.run_id for run in await ledger.runs.schedule.due(LATER, 10)] == ["run_1"]


async def test_the_end_of_a_tick_says_when_the_next_is_due(ledger: Ledger) -> None:
    await a_run(ledger)
    run, lease = await ledger.runs.acquire("run_1", at(NOON), 60)
    assert await ledger.runs.release(lease, NOON, seen=run, due=Due(NEXT, 3))
    after = await ledger.runs.get("run_1")
    assert (after.due_at, after.quiet_ticks) == (NEXT, 3)
    assert await due_ids(ledger) == []
    with pytest.raises(LeaseHeld):
        await ledger.runs.acquire("run_1", at(NOON), 60, due=True)
    await ledger.runs.acquire("run_1", at(NEXT), 60, due=True)


async def test_what_is_asked_for_while_a_tick_works_is_not_forgotten(ledger: Ledger) -> None:
    await a_run(ledger)
    run, lease = await ledger.runs.acquire("run_1", at(LATER), 60)
    assert await ledger.runs.request_cancel("run_1", "enough", LATER)
    assert await ledger.runs.release(lease, LATER, seen=run, due=Due(None, 0))
    assert (await ledger.runs.get("run_1")).due_at == LATER


async def test_a_tick_that_lost_its_lease_moves_nothing(ledger: Ledger) -> None:
    await a_run(ledger)
    run, stale = await ledger.runs.acquire("run_1", at(NOON), 60)
    await ledger.runs.acquire("run_1", at(LATER), 60)
    assert not await ledger.runs.release(stale, LATER, seen=run, due=Due(NEXT, 0))
    assert (await ledger.runs.get("run_1")).due_at == NOON


async def test_runs_of_an_older_version_count_as_due(ledger: Ledger) -> None:
    for run_id, phase in (("old", "monitor"), ("ended", "ended"), ("fetch_1", "fetch")):
        await a_run(ledger, run_id, phase)
        update = {"$unset": {"dueAt": "", "quietTicks": ""}}
        if run_id == "ended":
            update["$set"] = {"status": "completed"}
        await ledger.runs.documents.change(run_id, {}, update)
    await a_run(ledger, "new")
    assert await due_ids(ledger) == ["new"]
    await ledger.ensure_indexes()
    await ledger.runs.schedule.adopt_old(NOON - timedelta(seconds=1))
    assert await due_ids(ledger) == ["old", "new"]


async def test_the_longest_overdue_come_first_and_no_more_than_asked_for(ledger: Ledger) -> None:
    for n in range(5):
        await a_run(ledger, f"run_{n}")
        await ledger.runs.schedule.make_due(f"run_{n}", NOON - timedelta(seconds=n))
    assert await due_ids(ledger, limit=2) == ["run_4", "run_3"]


async def test_whoever_makes_a_run_due_here_is_heard_here(ledger: Ledger) -> None:
    heard: list[str] = []
    ledger.runs.schedule.on_due(lambda: heard.append("due"))
    await a_run(ledger)
    await ledger.runs.schedule.make_due("run_1", NOON)
    assert len(heard) == 2


async def test_one_sweeps_at_a_time_and_another_when_its_turn_is_over(ledger: Ledger) -> None:
    one, other = (SweepTurn(ledger.store, owner, 5) for owner in ("one", "other"))
    assert await one.take(NOON)
    assert not await other.take(NOON)
    assert await one.take(NOON + timedelta(seconds=4))
    assert not await other.take(NOON + timedelta(seconds=6))
    assert await other.take(NOON + timedelta(seconds=9))
    await other.give_back(NOON + timedelta(seconds=9))
    assert await one.take(NOON + timedelta(seconds=9))
