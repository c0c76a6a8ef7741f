"""What each kind of tick leaves as the moment of the next, and ticks that are drained."""

from __future__ import annotations

import asyncio

import anyio
import httpx
import pytest
from langgraph.runtime import RunControl

from domain.approvals import ApprovalState
from domain.errors import DependencyDown, NotFound
from domain.money import Usd
from domain.networks import LOCAL
from domain.policy import SpendingPolicy
from domain.slices import SliceRule
from graph.deps import Limits
from ledger.run import Run
from server.runner.tick import INTERRUPTED, Ticker
from tests.support.stack import FreshDatabase
from tests.support.world import World, Wraps

ASKS = SpendingPolicy(LOCAL, Usd.parse(100), approval_threshold=Usd.parse("0.5"))


async def delay_s(world: World, run: Run) -> float | None:
    at = (await world.run(run)).due_at
    return None if at is None else (at - world.clock.now()).total_seconds()


async def ticked(world: World, run: Run) -> tuple[str, float | None]:
    return await world.tick(run), await delay_s(world, run)


async def test_a_job_is_followed_and_after_its_end_the_books_are_closed_once(
    database: FreshDatabase,
) -> None:
    async with World.open(database, epochs=2) as world:
        run = await world.start()
        assert await delay_s(world, run) == 0
        assert await ticked(world, run) == ("Job started", 2)
        assert await ticked(world, run) == ("Job still running", 2)
        assert await ticked(world, run) == ("Job completed", 2)
        assert await ticked(world, run) == ("Run already completed", None)


async def test_a_job_that_tells_nothing_new_is_asked_less_and_less(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        world.vendor_fault("gpu_vendor_1", "submit-job", "never_boot")
        await world.tick(run)
        await world.tick(run)
        assert [(await ticked(world, run))[1] for _ in range(4)] == [4, 8, 16, 32]


async def test_a_vendor_that_does_not_answer_is_given_time(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.tick(run)
        world.vendor_fault("gpu_vendor_1", "job-status", "error_before_settling", times=2)
        assert await ticked(world, run) == ("Job still running", 5)
        assert await ticked(world, run) == ("Job still running", 5)
        assert await ticked(world, run) == ("Job still running", 4)


async def test_a_job_that_writes_its_log_is_no_news(database: FreshDatabase) -> None:
    async with World.open(database, epochs=20) as world:
        run = await world.start()
        assert await ticked(world, run) == ("Job started", 2)
        delays = [(await ticked(world, run))[1] for _ in range(5)]
        assert delays == [2, 4, 8, 15, 15]


async def test_a_run_whose_vendor_failed_goes_on_at_once(database: FreshDatabase) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        run = await world.start()
        await world.tick_until(run, "Job failed")
        assert await delay_s(world, run) == 0


async def test_a_job_that_ran_for_long_and_fails_is_noticed_soon_and_replaced_at_once(
    database: FreshDatabase,
) -> None:
    async with World.open(database, epochs=40) as world:
        run = await world.start()
        await world.tick(run)
        for _ in range(9):
            await world.tick(run)
        assert (await world.run(run)).quiet_ticks > 8
        world.vendor_fault("gpu_vendor_1", "job-status", "error_before_settling")
        delays: list[float] = []
        message, delay = await ticked(world, run)
        while message == "Job still running" and delay:
            delays.append(delay)
            world.clock.advance(delay)
            message, delay = await ticked(world, run)
        assert (message, delay) == ("Job failed", 0)
        assert delays[:4] == [5, 5, 10, 20]
        assert 300 <= sum(delays) < 360, "five minutes of silence, asked each minute at least"


async def test_time_that_was_ordered_without_an_answer_is_ordered_again_before_the_job_lapses(
    database: FreshDatabase,
) -> None:
    limits = Limits(slices=SliceRule(first_minutes=60, exposure=Usd.parse(4)))
    async with World.open(database, epochs=10, limits=limits) as world:
        run = await world.start("Fine-tune on an A100 for 5 hours", 20)
        await world.tick(run)
        job = await world.job(run)
        world.vendor_fault("gpu_vendor_1", "extend-job", "hang", times=1, when="payment")
        world.clock.advance(minutes=job.minutes - 0.5)
        while not await world.told(run, "extension_unanswered"):
            await world.ledger.runs.documents.change(run.id, {}, {"$set": {"quietTicks": 9}})
            await world.tick(run)
        assert await delay_s(world, run) == 15, "half of the 30 s that are left"


async def test_a_payment_whose_outcome_is_unknown_is_asked_for_after_a_while(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        world.vendor_fault("gpu_vendor_1", "submit-job", "hang", times=1, when="payment")
        message, delay = await ticked(world, run)
        assert message.startswith("Job not started yet")
        assert delay == 5


async def test_a_run_that_waits_for_a_person_is_due_at_its_answer_or_when_it_expires(
    database: FreshDatabase,
) -> None:
    async with World.open(database, policy=ASKS) as world:
        run = await world.start()
        assert await world.tick(run) == "Waiting for approval"
        [asked] = await world.ledger.approvals.of_run(run.id)
        assert (await world.run(run)).due_at == asked.expires_at
        world.clock.advance(1)
        decided = await world.ledger.approvals.decide(run.id, asked.id, True, world.clock.now())
        assert decided.state is ApprovalState.APPROVED
        assert await delay_s(world, run) == 0
        assert await ticked(world, run) == ("Job started", 2)


async def test_a_cancelled_run_is_due_at_once(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.tick(run)
        world.clock.advance(0.5)
        await world.ledger.runs.request_cancel(run.id, "enough", world.clock.now())
        assert await delay_s(world, run) == 0


class NoChain(httpx.AsyncBaseTransport):
    """The world's network, without its chain."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "chain.test":
            raise httpx.ConnectError("no chain", request=request)
        return await self._inner.handle_async_request(request)


async def test_a_chain_that_is_away_puts_the_next_tick_off(database: FreshDatabase) -> None:
    async with World.open(database, wrap=Wraps(http=NoChain)) as world:
        run = await world.start()
        delays: list[float] = []
        for _ in range(3):
            with pytest.raises(DependencyDown):
                await world.tick(run)
            delays.append(await delay_s(world, run) or 0)
        assert delays == [2, 2, 4], "the first tick had understood the goal, which is news"


async def test_a_drained_tick_ends_at_a_step_and_another_goes_on_from_there(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        control = RunControl()
        control.request_drain()
        interrupted = await Ticker(world.process.services).tick(run.id, control=control)
        assert interrupted.message == INTERRUPTED
        after = await world.run(run)
        assert after.due_at == world.clock.now()
        assert await world.payments(run) == []
        assert await world.ledger.runs.schedule.due(world.clock.now(), 1)
        assert (await world.ticks(run))[-1] == "Job completed"
        assert len(world.transfers()) == 1


async def test_a_slice_that_nears_its_end_is_looked_at_in_time(database: FreshDatabase) -> None:
    limits = Limits(slices=SliceRule(first_minutes=1, exposure=Usd.parse(2)))
    async with World.open(database, limits=limits) as world:
        run = await world.start()
        world.vendor_fault("gpu_vendor_1", "submit-job", "never_boot")
        await world.tick(run)
        delays = [(await ticked(world, run))[1] for _ in range(7)]
        assert delays[-1] == 45, "the last quarter of the minute that is paid begins then"


class Hangs(httpx.AsyncBaseTransport):
    """The world's network, with a vendor that never answers a submit; says when it is asked."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.asked = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/submit-job":
            self.asked.set()
            await asyncio.Event().wait()
        return await self._inner.handle_async_request(request)


async def test_who_hangs_up_on_a_stream_leaves_no_run_locked(database: FreshDatabase) -> None:
    """A server cancels what it streams in a scope, which cancels anew at every await."""
    hanging: list[Hangs] = []

    def wrap(inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        hanging.append(Hangs(inner))
        return hanging[-1]

    async with World.open(database, wrap=Wraps(http=wrap)) as world:
        run = await world.start()
        async with anyio.create_task_group() as stream:
            stream.start_soon(Ticker(world.process.services).tick, run.id)
            await hanging[-1].asked.wait()
            stream.cancel_scope.cancel()
        async with asyncio.timeout(10):
            while not await world.ledger.runs.schedule.due(world.clock.now(), 1):  # noqa: ASYNC110 -- whoever gives it back tells nobody
                await asyncio.sleep(0.01)


async def test_a_purchase_by_a_person_is_not_ticked(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        purchases, now = world.ledger.purchases, world.clock.now()
        bought = await purchases.create("fetch_1", "GET", Usd.parse(1), now)
        with pytest.raises(NotFound):
            await world.tick(bought)
        assert await purchases.get(bought.id) == bought
