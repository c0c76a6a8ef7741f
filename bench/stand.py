"""What the measurements stand on: real services on this machine, and runs whose job goes on."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
from pymongo import AsyncMongoClient

from domain.money import Usd
from graph.settings import Settings
from graph.wiring import Services, new_run_id, now, open_deps, open_services
from server.local import LocalStack
from server.seed import seed
from server.ticks import Ticker

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
        """A run whose job runs at the mock vendor, and goes on for thousands of polls."""
        services = self.services
        async with httpx.AsyncClient(transport=LongJobs()) as http:
            deps = await open_deps(self.settings, services.deps.ledger, http)
            run = await deps.ledger.runs.create(new_run_id(), "bench", GOAL, Usd.parse(5), now())
            ticked = await Ticker(replace(services, deps=deps)).tick(run.id)
        if ticked.message != "Job started":
            raise RuntimeError(f"the bench's run did not start: {ticked.message}")
        return run.id

    async def to_light_vendor(self) -> None:
        """Have all jobs that there are polled at the light vendor from now on."""
        async with AsyncMongoClient[Document](self.uri) as client:
            jobs = client[self.settings.mongodb_db_name]["jobs"]
            await jobs.update_many({}, {"$set": {"endpoint": self.light_url}})

    async def copies(self, run_id: str, n: int, *, spread_s: float = 0.0) -> list[str]:
        """`n` more runs like `run_id`, each with a job and a checkpoint of its own.

        spread_s: the span over which they fall due, from now on; 0: none is due for an hour.
        """
        async with AsyncMongoClient[Document](self.uri, tz_aware=True) as client:
            db = client[self.settings.mongodb_db_name]
            run = await db["runs"].find_one({"_id": run_id})
            checkpoint = await db["checkpoints"].find_one({"thread_id": run_id})
            assert run
            assert checkpoint
            job = await db["jobs"].find_one({"_id": run["currentJobId"]})
            assert job
            del checkpoint["_id"]
            ids, begin = [new_run_id() for _ in range(n)], now()
            for start in range(0, n, 500):
                part = ids[start : start + 500]
                await db["jobs"].insert_many(
                    [{**job, "_id": f"job_{i}", "runId": i, "paymentId": f"pay_{i}"} for i in part]
                )
                await db["checkpoints"].insert_many([{**checkpoint, "thread_id": i} for i in part])
                await db["runs"].insert_many(
                    [
                        {
                            **run,
                            "_id": i,
                            "currentJobId": f"job_{i}",
                            "journal": {"seq": 0, "hash": ""},
                            "lease": None,
                            "dueAt": begin
                            + (
                                timedelta(seconds=spread_s * (start + k) / n)
                                if spread_s
                                else timedelta(hours=1)
                            ),
                        }
                        for k, i in enumerate(part)
                    ]
                )
        return ids


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
        asked = Settings(data_dir=Path(folder), fail_rate=0.0, planner_mode="stub")
        async with (
            LocalStack(asked, ephemeral=True, quick_stop=True) as stack,
            open_services(stack.settings) as services,
            _light_vendor() as light_url,
        ):
            await seed(services.deps.ledger.vendors, stack.settings, now())
            yield Stand(services, stack.settings, light_url, stack)


async def on_a_stand(measure: Callable[[Stand], Awaitable[T]]) -> T:
    """What `measure` finds on a stand of its own."""
    async with stand() as here:
        return await measure(here)


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
