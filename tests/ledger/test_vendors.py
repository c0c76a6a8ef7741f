"""The registry of vendors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from domain.errors import ConfigError, NotFound
from domain.money import Usd
from ledger.ledger import Ledger
from tests.support.builders import NOON, a_vendor, open_ledger
from tests.support.stack import FreshDatabase


@pytest.fixture
async def ledger(database: FreshDatabase) -> AsyncIterator[Ledger]:
    async with open_ledger(database) as opened:
        yield opened


async def test_a_registered_vendor_comes_back_the_same(ledger: Ledger) -> None:
    unpaid = a_vendor("b", pay_to=None)
    for vendor in (unpaid, a_vendor("a")):
        await ledger.vendors.put(vendor, NOON)
    assert await ledger.vendors.all() == [a_vendor("a"), unpaid]
    assert await ledger.vendors.get("b") == unpaid


async def test_registering_again_changes_the_line(ledger: Ledger) -> None:
    await ledger.vendors.put(a_vendor("a"), NOON)
    changed = replace(a_vendor("a"), price_per_hour=Usd.parse("2.5"))
    await ledger.vendors.put(changed, NOON)
    assert await ledger.vendors.all() == [changed]


async def test_a_removed_vendor_is_gone(ledger: Ledger) -> None:
    await ledger.vendors.put(a_vendor("a"), NOON)
    await ledger.vendors.remove("a")
    assert await ledger.vendors.all() == []
    for gone in (ledger.vendors.get, ledger.vendors.remove):
        with pytest.raises(NotFound):
            await gone("a")


async def test_a_line_written_by_hand_in_the_seeds_shape_is_read(
    ledger: Ledger, database: FreshDatabase
) -> None:
    line = {
        "vendorId": "gpu_vendor_7",
        "name": "HandMade",
        "endpoint": "http://localhost:4001/",
        "basePricePerHour": 1.4,
        "reliabilityScore": 0.9,
        "supportedGpuTypes": ["A100"],
    }
    await database.db["vendors"].insert_one(line)
    vendor = await ledger.vendors.get("gpu_vendor_7")
    assert (vendor.price_per_hour, vendor.pay_to) == (Usd.parse("1.4"), None)
    assert vendor.endpoint == "http://localhost:4001"
    await ledger.vendors.remove("gpu_vendor_7")


async def test_a_line_that_lacks_a_field_is_named_with_it(
    ledger: Ledger, database: FreshDatabase
) -> None:
    await database.db["vendors"].insert_one({"vendorId": "half"})
    with pytest.raises(ConfigError) as problem:
        await ledger.vendors.all()
    assert "half" in str(problem.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("reliabilityScore", "good"), ("supportedGpuTypes", None), ("basePricePerHour", -1)],
)
async def test_a_line_with_a_field_of_another_kind_is_named(
    ledger: Ledger, database: FreshDatabase, field: str, value: object
) -> None:
    line = {
        "vendorId": "odd", "name": "Odd", "endpoint": "http://odd.test", "basePricePerHour": 1.4,
        "reliabilityScore": 0.9, "supportedGpuTypes": ["A100"],
    }  # fmt: skip
    await database.db["vendors"].insert_one({**line, field: value})
    with pytest.raises(ConfigError, match="odd"):
        await ledger.vendors.all()
