"""A run's artifact, for whoever is signed in: a browser sends no API key."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from domain.errors import NotFound, RenterError
from server.access import Scope
from server.api.artifacts import artifact_of
from server.dashboard.actions import run_of
from server.dashboard.plain import missing, too_many, unavailable
from server.dashboard.sessions import Visitors
from server.keeper import Keeper
from server.middleware.rate_limits import TooMany


def download_routes(keeper: Keeper, visitors: Visitors) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/runs/{run_id}/artifact")
    async def artifact(request: Request, run_id: str) -> Response:
        try:
            visitor = await visitors.of(request)
            if visitor is None:
                await visitors.count_stranger(request)
                here = quote(f"/runs/{run_id}")
                return RedirectResponse(f"/sign-in?next={here}", status_code=303)
            services = await keeper.services()
            run = await run_of(services, visitor, run_id, Scope.READ)
            return await artifact_of(services.deps, run)
        except NotFound as nothing:
            return missing(str(nothing))
        except TooMany as error:
            return too_many(error)
        except RenterError as error:
            return unavailable(str(error))

    return router


def artifact_address(run_id: str) -> str:
    return f"/runs/{run_id}/artifact"
