"""One tick, in five sentences; there is no second way.

1. It takes the run's lease in one guarded write, which raises its fence; whoever loses gets 409.
2. It invokes the graph on the run's thread: LangGraph resumes from the checkpoint in MongoDB and
   routes by phase to the node that comes next.
3. The node does its step: in `monitor`, one poll of the job, its new log lines, its progress.
4. Each step's state is saved before the next step begins, unless it is what it was before.
5. The last write gives the lease back, with the progress, the phase, and when the run is due again.

A slow vendor holds its own run's lease, and nobody else's: a heartbeat keeps it, and a tick whose
lease is lost stops before its next effect. Nothing of a run lives in memory between ticks, so any
process may tick any run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from pymongo.errors import PyMongoError

from domain.due import Due, TickOutcome
from domain.due import due as next_due
from domain.errors import LeaseHeld, LeaseLost, RenterError, StateRefused
from domain.jobs import RunStatus
from domain.journal import NoteClass, NoteType, classes_of
from graph.context import TickContext
from graph.routing import Phase, expiry, outcome_of
from graph.steps.settlement import settle_ended
from ledger.jobs import follow
from ledger.run import Lease, Run
from ledger.store import store_down
from server.wiring import Services
from tools.wire.observer import Step

LOG: Final = logging.getLogger(__name__)
WAITING: Final = "Waiting for approval"
INTERRUPTED: Final = "Interrupted: the next tick goes on"
MOST_STEPS: Final = 25
"""Nodes that one tick may run: a bound on loops, never reached in a sound run."""


@dataclass(frozen=True, slots=True)
class Ticked:
    """A tick's answer, and the run's status after it."""

    message: str
    status: RunStatus
    waiting: bool = False
    """Whether it ended at a question to a person."""


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
            step.note(outcome="waiting" if ticked.waiting else ticked.status.value)
            return ticked

    async def _tick(self, run_id: str, step: Step, due: bool, control: RunControl | None) -> Ticked:
        context = await self._begin(run_id, due)
        step.note(tick=context.tick)
        run, phase, outcome, until = context.run, context.run.phase, TickOutcome.FAILED, None
        done = asyncio.Event()
        heartbeat = asyncio.create_task(self._keep(context, done))
        try:
            if run.status.ended:
                outcome = TickOutcome.OVER if await settle_ended(context) else TickOutcome.CLOSING
                phase = Phase.ENDED.value
                return Ticked(f"Run already {run.status}", run.status)
            state = await self._step(context, control)
            phase, until = state["phase"], expiry(state)
            outcome = outcome_of(run.phase, state, context.noted)
            status = (await context.reread()).status if phase == Phase.ENDED.value else run.status
            waiting = "__interrupt__" in state
            return Ticked(WAITING if waiting else state["message"], status, waiting)
        except asyncio.CancelledError:
            outcome = TickOutcome.ACTED
            raise
        except (LeaseHeld, LeaseLost):
            raise
        except RenterError as error:
            await self._note_failure(context, str(error))
            raise
        except PyMongoError as error:
            raise store_down(error) from error
        except Exception as error:
            LOG.exception("tick of run %s failed", run_id)
            await self._note_failure(context, f"Unexpected: {type(error).__name__}")
            raise
        finally:
            done.set()  # beside the cancel, which a driver in the middle of a retry may swallow
            heartbeat.cancel()
            last = self._last(context, run, phase, outcome, until)
            # A task of its own: a closed stream cancels its reader at every await.
            leaving = asyncio.create_task(self._leave(heartbeat, context, run, last))
            await asyncio.shield(leaving)

    async def _begin(self, run_id: str, due: bool) -> TickContext:
        """Read the run with its job, and take the lease.

        Raises NotFound; LeaseHeld where another tick works on the run, or where it is to be due
        and is not.
        """
        deps = self._services.deps
        runs = deps.ledger.runs
        found = await follow(runs, run_id)
        taking = asyncio.create_task(
            runs.take(found.run, deps.now, deps.limits.lease_seconds, due=due)
        )
        try:
            run, lease = await asyncio.shield(taking)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.create_task(self._hand_back(taking)))
            raise
        LOG.debug("run %s: tick %d begins", run.id, lease.fence)
        polls = run.phase == Phase.MONITOR.value and found.run.leased_until is None
        return TickContext(deps, run, lease, found.job if polls else None)

    async def _hand_back(self, taking: asyncio.Task[tuple[Run, Lease]]) -> None:
        """Give back a lease that a cancelled caller may still have got. The run is due at once."""
        deps = self._services.deps
        with suppress(RenterError):
            run, lease = await taking
            now = deps.now()
            due = Due(now, run.quiet_ticks)
            await deps.ledger.runs.release(lease, now, seen=run, due=due)

    def _last(
        self,
        context: TickContext,
        seen: Run,
        phase: str,
        outcome: TickOutcome,
        until: datetime | None,
    ) -> tuple[dict[str, Any], Due]:
        """The last write of the run's document, and the next due time. seen: the run as the tick
        found it.
        """
        classes = classes_of(context.noted)
        due = next_due(
            outcome,
            context.deps.now(),
            seen.quiet_ticks,
            context.deps.limits.pace,
            news=context.turned or NoteClass.NEWS in classes,
            lively=NoteClass.PROGRESS in classes,
            within_s=context.look_within_s,
            until=until,
        )
        return {"phase": phase} | context.last_fields(), due

    async def _keep(self, context: TickContext, done: asyncio.Event) -> None:
        """Renew a long tick's lease, until the lease is lost or we are cancelled."""
        seconds, runs = context.deps.limits.lease_seconds, context.ledger.runs
        while not done.is_set():
            await asyncio.sleep(seconds / 3)
            try:
                context.lease = await runs.renew(context.lease, context.deps.now(), seconds)
            except LeaseLost as lost:
                LOG.warning("run %s: its lease is gone: %s", context.run.id, lost)
                return
            except RenterError as error:
                LOG.warning("run %s: its lease could not be prolonged: %s", context.run.id, error)

    async def _step(self, context: TickContext, control: RunControl | None) -> dict[str, Any]:
        """Invoke the graph once; its state afterwards. Where the run stands is in its state; its
        document, which a crash may have left behind, only hints.
        """
        try:
            return await self._invoke(context, control)
        except StateRefused as refused:
            if not context.run.cancel_requested:
                raise
            # All that a cancel needs to know is in the ledger.
            context.note(NoteType.STATE_FORGOTTEN, str(refused))
            await self._services.checkpoints.forget(context.run.id)
            return await self._invoke(context, control)

    async def _invoke(self, context: TickContext, control: RunControl | None) -> dict[str, Any]:
        run = context.run
        state: dict[str, Any] = {"phase": run.phase, "message": INTERRUPTED}
        steps: AsyncIterator[dict[str, Any]] = self._services.graph.astream(
            {"run_id": run.id, "cancel": bool(run.cancel_requested)},
            RunnableConfig(configurable={"thread_id": run.id}, recursion_limit=MOST_STEPS),
            context=context,
            durability="sync",
            stream_mode="values",
            control=control,
        )
        try:
            async for values in steps:
                state = {**state, **values}
        except GraphDrained:
            state["message"] = INTERRUPTED
        return state

    async def _note_failure(self, context: TickContext, problem: str) -> None:
        """Leave an observation of a failed tick, if the store can still take it, and the run is
        no other tick's by now.
        """
        context.note(NoteType.TICK_FAILED, problem)
        try:
            await context.flush()
        except RenterError as error:
            LOG.warning("run %s: its failed tick could not be noted: %s", context.run.id, error)

    async def _leave(
        self,
        heartbeat: asyncio.Task[None],
        context: TickContext,
        seen: Run,
        last: tuple[dict[str, Any], Due],
    ) -> None:
        """Give the lease back; where that fails, it ends by itself when it expires."""
        await asyncio.wait([heartbeat])  # which may still prolong it
        LOG.debug("run %s: tick %d ends", context.run.id, context.tick)
        fields, due = last
        try:
            await context.ledger.runs.release(
                context.lease, context.deps.now(), fields, seen=seen, due=due
            )
        except RenterError as error:
            LOG.warning("run %s: its lease could not be given back: %s", context.run.id, error)
