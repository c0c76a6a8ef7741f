"""What a tick costs the store: commands, and bytes sent with them, by kind of tick.

    python -m bench.tick_cost [ticks]

Counted on both of the agent's connections to MongoDB with a command listener, in the in-process
world of the tests; counts do not depend on the machine. Prints a table and writes
bench/results/tick_cost.json.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import bson
from pymongo import AsyncMongoClient
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from ledger.run import Run
from tests.support.stack import Document, FreshDatabase, embedded_mongo
from tests.support.world import World

RESULTS: Final = Path(__file__).parent / "results"
MOST_COMMANDS: Final = 5
MOST_BYTES: Final = 8 * 1024
"""What a tick that finds its job running may cost."""


class Meter(CommandListener):
    """Counts the commands sent, and the bytes of their bodies."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.bytes = 0

    def started(self, event: CommandStartedEvent) -> None:
        target = event.command.get(event.command_name)
        self.commands.append(f"{event.command_name} {target}")
        self.bytes += len(bson.encode(event.command))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing is counted here."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing is counted here."""

    def take(self, message: str) -> Cost:
        """What was counted since the last time."""
        cost = Cost(message, len(self.commands), self.bytes, dict(Counter(self.commands)))
        self.commands, self.bytes = [], 0
        return cost


@dataclass(frozen=True, slots=True)
class Cost:
    """One tick: its answer, its store commands, the bytes sent with them, and which they were."""

    message: str
    commands: int
    bytes: int
    by_command: dict[str, int] = field(default_factory=dict)


async def tick(world: World, meter: Meter, run: Run) -> Cost:
    """The cost of one tick."""
    meter.take("")
    message = await world.tick(run)
    return meter.take(message)


async def kinds(database: FreshDatabase) -> dict[str, Cost]:
    """One tick of each kind, from a run whose first vendor loses its job."""
    meter = Meter()
    async with World.open(database, failing="gpu_vendor_1", listeners=[meter]) as world:
        run = await world.start()
        costs = [await tick(world, meter, run)]
        while costs[-1].message != "Job completed":
            costs.append(await tick(world, meter, run))
        failed = next(i for i, cost in enumerate(costs) if cost.message == "Job failed")
        ended = await tick(world, meter, run)
    async with World.open(database, listeners=[meter]) as world:
        run = await world.start()
        world.vendor_fault("gpu_vendor_1", "submit-job", "hang", times=1, when="payment")
        unknown = await tick(world, meter, run)
        relaunch = await tick(world, meter, run)
    return {
        "start: goal to running job": costs[0],
        "start: no answer from the vendor": unknown,
        "launch: the same payment again": relaunch,
        "monitor: running": costs[1],
        "monitor: failed, recover": costs[failed],
        "recover: to the next running job": costs[failed + 1],
        "monitor: completed": costs[-1],
        "ended": ended,
    }


async def monitoring(database: FreshDatabase, ticks: int) -> list[Cost]:
    """`ticks` ticks of one run that each find its job running."""
    meter = Meter()
    async with World.open(database, epochs=ticks + 1, listeners=[meter]) as world:
        run = await world.start()
        await world.tick(run)
        return [await tick(world, meter, run) for _ in range(ticks)]


def averages(costs: Sequence[Cost]) -> tuple[float, float]:
    """Commands and bytes a tick."""
    return (
        sum(cost.commands for cost in costs) / len(costs),
        sum(cost.bytes for cost in costs) / len(costs),
    )


async def measure(uri: str, ticks: int) -> dict[str, Any]:
    """Every number of this benchmark."""
    async with AsyncMongoClient[Document](uri, tz_aware=True) as client:
        by_kind = await kinds(FreshDatabase(uri, "bench_kinds", client))
        series = await monitoring(FreshDatabase(uri, "bench_series", client), ticks)
    part = max(1, ticks // 10)
    return {
        "kinds": {kind: asdict(cost) for kind, cost in by_kind.items()},
        "monitoring": {
            "ticks": ticks,
            "first_tenth": averages(series[:part]),
            "last_tenth": averages(series[-part:]),
            "most_commands": max(cost.commands for cost in series[1:]),
            "most_bytes": max(cost.bytes for cost in series),
            "bounds": {"commands": MOST_COMMANDS, "bytes": MOST_BYTES},
        },
    }


def table(measured: dict[str, Any]) -> str:
    """The numbers for a person."""
    lines = [f"{'tick':<36}{'commands':>9}{'bytes sent':>12}"]
    for kind, cost in measured["kinds"].items():
        lines.append(f"{kind:<36}{cost['commands']:>9}{cost['bytes']:>12,}")
    series = measured["monitoring"]
    for part in ("first_tenth", "last_tenth"):
        commands, size = series[part]
        name = f"{part.replace('_', ' ')} of {series['ticks']:,} running"
        lines.append(f"{name:<36}{commands:>9.1f}{size:>12,.0f}")
    return "\n".join(lines)


def main(ticks: int = 1_000) -> None:
    with tempfile.TemporaryDirectory() as folder, embedded_mongo(Path(folder)) as uri:
        measured = asyncio.run(measure(uri, ticks))
    print(table(measured))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "tick_cost.json").write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
