"""What watches over this process asks: is it alive, is it ready, what does it measure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from domain.errors import RenterError
from server.api.schemas import Dependency, Health, NotReady, Readiness
from server.config.settings import Settings
from server.keeper import Keeper
from server.middleware.authenticate import asks_for_keys, came_over_the_network
from server.middleware.http_errors import problem
from server.telemetry.telemetry import Telemetry
from server.wiring import Services

CHECK_DEADLINE_S: Final = 6.0
"""A dependency counts as down after so many seconds without an answer."""
NO_RUN: Final = "readyz"
"""An id to read, because MongoDB may answer a ping and still not give what it holds."""


def health_routes(
    keeper: Keeper, telemetry: Telemetry, settings: Settings | None = None
) -> APIRouter:
    """The routes for whatever watches this process. settings: if known before the services."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def healthz() -> Health:
        """Whether this process answers; it asks nobody else."""
        return Health(status="ok")

    @router.get(
        "/readyz",
        response_model=Readiness,
        response_model_exclude_none=True,
        responses={503: {"model": NotReady, "description": "Something it needs is down."}},
    )
    async def readyz(request: Request) -> Readiness | JSONResponse:
        """Whether MongoDB gives what it holds and the chain answers, and which does not."""
        dependencies, known = await _dependencies(keeper)
        known = known or settings
        exposed = came_over_the_network(request.scope)
        if exposed or (known and asks_for_keys(known, request.scope)):
            # Strangers are told what is down, and no more: gpu-renter doctor says the rest.
            dependencies = {name: Dependency(ok=d.ok) for name, d in dependencies.items()}
        down = [name for name, dependency in dependencies.items() if not dependency.ok]
        if not down:
            return Readiness(ready=True, dependencies=dependencies)
        details = {n: d.model_dump(exclude_none=True) for n, d in dependencies.items()}
        message = f"Not ready: {', '.join(down)}. Try again when that is mended"
        return problem(503, message, ready=False, dependencies=details)

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus's text format"}},
    )
    async def metrics() -> Response:
        """Ticks, nodes, calls, and what the ledger holds; it answers with MongoDB away, too."""
        return Response(await telemetry.scrape(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return router


async def _dependencies(keeper: Keeper) -> tuple[dict[str, Dependency], Settings | None]:
    """How each is; and the settings in force, where the services are open."""
    try:
        services: Services = await keeper.services()
    except RenterError as error:
        return {"services": Dependency(ok=False, error=str(error))}, None
    deps = services.deps

    async def mongodb() -> None:
        await deps.ledger.runs.documents.get(NO_RUN)
        await deps.ledger.runs.check_clock()  # while it is off, nothing is ticked

    checks: dict[str, Callable[[], Awaitable[object]]] = {
        "mongodb": mongodb,
        "chain": deps.chain.head,
    }
    outcomes = await asyncio.gather(*map(_check, checks.values()))
    return dict(zip(checks, outcomes, strict=True)), services.settings


async def _check(ask: Callable[[], Awaitable[object]]) -> Dependency:
    try:
        async with asyncio.timeout(CHECK_DEADLINE_S):
            await ask()
    except RenterError as error:
        return Dependency(ok=False, error=str(error))
    except TimeoutError:
        return Dependency(ok=False, error=f"no answer within {CHECK_DEADLINE_S:g} s")
    return Dependency(ok=True)
