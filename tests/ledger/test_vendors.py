"""The registry of vendors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from domain.errors import ConfigError, NotFound
from domain.money import Usd
from domain.reliability import Trouble, block_at, weight
from domain.vendor_secrets import SEEDED_VENDORS
from ledger.ledger import Ledger
from ledger.vendors import BOOKED_KEPT, End
from mock_vendor.vendor.settings import seeded_vendors
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


async def test_only_a_seeded_line_without_a_secrets_name_means_the_common_one(
    ledger: Ledger, database: FreshDatabase
) -> None:
    assert set(SEEDED_VENDORS) == {vendor.vendor_id for vendor in seeded_vendors(Decimal(1))}
    for vendor in (a_vendor("acme"), a_vendor("gpu_vendor_1"), a_vendor("open", secret_env=None)):
        await ledger.vendors.put(vendor, NOON)
    older = {"vendorId": {"$ne": "open"}}
    await database.db["vendors"].update_many(older, {"$unset": {"secretEnv": ""}})
    assert {v.vendor_id: v.secret_env for v in await ledger.vendors.all()} == {
        "acme": None,
        "gpu_vendor_1": "GPU_VENDOR_SECRET",
        "open": None,
    }
    assert await ledger.vendors.without_secret_env() == ["acme"]


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
        "vendorId": "odd",
        "name": "Odd",
        "endpoint": "http://odd.test",
        "basePricePerHour": 1.4,
        "reliabilityScore": 0.9,
        "supportedGpuTypes": ["A100"],
    }
    await database.db["vendors"].insert_one({**line, field: value})
    with pytest.raises(ConfigError, match="odd"):
        await ledger.vendors.all()


@pytest.fixture
async def known(ledger: Ledger) -> Ledger:
    """A ledger with one vendor, `a`."""
    await ledger.vendors.put(a_vendor("a"), NOON)
    return ledger


async def test_what_jobs_came_to_is_kept_by_gpu_type(known: Ledger) -> None:
    ends = (
        End("j1", "A100", worked_minutes=60, taken_minutes=90),
        End("j2", "A100", Trouble.LOST_JOB, worked_minutes=30),
        End("j3", "RTX 4090.x$", Trouble.NEVER_BOOTED),
    )
    for end in ends:
        assert await known.vendors.record("a", end, NOON)
    vendor, one = await known.vendors.get("a"), weight(NOON)
    assert (vendor.completed, vendor.failed) == (1, 2)
    a100, other = vendor.records
    assert (a100.gpu_type, a100.completed, a100.lost) == ("A100", one, one)
    assert (a100.done_minutes, a100.taken_minutes) == (60 * one, 90 * one)
    assert a100.lost_minutes == 30 * one
    assert (other.gpu_type, other.never_booted, other.completed) == ("RTX 4090.x$", one, 0)


async def test_an_end_that_is_told_twice_counts_once(known: Ledger) -> None:
    end = End("j1", "A100", Trouble.LOST_JOB)
    assert await known.vendors.record("a", end, NOON)
    before = await known.vendors.get("a")
    assert not await known.vendors.record("a", end, NOON + timedelta(hours=1))
    assert await known.vendors.get("a") == before


async def test_a_vendors_document_does_not_grow_with_its_jobs(
    known: Ledger, database: FreshDatabase
) -> None:
    sizes = []
    for number in range(BOOKED_KEPT + 30):
        await known.vendors.record("a", End(f"job_{number:04}", "A100", Trouble.LOST_JOB), NOON)
        sizes.append(len(str(await database.db["vendors"].find_one({"vendorId": "a"}))))
    assert max(sizes[BOOKED_KEPT:]) - sizes[BOOKED_KEPT - 1] < 20  # the digits of the counts
    assert (await known.vendors.get("a")).failed == BOOKED_KEPT + 30


async def test_a_refusal_blocks_and_is_no_failed_job(known: Ledger) -> None:
    await known.vendors.record("a", End("x", "A100", Trouble.REFUSED), NOON)
    vendor = await known.vendors.get("a")
    assert (vendor.completed, vendor.failed) == (0, 0)
    block = block_at(vendor.blocks, NOON)
    assert block is not None
    assert block.trouble is Trouble.REFUSED


async def test_repeated_trouble_blocks_for_longer_and_a_good_job_blocks_nobody(
    known: Ledger,
) -> None:
    lengths = []
    for number in range(3):
        await known.vendors.record("a", End(f"j{number}", "A100", Trouble.LOST_JOB), NOON)
        [block] = (await known.vendors.get("a")).blocks
        lengths.append(block.until - NOON)
    assert lengths[0] < lengths[1] < lengths[2]
    await known.vendors.record("a", End("good", "A100"), NOON)
    assert len((await known.vendors.get("a")).blocks) == 1


async def test_registering_again_keeps_the_record_and_the_blocks(known: Ledger) -> None:
    await known.vendors.record("a", End("j1", "A100", Trouble.LOST_JOB), NOON)
    before = await known.vendors.get("a")
    await known.vendors.put(a_vendor("a", name="Renamed"), NOON)
    assert await known.vendors.get("a") == replace(before, name="Renamed")


async def test_an_unknown_vendor_has_no_record(ledger: Ledger) -> None:
    assert not await ledger.vendors.record("nobody", End("j1", "A100"), NOON)


async def test_two_runs_that_book_at_once_are_both_counted(known: Ledger) -> None:
    ends = [End(f"j{number}", "A100", Trouble.NEVER_BOOTED) for number in range(8)]
    await asyncio.gather(*(known.vendors.record("a", end, NOON) for end in ends))
    [record] = (await known.vendors.get("a")).records
    assert record.never_booted == pytest.approx(8 * weight(NOON))


async def test_a_line_written_by_hand_is_changed_and_not_doubled(
    ledger: Ledger, database: FreshDatabase
) -> None:
    await ledger.vendors.put(a_vendor("a"), NOON)
    line = await database.db["vendors"].find_one({"_id": "a"})
    assert line
    await database.db["vendors"].delete_one({"_id": "a"})
    await database.db["vendors"].insert_one({**line, "_id": "of their own"})
    changed = replace(a_vendor("a"), price_per_hour=Usd.parse("2.5"))
    await ledger.vendors.put(changed, NOON)
    assert await ledger.vendors.all() == [changed]


@pytest.mark.parametrize(
    ("field", "value"), [("supportedGpuTypes", "A100"), ("reliabilityScore", float("nan"))]
)
async def test_a_line_of_the_wrong_kind_is_named(
    ledger: Ledger, database: FreshDatabase, field: str, value: object
) -> None:
    await ledger.vendors.put(a_vendor("a"), NOON)
    await database.db["vendors"].update_one({"_id": "a"}, {"$set": {field: value}})
    with pytest.raises(ConfigError, match=r"'a'|a field"):
        await ledger.vendors.all()
