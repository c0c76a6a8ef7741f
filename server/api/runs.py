"""The API of runs. What each call does is in ledger/ and server/runner/; here is only HTTP."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query

from domain.errors import Conflict, LeaseHeld
from domain.ids import new_run_id
from domain.names import names_of
from domain.utterance import Utterance
from graph.goals.goal_request import check_budget, check_start
from ledger.idempotency import Marker
from ledger.ledger import Ledger
from ledger.run import Run
from server.access import Principal, WhoAsks
from server.api.documented import of_get, of_post
from server.api.exact_json import ExactRoute
from server.api.requests import (
    HELP,
    MOST_OBSERVATIONS,
    MOST_RUNS,
    ApproveRequest,
    CancelRequest,
    IdPrefix,
    RunId,
    StartRequest,
    TickRequest,
    UserId,
)
from server.api.schemas import (
    RunsAnswer,
    StartedRun,
    StatusAnswer,
    TickAnswer,
)
from server.api.views import run_view, status_answer
from server.keeper import Keeper
from server.middleware.idempotency import marker_of
from server.runner.tick import Ticker
from server.wiring import now

ACCEPT_NOT_USED: Final = (
    "Take it out of the goal; or, to start all the same, send acceptNotUsed: true"
)


def api_routes(keeper: Keeper) -> APIRouter:
    """Everything under /api."""
    router = APIRouter(prefix="/api", route_class=ExactRoute)

    @router.post("/agent-start", responses=of_post(409), tags=["agent"])
    async def agent_start(
        request: StartRequest,
        who: WhoAsks,
        marker: Annotated[Marker | None, Depends(marker_of)],
    ) -> StartedRun:
        """Start a run. Nothing is rented or paid yet: that takes ticks.

        A goal that names a program, image, repository, dataset or start time starts nothing until
        `acceptNotUsed` says that it may be left out: the answer is 409 `goal_not_all_used` before.
        Each call starts another run, unless an Idempotency-Key says that it is the same; a run
        that is never ticked costs nothing.
        """
        user_id = who.acts_as(request.user_id)
        goal, accepted = Utterance(request.goal, now()), request.accept_not_used
        check_budget(goal, request.budget_total)
        deps = (await keeper.services()).deps
        leaves_out = check_start(deps.reader, goal, accepted=accepted, remedy=ACCEPT_NOT_USED)
        run = await deps.ledger.runs.create(
            marker.run_id if marker else new_run_id(),
            user_id,
            goal.text,
            request.budget_total,
            deps.now(),
            leaves_out=leaves_out,
            accepted=accepted,
            most_open=deps.limits.open_runs,
        )
        return StartedRun.of(run)

    @router.post("/agent-tick", responses=of_post(404, 409, 502), tags=["agent"])
    async def agent_tick(request: TickRequest, who: WhoAsks) -> TickAnswer:
        """Move a run on by one step: rent and pay, look after the job, or recover from a failure.

        Answers "Job started", "Job still running", "Job completed", "Job failed", "Waiting: …",
        "Run failed: …", "Run already completed" and the like. Safe to repeat: nothing is paid
        twice.
        """
        services = await keeper.services()
        if who.owner is not None:
            await _run_of(who, services.deps.ledger, request.run_id)
        ticked = await Ticker(services).tick(request.run_id)
        return TickAnswer(message=ticked.message)

    @router.post("/agent-cancel", responses=of_post(404, 409, 502), tags=["agent"])
    async def agent_cancel(request: CancelRequest, who: WhoAsks) -> TickAnswer:
        """Cancel a run: its job is stopped at the vendor, and unused time refunded if it does so.

        Answers "Run cancelled", or "Cancelling: …" when the vendor has not confirmed yet or a tick
        is under way: further ticks carry it out.
        """
        services = await keeper.services()
        deps = services.deps
        run = await _run_of(who, deps.ledger, request.run_id)
        if not await deps.ledger.runs.request_cancel(run.id, request.reason, deps.now()):
            raise Conflict(f"Run {run.id} has ended already", "There is nothing to cancel")
        try:
            ticked = await Ticker(services).tick(run.id)
        except LeaseHeld as held:
            if held.goes_on_in_s is not None:
                return TickAnswer(message=f"Cancelling: {held}")
            return TickAnswer(message="Cancelling: a tick is under way, the next one cancels")
        return TickAnswer(message=ticked.message)

    @router.post(
        "/agent-approve",
        responses=of_post(404, 409),
        tags=["agent"],
        dependencies=[Depends(marker_of)],
    )
    async def agent_approve(request: ApproveRequest, who: WhoAsks) -> TickAnswer:
        """Answer a run that waits for approval of a payment. The next tick goes on from there.

        An approval binds one payee and quote, for one job, up to its amount; a payment that was
        not begun on it when it expires asks again.
        """
        deps = (await keeper.services()).deps
        if who.owner is not None:
            await _run_of(who, deps.ledger, request.run_id)
        decided = await deps.ledger.approvals.decide(
            request.run_id, request.approval_id, request.approve, deps.now()
        )
        return TickAnswer(message=decided.answer)

    @router.get("/agent-status", responses=of_get(404), tags=["agent"])
    async def agent_status(
        who: WhoAsks,
        run_id: Annotated[RunId, Query(alias="runId", description=HELP["runId"])],
        observations: Annotated[
            int,
            Query(ge=0, le=MOST_OBSERVATIONS, description="How many, the newest ones"),
        ] = 200,
    ) -> StatusAnswer:
        """A run with its jobs, payments, observations and the offers of its last choice."""
        deps = (await keeper.services()).deps
        ledger = deps.ledger
        run = who.check_sees(await ledger.spenders.get(run_id))
        jobs, payments, entries, approvals, vendors = await asyncio.gather(
            ledger.jobs.of_run(run),
            ledger.payments.of_run(run_id),
            ledger.observations.newest(run_id, max(1, observations)),
            ledger.approvals.of_run(run_id),
            ledger.vendors.all(),
        )
        shown, names = entries[:observations], names_of(vendors)
        return status_answer(run, jobs, payments, shown, approvals, names, deps.now())

    @router.get("/runs", responses=of_get(), tags=["agent"])
    async def runs(
        who: WhoAsks,
        user_id: Annotated[UserId | None, Query(alias="userId", description="Only whose")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_RUNS, description="How many at most")] = 50,
        id_prefix: Annotated[
            IdPrefix | None,
            Query(alias="idPrefix", description="Only whose _id begins so, in its order"),
        ] = None,
    ) -> RunsAnswer:
        """Runs and purchases, newest first; with a key that speaks for one user, that user's."""
        if user_id is not None:
            who.speaks_for(user_id)
        deps = (await keeper.services()).deps
        spenders, whose = deps.ledger.spenders, who.owner or user_id
        if id_prefix is None:
            found = await spenders.recent(user_id=whose, limit=limit)
        else:
            found = await spenders.starting_with(id_prefix, user_id=whose, limit=limit)
        running = [run.id for run in found if not run.status.ended]
        waiting = await deps.ledger.approvals.pending_of(running, deps.now())
        names = names_of(await deps.ledger.vendors.all()) if waiting else None
        return RunsAnswer(runs=[run_view(run, waiting.get(run.id, ()), names) for run in found])

    return router


async def _run_of(who: Principal, ledger: Ledger, run_id: str) -> Run:
    """The run, if whoever asks reaches it. Raises NotFound, the same where it is another's."""
    return who.check_sees(await ledger.runs.get(run_id))
