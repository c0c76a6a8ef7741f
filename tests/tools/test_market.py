"""Asking the market: all vendors at once, and nobody waits for the slowest one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from domain.errors import InvalidInput, VendorRefused, VendorUnauthorized
from domain.jobs import JobSpec
from domain.quotes import Quote, Vendor
from tests.support.builders import NOON, a_quote, a_vendor
from tools.market import NoQuote, ask_for_quotes
from tools.vendors.base import VendorClient

SPEC = JobSpec("training", "A100", 60)


@dataclass(frozen=True, slots=True)
class Fake:
    """A vendor client that can only quote."""

    answer: Callable[[Vendor], Awaitable[Quote]]

    async def quote(self, vendor: Vendor, spec: JobSpec, minutes: int) -> Quote:  # noqa: ARG002
        return await self.answer(vendor)


async def ask(
    answer: Callable[[Vendor], Awaitable[Quote]], *ids: str, deadline_s: float = 30.0, **more: Any
) -> tuple[list[Quote], list[NoQuote]]:
    client = cast(VendorClient, Fake(answer))
    wanted = {a_vendor(vendor): 60 for vendor in ids}
    return await ask_for_quotes(client, wanted, SPEC, deadline_s, **more)


async def test_of_twenty_vendors_one_that_hangs_delays_nobody() -> None:
    vendors, hanging = [f"vendor_{n}" for n in range(20)], "vendor_7"
    others = [vendor for vendor in vendors if vendor != hanging]
    together = asyncio.Barrier(len(others))
    asked = []

    async def answer(vendor: Vendor) -> Quote:
        asked.append(vendor.vendor_id)
        if vendor.vendor_id == hanging:
            await asyncio.Event().wait()
        await together.wait()
        return a_quote(vendor.vendor_id)

    quotes, without = await ask(answer, *vendors, deadline_s=0.5)
    assert [quote.vendor_id for quote in quotes] == others
    assert without == [NoQuote(hanging, "no quote within 0.5 s")]
    assert sorted(asked) == sorted(vendors), "each was asked once"


async def test_all_are_asked_before_the_first_has_answered() -> None:
    everybody = asyncio.Barrier(3)

    async def answer(vendor: Vendor) -> Quote:
        await everybody.wait()
        return a_quote(vendor.vendor_id)

    quotes, _ = await ask(answer, "a", "b", "c")
    assert [quote.vendor_id for quote in quotes] == ["a", "b", "c"]


async def test_a_call_that_does_not_heed_its_end_holds_up_nobody() -> None:
    heard, released, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def answer(vendor: Vendor) -> Quote:
        if vendor.vendor_id == "deaf":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                heard.set()
                await released.wait()
                ended.set()
                raise ValueError("far too late") from None
        return a_quote(vendor.vendor_id)

    quotes, without = await ask(answer, "deaf", "quick", deadline_s=0.05)
    assert [quote.vendor_id for quote in quotes] == ["quick"]
    assert [silence.vendor_id for silence in without] == ["deaf"]
    assert heard.is_set()
    assert not ended.is_set()
    released.set()
    await ended.wait()


async def test_why_a_vendor_made_no_offer_is_said_in_harmless_words() -> None:
    async def answer(vendor: Vendor) -> Quote:
        match vendor.vendor_id:
            case "refuses":
                raise VendorRefused("refuses", "quote", "it refused\n\x1b[2J" + "x" * 9_000, 400)
            case "forbids":
                raise VendorUnauthorized("forbids", "quote", "it refuses our secret", "Set it")
            case _:
                raise InvalidInput("vendorId", "it is not printable ASCII")

    quotes, without = await ask(answer, "refuses", "forbids", "broken")
    assert quotes == []
    words = {silence.vendor_id: silence.problem for silence in without}
    assert words["forbids"] == "it refuses our secret. Set it"
    assert words["broken"] == "vendorId: it is not printable ASCII"
    assert words["refuses"].startswith("it refused [2Jxxx")
    assert len(words["refuses"]) == 200


async def test_no_quote_is_believed_for_longer_than_it_is_fresh() -> None:
    until = NOON + timedelta(minutes=10)

    async def answer(vendor: Vendor) -> Quote:
        ends = {"soon": NOON, "late": NOON + timedelta(days=9), "never": None}
        return a_quote(vendor.vendor_id, expires_at=ends[vendor.vendor_id])

    quotes, without = await ask(
        answer, "soon", "late", "never", lasting=NOON + timedelta(seconds=30), fresh_until=until
    )
    assert [quote.expires_at for quote in quotes] == [until, until]
    assert without == [NoQuote("soon", "its offer ends too soon to be paid")]


async def test_nobody_to_ask_is_no_reason_to_wait() -> None:
    async def answer(vendor: Vendor) -> Quote:
        raise AssertionError(vendor)

    assert await ask(answer) == ([], [])
