"""After a run's end: what still runs is stopped, what is owed is fetched, and then it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest

from domain.errors import ChainDown, StoreDown
from domain.payments import PaymentState
from domain.reliability import Trouble
from ledger.observations import Observations
from ledger.run import Run
from ledger.runs import Runs
from tests.graph.test_cancel import at_the_vendor, away, closed
from tests.support.rewritten import Rewritten
from tests.support.stack import FreshDatabase
from tests.support.world import World, Wraps
from tools.payments.chain import AuthorizationFate, Block, Chain, Unclear, Unused

FAST = "gpu_vendor_1"
Answer = Callable[[httpx.Request], httpx.Response | None]


class Standing(httpx.AsyncBaseTransport):
    """HTTP where something stands in front of the vendor: `answer` goes before it, if it gives
    one.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.answer: Answer = lambda _: None
        self.hangs = ""
        self.hanging = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.hangs and request.url.path.startswith(self.hangs):
            self.hanging.set()
            await asyncio.Event().wait()
        return self.answer(request) or await self._inner.handle_async_request(request)


class Front:
    """Wraps a world's HTTP in Standing."""

    http: Standing

    def __call__(self, inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        self.http = Standing(inner)
        return self.http

    def says(self, status: int, *paths: str, content: bytes = b"{}") -> None:
        """Answer so to every request whose path begins with one of `paths`."""
        self.http.answer = lambda request: (
            httpx.Response(status, content=content, request=request)
            if request.url.path.startswith(paths)
            else None
        )


class Node:
    """A chain reader whose node is behind, so that no authorization is seen to be used, or away."""

    def __init__(self, inner: Chain, nodes: Nodes) -> None:
        self._inner, self._nodes = inner, nodes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def authorization(
        self, payer: str, nonce: str, *, from_block: int, valid_before_s: int | None = None
    ) -> AuthorizationFate:
        if self._nodes.are == "away":
            raise ChainDown("The node is away", "Try again")
        if self._nodes.are == "unclear":
            return Unclear("its nonce is used, and nobody knows how")
        if self._nodes.are == "behind":
            return Unused(Block(from_block, 0))
        return await self._inner.authorization(
            payer, nonce, from_block=from_block, valid_before_s=valid_before_s
        )


class Nodes:
    """Wraps a world's chain in Node. are: "behind", "unclear" or "away"; else they answer."""

    def __init__(self) -> None:
        self.are = ""

    def __call__(self, inner: Chain) -> Chain:
        return Node(inner, self)


async def cancelled_in_vain(world: World) -> Run:
    """A run that was cancelled while its vendor was away."""
    run = await world.start()
    await world.tick_until(run, "Job started")
    await away(world)
    await world.ledger.runs.request_cancel(run.id, "enough", world.clock.now())
    assert (await world.ticks(run))[-1] == "Run cancelled"
    await world.tick(run)
    world.clear_faults()
    return run


async def test_what_stands_in_front_of_a_vendor_is_not_believed_at_once(
    database: FreshDatabase,
) -> None:
    front = Front()
    async with World.open(database, wrap=Wraps(http=front), epochs=50) as world:
        run = await cancelled_in_vain(world)
        front.says(404, "/cancel-job", "/job-status")
        await world.tick(run)
        front.says(200)
        await world.tick(run)
        assert at_the_vendor(world, await world.job(run)) == "cancelled"


async def test_the_job_of_a_payment_is_stopped_whatever_name_it_was_given_once(
    database: FreshDatabase,
) -> None:
    said: list[str] = []

    def elsewhere(path: str, answer: dict[str, Any]) -> dict[str, Any] | None:
        if path != "/submit-job" or said:
            return None
        said.append(answer["vendorJobId"])
        return {**answer, "vendorJobId": "job_nowhere"}

    wrap = Wraps(http=lambda inner: Rewritten(inner, elsewhere))
    async with World.open(database, wrap=wrap) as world:
        run = await world.start()
        await world.tick_until(run, "Job failed", minutes=2.5)
        await world.ticks(run)
        for _ in range(2):
            await world.tick(run)
            world.clock.advance(minutes=5)
        there = world.vendor._store.job(said[0])
        assert there is not None
        assert there.status == "cancelled"
        assert (await world.payments(run))[0].state is PaymentState.REFUNDED
        assert await closed(world, run)


async def test_a_job_is_stopped_though_the_chain_is_away(database: FreshDatabase) -> None:
    nodes = Nodes()
    async with World.open(database, wrap=Wraps(chain=nodes), epochs=50) as world:
        nodes.are = "behind"
        run = await cancelled_in_vain(world)
        nodes.are = "away"
        with pytest.raises(ChainDown):
            await world.tick(run)
        assert at_the_vendor(world, await world.job(run)) == "cancelled"


def die_at_its_end(broken: pytest.MonkeyPatch) -> None:
    """The tick that ends a run gets no further."""

    async def dead(*_: object, **__: object) -> None:
        raise StoreDown("MongoDB is away", "Start it")

    async def end_and_die(self: Runs, *args: Any, **more: Any) -> bool:
        ended = await end(self, *args, **more)
        broken.setattr(Observations, "append", dead)
        broken.setattr(Runs, "release", dead)
        return ended

    end = Runs.end
    broken.setattr(Runs, "end", end_and_die)


async def test_the_end_is_told_though_the_tick_that_ended_the_run_got_no_further(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        with monkeypatch.context() as broken:
            die_at_its_end(broken)
            with pytest.raises(StoreDown):
                await world.ticks(run)
        assert await world.status(run) == "completed"
        world.clock.advance(61)
        for _ in range(2):
            await world.tick(run)
        assert await world.told(run, "run_completed") == [f"The job completed at {FAST}"]
        assert len(await world.told(run, "artifact")) == 1


async def test_an_end_that_is_told_late_is_no_news(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes()
    async with World.open(database, wrap=Wraps(chain=nodes), epochs=50) as world:
        nodes.are = "behind"
        run = await world.start()
        await world.tick_until(run, "Job started")
        await world.ledger.runs.request_cancel(run.id, "enough", world.clock.now())
        with monkeypatch.context() as broken:
            die_at_its_end(broken)
            with pytest.raises(StoreDown):
                await world.tick(run)
        world.clock.advance(61)
        nodes.are = "away"
        gaps = []
        for _ in range(6):
            with suppress(ChainDown):
                await world.tick(run)
            due_at = (await world.run(run)).due_at
            assert due_at is not None
            gaps.append((due_at - world.clock.now()).total_seconds())
            world.clock.advance(gaps[-1])
        assert gaps == sorted(gaps)
        assert gaps[-1] >= 30
        assert len(await world.told(run, "run_cancelled")) == 1


async def test_what_was_booked_is_told_before_a_download_begins(database: FreshDatabase) -> None:
    front = Front()
    async with World.open(database, wrap=Wraps(http=front), epochs=10) as world:
        run = await world.start(dollars=20)
        await world.tick_until(run, "Job started")
        await away(world)
        await world.tick_until(run, "Job started", minutes=2.5)
        front.says(503, "/artifacts")
        assert (await world.ticks(run, most=60))[-1] == "Job completed"
        world.clear_faults()
        front.http.hangs = "/artifacts"
        closing = asyncio.create_task(world.process.tick(run))
        await front.http.hanging.wait()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert len(await world.told(run, "payment_refunded", "job_stopped")) == 2


async def test_a_job_that_was_given_up_is_stopped_while_its_run_goes_on(
    database: FreshDatabase,
) -> None:
    async with World.open(database, epochs=200) as world:
        run = await world.start(dollars=20)
        await world.tick_until(run, "Job started")
        lost = await world.job(run)
        await away(world)
        await world.tick_until(run, "Job started", minutes=2.5)
        for _ in range(5):
            assert await world.tick(run) == "Job still running"
        assert at_the_vendor(world, lost) == "running"
        world.clear_faults()
        for _ in range(4):
            assert await world.tick(run) == "Job still running"
        assert at_the_vendor(world, lost) == "cancelled"
        assert (await world.job(run)).left_over == ()
        assert len(await world.told(run, "payment_refunded", "job_stopped")) == 2
        assert (await world.process.deps.reconciler.reconcile()).ok


@pytest.mark.parametrize("status", [408, 429, 503])
async def test_a_file_that_cannot_be_had_now_is_asked_for_an_hour(
    database: FreshDatabase, status: int
) -> None:
    front = Front()
    async with World.open(database, wrap=Wraps(http=front)) as world:
        front.says(status, "/artifacts")
        run = await world.start()
        await world.ticks(run)
        world.clock.advance(minutes=59)
        await world.tick(run)
        assert not await closed(world, run)
        world.clock.advance(minutes=1)
        await world.tick(run)
        assert await closed(world, run)


async def test_a_file_that_comes_late_is_held_against_what_its_vendor_said_of_it(
    database: FreshDatabase,
) -> None:
    front = Front()
    async with World.open(database, wrap=Wraps(http=front)) as world:
        front.says(503, "/artifacts")
        run = await world.start()
        await world.ticks(run)
        front.says(200, "/artifacts", content=b"not the model")
        await world.tick(run)
        known = await world.ledger.vendors.get(FAST)
        assert [block.trouble for block in known.blocks] == [Trouble.DISHONEST]
        assert await closed(world, run)


async def test_a_refund_that_never_comes_is_looked_for_a_day(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.tick_until(run, "Job started")
        world.vendor_fault(FAST, "cancel-job", "claimed_refund")
        await world.ledger.runs.request_cancel(run.id, "enough", world.clock.now())
        await world.ticks(run)
        await world.tick(run)
        assert not await closed(world, run)
        world.clock.advance(minutes=24 * 60)
        await world.tick(run)
        assert await closed(world, run)
