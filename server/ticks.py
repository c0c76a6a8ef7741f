"""One tick: take the run's lease, step the graph to its next wait point, give the lease back.

A tick that looks whether a job still runs takes the lease only where it finds something to do
(graph/ahead.py). Nothing of a run lives in memory between ticks, so any process may tick any run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Command
from pymongo.errors import DuplicateKeyError, PyMongoError

from domain.due import Came, Due
from domain.due import due as next_due
from domain.errors import Conflict, LeaseHeld, LeaseLost, RenterError, StateRefused
from domain.jobs import RunStatus
from graph.ahead import poll_ahead
from graph.checkpoints import SAVED_ONCE, Moved, SavedOnce
from graph.closing import close_books
from graph.deps import Desk
from graph.nodes.approve import WAITING as WAITING
from graph.pacing import LIVELY, NEWS, came, expiry
from graph.routing import Phase
from graph.wiring import Services
from ledger.following import follow
from ledger.run import Lease, Run
from ledger.runs import FETCH, lease_held
from ledger.schedule import has_come
from ledger.store import store_down
from tools.wire.observer import Step

LOG: Final = logging.getLogger(__name__)
INTERRUPTED: Final = "Interrupted: the next tick goes on"
MOST_STEPS: Final = 25
"""Nodes that one tick may run: a bound on loops, never reached in a sound run."""


@dataclass(frozen=True, slots=True)
class Ticked:
    """A tick's answer, and the run's status after it."""

    message: str
    status: RunStatus


class Ticker:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def tick(
        self, run_id: str, *, due: bool = False, control: RunControl | None = None
    ) -> Ticked:
        """Tick a run once.

        due: only if it is due; LeaseHeld where it is not. control: its drain ends the tick at the
        next step's boundary, from where another one goes on.

        Raises NotFound; LeaseHeld when another tick works on the run; DependencyDown when the
        store, the chain or the wallet is out of reach: the run is as it was, and can be ticked
        again.
        """
        with self._services.deps.observer.step("tick", "tick", run=run_id) as step:
            ticked = await self._tick(run_id, step, due, control)
            step.note(outcome="waiting" if ticked.message == WAITING else ticked.status.value)
            return ticked

    async def _tick(self, run_id: str, step: Step, due: bool, control: RunControl | None) -> Ticked:
        desk = await self._desk(run_id, step, due)
        run, polling = desk.run, desk.ahead
        phase, ahead, until = run.phase if polling else "", Came.FAILED, None
        done = asyncio.Event()
        heartbeat = asyncio.create_task(self._keep(desk, done))
        try:
            if not polling:
                await desk.take_lease(due=due)
                run, phase = desk.run, desk.run.phase
            if run.status.ended:
                ahead = Came.OVER if await close_books(desk) else Came.CLOSING
                phase = Phase.ENDED.value
                return Ticked(f"Run already {run.status}", run.status)
            state = await self._step(desk, control)
            phase, ahead, until = state["phase"], came(run.phase, state, desk.noted), expiry(state)
            ended = phase == Phase.ENDED.value
            status = (await desk.reread()).status if ended else run.status
            message = WAITING if "__interrupt__" in state else state["message"]
            if desk.looks and desk.looked:
                await self._remember(desk, *self._last(desk, run, phase, ahead, until))
            return Ticked(message, status)
        except asyncio.CancelledError:
            ahead = Came.ACTED
            raise
        except (LeaseHeld, LeaseLost):
            raise
        except RenterError as error:
            await self._note_failure(desk, str(error))
            raise
        except DuplicateKeyError as error:
            raise LeaseLost(f"Another tick went on with run {run_id} before this one") from error
        except PyMongoError as error:
            raise store_down(error) from error
        except Exception as error:
            LOG.exception("tick of run %s failed", run_id)
            await self._note_failure(desk, f"Unexpected: {type(error).__name__}")
            raise
        finally:
            if polling:
                polling.drop()
            done.set()  # beside the cancel, which a driver in the middle of a retry may swallow
            heartbeat.cancel()
            if desk.taking:
                last = self._last(desk, run, phase, ahead, until)
                # A task of its own: who hangs up on a stream is cancelled anew at every await.
                leaving = asyncio.create_task(
                    self._leave([heartbeat, desk.taking], desk, run, last)
                )
                await asyncio.shield(leaving)

    async def _desk(self, run_id: str, step: Step, due: bool) -> Desk:
        """The run as it is now; where it follows a job, that is being polled already.

        Raises NotFound; LeaseHeld where the run is to be due and is not; Conflict for one that is
        no run to tick.
        """
        deps = self._services.deps
        await deps.ledger.runs.check_clock()
        found = await follow(deps.ledger.runs, run_id)
        if due and not has_come(found.run.due_at, deps.now()):
            raise LeaseHeld(f"Run {run_id} is not due", "It will be ticked when it is")
        if found.run.phase == FETCH:
            await deps.ledger.runs.schedule.take_off(run_id)
            raise Conflict(f"Run {run_id} is a purchase by `gpu-renter pay`, and has no ticks")
        desk = Desk(deps, found.run, Lease.untaken(run_id))
        step.note(tick=desk.tick)
        desk.ahead = poll_ahead(found, deps.vendors, deps.now())
        if desk.ahead:
            LOG.debug("run %s: tick %d looks", run_id, desk.tick)
        return desk

    def _last(
        self, desk: Desk, seen: Run, phase: str, ahead: Came, until: datetime | None
    ) -> tuple[dict[str, Any], Due]:
        """What the tick leaves in the run's document, and when the next one is due.

        seen: the run as it was read. phase: empty where the tick did not come so far as to know.
        """
        due = next_due(
            ahead,
            desk.deps.now(),
            seen.quiet_ticks,
            desk.deps.limits.pace,
            news=desk.turned or bool(desk.noted & NEWS),
            lively=bool(desk.noted & LIVELY),
            within_s=desk.look_within_s,
            until=until,
        )
        return ({"phase": phase} if phase else {}) | desk.last_fields(), due

    async def _remember(self, desk: Desk, fields: dict[str, Any], due: Due) -> None:
        """End a look. Raises LeaseHeld where another tick was at the run meanwhile; then, as after
        a look that was broken off, the run stays as due as it was.
        """
        run = desk.run
        if not await desk.ledger.runs.look(run, desk.deps.now(), fields, due):
            raise await lease_held(run, desk.deps.now())
        LOG.debug("run %s: tick %d looked", run.id, desk.tick)

    async def _keep(self, desk: Desk, done: asyncio.Event) -> None:
        """Prolong the lease of a tick that takes long, until the lease is lost or we are."""
        seconds, runs = desk.deps.limits.lease_seconds, desk.ledger.runs
        while not done.is_set():
            await asyncio.sleep(seconds / 3)
            if desk.looks:
                continue
            try:
                desk.lease = await runs.renew(desk.lease, desk.deps.now(), seconds)
            except LeaseLost as lost:
                LOG.warning("run %s: its lease is gone: %s", desk.run.id, lost)
                return
            except RenterError as error:
                LOG.warning("run %s: its lease could not be prolonged: %s", desk.run.id, error)

    async def _step(self, desk: Desk, control: RunControl | None) -> dict[str, Any]:
        """Invoke the graph once.

        A poll has no effect that its repetition would double, so one save at its end is
        enough; anywhere money may move, each step is saved before the next begins. Where the run
        stands is in its state; its document, which a crash may have left behind, only hints.
        """
        if desk.ahead:
            await asyncio.sleep(0)  # the poll is on its way before the graph is set up
            once = SavedOnce(Phase.MONITOR.value, desk.ahead.state, desk.check_lease)
            with suppress(Moved):
                return await self._invoke(desk, control, once)
            desk.ahead = None
            await desk.take_lease()  # from here on, each step is saved
        try:
            return await self._invoke(desk, control, None)
        except StateRefused as refused:
            if not desk.run.cancel_requested:
                raise
            # All that a cancel needs to know is in the ledger.
            desk.note("state_forgotten", str(refused))
            await self._services.checkpoints.forget(desk.run.id)
            return await self._invoke(desk, control, None)

    async def _invoke(
        self, desk: Desk, control: RunControl | None, once: SavedOnce | None
    ) -> dict[str, Any]:
        """The graph's state after it; clears away the question that this tick answered, if any."""
        services, run = self._services, desk.run
        asking = run.phase == Phase.APPROVE.value  # only a question leaves pending writes behind
        position = {"thread_id": run.id} | ({SAVED_ONCE: once} if once else {})
        config = RunnableConfig(configurable=position, recursion_limit=MOST_STEPS)
        begin: Any = {"run_id": run.id, "cancel": bool(run.cancel_requested)}
        if once:
            begin = Command(goto=once.phase, update=begin)
        state: dict[str, Any] = {"phase": run.phase, "message": INTERRUPTED}
        newest = ""
        steps: AsyncIterator[Any] = services.graph.astream(
            begin,
            config,
            context=desk,
            durability="exit" if once else "sync",
            stream_mode=["values", "checkpoints"] if asking else ["values"],
            control=control,
        )
        try:
            async for mode, chunk in steps:
                if mode == "values":
                    state = {**state, **chunk}
                else:
                    newest = chunk["config"]["configurable"]["checkpoint_id"]
        except GraphDrained:
            state["message"] = INTERRUPTED
        if asking:
            await services.checkpoints.prune(run.id, newest)
        return state

    async def _note_failure(self, desk: Desk, problem: str) -> None:
        """Leave an observation of a failed tick, if the store can still take it, and the run is
        no other tick's by now.
        """
        desk.note("tick_failed", problem)
        try:
            await desk.flush()
        except RenterError as error:
            LOG.warning("run %s: its failed tick could not be noted: %s", desk.run.id, error)

    async def _leave(
        self,
        ending: Iterable[asyncio.Task[None]],
        desk: Desk,
        seen: Run,
        last: tuple[dict[str, Any], Due],
    ) -> None:
        """Give the lease back, if we got it; where that fails, it ends by itself when it expires.

        ending: what may still change the lease.
        """
        await asyncio.wait(ending)
        if desk.looks:
            return
        LOG.debug("run %s: tick %d ends", desk.run.id, desk.tick)
        fields, due = last
        try:
            await desk.ledger.runs.release(desk.lease, desk.deps.now(), fields, seen=seen, due=due)
        except RenterError as error:
            LOG.warning("run %s: its lease could not be given back: %s", desk.run.id, error)
