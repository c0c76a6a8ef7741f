"""Clocks that are off: what they wrote keeps nobody from a run, and who has one does not tick."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from pydantic import SecretStr

from domain.clocks import LONGEST_DUE, LONGEST_LEASE, MOST_OFF, MOST_OFF_STORE
from domain.errors import ClockOff, LeaseHeld
from ledger import clock as clocks
from ledger.clock import ClockWatch
from ledger.deliveries import LONGEST_WAIT, LOOK_BACK, Deliveries
from ledger.holder import Holder
from ledger.idempotency import Idempotency, KeyBusy
from ledger.ledger import Ledger
from ledger.schedule import SweepTurn, has_come
from server.config.settings import Settings
from server.terminal.money import open_money
from server.wiring import now
from tests.support.builders import NOON, at, leased, open_ledger
from tests.support.stack import FreshDatabase

ELSEWHERE = Holder("another machine", 1, "1")
SOON = timedelta(seconds=1)


@pytest.fixture
async def ledger(database: FreshDatabase) -> AsyncIterator[Ledger]:
    async with open_ledger(database) as opened:
        yield opened


async def held_until(ledger: Ledger, moment: datetime, holder: Holder | None = ELSEWHERE) -> str:
    """A run whose lease of 60 s ends then, by its holder's clock."""
    run, _ = await leased(ledger)
    fields = {"lease.expiresAt": moment}
    if holder is not None:
        fields["lease.holder"] = holder.document()  # type: ignore[assignment]
    assert await ledger.runs.documents.change(run.id, {}, {"$set": fields})
    return run.id


async def test_a_lease_that_ends_later_than_it_can_is_past(ledger: Ledger) -> None:
    run_id = await held_until(ledger, NOON + timedelta(seconds=60) + MOST_OFF + SOON)
    _, lease = await ledger.runs.acquire(run_id, at(NOON), 60)
    assert lease.expires_at == NOON + timedelta(seconds=60)


async def test_a_lease_of_a_clock_that_is_a_little_ahead_holds(ledger: Ledger) -> None:
    run_id = await held_until(ledger, NOON + timedelta(seconds=60) + MOST_OFF - SOON)
    with pytest.raises(LeaseHeld):
        await ledger.runs.acquire(run_id, at(NOON), 60)


async def test_who_is_behind_takes_no_lease_of_who_is_ahead(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are near enough to MongoDB's clock to tick, and so to each other."""
    most = MOST_OFF_STORE - timedelta(milliseconds=1)
    monkeypatch.setattr(type(ledger.store), "time", _said(NOON))
    await ClockWatch(ledger.store, at(NOON + most)).check()
    ledger.runs.clock = ClockWatch(ledger.store, at(NOON - most))
    run_id = await held_until(ledger, NOON + most + timedelta(seconds=60))
    with pytest.raises(LeaseHeld):
        await ledger.runs.acquire(run_id, at(NOON - most), 60)


async def test_one_of_those_who_take_over_an_impossible_lease_gets_it(ledger: Ledger) -> None:
    run_id = await held_until(ledger, NOON + timedelta(days=400))
    read = await ledger.runs.get(run_id)
    await ledger.runs.take(read, at(NOON), 60)
    with pytest.raises(LeaseHeld):
        await ledger.runs.take(read, at(NOON), 60)


async def test_a_run_under_an_impossible_lease_is_due(ledger: Ledger) -> None:
    run_id = await held_until(ledger, NOON + LONGEST_LEASE + MOST_OFF + SOON)
    assert [due.run_id for due in await ledger.runs.schedule.due(NOON, 5)] == [run_id]


async def test_a_run_that_is_put_off_for_longer_than_can_be_is_due(ledger: Ledger) -> None:
    run, lease = await leased(ledger)
    beyond = NOON + LONGEST_DUE + MOST_OFF + SOON
    await ledger.runs.release(lease, NOON, {"dueAt": beyond})
    assert has_come(beyond, NOON)
    assert not await ledger.runs.schedule.due(NOON, 5)
    assert await ledger.runs.schedule.mend_times(NOON) == 1
    assert [due.run_id for due in await ledger.runs.schedule.due(NOON, 5)] == [run.id]


async def test_a_turn_that_ends_later_than_it_can_is_over(ledger: Ledger) -> None:
    ahead, ours = (SweepTurn(ledger.store, owner, 5) for owner in ("ahead", "ours"))
    assert await ahead.take(NOON + timedelta(minutes=5))
    assert await ours.take(NOON)
    assert not await ahead.take(NOON)


async def test_an_entry_is_told_although_a_clock_put_it_off_for_years(ledger: Ledger) -> None:
    deliveries = Deliveries(ledger.store, "receiver")
    beyond = NOON + LONGEST_WAIT + MOST_OFF + SOON
    await deliveries.documents.insert(deliveries._cursor("run_1", 3, beyond))
    assert await deliveries.mend_times(NOON) == 1
    assert [due.run_id for due in await deliveries.due(NOON, 5)] == ["run_1"]


async def test_what_a_clock_ahead_hid_from_the_receiver_is_looked_for(ledger: Ledger) -> None:
    deliveries = Deliveries(ledger.store, "receiver")
    await deliveries.watermark(NOON)
    await deliveries.advance(NOON + timedelta(days=30))
    assert await deliveries.watermark(NOON) == NOON - LOOK_BACK


async def test_a_request_is_not_locked_for_longer_than_its_patience(ledger: Ledger) -> None:
    markers, patience = Idempotency(ledger.store), timedelta(seconds=30)
    await markers.begin("key", "body", NOON, patience)
    with pytest.raises(KeyBusy):
        await markers.begin("key", "body", NOON, patience)
    locked = {"$set": {"lockedUntil": NOON + timedelta(days=3)}}
    assert await markers.documents.change("key", {}, locked)
    await markers.begin("key", "body", NOON, patience)


@pytest.mark.parametrize(
    ("off", "word"), [(timedelta(seconds=9), "ahead of"), (timedelta(minutes=-3), "behind")]
)
async def test_who_has_a_clock_of_his_own_takes_no_lease(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, off: timedelta, word: str
) -> None:
    run, lease = await leased(ledger)
    await ledger.runs.release(lease, NOON)
    theirs = await ledger.store.time()
    monkeypatch.setattr(type(ledger.store), "time", _said(theirs))
    ledger.runs.clock = ClockWatch(ledger.store, at(theirs + off))
    with pytest.raises(ClockOff, match=f"s {word} MongoDB's"):
        await ledger.runs.acquire(run.id, at(NOON), 60)
    assert (await ledger.runs.get(run.id)).held is None
    ledger.runs.clock._now = at(theirs)
    await ledger.runs.acquire(run.id, at(NOON), 60)


async def test_a_command_whose_clock_is_off_takes_no_lease_either(
    ledger: Ledger, database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, lease = await leased(ledger)
    await ledger.runs.release(lease, NOON)
    monkeypatch.setattr(type(ledger.store), "time", _said(now() + timedelta(minutes=2)))
    settings = Settings(
        mongodb_uri=SecretStr(database.uri),
        mongodb_db_name=database.name,
        rpc_url=SecretStr("http://127.0.0.1:1"),
    )
    async with open_money(settings) as opened:
        with pytest.raises(ClockOff):
            await opened.ledger.runs.acquire(run.id, now, 60)


async def test_the_clocks_of_one_machine_agree(ledger: Ledger) -> None:
    await ClockWatch(ledger.store, now).check()


async def test_a_slow_answer_is_not_taken_for_a_clock_that_is_off(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = await ledger.store.time()
    monkeypatch.setattr(type(ledger.store), "time", _said(theirs))
    moments = iter([theirs - timedelta(seconds=20), theirs + timedelta(seconds=1)])
    assert await ClockWatch(ledger.store, lambda: next(moments)).off_by() == timedelta(0)


async def test_the_clock_is_measured_now_and_then_and_while_it_is_off(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def time(_: object) -> datetime:
        asked.append(1)
        return NOON

    monkeypatch.setattr(type(ledger.store), "time", time)
    monkeypatch.setattr(clocks, "CHECK_EVERY_S", 3600.0)
    watch = ClockWatch(ledger.store, at(NOON))
    await watch.check()
    await watch.check()
    assert len(asked) == 1
    watch._now, watch._measured_at = at(NOON + timedelta(minutes=1)), float("-inf")
    for _ in range(2):
        with pytest.raises(ClockOff):
            await watch.check()
    assert len(asked) == 3


async def test_a_lease_whose_process_has_ended_is_taken_over_at_once(ledger: Ledger) -> None:
    me = Holder.me()
    assert not me.gone
    run_id = await held_until(ledger, NOON + SOON, me)
    with pytest.raises(LeaseHeld, match="Another tick works on"):
        await ledger.runs.acquire(run_id, at(NOON), 60)
    dead = replace(me, born="before this process began")
    assert dead.gone
    await ledger.runs.documents.change(run_id, {}, {"$set": {"lease.holder": dead.document()}})
    await ledger.runs.acquire(run_id, at(NOON), 60)


async def test_a_run_left_by_a_process_elsewhere_says_when_it_goes_on(ledger: Ledger) -> None:
    run_id = await held_until(ledger, NOON + timedelta(seconds=40))
    with pytest.raises(LeaseHeld, match="Another tick works on") as at_work:
        await ledger.runs.acquire(run_id, at(NOON), 60)
    assert at_work.value.goes_on_in_s is None
    later = NOON + timedelta(seconds=28)  # its holder would have prolonged it twice
    with pytest.raises(LeaseHeld, match=r"The process .* is gone. It goes on in 12 s") as left:
        await ledger.runs.acquire(run_id, at(later), 60)
    assert left.value.goes_on_in_s == 12


@pytest.mark.parametrize(
    ("holder", "alone", "freed"),
    [
        (replace(Holder.me(), born="earlier"), False, 1),
        (ELSEWHERE, False, 0),
        (ELSEWHERE, True, 1),
        (Holder.me(), True, 0),
        (None, True, 0),
    ],
)
async def test_a_start_frees_what_the_dead_held_and_leaves_the_living_theirs(
    ledger: Ledger, holder: Holder | None, alone: bool, freed: int
) -> None:
    run_id = await held_until(ledger, NOON + timedelta(seconds=60), holder)
    if holder is None:
        await ledger.runs.documents.change(run_id, {}, {"$unset": {"lease.holder": ""}})
    fence = (await ledger.runs.get(run_id)).fence
    assert await ledger.runs.free_abandoned(NOON, alone=alone) == freed
    run = await ledger.runs.get(run_id)
    assert (run.held is None, run.fence - fence) == (bool(freed), freed)


async def test_the_living_keep_nobody_from_freeing_what_the_dead_held(ledger: Ledger) -> None:
    living, dead = Holder.me(), replace(Holder.me(), born="earlier")
    for number, holder in enumerate((living, dead, living, dead)):
        run, _ = await leased(ledger, run_id=f"run_{number}")
        held = {"lease.holder": holder.document()}
        await ledger.runs.documents.change(run.id, {}, {"$set": held})
    assert await ledger.runs.free_abandoned(NOON) == 2
    free = [run.id for run in await ledger.runs.recent() if run.held is None]
    assert sorted(free) == ["run_1", "run_3"]


def _said(moment: datetime):  # type: ignore[no-untyped-def]
    async def time(_: object) -> datetime:
        return moment

    return time
