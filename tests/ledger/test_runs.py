"""Runs and their leases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from domain.due import Due
from domain.errors import LeaseHeld, LeaseLost, NotFound
from domain.jobs import JobSpec, Preference, RunStatus
from domain.money import Usd
from domain.tokens import UNUSED, ModelUse
from ledger.ledger import Ledger
from ledger.run import Lease, RecordedOffer, Run
from tests.support.builders import NOON, a_quote, at, leased, open_ledger
from tests.support.stack import FreshDatabase

LATER = NOON + timedelta(seconds=61)


@pytest.fixture
async def ledger(database: FreshDatabase) -> AsyncIterator[Ledger]:
    async with open_ledger(database) as opened:
        yield opened


async def test_creating_a_run_twice_gives_the_first(ledger: Ledger) -> None:
    first = await ledger.runs.create("run_1", "user_1", "Train", Usd.parse(5), NOON)
    again = await ledger.runs.create("run_1", "user_2", "Render", Usd.parse(9), LATER)
    assert again == first


async def test_a_run_that_is_not_there_is_not_found(ledger: Ledger) -> None:
    assert await ledger.runs.find("nobody") is None
    with pytest.raises(NotFound):
        await ledger.runs.get("nobody")
    with pytest.raises(NotFound):
        await ledger.runs.acquire("nobody", at(NOON), 60)


async def test_what_is_stored_of_a_run_comes_back_the_same(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    spec = JobSpec("training", "A100", 90, 2, Preference.FASTEST, ("gpu_vendor_9",), ("jobType",))
    offers = [RecordedOffer(a_quote(expires_at=LATER), "taken"), RecordedOffer(a_quote(), "dearer")]
    await ledger.runs.set_spec(lease, spec)
    await ledger.runs.set_offers(lease, offers)
    after = await ledger.runs.get(run.id)
    assert after.spec == spec
    assert after.offers == tuple(offers)


async def test_of_32_who_want_the_lease_one_gets_it(ledger: Ledger) -> None:
    run = await ledger.runs.create("run_1", "user_1", "Train", Usd.parse(5), NOON)
    attempts = [ledger.runs.acquire(run.id, at(NOON), 60) for _ in range(32)]
    answers = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(answer, tuple) for answer in answers) == 1
    assert sum(isinstance(answer, LeaseHeld) for answer in answers) == 31


async def test_a_lease_given_back_can_be_taken_at_once(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    assert await ledger.runs.release(lease, NOON, {"phase": "monitor"})
    after, next_lease = await ledger.runs.acquire(run.id, at(NOON), 60)
    assert next_lease.fence == lease.fence + 1
    assert after.phase == "monitor"


async def test_a_lease_is_taken_over_only_after_it_expired(ledger: Ledger) -> None:
    run, _ = await leased(ledger)
    with pytest.raises(LeaseHeld):
        await ledger.runs.acquire(run.id, at(NOON + timedelta(seconds=59)), 60)
    _, taken_over = await ledger.runs.acquire(run.id, at(LATER), 60)
    assert taken_over.expires_at == LATER + timedelta(seconds=60)


async def test_a_run_that_was_ticked_since_it_was_read_is_not_taken(ledger: Ledger) -> None:
    run = await ledger.runs.create("run_1", "user_1", "Train", Usd.parse(5), NOON)
    _, lease = await ledger.runs.acquire(run.id, at(NOON), 60)
    assert await ledger.runs.release(lease, NOON)
    with pytest.raises(LeaseHeld):
        await ledger.runs.take(run, at(NOON), 60)
    assert (await ledger.runs.get(run.id)).leased_until is None


async def test_who_reads_while_another_comes_and_goes_tries_once_more(ledger: Ledger) -> None:
    runs = ledger.runs
    run = await runs.create("run_1", "user_1", "Train", Usd.parse(5), NOON)
    take = runs.take

    async def late(read: Run, *args: Any, **kwargs: Any) -> tuple[Run, Lease]:
        runs.take = take  # type: ignore[method-assign]
        _, lease = await runs.acquire(run.id, at(NOON), 60)
        await runs.release(lease, NOON, {"phase": "monitor"})
        return await take(read, *args, **kwargs)

    runs.take = late  # type: ignore[method-assign, assignment]
    after, lease = await runs.acquire(run.id, at(NOON), 60)
    assert (after.phase, lease.fence) == ("monitor", 2)


def test_a_lease_that_ran_out_while_it_was_taken_is_none() -> None:
    lease = Lease("run_1", 1, LATER)
    lease.check(NOON)
    with pytest.raises(LeaseLost):
        lease.check(LATER)


async def test_who_takes_over_finds_what_the_last_holder_wrote_late(ledger: Ledger) -> None:
    _, slow = await leased(ledger)
    read = await ledger.runs.get(slow.run_id)
    await ledger.runs.update(slow, {"phase": "pay"})
    run, lease = await ledger.runs.take(read, at(LATER), 60)
    assert (read.phase, run.phase, lease.fence) == ("intake", "pay", slow.fence + 1)


async def test_who_reads_before_a_lease_is_given_back_finds_what_was_written_with_it(
    ledger: Ledger,
) -> None:
    _, before = await leased(ledger)
    read = await ledger.runs.get(before.run_id)
    assert await ledger.runs.release(before, NOON, {"phase": "monitor"})
    run, _ = await ledger.runs.take(read, at(NOON), 60)
    assert (read.phase, run.phase) == ("intake", "monitor")


async def test_who_lost_the_lease_changes_nothing(ledger: Ledger) -> None:
    run, stale = await leased(ledger)
    current, lease = await ledger.runs.acquire(run.id, at(LATER), 60)
    with pytest.raises(LeaseLost):
        await ledger.runs.update(stale, {"phase": "pay"})
    with pytest.raises(LeaseLost):
        await ledger.runs.end(stale, RunStatus.FAILED, "stale", LATER)
    assert not await ledger.runs.release(stale, LATER, {"phase": "pay"})
    after = await ledger.runs.get(run.id)
    assert (after.phase, after.status) == (current.phase, RunStatus.RUNNING)
    with pytest.raises(LeaseHeld):
        await ledger.runs.acquire(run.id, at(LATER), 60)
    assert await ledger.runs.release(lease, LATER)


async def test_a_release_puts_off_nothing_that_was_asked_for_meanwhile(ledger: Ledger) -> None:
    seen, lease = await leased(ledger)
    sooner = NOON + timedelta(seconds=1)
    assert await ledger.runs.request_cancel(seen.id, "enough", sooner)
    due = Due(LATER, 1)
    assert await ledger.runs.release(lease, NOON, {"phase": "monitor"}, seen=seen, due=due)
    after = await ledger.runs.get(seen.id)
    assert (after.phase, after.due_at, after.cancel_requested) == ("monitor", sooner, "enough")


async def test_who_asks_for_a_due_run_gets_none_that_is_not(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    await ledger.runs.release(lease, NOON, seen=run, due=Due(LATER, 1))
    with pytest.raises(LeaseHeld, match="not due"):
        await ledger.runs.acquire(run.id, at(NOON), 60, due=True)
    assert (await ledger.runs.acquire(run.id, at(LATER), 60, due=True))[0].id == run.id


async def test_an_ended_run_says_why(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    await ledger.runs.end(lease, RunStatus.FAILED, "no vendor", LATER)
    after = await ledger.runs.get(run.id)
    assert (after.status, after.reason) == (RunStatus.FAILED, "no vendor")


async def test_what_a_models_calls_used_adds_up_whoever_holds_the_lease(ledger: Ledger) -> None:
    run, _ = await leased(ledger)
    await leased(ledger, run_id="run_2")
    used = ModelUse(1, 900, 100, Usd(5))
    for _ in range(2):
        await ledger.runs.count_model(run.id, used)
    assert (await ledger.runs.get(run.id)).model == used + used
    assert (await ledger.runs.get("run_2")).model == UNUSED


async def test_runs_are_listed_newest_first_and_by_user(ledger: Ledger) -> None:
    for number in range(4):
        moment = NOON + timedelta(seconds=number)
        await ledger.runs.create(f"r{number}", f"u{number % 2}", "Train", Usd.parse(1), moment)
    assert [run.id for run in await ledger.runs.recent(limit=3)] == ["r3", "r2", "r1"]
    assert [run.id for run in await ledger.runs.recent(user_id="u0")] == ["r2", "r0"]


async def test_runs_are_found_by_the_beginning_of_their_ids_in_the_order_of_these(
    ledger: Ledger,
) -> None:
    for user, run_id in enumerate(("run_b2", "run_b", "run_a", "run_b1", "run_c", "run_bz")):
        await ledger.runs.create(run_id, f"u{user % 2}", "Train", Usd.parse(1), NOON)
    found = await ledger.runs.starting_with("run_b")
    assert [run.id for run in found] == ["run_b", "run_b1", "run_b2", "run_bz"]
    assert [run.id for run in await ledger.runs.starting_with("run_b", limit=2)] == [
        *("run_b", "run_b1")
    ]
    found = await ledger.runs.starting_with("run_b", user_id="u0")
    assert [run.id for run in found] == ["run_b2"]


async def test_runs_with_money_in_the_air_are_found(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    await leased(ledger, run_id="run_2")
    held = await ledger.budget.reserve(lease, run, 0, Usd.parse(1))
    assert await ledger.runs.with_open_money() == [run.id]
    assert await ledger.runs.with_open_money(run.updated_at) == [run.id]
    assert await ledger.runs.with_open_money(run.updated_at + timedelta(seconds=1)) == []
    await ledger.budget.release(run.id, held)
    assert await ledger.runs.with_open_money() == []
