"""Where a tick begins, and what survives between two ticks."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from domain.errors import LeaseHeld, NotFound
from domain.payments import PaymentState
from graph.routing import Phase, route
from graph.state import AgentState
from tests.support.builders import check_books
from tests.support.stack import FreshDatabase
from tests.support.world import World, Wraps


@pytest.mark.parametrize(
    ("phase", "node"),
    [
        *((p.value, p.value) for p in Phase if p not in (Phase.TOOLS, Phase.ENDED)),
        ("tools", "choose_vendor"),
        ("ended", "__end__"),
    ],
)
def test_a_tick_begins_where_the_last_one_rested(phase: str, node: str) -> None:
    assert route(AgentState(messages=[], phase=phase)) == node


def test_a_new_thread_begins_with_intake() -> None:
    assert route(AgentState(messages=[])) == "intake"


async def test_a_run_that_is_not_there_is_not_found(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        with pytest.raises(NotFound):
            await world.process.tick("nobody")


async def test_a_state_is_stored_for_each_thing_that_happened_and_for_nothing_else(
    database: FreshDatabase,
) -> None:
    async with World.open(database, epochs=25) as world:
        run = await world.start()
        counts = []
        for _ in range(20):
            await world.tick(run)
            counts.append(await world.checkpoint_count(run))
        assert counts[0] <= 10, "a state for each node that it went through"
        assert set(counts[1:]) == {counts[0] + 1}, "the job runs: one state, however often seen"
        assert await database.db["checkpoint_writes"].count_documents({"thread_id": run.id}) == 0


async def test_the_phase_is_written_beside_the_run_for_people_to_see(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        assert (await world.run(run)).phase == "intake"
        await world.tick(run)
        assert (await world.run(run)).phase == "monitor"
        await world.ticks(run)
        assert (await world.run(run)).phase == "ended"


async def test_another_process_goes_on_where_the_first_one_stopped(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        assert await world.tick(run) == "Job started"
        async with world.another_process() as other:
            assert (await other.tick(run)).message == "Job still running"
        assert await world.tick(run) == "Job still running"
        assert await world.tick(run) == "Job completed"


async def test_of_two_ticks_at_once_one_is_told_that_the_run_is_taken(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world, world.another_process() as other:
        run = await world.start()
        ticks = [process.tick(run) for process in (world.process, other) for _ in range(4)]
        answers = await asyncio.gather(*ticks, return_exceptions=True)
        assert sum(isinstance(answer, LeaseHeld) for answer in answers) >= 6
        await world.ticks(run)
        assert len(world.transfers()) == 1


class Interrupted(httpx.AsyncBaseTransport):
    """HTTP in which something happens before one chosen request is sent."""

    def __init__(self, inner: httpx.AsyncBaseTransport, world: list[World], paying: bool) -> None:
        self._inner, self._world, self._paying = inner, world, paying
        self.run_id = ""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        paying = "PAYMENT-SIGNATURE" in request.headers
        if self.run_id and request.url.path == "/submit-job" and paying is self._paying:
            run_id, self.run_id = self.run_id, ""
            world = self._world[0]
            world.clock.advance(world.limits.lease_seconds + 1)
            assert (await world.process.tick(run_id)).message == "Job started"
        return await self._inner.handle_async_request(request)


@pytest.mark.parametrize("paying", [False, True], ids=["before it signed", "before it sent"])
async def test_a_tick_whose_lease_was_taken_over_pays_nothing_and_changes_nothing(
    database: FreshDatabase, paying: bool
) -> None:
    worlds: list[World] = []
    slow: list[Interrupted] = []

    def interrupt(inner: httpx.AsyncBaseTransport) -> Interrupted:
        slow.append(Interrupted(inner, worlds, paying))
        return slow[-1]

    async with World.open(database) as world:
        worlds.append(world)
        async with world.another_process(Wraps(http=interrupt)) as stale:
            run = await world.start()
            slow[0].run_id = run.id
            await asyncio.gather(stale.tick(run), return_exceptions=True)
            middle = await world.run(run)
            check_books(middle)
            assert middle.phase == "monitor"
            await world.ticks(run)
        assert len(world.transfers()) == 1
        assert len(await world.jobs(run)) == 1
        assert [state for _, state in await world.payment_states(run)] == [PaymentState.SETTLED]
        check_books(await world.run(run))


async def test_a_tick_whose_lease_was_taken_over_says_nothing(database: FreshDatabase) -> None:
    worlds: list[World] = []
    slow: list[Interrupted] = []

    def interrupt(inner: httpx.AsyncBaseTransport) -> Interrupted:
        slow.append(Interrupted(inner, worlds, False))
        return slow[-1]

    async with World.open(database) as world:
        worlds.append(world)
        async with world.another_process(Wraps(http=interrupt)) as stale:
            run = await world.start()
            slow[0].run_id = run.id
            await asyncio.gather(stale.tick(run), return_exceptions=True)
        assert await world.told(run, "recovery") == []
