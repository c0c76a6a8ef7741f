"""Asking the market: all vendors at once, and nobody waits for the slowest one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from domain.errors import InvalidInput, VendorRefused, VendorUnauthorized
from domain.jobs import JobSpec
from domain.quotes import Quote, Vendor
from graph.deps import Limits
from tests.support.builders import NOON, a_quote, a_vendor
from tools.market import NoQuote, ask_for_quotes
from tools.vendors.base import VendorClient
from tools.vendors.http import HttpVendorClient

SPEC = JobSpec("training", "A100", 60)
VENDORS = 20
HANGING = "vendor_7"
HANGS_S = 60.0


@dataclass(slots=True)
class Market:
    """Vendors behind one port, each under a path of its own; one hangs before it answers."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)

    async def quote(self, request: Request) -> JSONResponse:
        vendor = str(request.path_params["vendor"])
        self.asked.append(vendor)
        if vendor == HANGING:
            await asyncio.sleep(HANGS_S)
        self.answered.append(vendor)
        return JSONResponse(
            {
                "vendorJobTemplateId": f"quote_of_{vendor}",
                "priceEstimate": 1.4,
                "currency": "USD",
                "etaMinutes": 60,
            }
        )


@asynccontextmanager
async def open_market() -> AsyncIterator[Market]:
    market = Market()
    app = Starlette(routes=[Route("/{vendor}/quote", market.quote, methods=["POST"])])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        market.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield market
        finally:
            server.should_exit = server.force_exit = True
            await serving


async def test_of_twenty_vendors_one_that_hangs_for_a_minute_delays_nobody() -> None:
    async with open_market() as market, httpx.AsyncClient() as http:
        wanted = {
            a_vendor(f"vendor_{n}", endpoint=f"{market.url}/vendor_{n}"): 60 for n in range(VENDORS)
        }
        client = HttpVendorClient(http, "secret")
        quotes, without = await ask_for_quotes(client, wanted, SPEC, Limits().quote_deadline_s)

        others = [vendor.vendor_id for vendor in wanted if vendor.vendor_id != HANGING]
        assert [quote.vendor_id for quote in quotes] == others
        assert without == [NoQuote(HANGING, "no quote within 3 s")]
        assert sorted(market.asked) == sorted(v.vendor_id for v in wanted), "each was asked once"
        assert HANGING not in market.answered, "it hangs still, and nobody waited for it"


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
