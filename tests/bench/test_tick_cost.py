"""A tick's cost in store commands and bytes: bounded, and the same at the end as at the start."""

from __future__ import annotations

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from bench.tick_cost import MOST_BYTES, MOST_COMMANDS, averages, kinds, monitoring
from tests.support.stack import FreshDatabase
from tests.support.world import World


async def test_a_tick_that_finds_its_job_running_is_cheap_and_never_gets_dearer(
    database: FreshDatabase,
) -> None:
    series = await monitoring(database, 60)
    assert {cost.message for cost in series} == {"Job still running"}
    assert max(cost.commands for cost in series[1:]) <= MOST_COMMANDS, series[-1]
    assert max(cost.bytes for cost in series) <= MOST_BYTES, series[-1]
    assert {cost.by_command["update runs"] for cost in series[1:]} == {2}, "the lease, and back"
    assert all("update jobs" not in cost.by_command for cost in series[1:]), "its run has it"
    assert all("update checkpoints" not in cost.by_command for cost in series[1:])
    first, last = averages(series[1:11]), averages(series[-10:])
    assert last[0] <= first[0]
    assert last[1] <= first[1] * 1.01


async def test_each_kind_of_tick_stays_within_what_was_measured(database: FreshDatabase) -> None:
    measured = await kinds(database)
    bounds = {
        "start: goal to running job": 75,
        "recover: to the next running job": 75,
        "monitor: failed, recover": 30,
        "monitor: completed": 20,
        "ended": 10,  # with the signed bytes forgotten: a read and a write
    }
    over = {kind: measured[kind] for kind, most in bounds.items() if measured[kind].commands > most}
    assert over == {}


class Filters(CommandListener):
    """Keeps the condition of every command."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        command = event.command
        conditions = [
            part["q"] for kind in ("updates", "deletes") for part in command.get(kind, ())
        ]
        self.seen += [str(dict(c)) for c in (*conditions, command.get("filter", {}))]

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Only the start of a command is of interest."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Only the start of a command is of interest."""


async def test_no_tick_asks_in_a_way_that_reads_a_whole_collection_on_the_embedded_server(
    database: FreshDatabase,
) -> None:
    """With 10,000 runs, a guard with `$or` takes it 80 ms instead of 2 (ledger/store.py)."""
    filters = Filters()
    async with World.open(database, failing="gpu_vendor_1", listeners=[filters]) as world:
        run = await world.start()
        await world.ticks(run)
        new = await world.start()
        await world.ledger.runs.schedule.due(world.clock.now(), 64, within_s=0.5)
        await world.ledger.runs.acquire(new.id, world.clock.now, 60, due=True)
    assert any("dueAt" in condition for condition in filters.seen)
    assert [c for c in filters.seen if "$or" in c or "$nor" in c] == []
