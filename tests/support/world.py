"""The whole product in one process: the real graph, ledger, vendor client and chain reader.

    async with World.open(database) as world:
        run = await world.start("Fine-tune on an A100", 5)
        await world.tick(run)

Outside the agent stand a MemoryChain and the mock vendor, both reached over HTTP that never
leaves the process. One clock rules them all and stands still until `world.clock.advance`.

Each seam can be replaced by wrapping it: `World.open(database, wrap=Wraps(http=Lossy))`. A wrap
gets the real thing and gives what the agent will use instead.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import httpx
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.types import Command
from pydantic import SecretStr
from pymongo.monitoring import CommandListener

from domain.goals.left_out import NOTHING_LEFT_OUT
from domain.ids import new_run_id
from domain.jobs import JobStatus
from domain.journal import Entry, NoteType
from domain.money import Usd
from domain.networks import LOCAL
from domain.payments import PaymentState
from domain.policy import SpendingPolicy
from domain.quotes import Vendor
from domain.slices import SliceRule
from domain.utterance import Utterance
from domain.vendor_secrets import GPU_VENDOR_SECRET
from graph.build import Graph, build_graph
from graph.context import TickContext
from graph.deps import Deps, Limits
from graph.persistence.checkpoints import Checkpoints
from graph.planner.planners import Planner, RankingPlanner
from ledger.jobs import Job
from ledger.ledger import Ledger
from ledger.payments import Payment
from ledger.run import Run
from ledger.store import Store
from mock_vendor.accounts import AGENT_FUNDS, dev_address, dev_key
from mock_vendor.facilitator.app import FacilitatorClient
from mock_vendor.vendor.app import create_app
from mock_vendor.vendor.faults import Fault
from mock_vendor.vendor.problems import DroppedConnection
from mock_vendor.vendor.service import VendorService
from mock_vendor.vendor.settings import VendorProfile, VendorSettings, seeded_vendors
from mock_vendor.vendor.treasury import Treasury
from server.config.settings import Settings
from server.runner.tick import Ticked, Ticker
from server.wiring import Services, tick_context
from tests.support.connections import Connections
from tests.support.memory_chain import MemoryChain, Transfer
from tests.support.memory_facilitator import MemoryFacilitator
from tests.support.memory_treasury import MemoryTreasury
from tests.support.stack import FreshDatabase
from tools.payments.cashier import Cashier
from tools.payments.chain import Chain, ChainReader
from tools.payments.reconcile import Reconciler
from tools.payments.refunds import Refunds
from tools.payments.wallets import LocalWallet, Wallet
from tools.vendors.http import HttpVendorClient
from tools.vendors.secrets import VendorSecrets

CHAIN_URL: Final = "http://chain.test"
VENDOR_URL: Final = "http://vendor.test"
AGENT: Final = dev_address("agent")
RELIABILITY: Final = {"gpu_vendor_1": 0.9, "gpu_vendor_2": 0.95}

T = TypeVar("T")


def _same(thing: T) -> T:
    return thing


@dataclass(frozen=True, slots=True)
class Wraps:
    """What stands between the agent and each of its effects."""

    store: Callable[[Store], Store] = _same
    """Every command of the ledger, and the pruning of checkpoints."""
    http: Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport] = _same
    """Every request: to the vendor (host `vendor.test`) and to the chain (`chain.test`)."""
    wallet: Callable[[Wallet], Wallet] = _same
    chain: Callable[[Chain], Chain] = _same
    saver: Callable[[BaseCheckpointSaver[Any]], BaseCheckpointSaver[Any]] = _same


class Clock:
    """The world's time. It stands still."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def seconds(self) -> float:
        return self._now.timestamp()

    def advance(self, seconds: float = 0, *, minutes: float = 0) -> None:
        self._now += timedelta(seconds=seconds, minutes=minutes)


class Silence(Exception):
    """The vendor waits for so long that a client would have given up."""


class InProcess(httpx.AsyncBaseTransport):
    """HTTP to the vendor and the chain, told apart by host. Silence is an instant timeout.

    epochs: how many each job has, instead of what the agent asks for.
    """

    def __init__(self, apps: dict[str, Any], epochs: int | None) -> None:
        self._apps = {host: httpx.ASGITransport(app) for host, app in apps.items()}
        self._epochs = epochs

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        app = self._apps.get(request.url.host)
        if app is None:
            raise httpx.ConnectError(f"nothing answers at {request.url.host}", request=request)
        if self._epochs is not None and request.url.path == "/submit-job":
            request = _with_epochs(request, self._epochs)
        try:
            return await app.handle_async_request(request)
        except Silence:
            raise httpx.ReadTimeout("silence", request=request) from None
        except DroppedConnection:
            raise httpx.RemoteProtocolError("cut off", request=request) from None


def _with_epochs(request: httpx.Request, epochs: int) -> httpx.Request:
    body = json.loads(request.content)
    body["jobParams"]["epochs"] = epochs
    headers = {k: v for k, v in request.headers.items() if k != "content-length"}
    return httpx.Request(
        request.method, request.url, headers=headers, json=body, extensions=request.extensions
    )


@cache
def _compiled() -> Graph:
    """The graph without its saver: compiling takes 10 ms, and it holds no state."""
    return build_graph(tick_context, None)


async def _silence(_: float) -> None:
    raise Silence


@dataclass(slots=True)
class Process:
    """One process of the agent: its own connections, nothing shared but the database."""

    services: Services

    @property
    def deps(self) -> Deps:
        return self.services.deps

    async def tick(self, run: Run | str) -> Ticked:
        """One tick. Raises what `Ticker.tick` does."""
        return await Ticker(self.services).tick(run if isinstance(run, str) else run.id)

    async def resume(self, run: Run, command: Command[Any]) -> dict[str, Any]:
        """Answer an interrupt as Studio does, past the tick runner; the state after it."""
        now, ledger = self.deps.now(), self.deps.ledger
        held, lease = await ledger.runs.acquire(run.id, self.deps.now, 60)
        config = RunnableConfig(configurable={"thread_id": run.id})
        context = TickContext(self.deps, held, lease)
        state = await self.services.graph.ainvoke(command, config, context=context)
        await ledger.runs.release(lease, now, context.last_fields())
        return dict(state)


@dataclass(frozen=True, slots=True)
class Outside:
    """The chain, and who moves money on it besides the agent."""

    chain: MemoryChain
    facilitator: FacilitatorClient
    treasury: Treasury


def in_memory(clock: Clock) -> Outside:
    chain = MemoryChain(clock.seconds)
    chain.mint(AGENT, AGENT_FUNDS)
    return Outside(chain, MemoryFacilitator(chain), MemoryTreasury(chain))


SIDE_BY_SIDE: Final = Limits(slices=SliceRule(first_minutes=60, exposure=Usd.parse(100)))
"""Runs at once, none of which waits for what the others have prepaid its vendor."""


@dataclass(slots=True)
class World:
    """Open it with `World.open`. `process` is the agent; `another_process` is one more."""

    database: FreshDatabase
    clock: Clock
    chain: MemoryChain
    vendor: VendorService
    """The vendor's side of things, to look at."""
    transport: httpx.AsyncBaseTransport
    limits: Limits
    policy: SpendingPolicy
    planner: Planner
    artifacts: Path
    listeners: Sequence[CommandListener] = ()
    connections: Connections | None = None
    settings: Settings = field(default_factory=Settings)
    secret_envs: Mapping[str, str] = field(default_factory=dict)
    """The variables of the vendors that have a secret of their own, by vendor."""
    process: Process = field(init=False)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        database: FreshDatabase,
        *,
        wrap: Wraps | None = None,
        vendors: Sequence[VendorProfile] = (),
        failing: str = "",
        epochs: int | None = None,
        planner: Planner | None = None,
        limits: Limits | None = None,
        policy: SpendingPolicy | None = None,
        listeners: Sequence[CommandListener] = (),
        artifacts: Path | None = None,
        outside: Callable[[Clock], Outside] | None = None,
        connections: Connections | None = None,
        settings: Settings | None = None,
        secret_envs: Mapping[str, str] | None = None,
        **vendor_settings: Any,
    ) -> AsyncIterator[World]:
        """A world with `vendors` in the registry: FastGPU and ReliableGPU if none are named.

        failing: the vendor whose jobs die part-way. epochs: of each job, instead of
        what the agent asks for.
        listeners: on both connections to MongoDB. outside: makes another chain than the memory
        chain. connections: open ones, with indexes made, for all processes to share. Further
        arguments are VendorSettings.
        """
        clock, folder = Clock(), TemporaryDirectory(prefix="artifacts-")
        money = (outside or in_memory)(clock)
        chain = money.chain
        served = tuple(vendors) or seeded_vendors()
        for_vendors = VendorSettings(
            fail_rate=0.0, fail_vendor_id=failing, vendors=served, **vendor_settings
        )
        app = create_app(
            for_vendors,
            facilitator=money.facilitator,
            treasury=money.treasury,
            clock=clock.seconds,
            sleep=_silence,
        )
        world = cls(
            database=database,
            clock=clock,
            chain=chain,
            vendor=app.state.service,
            transport=InProcess({"vendor.test": app, "chain.test": chain.asgi()}, epochs),
            limits=limits or Limits(),
            policy=policy or SpendingPolicy(LOCAL, Usd.parse(100)),
            planner=planner or RankingPlanner(),
            artifacts=artifacts or Path(folder.name),
            listeners=listeners,
            connections=connections,
            settings=settings or Settings(),
            secret_envs=secret_envs or {},
        )
        try:
            async with world.another_process(wrap) as process:
                world.process = process
                if connections is None:
                    await process.deps.ledger.ensure_indexes()
                for profile in served:
                    await world.register(profile)
                yield world
        finally:
            world.vendor.close()
            folder.cleanup()

    @asynccontextmanager
    async def another_process(self, wrap: Wraps | None = None) -> AsyncIterator[Process]:
        """One more process of the agent, on the same database, or the next one after a crash."""
        wrap = wrap or Wraps()
        async with AsyncExitStack() as stack:
            open_ = self.connections
            if open_ is None:
                open_ = await stack.enter_async_context(
                    Connections.open(self.database, self.listeners)
                )
            store = wrap.store(open_.store)
            transport = wrap.http(self.transport)
            http = await stack.enter_async_context(
                httpx.AsyncClient(transport=transport, follow_redirects=False)
            )
            graph = _compiled().copy({"checkpointer": wrap.saver(open_.saver)})
            deps = self._deps(wrap, Ledger.over(store), http)
            yield Process(Services(self.settings, deps, Checkpoints(open_.saver, store), graph))

    def _deps(self, wrap: Wraps, ledger: Ledger, http: httpx.AsyncClient) -> Deps:
        wallet = wrap.wallet(LocalWallet(SecretStr(dev_key("agent"))))
        chain = wrap.chain(ChainReader(LOCAL, CHAIN_URL, http, retry_wait_s=0))
        vendors = HttpVendorClient(http, VendorSecrets(self.settings.vendor_secret_values()))
        now = self.clock.now
        cashier = Cashier(ledger, vendors, wallet, chain, self.policy, now)
        return Deps(
            ledger=ledger,
            vendors=vendors,
            cashier=cashier,
            refunds=Refunds(ledger, chain, LOCAL, now),
            reconciler=Reconciler(ledger, cashier.judge, chain, LOCAL, wallet.address, now),
            chain=chain,
            wallet=wallet,
            planner=self.planner,
            now=now,
            limits=self.limits,
            artifacts=self.artifacts,
        )

    @property
    def ledger(self) -> Ledger:
        return self.process.deps.ledger

    async def register(self, profile: VendorProfile, **changes: Any) -> None:
        """Put a vendor into the registry."""
        vendor = Vendor(
            vendor_id=profile.vendor_id,
            name=profile.name,
            endpoint=VENDOR_URL,
            price_per_hour=Usd.parse(profile.price_per_hour),
            reliability=RELIABILITY.get(profile.vendor_id, 0.9),
            gpu_types=profile.gpu_types,
            pay_to=profile.pay_to if profile.rail == "x402" else None,
            secret_env=self.secret_envs.get(profile.vendor_id, GPU_VENDOR_SECRET),
        )
        await self.ledger.vendors.put(replace(vendor, **changes), self.clock.now())

    async def start(
        self, goal: str = "Fine-tune on an A100", dollars: object = 5, *, accepted: bool = False
    ) -> Run:
        """A new run; nothing has been done for it yet. accepted: its person has said yes to all
        that it leaves out of the goal.
        """
        budget, now = Usd.parse(dollars), self.clock.now()
        leaves_out = Utterance(goal, now).left_out if accepted else NOTHING_LEFT_OUT
        return await self.ledger.runs.create(
            new_run_id(), "user_1", goal, budget, now, leaves_out=leaves_out, accepted=accepted
        )

    async def tick(self, run: Run) -> str:
        """One tick; its message."""
        return (await self.process.tick(run)).message

    async def ticks(self, run: Run, most: int = 30) -> list[str]:
        """Ticks until the run has ended; their messages."""
        messages: list[str] = []
        for _ in range(most):
            ticked = await self.process.tick(run)
            messages.append(ticked.message)
            if ticked.status.ended:
                return messages
        raise AssertionError(f"the run has not ended in {most} ticks: {messages}")

    async def tick_until(
        self, run: Run, message: str, most: int = 10, *, minutes: float = 0
    ) -> None:
        """Ticks until one answers with `message` at its beginning, `minutes` apart."""
        said = [""]
        while not said[-1].startswith(message):
            assert len(said) <= most, f"nothing in {most} ticks said {message!r}: {said}"
            said.append(await self.tick(run))
            self.clock.advance(minutes=minutes)

    def vendor_fault(
        self, vendor_id: str, call: str, fault: str, times: int | None = None, when: str = "any"
    ) -> None:
        """Have the vendor misbehave, `times` times or (None) always, beside other faults."""
        added = Fault.model_validate(
            {"name": fault, "vendorId": vendor_id, "call": call, "times": times, "when": when}
        )
        self.vendor.faults.replace([*self.vendor.faults.listed(), added])

    def clear_faults(self) -> None:
        self.vendor.faults.replace([])

    def transfers(self) -> list[Transfer]:
        """What the agent has paid, as the chain itself has it."""
        return [transfer for transfer in self.chain.transfers if transfer.sender == AGENT]

    async def run(self, run: Run) -> Run:
        """The run as stored now."""
        return await self.ledger.runs.get(run.id)

    async def status(self, run: Run) -> str:
        return (await self.run(run)).status.value

    async def payments(self, run: Run) -> list[Payment]:
        return await self.ledger.payments.of_run(run.id)

    async def payment_states(self, run: Run) -> list[tuple[str, PaymentState]]:
        return [(p.vendor_id, p.state) for p in await self.payments(run)]

    async def jobs(self, run: Run) -> list[tuple[str, JobStatus]]:
        return [(j.vendor_id, j.status) for j in await self.ledger.jobs.of_run(run)]

    async def job(self, run: Run) -> Job:
        """The run's present job."""
        job = await self.ledger.jobs.find((await self.run(run)).job_id or "")
        assert job is not None
        return job

    async def journal(self, run: Run, *types: str) -> list[Entry]:
        return await self.ledger.observations.of_run(run.id, types=[NoteType(t) for t in types])

    async def told(self, run: Run, *types: str) -> list[str]:
        """The contents of the journal's entries of these types."""
        return [entry.note.content for entry in await self.journal(run, *types)]

    async def checkpoint_count(self, run: Run) -> int:
        query = {"thread_id": run.id}
        return int(await self.database.db["checkpoints"].count_documents(query))

    async def lose_checkpoints(self, run: Run) -> None:
        """All that the graph remembers of the run is gone; the ledger stays."""
        for name in ("checkpoints", "checkpoint_writes"):
            await self.database.db[name].delete_many({"thread_id": run.id})
