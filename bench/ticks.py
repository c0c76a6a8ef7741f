"""What a tick takes, in time: against the floor, as a run grows old, and part by part.

    python -m bench.ticks [ticks]

The floor is what no agent can do without: the vendor's status, one read and one write, by hand
with httpx and pymongo. Floor and tick take turns, so that both meet the same machine.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx
from pymongo import AsyncMongoClient, WriteConcern

from bench import plots
from bench.report import Table, write
from bench.stand import GOAL, Document, Stand, on_a_stand
from domain.ids import new_run_id
from domain.money import Usd
from server.config.settings import LOCAL_VENDOR_SECRET
from server.runner.tick import Ticker
from server.wiring import now
from tools.wire.observer import Step

PAIRS: Final = 500
"""Floor and tick in turn: with fewer, the ratio of two runs differs by some 5%."""
OLD: Final = 2_000
"""Ticks until a run counts as old."""
PAYMENTS: Final = 10


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1e3


class Floor:
    """The vendor's status, one read and one write."""

    _job_id: Final = "floor"

    def __init__(self, http: httpx.AsyncClient, client: AsyncMongoClient[Document], stand: Stand):
        self._http = http
        self._db = client.get_database(
            stand.settings.mongodb_db_name, write_concern=WriteConcern(w="majority", j=True)
        )

    async def aim(self, run_id: str) -> None:
        """At the run's job, where that is followed.

        It reads and writes a copy of that job's document, so that it is in no tick's way.
        """
        run = await self._db["runs"].find_one({"_id": run_id})
        assert run
        job = await self._db["jobs"].find_one({"_id": run["currentJobId"]})
        assert job
        copy = {**job, "_id": self._job_id, "runId": self._job_id, "paymentId": self._job_id}
        await self._db["jobs"].replace_one({"_id": self._job_id}, copy, upsert=True)
        self._url = f"{job['endpoint']}/job-status"
        self._query = {"vendorJobId": job["vendorJobId"]}
        self._headers = {"x-vendor-id": job["vendorId"]}

    async def once(self) -> None:
        answer = await self._http.get(self._url, params=self._query, headers=self._headers)
        answer.raise_for_status()
        job = await self._db["jobs"].find_one({"_id": self._job_id})
        assert job
        await self._db["jobs"].update_one(
            {"_id": self._job_id}, {"$set": {"updatedAt": now(), "progress": 0.5}}
        )


async def against_floor(here: Stand, floor: Floor, run_id: str, pairs: int) -> dict[str, float]:
    """Medians in ms, and their ratio."""
    ticker = Ticker(here.services)
    floors, ticks = [], []
    for _ in range(pairs):
        floors.append(await timed(floor.once))
        ticks.append(await timed(lambda: ticker.tick(run_id)))
    low, high = statistics.median(floors), statistics.median(ticks)
    return {"floor_ms": low, "tick_ms": high, "ratio": high / low, "pairs": pairs}


async def growing_old(here: Stand, floor: Floor, run_id: str, ticks: int) -> dict[str, Any]:
    """Each tenth of a run's ticks against the floor beside it, since the machine may not be as
    fast at the end as at the start; and the last one's ratio to the first.
    """
    tenth = max(1, ticks // 10)
    tenths = [await against_floor(here, floor, run_id, tenth) for _ in range(10)]
    return {"ticks": ticks, "tenths": tenths, "ratio": tenths[-1]["ratio"] / tenths[0]["ratio"]}


class Stopwatch:
    """Adds up the milliseconds of each kind of step, its own steps within not counted."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = defaultdict(list)
        self._inner: list[float] = []

    @contextmanager
    def __call__(self, step: Step) -> Iterator[None]:
        self._inner.append(0.0)
        began = time.perf_counter()
        try:
            yield
        finally:
            took = (time.perf_counter() - began) * 1e3
            own = took - self._inner.pop()
            if self._inner:
                self._inner[-1] += took
            self.spent[f"{step.kind}: {step.name}"].append(own)


async def by_part(here: Stand, payments: int) -> dict[str, float]:
    """Milliseconds a start takes in each part: from a goal to a paid and running job."""
    watch, services = Stopwatch(), here.services
    with services.deps.observer.listening(watch):
        for _ in range(payments):
            run = await services.deps.ledger.runs.create(
                new_run_id(), "bench", GOAL, Usd.parse(5), now()
            )
            await Ticker(services).tick(run.id)
    return {part: sum(ms) / payments for part, ms in sorted(watch.spent.items())}


async def measure(here: Stand, ticks: int, pairs: int, payments: int) -> dict[str, Any]:
    """Every number of this benchmark."""
    headers = {"authorization": f"Bearer {LOCAL_VENDOR_SECRET}"}
    async with (
        httpx.AsyncClient(headers=headers, trust_env=False) as http,
        AsyncMongoClient[Document](here.uri, tz_aware=True) as client,
    ):
        floor, run_id = Floor(http, client, here), await here.started()
        parts = await by_part(here, payments)
        await floor.aim(run_id)
        mock = await against_floor(here, floor, run_id, pairs)
        await here.to_light_vendor()
        await floor.aim(run_id)
        light = await against_floor(here, floor, run_id, pairs)
        old = await growing_old(here, floor, run_id, ticks)
    return {"mock vendor": mock, "light vendor": light, "growing old": old, "payment": parts}


def tables(measured: dict[str, Any]) -> list[Table]:
    against = Table("A monitor tick against the floor (medians)", ["vendor", "floor", "tick", "×"])
    for vendor in ("mock vendor", "light vendor"):
        figures = measured[vendor]
        against.row(
            vendor,
            f"{figures['floor_ms']:.1f} ms",
            f"{figures['tick_ms']:.1f} ms",
            f"{figures['ratio']:.2f}",
        )
    old = measured["growing old"]
    age = Table(
        f"A run grows old: {old['ticks']:,} ticks, each tenth and the floor beside it (medians)",
        ["first tenth", "last tenth", "×"],
    )
    ends = [old["tenths"][0], old["tenths"][-1]]
    age.row(
        *(f"{end['tick_ms']:.1f} ms, {end['ratio']:.2f} floors" for end in ends),
        f"{old['ratio']:.2f}",
    )
    parts = Table("From a goal to a paid, running job, part by part", ["part", "own time"])
    for part, ms in sorted(measured["payment"].items(), key=lambda item: -item[1]):
        parts.row(part, f"{ms:.1f} ms")
    parts.row("together", f"{sum(measured['payment'].values()):.1f} ms")
    return [against, age, parts]


def tell(measured: dict[str, Any]) -> None:
    """Print it, and write it down with its pictures."""
    write("ticks", measured, tables(measured))
    old = measured["growing old"]
    plots.age([tenth["ratio"] for tenth in old["tenths"]], old["ticks"])
    plots.parts(measured["payment"])


def main(ticks: int = OLD, pairs: int = PAIRS, payments: int = PAYMENTS) -> None:
    tell(on_a_stand(lambda here: measure(here, ticks, pairs, payments)))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else OLD)
