"""Ten thousand open runs, of which 1% fall due each second: can one worker keep up?

    python -m bench.open_runs [runs] [seconds]

Tells how late the ticks are, how busy the worker and MongoDB are, and how large the worker is.
The runs' jobs have been running quietly, so that a ticked run is not due again for a minute.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import uvloop

from bench import plots
from bench.report import Table, write
from bench.stand import Stand, on_a_stand
from bench.throughput import cpu_seconds
from server.config.settings import Settings
from server.runner.tick import Ticker
from server.runner.worker import Worker, working
from server.wiring import now, open_services

RUNS: Final = 10_000
SECONDS: Final = 60.0
SHARE: Final = 0.01
"""Of the open runs, due each second."""
PLACING_S: Final = 0.005
"""Time to give a run its moment, more than it takes: the worker begins after the last one."""


class Lateness:
    """Ticks, with how long after its due moment each began."""

    def __init__(self, tick: Any, due_at: dict[str, datetime]) -> None:
        self._tick = tick
        self._due_at = due_at
        self.seconds: list[float] = []

    async def __call__(self, run_id: str, **options: Any) -> object:
        due = self._due_at.pop(run_id, None)
        if due is not None:
            self.seconds.append((now() - due).total_seconds())
        return await self._tick(run_id, **options)


def _work(settings: Settings, ready: Any, plan: Any, results: Any) -> None:
    """Open everything, say so, take the plan (due moments, seconds), and tick."""

    async def work() -> None:
        async with open_services(settings) as services:
            ready.set()
            due_at, seconds = await asyncio.to_thread(plan.get)
            late = Lateness(Ticker(services).tick, due_at)
            cpu, began = time.process_time(), time.monotonic()
            async with working(Worker(services, tick=late), grace_s=10):
                await asyncio.sleep(seconds)
            took = time.monotonic() - began
            results.put(
                {
                    "late_s": late.seconds,
                    "cores": (time.process_time() - cpu) / took,
                    "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                    "took_s": took,
                }
            )

    uvloop.run(work())  # as the worker's own command does


async def measure(here: Stand, runs: int, seconds: float) -> dict[str, Any]:
    """How late each run was ticked for the first time, and what that took."""
    context = multiprocessing.get_context("spawn")
    ready, plan, results = context.Event(), context.Queue(), context.Queue()
    first = await here.started()
    await here.to_light_vendor()
    run_ids = await here.copies(first, runs)
    worker = context.Process(target=_work, args=(here.settings, ready, plan, results))
    worker.start()
    await asyncio.to_thread(ready.wait)
    soon = run_ids[: round(runs * SHARE * seconds)]
    begin = now() + timedelta(seconds=1 + PLACING_S * len(soon))
    due_at = {i: begin + timedelta(seconds=k / (runs * SHARE)) for k, i in enumerate(soon)}
    await here.fall_due(due_at)
    await asyncio.sleep((begin - now()).total_seconds())
    mongo, began = cpu_seconds([here.mongodb_pid]), time.monotonic()
    plan.put((due_at, seconds))
    measured: dict[str, Any] = await asyncio.to_thread(results.get)
    worker.join()
    cores = (cpu_seconds([here.mongodb_pid]) - mongo) / (time.monotonic() - began)
    return {
        **told(measured["late_s"]),
        **measured,
        "runs": runs,
        "due": len(soon),
        "mongodb_cores": cores,
        "machine_cores": os.cpu_count(),
    }


def told(late_s: Sequence[float]) -> dict[str, Any]:
    """The lateness in figures, of the runs that were ticked for the first time."""
    cuts = statistics.quantiles(late_s, n=20) if len(late_s) > 1 else [*late_s] * 19
    return {"first_ticks": len(late_s), "late_median_s": cuts[9], "late_p95_s": cuts[18]}


def table(m: dict[str, Any]) -> Table:
    rows = Table(
        f"{m['runs']:,} open runs, {SHARE:.0%} falling due each second, one worker, "
        f"{m['took_s']:.0f} s",
        [
            "first ticks",
            "a second",
            "late: median",
            "late: 95%",
            "worker",
            "its cores",
            "MongoDB's cores",
        ],
    )
    rows.row(
        f"{m['first_ticks']:,} of {m['due']:,} due",
        f"{m['first_ticks'] / m['took_s']:.0f}",
        f"{m['late_median_s']:.1f} s",
        f"{m['late_p95_s']:.1f} s",
        f"{m['mib']:.0f} MiB",
        f"{m['cores']:.2f}",
        f"{m['mongodb_cores']:.2f}",
    )
    return rows


def tell(measured: dict[str, Any]) -> None:
    """Print it, and write it down with its picture."""
    late_s = measured.pop("late_s")
    rows = table(measured)
    write("open_runs", measured, [rows])
    plots.lateness(rows.title, late_s)


def main(runs: int = RUNS, seconds: float = SECONDS) -> None:
    tell(on_a_stand(lambda here: measure(here, runs, seconds)))


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else RUNS, float(given[1]) if len(given) > 1 else SECONDS)
