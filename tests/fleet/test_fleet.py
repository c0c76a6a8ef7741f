"""Workers over a real Redis: what becomes of hints that are lost, late or doubled."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from pydantic import SecretStr
from taskiq import AsyncBroker, InMemoryBroker

import server.runner.fleet
from bench.fleet import Plan, play
from domain.errors import ConfigError
from server.runner.brokers import open_broker
from server.runner.fleet import Fleet
from server.runner.worker import working
from tests.fleet.test_worker import DEADLINE_S, Ticks, ended
from tests.support.fleet import TickSpan, WorkerProcess, overlaps
from tests.support.queues import RedisServer
from tests.support.stack import FreshDatabase
from tests.support.world import SIDE_BY_SIDE, World

"""No run waits for another's vendor to have earned what it was prepaid."""


def over(redis: RedisServer) -> Callable[[], AsyncBroker]:
    return lambda: open_broker(SecretStr(redis.url), "hints")


@asynccontextmanager
async def a_fleet(
    world: World, redis: RedisServer, size: int, ticks: Ticks | None = None
) -> AsyncIterator[list[Fleet]]:
    """Workers in this process, each with connections of its own to the queue."""
    fleets = [Fleet(world.process.services, over(redis), tick=ticks) for _ in range(size)]
    stops = [working(fleet, grace_s=DEADLINE_S) for fleet in fleets]
    for stop in stops:
        await stop.__aenter__()
    try:
        yield fleets
    finally:
        for stop in stops:
            await stop.__aexit__(None, None, None)


async def test_two_workers_share_runs_over_redis_and_each_is_paid_once(
    database: FreshDatabase, redis: RedisServer
) -> None:
    async with World.open(database, limits=SIDE_BY_SIDE) as world:
        async with a_fleet(world, redis, 2) as fleets:
            runs = [await world.start() for _ in range(4)]
            for run in runs:
                await ended(world, run)
        assert sum(fleet.sent for fleet in fleets) > 0
        assert len(world.transfers()) == len(runs)


async def test_hints_that_are_lost_delay_a_run_and_no_more(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.runner.fleet, "HINT_S", 0.1)

    class Swallows(InMemoryBroker):
        """A queue out of which nothing comes."""

        async def kick(self, message: object) -> None:
            del message

        async def listen(self) -> AsyncIterator[bytes]:  # type: ignore[override]
            await asyncio.Event().wait()
            yield b""

    async with World.open(database) as world:
        fleet = Fleet(world.process.services, Swallows)
        run = await world.start()
        async with working(fleet, grace_s=DEADLINE_S):
            await ended(world, run)
        assert fleet.sent > 0
        assert len(world.transfers()) == 1


async def test_a_queue_that_goes_away_and_comes_back_empty_stops_no_run(
    database: FreshDatabase, redis: RedisServer
) -> None:
    async with World.open(database) as world, a_fleet(world, redis, 1):
        first = await world.start()
        await ended(world, first)
        redis.kill()
        without = await world.start()
        await ended(world, without)
        await asyncio.to_thread(redis.start)
        redis.flush()
        again = await world.start()
        await ended(world, again)
        assert len(world.transfers()) == 3


async def test_a_queue_that_takes_no_hint_slows_no_run_down(
    database: FreshDatabase, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a Redis does that is full: it still gives, and takes nothing."""

    async def full(*_: object) -> bool:
        return False

    monkeypatch.setattr(Fleet, "_send", full)
    async with World.open(database, limits=SIDE_BY_SIDE) as world, a_fleet(world, redis, 1):
        runs = [await world.start() for _ in range(4)]
        for run in runs:
            await ended(world, run)
        assert len(world.transfers()) == 4


async def test_a_hint_for_a_run_that_is_not_due_ticks_nothing(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.tick(run)
        fence = (await world.run(run)).fence
        fleet = Fleet(world.process.services, InMemoryBroker)
        broker = fleet._broker
        task = broker.find_task(server.runner.fleet.TASK)
        assert task is not None
        for _ in range(2):
            await task.kiq(run.id)
        assert isinstance(broker, InMemoryBroker)
        await broker.wait_all()
        assert (await world.run(run)).fence == fence
        await fleet.drain(0)


@pytest.mark.parametrize(
    ("url", "package"), [("amqp://q", "taskiq-aio-pika"), ("nats://q", "taskiq-nats")]
)
def test_a_broker_whose_package_is_missing_is_named_with_the_extra(url: str, package: str) -> None:
    with suppress(ImportError):
        __import__(package.replace("-", "_"))
        pytest.skip(f"{package} is installed")
    with pytest.raises(ConfigError, match=package) as error:
        open_broker(SecretStr(url), "hints")
    assert "brokers" in error.value.remedy


def test_ticks_that_meet_are_found() -> None:
    one, other = TickSpan("r", 1, 0.0, 2.0), TickSpan("r", 2, 2.0, 3.0)
    assert overlaps([other, one, TickSpan("q", 1, 0.5, 1.0)]) == []
    assert len(overlaps([one, TickSpan("r", 2, 1.9, 3.0)])) == 1
    assert len(overlaps([one, TickSpan("r", 1, 5.0, 6.0)])) == 1


def test_a_tick_that_a_kill_cut_off_ends_with_its_process(tmp_path: Path) -> None:
    said = ["5 begins", "5 ends: acted", "6 begins"]
    log = tmp_path / "worker.log"
    lines = [
        json.dumps({"at": f"2026-01-01T00:00:0{second}+00:00", "message": f"run r: tick {what}"})
        for second, what in enumerate(said)
    ]
    log.write_text("\n".join(lines))
    worker = WorkerProcess("worker", tmp_path, {}, [(log, 1767225607.0)])
    at = 1767225600.0
    assert worker.spans() == [TickSpan("r", 5, at, at + 1), TickSpan("r", 6, at + 2, at + 7)]


@pytest.mark.skipif(os.environ.get("LONG") != "1", reason="a campaign, of `make chaos`: LONG=1")
async def test_workers_are_killed_and_redis_flushed_and_restarted_and_all_runs_end(
    redis_program: str, tmp_path: Path
) -> None:
    del redis_program
    plan = Plan(
        runs=6, workers=2, seed=1, kill_every_s=(0.5, 1.5), most_s=90, lease_s=3.0, most_kills=2
    )
    verdict = await play(tmp_path, plan, fail_rate=0.0)
    assert verdict.broken == []
    assert verdict.ended == {"completed": plan.runs}
    assert verdict.kills == plan.most_kills
