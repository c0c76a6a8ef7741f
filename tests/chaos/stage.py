"""Where a case is played: one database, used again and again, and the harness's own look at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from langchain_core.runnables import RunnableConfig

from domain.approvals import ApprovalState
from domain.errors import LeaseHeld, RenterError
from domain.money import Usd
from ledger.ledger import Ledger
from tests.chaos.case import Case, CrashAt, Do, NetFault, PauseAt, VendorFault
from tests.chaos.effects import Crash, Hook, Life, Meddle, Moment
from tests.chaos.evm import on_evm
from tests.chaos.promises import Evidence, VendorBooks, check_end, check_now, nothing_runs_on
from tests.chaos.record import Record
from tests.chaos.scenarios import SCENARIOS, Scenario
from tests.chaos.wire import FAULTS, LATE_S, Wire
from tests.support.connections import Connections
from tests.support.stack import FreshDatabase
from tests.support.world import AGENT, Process, World

RUN_ID: Final = "run_of_this_case"
MOST_TICKS: Final = 60
MOST_CLOSINGS: Final = 6
CLOSING_S: Final = 6 * 3600
"""Together more than a day, which is how long the agent waits for what may never come."""
TICK_S: Final = 20
LEASE_S: Final = 61

Plant = Callable[[Process], None]
"""Puts a bug into a process."""


@dataclass(slots=True)
class Outcome:
    """What a case came to."""

    case: Case
    broken: list[str]
    moments: dict[int, list[Moment]]
    """What each life reached."""
    messages: list[str]
    paid: list[tuple[str, int]]
    """The transfers out of the wallet: (payee, micro-dollars)."""
    ended: bool


@dataclass(slots=True)
class Stage:
    """A database for many cases, one at a time."""

    database: FreshDatabase
    connections: Connections
    ledger: Ledger
    artifacts: Path

    @classmethod
    @asynccontextmanager
    async def open(cls, database: FreshDatabase, artifacts: Path) -> AsyncIterator[Self]:
        async with Connections.open(database) as connections:
            ledger = Ledger.over(connections.store)
            await ledger.ensure_indexes()
            yield cls(database, connections, ledger, artifacts)

    async def play(self, case: Case, plant: Plant | None = None) -> Outcome:
        """Play a case to its end and check the promises all along."""
        await self.clear()
        return await Play(self, case, SCENARIOS[case.scenario.removeprefix("evm-")], plant).run()

    async def clear(self) -> None:
        """Empty the collections; their indexes stay."""
        for name in (
            "runs",
            "jobs",
            "payments",
            "observations",
            "checkpoints",
            "checkpoint_writes",
            "vendors",
            "approvals",
        ):
            await self.database.db[name].delete_many({})


@dataclass(slots=True)
class Play:
    """One case being played."""

    stage: Stage
    case: Case
    scenario: Scenario
    plant: Plant | None = None
    record: Record = field(default_factory=Record)
    lives: list[Life] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    _shown: set[str] = field(default_factory=set)
    world: World = field(init=False)
    wire: Wire = field(init=False)
    _process: Process = field(init=False)
    _exits: AsyncExitStack = field(default_factory=AsyncExitStack)
    _paused: asyncio.Event = field(default_factory=asyncio.Event)
    _resume: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> Outcome:
        async with self.opened():
            ended = await self.tick_on()
            await self.conclude()
            return Outcome(
                self.case,
                self.broken,
                {life.number: life.moments for life in self.lives},
                self.messages,
                [(t.recipient, t.value) for t in self.evidence.out()],
                ended,
            )

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """The world, with a new run and a process to tick it."""
        async with (
            World.open(
                self.stage.database,
                connections=self.stage.connections,
                artifacts=self.stage.artifacts,
                limits=self.scenario.limits,
                outside=on_evm if self.case.evm else None,
                policy=self.scenario.policy,
                **self.scenario.world,
            ) as world,
            self._exits,
        ):
            self.world = world
            self.wire = Wire(world.clock.seconds, self._cancel_nonce)
            for event in self.case.events:
                if isinstance(event, VendorFault):
                    world.vendor_fault(event.vendor, event.call, event.fault, event.times or None)
            await self.stage.ledger.runs.create(
                RUN_ID,
                "user_1",
                self.scenario.goal,
                Usd.parse(self.scenario.budget),
                world.clock.now(),
            )
            await self._live()
            yield

    @property
    def evidence(self) -> Evidence:
        world, ledger = self.world, self.stage.ledger
        books = VendorBooks.of(world.vendor)
        threshold = self.scenario.policy.approval_threshold
        return Evidence(ledger, world.chain, books, self.record, AGENT, threshold)

    async def _live(self, *, watched: bool = True) -> Process:
        """A new process of the agent; the one before it is gone."""
        number = len(self.lives) + 1
        life = Life(
            number,
            self.record,
            [self._hook(number)] if watched else [],
            self._meddle(number) if watched else _undisturbed,
        )
        self.lives.append(life)
        opened = self.world.another_process(life.wraps())
        self._process = await self._exits.enter_async_context(opened)
        if self.plant:
            self.plant(self._process)
        return self._process

    async def tick_on(self) -> bool:
        """Ticks until the run has ended; says whether it has."""
        scheduled = [event for event in self.case.events if isinstance(event, Do)]
        last = max((event.tick for event in scheduled), default=0)
        for number in range(1, MOST_TICKS + 1):
            for event in scheduled:
                if event.tick == number:
                    await self.do(event.action)
            await self.tick()
            # At first as fast as a user would; later so that whatever is unknown gets decided.
            self.world.clock.advance(TICK_S if number < MOST_TICKS // 3 else 4 * TICK_S)
            await self.wire.deliver()
            await self.check()
            await self.answer()
            run = await self.stage.ledger.runs.get(RUN_ID)
            if run.status.ended and number >= last:
                return True
        self.broken.append(f"the run has not ended in {MOST_TICKS} ticks: {self.messages[-3:]}")
        return False

    async def tick(self) -> None:
        """One tick by the present process, or by its successor where it crashes or is held up."""
        process = self._process
        self.messages.append(await self._pausable(lambda stale: self._ticked(process, stale)))

    async def _pausable(self, work: Callable[[bool], Awaitable[str]]) -> str:
        """Do `work`; where a pause holds it up, another process takes over meanwhile."""
        if self._paused.is_set() or not any(isinstance(e, PauseAt) for e in self.case.events):
            return await work(False)
        task = asyncio.create_task(_in_task(work(True)))
        paused = asyncio.create_task(self._paused.wait())
        await asyncio.wait((task, paused), return_when=asyncio.FIRST_COMPLETED)
        if self._paused.is_set() and not task.done():
            await self._take_over()
            self._resume.set()
        paused.cancel()
        return await task

    async def _take_over(self) -> None:
        """Another process works on the run while the paused one holds still."""
        (pause,) = (e for e in self.case.events if isinstance(e, PauseAt))
        self.world.clock.advance(LEASE_S)
        process = await self._live()
        for event in self.case.events:
            if isinstance(event, Do) and event.tick == 0:
                await self.do(event.action)
        for _ in range(pause.ticks or MOST_TICKS):
            self.messages.append(await self._ticked(process))
            self.world.clock.advance(TICK_S)
            await self.check()
            await self.answer()
            if (await self.stage.ledger.runs.get(RUN_ID)).status.ended:
                break
        if pause.ticks == 0:
            self.world.clock.advance(LATE_S)
            await process.deps.reconciler.reconcile()

    async def _ticked(self, process: Process, stale: bool = False) -> str:
        """What a tick came to. A crashed process is followed by a new one."""
        try:
            return (await process.tick(RUN_ID)).message
        except Crash:
            return f"crashed at {await self._succeed()}"
        except LeaseHeld:
            self.world.clock.advance(LEASE_S)
            return "lease held"
        except RenterError as error:
            return f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001 -- whatever else a tick raises is a finding
            if not stale:
                self.broken.append(f"a tick raised {type(error).__name__}: {error}")
            return f"unexpected {type(error).__name__}"

    async def _succeed(self) -> Moment | None:
        """A new process in the place of one that crashed, once its lease has run out."""
        died_at = self.lives[-1].died_at
        self.world.clock.advance(LEASE_S)
        await self.check()
        await self._live()
        return died_at

    async def answer(self) -> None:
        """The person says yes to what was asked before they looked the last time."""
        if self.scenario.asks_above is None:
            return
        now, approvals = self.world.clock.now(), self.stage.ledger.approvals
        pending = [a for a in await approvals.of_run(RUN_ID) if a.state is ApprovalState.PENDING]
        for approval in pending:
            if approval.id in self._shown and now < approval.expires_at:
                await approvals.decide(RUN_ID, approval.id, True, now)
                self.record.yeses.append(approval)
        self._shown = {approval.id for approval in pending}

    async def do(self, action: str) -> None:
        world = self.world
        match action.split("-"):
            case ["settle", "held"]:
                await world.vendor.billing.settle_held()
            case ["cancel"]:
                await self.stage.ledger.runs.request_cancel(RUN_ID, "asked to", world.clock.now())
            case ["reconcile"]:
                process = self._process
                self.messages.append(await self._pausable(lambda _: self._reconciled(process)))
            case ["advance", seconds]:
                world.clock.advance(int(seconds))
            case ["to", phase]:
                config = RunnableConfig(configurable={"thread_id": RUN_ID})
                graph = self._process.services.graph
                try:
                    await graph.aupdate_state(config, {"phase": phase}, as_node="assess_budget")
                except Crash:
                    self.messages.append(f"crashed at {await self._succeed()}")
            case ["clear"]:
                world.clear_faults()
            case ["restart"]:
                await self._live()
            case _:
                raise ValueError(f"{action!r} is no action")

    async def _reconciled(self, process: Process) -> str:
        try:
            report = await process.deps.reconciler.reconcile()
        except Crash:
            return f"reconcile crashed at {await self._succeed()}"
        except RenterError as error:
            return f"reconcile: {type(error).__name__}"
        return f"reconciled: {report.runs} runs, {len(report.still_open)} still open"

    async def conclude(self) -> None:
        """All validity windows end, a fresh process reconciles, and everything must be closed."""
        self.world.clock.advance(LATE_S)
        await self.wire.deliver()
        await self.world.vendor.billing.settle_held()
        process = await self._live(watched=False)
        first = await process.deps.reconciler.reconcile()
        self.broken += await check_end(self.evidence)
        second = await process.deps.reconciler.reconcile()
        if not (first.ok and second.ok) or second.still_open or second.busy:
            self.broken.append(f"P3: reconcile reports {first}, then {second}")
        await self._close_books(process)
        if self.scenario.pays and self._only_crashes():
            paid = tuple(t.recipient for t in self.evidence.out())
            if paid != self.scenario.pays:
                self.broken.append(f"P1: crashes alone changed who was paid: {paid}")
        asked = len(self.record.yeses)
        if self.scenario.asks not in (0, asked) and self._only_crashes():
            self.broken.append(f"P4: crashes alone made {asked} questions of it")

    async def _close_books(self, process: Process) -> None:
        """With nothing in its way any more, an ended run is ticked until it is never due again."""
        self.world.clear_faults()
        for _ in range(MOST_CLOSINGS):
            run = await self.stage.ledger.runs.get(RUN_ID)
            if not run.status.ended or run.due_at is None:
                break
            await process.tick(RUN_ID)
            self.world.clock.advance(CLOSING_S)
        else:
            self.broken.append(f"its books are not closed in {MOST_CLOSINGS} ticks")
        if run.status.ended:
            self.broken += nothing_runs_on(self.evidence)
            self.broken += await check_end(self.evidence)

    def _only_crashes(self) -> bool:
        return all(isinstance(event, CrashAt) for event in self.case.events)

    async def check(self) -> None:
        self.broken += [b for b in await check_now(self.evidence) if b not in self.broken]

    def _hook(self, life: int) -> Hook:
        crashes = {e.moment for e in self.case.events if isinstance(e, CrashAt) and e.life == life}
        pauses = {e.moment for e in self.case.events if isinstance(e, PauseAt) and e.life == life}

        async def hook(moment: Moment) -> None:
            if moment in crashes:
                raise Crash(str(moment))
            if moment in pauses:
                self._paused.set()
                await self._resume.wait()

        return hook

    def _meddle(self, life: int) -> Meddle:
        faults = [e for e in self.case.events if isinstance(e, NetFault)]

        async def meddle(name: str, n: int, request: Any, send: Any) -> Any:
            for fault in faults:
                if fault.strikes(life, name, n):
                    return await FAULTS[fault.fault](self.wire, request, send)
            return await send(request)

        return meddle

    def _cancel_nonce(self, nonce: str) -> None:
        if not self.world.chain.is_closed(AGENT, nonce):
            self.world.chain.cancel(AGENT, nonce)


async def _in_task(work: Awaitable[str]) -> str:
    return await work


async def _undisturbed(name: str, n: int, request: Any, send: Any) -> Any:
    del name, n
    return await send(request)
