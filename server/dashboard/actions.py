"""What a person can do with a run from its page, each as the API does it."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from domain.errors import Conflict, LeaseHeld, NotFound, RenterError
from ledger.run import Run
from server.access import Forbidden, Scope
from server.api.artifacts import artifact_of
from server.dashboard.plain import missing, unavailable
from server.dashboard.sessions import Visitor, Visitors, admitted
from server.keeper import Keeper
from server.runner.tick import Ticker
from server.wiring import Services

CANCEL_REASON: Final = "cancelled on the dashboard"


async def run_of(services: Services, visitor: Visitor, run_id: str, scope: Scope) -> Run:
    """The visitor's run, to do what `scope` allows. Another's counts as not there.

    Raises NotFound, Forbidden.
    """
    run = await services.deps.ledger.runs.find(run_id)
    if run is None or not visitor.sees(run):
        raise NotFound(f"There is no run {run_id!r}", "Look for it on the first page")
    if not visitor.may(scope):
        raise Forbidden(f"Your API key lacks the scope {scope.value}", "Sign in with another one")
    return run


async def step(services: Services, visitor: Visitor, run_id: str) -> str:
    """Tick the run once; the tick's message. Another tick at work is no failure."""
    run = await run_of(services, visitor, run_id, Scope.TICK)
    try:
        return (await Ticker(services).tick(run.id)).message
    except LeaseHeld as held:
        return str(held) if held.goes_on_in_s is not None else "Another tick is at work"


async def decide(
    services: Services, visitor: Visitor, run_id: str, approval_id: str, approve: bool
) -> str:
    """Approve or reject a payment. Raises Conflict where it was decided otherwise, or expired."""
    run = await run_of(services, visitor, run_id, Scope.APPROVE)
    deps = services.deps
    decided = await deps.ledger.approvals.decide(run.id, approval_id, approve, deps.now())
    return decided.answer


async def cancel(services: Services, visitor: Visitor, run_id: str) -> str:
    """Ask for the run's end, and carry it out unless a tick is at work."""
    run = await run_of(services, visitor, run_id, Scope.TICK)
    deps = services.deps
    if not await deps.ledger.runs.request_cancel(run.id, CANCEL_REASON, deps.now()):
        raise Conflict(f"Run {run.id} has ended already", "There is nothing to cancel")
    return await step(services, visitor, run_id)


def download_routes(keeper: Keeper, visitors: Visitors) -> APIRouter:
    """A run's artifact, for whoever is signed in: a browser sends no API key."""
    router = APIRouter(include_in_schema=False)

    @router.get("/runs/{run_id}/artifact")
    async def artifact(request: Request, run_id: str) -> Response:
        visitor = await admitted(visitors, request, f"/runs/{run_id}")
        if isinstance(visitor, Response):
            return visitor
        try:
            services = await keeper.services()
            run = await run_of(services, visitor, run_id, Scope.READ)
            return await artifact_of(services.deps, run)
        except NotFound as nothing:
            return missing(str(nothing))
        except RenterError as error:
            return unavailable(str(error))

    return router


def artifact_address(run_id: str) -> str:
    return f"/runs/{run_id}/artifact"
