"""The caps over all runs of a user, with ticks in parallel."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from domain.errors import PolicyRefused
from domain.ids import user_day, wallet_day
from domain.money import ZERO, Usd
from domain.policy import Caps
from ledger.allowances import Allowances, Charge
from ledger.store import Store
from tests.support.stack import FreshDatabase

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ONE = Usd.parse(1)


async def hold(
    book: Allowances, caps: Caps, user: str, vendor: str, slot: str, amount: Usd, now: datetime
) -> str:
    day = user_day(user, now)
    await book.hold(caps, day, Charge(slot, vendor, amount), now)
    return day


def allowances(database: FreshDatabase) -> Allowances:
    return Allowances(Store(database.client, database.name))


async def test_holds_up_to_the_cap_and_not_a_micro_dollar_more(database: FreshDatabase) -> None:
    book, caps = allowances(database), Caps(user_day=Usd.parse(2))
    await hold(book, caps, "u.1", "v$1", "run:0", ONE, NOON)
    await hold(book, caps, "u.1", "v$1", "run:1", ONE, NOON)
    with pytest.raises(PolicyRefused, match="max_user_day"):
        await hold(book, caps, "u.1", "v$1", "run:2", Usd(1), NOON)


async def test_holding_a_slot_again_counts_it_once(database: FreshDatabase) -> None:
    book, caps = allowances(database), Caps(user_day=Usd.parse(1.5))
    for _ in range(3):
        await hold(book, caps, "u", "v", "run:0", ONE, NOON)
    await hold(book, caps, "u", "v", "run:0", Usd.parse(1.5), NOON)
    with pytest.raises(PolicyRefused):
        await hold(book, caps, "u", "v", "run:0", Usd.parse(1.6), NOON)


async def test_parallel_holds_never_pass_the_cap(database: FreshDatabase) -> None:
    book, caps = allowances(database), Caps(user_day=Usd.parse(5))

    async def held(slot: int) -> bool:
        try:
            await hold(book, caps, "u", "v", f"run{slot}:0", ONE, NOON)
        except PolicyRefused:
            return False
        return True

    assert sum(await asyncio.gather(*(held(slot) for slot in range(12)))) == 5


async def test_each_cap_counts_its_own(database: FreshDatabase) -> None:
    book = allowances(database)
    caps = Caps(user_day=Usd.parse(3), user_hour=Usd.parse(2), vendor_day=ONE)
    await hold(book, caps, "u", "a", "run:0", ONE, NOON)
    with pytest.raises(PolicyRefused, match="max_vendor_day"):
        await hold(book, caps, "u", "a", "run:1", ONE, NOON)
    await hold(book, caps, "u", "b", "run:2", ONE, NOON)
    with pytest.raises(PolicyRefused, match="max_user_hour"):
        await hold(book, caps, "u", "c", "run:3", ONE, NOON)
    await hold(book, caps, "u", "c", "run:4", ONE, NOON + timedelta(hours=1))
    with pytest.raises(PolicyRefused, match="max_user_day"):
        await hold(book, caps, "u", "d", "run:5", ONE, NOON + timedelta(hours=2))
    await hold(book, caps, "u", "d", "run:6", ONE, NOON + timedelta(days=1))
    await hold(book, caps, "another", "a", "run:7", ONE, NOON)


async def test_what_was_not_spent_is_free_again_once(database: FreshDatabase) -> None:
    book, caps = allowances(database), Caps(user_day=ONE)
    day = await hold(book, caps, "u", "v", "run:0", ONE, NOON)
    for _ in range(2):
        await book.settle(day, "run:0", ZERO, None)
    await hold(book, caps, "u", "v", "run:1", ONE, NOON)
    with pytest.raises(PolicyRefused):
        await hold(book, caps, "u", "v", "run:2", ONE, NOON)


async def test_each_vendor_of_a_shared_slot_is_held_against_its_own_cap(
    database: FreshDatabase,
) -> None:
    book, caps = allowances(database), Caps(vendor_day=ONE)
    await hold(book, caps, "u", "b", "run:0", ONE, NOON)
    await hold(book, caps, "u", "a", "run:1", ONE, NOON)
    with pytest.raises(PolicyRefused, match="max_vendor_day"):
        await hold(book, caps, "u", "b", "run:1", ONE, NOON)


async def test_a_shared_slot_counts_once_and_only_its_winner_keeps_the_charge(
    database: FreshDatabase,
) -> None:
    book, caps = allowances(database), Caps(user_day=Usd.parse(3), vendor_day=Usd.parse(2))
    day = await hold(book, caps, "u", "a", "run:0", ONE, NOON)
    await hold(book, caps, "u", "b", "run:0", Usd.parse(2), NOON + timedelta(hours=1))
    for _ in range(2):
        await book.settle(day, "run:0", Usd.parse(2), "b")
    await hold(book, caps, "u", "a", "run:1", ONE, NOON)
    with pytest.raises(PolicyRefused, match="max_user_day"):
        await hold(book, caps, "u", "c", "run:2", Usd(1), NOON)
    document = await book.documents.get(day)
    assert document is not None
    assert document["vendors"] == {"a": 1_000_000, "b": 2_000_000}


async def test_a_settled_slot_counts_with_what_it_spent_in_its_hour_and_on_its_day(
    database: FreshDatabase,
) -> None:
    book, two, half = allowances(database), Usd.parse(2), Usd.parse("0.5")
    caps = Caps(user_day=two, user_hour=two, vendor_day=two, wallet_day=two)
    day = await hold(book, caps, "u", "v", "run:0", two, NOON)
    assert await book.unsettled(NOON) == {"run:0"}
    for _ in range(2):
        await book.settle(day, "run:0", half, "v")
    assert await book.unsettled(NOON) == set()
    with pytest.raises(PolicyRefused):
        await hold(book, caps, "u", "v", "run:1", Usd(1_500_001), NOON)
    await hold(book, caps, "u", "v", "run:1", Usd(1_500_000), NOON)
    assert await book.unsettled(NOON) == {"run:1"}
    assert await book.unsettled(NOON + timedelta(days=1)) == set()
    for id_, counted in (
        (day, {"hours": {"12": 2_000_000}, "vendors": {"v": 2_000_000}}),
        (wallet_day(day), {}),
    ):
        document = await book.documents.get(id_)
        assert document is not None
        assert document | counted | {"day": 2_000_000} == document


async def test_what_everyone_holds_is_unsettled_whoever_has_caps(database: FreshDatabase) -> None:
    book = allowances(database)
    await hold(book, Caps(wallet_day=ONE), "u", "v", "run.1:0", ONE, NOON)
    await hold(book, Caps(user_day=ONE), "another", "v", "run:7", ONE, NOON)
    assert await book.unsettled(NOON) == {"run.1:0", "run:7"}


async def test_a_check_counts_nothing_and_refuses_what_would_not_be_held(
    database: FreshDatabase,
) -> None:
    book, caps = allowances(database), Caps(user_day=ONE, wallet_day=Usd.parse(3))
    day = user_day("u", NOON)
    for _ in range(3):
        await book.check(caps, day, Charge("run:0", "v", ONE), NOON)
    with pytest.raises(PolicyRefused, match="max_user_day"):
        await book.check(caps, day, Charge("run:0", "v", Usd(ONE.micros + 1)), NOON)
    for user in ("a", "b", "c"):
        await hold(book, caps, user, "v", f"{user}:0", ONE, NOON)
    with pytest.raises(PolicyRefused, match="max_wallet_day"):
        await book.check(caps, day, Charge("run:0", "v", Usd(1)), NOON)
    await book.check(Caps(user_day=ONE), day, Charge("run:0", "v", ONE), NOON)
