"""More time for a running job: bought as often as it is paid for."""

from __future__ import annotations

import httpx
import pytest

from domain.money import Usd
from domain.slices import SliceRule
from graph.deps import Limits
from ledger.jobs import Jobs
from mock_vendor.vendor.settings import vendor_profile
from tests.support.builders import check_books
from tests.support.stack import FreshDatabase
from tests.support.world import World, Wraps

FOUR_HOURS = "Fine-tune on an A100 for 4 hours"
HOUR_BY_HOUR = Limits(slices=SliceRule(60, Usd.parse(5)))
OUTSIDE_X402 = (vendor_profile("gpu_vendor_1", "FastGPU", "1.4", rail="none"),)


class Orders(httpx.AsyncBaseTransport):
    """HTTP that counts the orders of more time. asks_by_id: and answers them 402 with an id."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.count = 0
        self.asks_by_id = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/extend-job":
            self.count += 1
            if self.asks_by_id:
                return httpx.Response(402, headers={"x402-tx-id": "legacy_1"}, request=request)
        return await self._inner.handle_async_request(request)


class Watched:
    """Wraps a world's HTTP in Orders."""

    orders: Orders

    def __call__(self, inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        self.orders = Orders(inner)
        return self.orders


async def test_more_time_outside_x402_is_ordered_once(database: FreshDatabase) -> None:
    watched = Watched()
    async with World.open(
        database, vendors=OUTSIDE_X402, wrap=Wraps(http=watched), limits=HOUR_BY_HOUR, epochs=12
    ) as world:
        run = await world.start(FOUR_HOURS, 20)
        assert (await world.ticks(run, most=60))[-1] == "Job completed"
        payments, job = await world.payments(run), await world.job(run)
        assert len(payments) == 1 + watched.orders.count
        assert watched.orders.count > 0
        assert job.minutes == sum(p.minutes for p in payments) == 240
        check_books(await world.run(run))


async def test_more_time_outside_x402_is_ordered_once_though_it_is_booked_after_a_crash(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched()
    async with World.open(
        database, vendors=OUTSIDE_X402, wrap=Wraps(http=watched), limits=HOUR_BY_HOUR, epochs=12
    ) as world:
        run = await world.start(FOUR_HOURS, 20)
        with monkeypatch.context() as broken:
            broken.setattr(Jobs, "set_extension", _crash)
            with pytest.raises(Crash):
                await world.ticks(run, most=60)
        assert watched.orders.count == 1
        world.clock.advance(61)
        await world.tick(run)
        assert watched.orders.count == 1
        [launch, more] = await world.payments(run)
        assert (await world.job(run)).minutes == launch.minutes + more.minutes


async def test_more_time_is_not_bought_by_an_id_outside_x402(database: FreshDatabase) -> None:
    watched = Watched()
    async with World.open(
        database, vendors=OUTSIDE_X402, wrap=Wraps(http=watched), limits=HOUR_BY_HOUR, epochs=12
    ) as world:
        watched.orders.asks_by_id = True
        run = await world.start(FOUR_HOURS, 20)
        for _ in range(20):
            await world.tick(run)
            if why := await world.told(run, "extension_not_made"):
                break
        assert "402 without an x402 challenge" in why[0]
        assert (await world.run(run)).spent == Usd.parse(1.4)


class Crash(BaseException):
    """The process ends here."""


async def _crash(*_: object) -> None:
    raise Crash
