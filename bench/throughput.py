"""How many ticks a second: 1, 8, 64 and 256 runs at once, in one process and in four.

    python -m bench.throughput [seconds]

Beside each figure stands how busy a core the agent's processes and MongoDB's kept: the embedded
MongoDB and a Python process use one core at most. Below them stands what the store does alone, for
the commands of such a tick with no agent and no vendor between them: about the most that any number
of agents gets out of it. On two cores, agents and MongoDB together fill the machine before that.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import uvloop

from bench import plots
from bench.report import Table, write
from bench.stand import Stand, on_a_stand
from domain.due import Due
from domain.errors import DependencyDown
from ledger.jobs import follow, last_poll
from server.config.settings import Settings
from server.runner.tick import Ticker
from server.wiring import Services, now, open_services

AT_ONCE: Final = (1, 8, 64, 256)
PROCESSES: Final = (1, 4)
SECONDS: Final = 10.0
STORE_AT_ONCE: Final = 4
"""Enough to keep the store busy; with more, its threads get in each other's way."""


def cpu_seconds(pids: Iterable[int]) -> float:
    """The processor time that the processes, and the children they have now, have used."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0
    for pid in [p for root in pids for p in (root, *_children(root))]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / ticks


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [c for child in map(int, listed) for c in (child, *_children(child))]


async def repeat(
    work: Callable[[str], Awaitable[object]], run_ids: Sequence[str], seconds: float
) -> int:
    """How often `work` was done, for all runs at once and for so long."""
    until = time.monotonic() + seconds

    async def one(run_id: str) -> int:
        n = 0
        while time.monotonic() < until:
            try:
                await work(run_id)
            except DependencyDown:  # a store that is asked for too much at once
                continue
            n += 1
        return n

    return sum(await asyncio.gather(*map(one, run_ids)))


class StoreAlone:
    """Of a tick that finds its job running, what it asks the store, and nothing else."""

    def __init__(self, services: Services) -> None:
        self._ledger = services.deps.ledger

    async def tick(self, run_id: str) -> None:
        runs = self._ledger.runs
        found = await follow(runs, run_id)
        assert found.job
        run, lease = await runs.take(found.run, now, 60)
        seen = {"sighting": last_poll(found.job).document(), "phase": run.phase}
        due = Due(now() + timedelta(hours=1), run.quiet_ticks)
        assert await runs.release(lease, now(), seen, seen=run, due=due)


async def measure_one(
    here: Stand, run_ids: Sequence[str], seconds: float, *, store_alone: bool = False
) -> dict[str, Any]:
    """With all runs in this process."""
    us, mongo = time.process_time(), cpu_seconds([here.mongodb_pid])
    began = time.monotonic()
    tick = StoreAlone(here.services).tick if store_alone else Ticker(here.services).tick
    ticks = await repeat(tick, run_ids, seconds)
    took = time.monotonic() - began
    return {
        "ticks_per_s": ticks / took,
        "agent_cores": (time.process_time() - us) / took,
        "mongodb_cores": (cpu_seconds([here.mongodb_pid]) - mongo) / took,
    }


async def measure_many(
    here: Stand, run_ids: Sequence[str], seconds: float, processes: int
) -> dict[str, Any]:
    """With the runs shared out among processes of their own."""
    context = multiprocessing.get_context("spawn")
    ready, go = context.Barrier(processes + 1), context.Event()
    counts: Any = context.Queue()
    shares: list[list[str]] = [[] for _ in range(processes)]
    for share, run_id in zip(cycle(shares), run_ids, strict=False):
        share.append(run_id)
    workers = [
        context.Process(target=_worker, args=(here.settings, share, seconds, ready, go, counts))
        for share in shares
    ]
    for worker in workers:
        worker.start()
    await asyncio.to_thread(ready.wait)
    pids = [worker.pid for worker in workers if worker.pid]
    agents, mongo = cpu_seconds(pids), cpu_seconds([here.mongodb_pid])
    began = time.monotonic()
    go.set()
    ticks = sum([await asyncio.to_thread(counts.get) for _ in workers])
    took = time.monotonic() - began
    measured = {
        "ticks_per_s": ticks / took,
        "agent_cores": (cpu_seconds(pids) - agents) / took,
        "mongodb_cores": (cpu_seconds([here.mongodb_pid]) - mongo) / took,
    }
    await asyncio.to_thread(ready.wait)
    for worker in workers:
        worker.join()
    return measured


def _worker(
    settings: Settings, run_ids: list[str], seconds: float, ready: Any, go: Any, counts: Any
) -> None:
    async def work() -> None:
        async with open_services(settings) as services:
            await asyncio.to_thread(ready.wait)
            await asyncio.to_thread(go.wait)
            counts.put(await repeat(Ticker(services).tick, run_ids, seconds))
            await asyncio.to_thread(ready.wait)  # alive until its time has been read

    uvloop.run(work())


async def measure(
    here: Stand,
    seconds: float,
    processes: Sequence[int] = PROCESSES,
    at_once: Sequence[int] = AT_ONCE,
) -> dict[str, Any]:
    """For each number of processes and of runs at once: ticks a second, and cores in use."""
    measured = []
    first = await here.started()
    await here.to_light_vendor()
    run_ids = await here.copies(first, max(at_once))
    for number in processes:
        for runs in at_once:
            chosen = run_ids[:runs]
            if number == 1:
                figures = await measure_one(here, chosen, seconds)
            elif runs < number:
                continue
            else:
                figures = await measure_many(here, chosen, seconds, number)
            measured.append({"processes": number, "at_once": runs, **figures})
    some = run_ids[:STORE_AT_ONCE]
    alone = await measure_one(here, some, seconds, store_alone=True)
    return {"throughput": measured, "store alone": {"at_once": len(some), **alone}}


def table(measured: dict[str, Any]) -> Table:
    rows = Table(
        "Monitor ticks a second",
        ["processes", "runs at once", "ticks/s", "× of one", "agent's cores", "MongoDB's cores"],
    )
    one = measured["throughput"][0]["ticks_per_s"]
    for m in [*measured["throughput"], {"processes": "the store alone", **measured["store alone"]}]:
        rows.row(
            str(m["processes"]),
            str(m["at_once"]),
            f"{m['ticks_per_s']:.0f}",
            f"{m['ticks_per_s'] / one:.1f}",
            f"{m['agent_cores']:.2f}",
            f"{m['mongodb_cores']:.2f}",
        )
    return rows


def tell(measured: dict[str, Any]) -> None:
    """Print it, and write it down with its picture."""
    write("throughput", measured, [table(measured)])
    plots.throughput(measured["throughput"], measured["store alone"]["ticks_per_s"])


def main(seconds: float = SECONDS) -> None:
    tell(on_a_stand(lambda here: measure(here, seconds)))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
