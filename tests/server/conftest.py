"""The HTTP API over the real MongoDB, chain and vendor, and doors to shut between them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from pymongo import AsyncMongoClient, MongoClient

from domain.errors import StoreDown
from domain.money import Usd
from graph.build import build_graph
from graph.persistence.checkpoints import Checkpoints, RunSaver
from ledger.ledger import Ledger
from ledger.store import Store
from server.app import create_app
from server.config.settings import Settings
from server.local.seed import seed
from server.wiring import OpenServices, Services, now, open_deps, open_services, tick_context
from tests.support.stack import Document, FreshDatabase
from tools.wire.clients import open_client

MOST_TICKS: Final = 30
GOAL: Final = "Fine-tune a 7B model on an A100"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Api:
    """The API as a program uses it."""

    http: httpx.AsyncClient

    async def start(self, **changes: Any) -> Json:
        body = {"userId": "u1", "goal": GOAL, "budgetTotal": 5, **changes}
        return dict((await self.http.post("/api/agent-start", json=body)).raise_for_status().json())

    async def tick(self, run_id: str) -> httpx.Response:
        return await self.http.post("/api/agent-tick", json={"runId": run_id})

    async def message(self, run_id: str) -> str:
        return str((await self.tick(run_id)).raise_for_status().json()["message"])

    async def status(self, run_id: str, **query: Any) -> Json:
        answer = await self.http.get("/api/agent-status", params={"runId": run_id, **query})
        return dict(answer.raise_for_status().json())

    async def finish(self, run_id: str) -> list[str]:
        """Tick the run until it has ended; its messages."""
        messages: list[str] = []
        for _ in range(MOST_TICKS):
            messages.append(await self.message(run_id))
            if messages[-1] == "Job completed" or messages[-1].startswith("Run failed"):
                return messages
        raise AssertionError(f"run {run_id} does not end: {messages}")


@dataclass(slots=True)
class Door:
    """A TCP way to `target` that a test shuts and opens. Shut, connections are refused."""

    target: str
    port: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _passing: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        address = urlsplit(self.target)
        user, at, _ = address.netloc.rpartition("@")
        return address._replace(netloc=f"{user}{at}127.0.0.1:{self.port}").geturl()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
        self._server = None
        for writer in self._open:
            writer.transport.abort()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        self._open.add(writer)
        try:
            there = urlsplit(self.target)
            inward, outward = await asyncio.open_connection(there.hostname, there.port)
            self._open.add(outward)
            await asyncio.gather(_pump(reader, outward), _pump(inward, writer))
            self._open.discard(outward)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            self._passing.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[Api]:
    """The app between its start and its stop, without a network."""
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api", timeout=60) as http,
    ):
        yield Api(http)


@asynccontextmanager
async def impatient(
    settings: Settings, vendor_http: httpx.AsyncClient | None = None
) -> AsyncIterator[Services]:
    """What `open_services` opens, but a MongoDB that is away is given up after a second."""
    assert settings.mongodb_uri is not None
    uri, name = settings.mongodb_uri.get_secret_value(), settings.mongodb_db_name
    async with AsyncExitStack() as stack:
        http = vendor_http
        if http is None:
            http = await stack.enter_async_context(open_client())
        client: AsyncMongoClient[Document] = AsyncMongoClient(
            uri, serverSelectionTimeoutMS=1000, tz_aware=True
        )
        store = Store(client, name)
        stack.push_async_callback(store.close)
        ledger = Ledger.over(store)
        await ledger.ensure_indexes()
        saver_client: MongoClient[Document] = MongoClient(uri, serverSelectionTimeoutMS=1000)
        stack.push_async_callback(asyncio.to_thread, saver_client.close)
        saver = await asyncio.to_thread(RunSaver, saver_client, db_name=name)
        checkpoints = Checkpoints(saver, store)
        deps = await open_deps(settings, ledger, http)
        yield Services(settings, deps, checkpoints, build_graph(tick_context, checkpoints.saver))


def opening(services: Services) -> OpenServices:
    """Services that are open already."""

    @asynccontextmanager
    async def given() -> AsyncIterator[Services]:
        yield services

    return given


@pytest.fixture
def settings(database: FreshDatabase, chain_url: str, vendor_url: str, tmp_path: Path) -> Settings:
    return Settings(
        mongodb_uri=SecretStr(database.uri),
        mongodb_db_name=database.name,
        rpc_url=SecretStr(chain_url),
        vendor_secrets={"GPU_VENDOR_SECRET_ACME": SecretStr("the-secret-of-acme")},
        vendor_port=urlsplit(vendor_url).port or 0,
        data_dir=tmp_path / "data",
        quote_deadline_s=30,
        vendor_read_timeout_s=60,
        vendor_total_timeout_s=60,
    )


def failing(error: Exception) -> OpenServices:
    """Services that cannot be opened."""

    @asynccontextmanager
    async def fail() -> AsyncIterator[Services]:
        if error:
            raise error
        yield cast(Services, None)

    return fail


@pytest.fixture(scope="module")
def bare_app() -> FastAPI:
    return create_app(failing(StoreDown("MongoDB is away", "Wait")), Settings())


@pytest.fixture
async def bare(bare_app: FastAPI) -> AsyncIterator[Api]:
    """The API without its services: enough for what never reaches them."""
    async with serving(bare_app) as served:
        yield served


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    """Open services, with FastGPU and ReliableGPU in the registry."""
    async with open_services(settings) as opened:
        await seed(opened.deps.ledger.vendors, settings, now())
        yield opened


@pytest.fixture
async def api(services: Services) -> AsyncIterator[Api]:
    async with serving(create_app(opening(services))) as served:
        yield served


@dataclass(frozen=True, slots=True)
class Wallet:
    """What the agent's wallet has paid since the test began, as the chain says."""

    services: Services
    before: Usd

    async def paid(self) -> float:
        deps = self.services.deps
        return (self.before - await deps.chain.balance(deps.wallet.address)).dollars()


@pytest.fixture
async def wallet(services: Services) -> Wallet:
    deps = services.deps
    return Wallet(services, await deps.chain.balance(deps.wallet.address))


@pytest.fixture
def leaky_pymongo() -> Iterator[None]:
    """For a client that is closed while it is connecting: PyMongo 4.20 leaves that socket to the
    garbage collector, which is called here, before another test is blamed.
    """
    yield
    gc.collect()


@pytest.fixture
async def mongo_door(database: FreshDatabase) -> AsyncIterator[Door]:
    door = Door(database.uri)
    await door.open()
    yield door
    await door.shut()


@pytest.fixture
async def chain_door(chain_url: str) -> AsyncIterator[Door]:
    door = Door(chain_url)
    await door.open()
    yield door
    await door.shut()


def balanced(run: Json) -> bool:
    """Whether the run's money adds up, in micro-dollars."""
    total, *parts = (
        round(float(run[name]) * 1_000_000)
        for name in ("budgetTotal", "budgetRemaining", "spent", "reserved")
    )
    return total == sum(parts)
