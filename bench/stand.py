"""What the measurements stand on: real services on this machine, and runs whose job goes on."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import uvloop
from pymongo import AsyncMongoClient, UpdateOne

from domain.due import MOST_DOUBLINGS
from domain.ids import new_run_id
from domain.money import Usd
from server.config.settings import Settings
from server.local.seed import seed
from server.local.stack import LocalStack
from server.runner.tick import Ticker
from server.wiring import Services, now, open_deps, open_services

EPOCHS: Final = 10_000
GOAL: Final = "Fine-tune on an A100 for one hour"
Document = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stand:
    """Open services, and where they and the light vendor answer."""

    services: Services
    settings: Settings
    light_url: str
    stack: LocalStack

    @property
    def uri(self) -> str:
        assert self.settings.mongodb_uri is not None
        return self.settings.mongodb_uri.get_secret_value()

    @property
    def mongodb_pid(self) -> int:
        """Of the embedded MongoDB's guard, whose child the server is."""
        (service,) = (s for s in self.stack.services if s.name == "mongodb")
        assert service.pid
        return service.pid

    async def started(self) -> str:
        """A run whose job runs at the mock vendor, seen twice, and goes on for thousands more."""
        services = self.services
        async with httpx.AsyncClient(transport=LongJobs()) as http:
            deps = await open_deps(self.settings, services.deps.ledger, http)
            run = await deps.ledger.runs.create(new_run_id(), "bench", GOAL, Usd.parse(5), now())
            ticker = Ticker(replace(services, deps=deps))
            told = [(await ticker.tick(run.id)).message for _ in range(3)]
        if told != ["Job started", "Job still running", "Job still running"]:
            raise RuntimeError(f"the bench's run did not start: {told}")
        return run.id

    async def to_light_vendor(self) -> None:
        """Have all jobs that there are polled at the light vendor from now on."""
        async with AsyncMongoClient[Document](self.uri) as client:
            jobs = client[self.settings.mongodb_db_name]["jobs"]
            await jobs.update_many({}, {"$set": {"endpoint": self.light_url}})

    async def copies(self, run_id: str, n: int) -> list[str]:
        """`n` more runs like `run_id`, each with a job and a checkpoint of its own.

        None is due for an hour, and each has been quiet for so long that after a tick it waits
        as long as a run ever does.
        """
        async with AsyncMongoClient[Document](self.uri, tz_aware=True) as client:
            db = client[self.settings.mongodb_db_name]
            run = await db["runs"].find_one({"_id": run_id})
            newest = [("checkpoint_id", -1)]
            checkpoint = await db["checkpoints"].find_one({"thread_id": run_id}, sort=newest)
            assert run
            assert checkpoint
            job = await db["jobs"].find_one({"_id": run["currentJobId"]})
            assert job
            del checkpoint["_id"]
            serde = self.services.checkpoints.saver.serde
            saved = serde.loads_typed((checkpoint["type"], checkpoint["checkpoint"]))

            def checkpoint_of(i: str) -> Document:
                values = saved["channel_values"] | {"run_id": i}
                type_, stored = serde.dumps_typed(saved | {"channel_values": values})
                return {**checkpoint, "thread_id": i, "type": type_, "checkpoint": stored}

            ids, later = [new_run_id() for _ in range(n)], now() + timedelta(hours=1)
            for start in range(0, n, 500):
                part = ids[start : start + 500]
                await db["jobs"].insert_many(
                    [{**job, "_id": f"job_{i}", "runId": i, "paymentId": f"pay_{i}"} for i in part]
                )
                await db["checkpoints"].insert_many([checkpoint_of(i) for i in part])
                await db["runs"].insert_many(
                    [
                        {
                            **run,
                            "_id": i,
                            "currentJobId": f"job_{i}",
                            "sighting": {**run["sighting"], "jobId": f"job_{i}"},
                            "journal": {"seq": 0, "hash": ""},
                            "lease": None,
                            "dueAt": later,
                            "quietTicks": MOST_DOUBLINGS,
                        }
                        for i in part
                    ]
                )
        return ids

    async def fall_due(self, moments: Mapping[str, datetime]) -> None:
        """Have each run fall due at its moment."""
        async with AsyncMongoClient[Document](self.uri, tz_aware=True) as client:
            runs = client[self.settings.mongodb_db_name]["runs"]
            moves = [UpdateOne({"_id": i}, {"$set": {"dueAt": at}}) for i, at in moments.items()]
            for start in range(0, len(moves), 500):
                await runs.bulk_write(moves[start : start + 500])


class LongJobs(httpx.AsyncHTTPTransport):
    """Asks the vendor for many epochs, whatever the agent asks for."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/submit-job":
            body = json.loads(request.content)
            body["jobParams"]["epochs"] = EPOCHS
            headers = {k: v for k, v in request.headers.items() if k != "content-length"}
            request = httpx.Request(
                request.method,
                request.url,
                headers=headers,
                json=body,
                extensions=request.extensions,
            )
        return await super().handle_async_request(request)


@asynccontextmanager
async def stand() -> AsyncIterator[Stand]:
    """A MongoDB, a chain, the mock vendor and the light one, each a process of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        asked = Settings(
            data_dir=Path(folder),
            fail_rate=0.0,
            planner_mode="stub",
            max_exposure_usd=Usd.parse(100),  # runs side by side
        )
        async with (
            LocalStack(asked, ephemeral=True, quick_stop=True) as stack,
            open_services(stack.settings) as services,
            _light_vendor() as light_url,
        ):
            await seed(services.deps.ledger.vendors, stack.settings, now())
            yield Stand(services, stack.settings, light_url, stack)


def on_a_stand(measure: Callable[[Stand], Awaitable[T]]) -> T:
    """What `measure` finds on a stand of its own, on the event loop that `serve` runs on."""

    async def found() -> T:
        async with stand() as here:
            return await measure(here)

    return uvloop.run(found())


@asynccontextmanager
async def _light_vendor() -> AsyncIterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.light_vendor", str(port)
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient() as http:
            for _ in range(200):
                try:
                    await http.get(f"{url}/job-status")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
            else:
                raise RuntimeError("the light vendor did not start")
        yield url
    finally:
        process.kill()
        await process.wait()
