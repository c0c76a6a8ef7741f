"""The caps over all runs of a user, with ticks in parallel."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from domain.errors import PolicyRefused
from domain.money import ZERO, Usd
from domain.policy import Caps
from ledger.allowances import Allowances
from ledger.store import Store
from tests.support.stack import FreshDatabase

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ONE = Usd.parse(1)


def allowances(database: FreshDatabase) -> Allowances:
    return Allowances(Store(database.client, database.name))


async def test_holds_up_to_the_cap_and_not_a_micro_dollar_more(database: FreshDatabase) -> None:
    book, caps = allowances(database), Caps(user_day=Usd.parse(2))
    await book.hold(caps, "u.1", "v$1", "run:0", ONE, NOON)
    await book.hold(caps, "u.1", "v$1", "run:1", ONE, NOON)
    with pytest.raises(PolicyRefused, match="max_user_day"):
        await book.hold(caps, "u.1", "v$1", "run:2", Usd(1), NOON)


async def test_holding_a_slot_again_counts_it_once(database: FreshDatabase) -> None:
    book, caps = allowances(database), Caps(user_day=Usd.parse(1.5))
    for _ in range(3):
        await book.hold(caps, "u", "v", "run:0", ONE, NOON)
    await book.hold(caps, "u", "v", "run:0", Usd.parse(1.5), NOON)
    with pytest.raises(PolicyRefused):
        await book.hold(caps, "u", "v", "run:0", Usd.parse(1.6), NOON)


async def test_parallel_holds_never_pass_the_cap(database: FreshDatabase) -> None:
    book, caps = allowances(database), Caps(user_day=Usd.parse(5))

    async def hold(slot: int) -> bool:
        try:
            await book.hold(caps, "u", "v", f"run{slot}:0", ONE, NOON)
        except PolicyRefused:
            return False
        return True

    assert sum(await asyncio.gather(*(hold(slot) for slot in range(12)))) == 5


async def test_each_cap_counts_its_own(database: FreshDatabase) -> None:
    book = allowances(database)
    caps = Caps(user_day=Usd.parse(3), user_hour=Usd.parse(2), vendor_day=ONE)
    await book.hold(caps, "u", "a", "run:0", ONE, NOON)
    with pytest.raises(PolicyRefused, match="max_vendor_day"):
        await book.hold(caps, "u", "a", "run:1", ONE, NOON)
    await book.hold(caps, "u", "b", "run:2", ONE, NOON)
    with pytest.raises(PolicyRefused, match="max_user_hour"):
        await book.hold(caps, "u", "c", "run:3", ONE, NOON)
    await book.hold(caps, "u", "c", "run:4", ONE, NOON + timedelta(hours=1))
    with pytest.raises(PolicyRefused, match="max_user_day"):
        await book.hold(caps, "u", "d", "run:5", ONE, NOON + timedelta(hours=2))
    await book.hold(caps, "u", "d", "run:6", ONE, NOON + timedelta(days=1))
    await book.hold(caps, "another", "a", "run:7", ONE, NOON)


async def test_what_was_not_spent_is_free_again_once(database: FreshDatabase) -> None:
    book, caps = allowances(database), Caps(user_day=ONE)
    day = await book.hold(caps, "u", "v", "run:0", ONE, NOON)
    for _ in range(2):
        await book.settle(day, "run:0", ZERO)
    await book.hold(caps, "u", "v", "run:1", ONE, NOON)
    with pytest.raises(PolicyRefused):
        await book.hold(caps, "u", "v", "run:2", ONE, NOON)
