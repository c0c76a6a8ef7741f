"""A tick's cost in store commands and bytes: bounded, and the same at the end as at the start."""

from __future__ import annotations

from bench.tick_cost import MOST_BYTES, MOST_COMMANDS, averages, kinds, monitoring
from tests.support.stack import FreshDatabase


async def test_a_tick_that_finds_its_job_running_is_cheap_and_never_gets_dearer(
    database: FreshDatabase,
) -> None:
    series = await monitoring(database, 60)
    assert {cost.message for cost in series} == {"Job still running"}
    assert max(cost.commands for cost in series) <= MOST_COMMANDS, series[-1]
    assert max(cost.bytes for cost in series) <= MOST_BYTES, series[-1]
    assert max(cost.commands for cost in series[1:]) <= 7, "the checkpoint is as it was"
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
        "ended": 8,
    }
    over = {kind: measured[kind] for kind, most in bounds.items() if measured[kind].commands > most}
    assert over == {}
