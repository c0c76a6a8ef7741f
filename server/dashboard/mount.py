"""How the API serves the dashboard: its addresses, its start at the first visit, its stop."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import Any, Final

from fastapi import FastAPI
from starlette.datastructures import Headers, URLPath
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import ASGIApp, Receive, Scope, Send

from server.dashboard.actions import download_routes
from server.dashboard.live_queries import Watches
from server.dashboard.plain import missing
from server.dashboard.sessions import Visitors, admitted
from server.dashboard.sign_in import sign_in_routes
from server.keeper import Keeper
from server.middleware.authenticate import is_guarded
from server.middleware.rate_limits import SharedLimits

SCOPE_KEY: Final = "gpu_renter.dashboard"
"""The key in a request's scope of the Dashboard that serves it."""
VISITOR_KEY: Final = "gpu_renter.visitor"
"""The key in a page request's scope of the visitor who asks."""
PAGE: Final = re.compile(r"/|/runs/[A-Za-z0-9_-]{1,64}|/vendors", re.ASCII)
ASSET: Final = re.compile(r"/_nicegui(?:_ws)?/.*|/favicon\.ico")


class Dashboard(BaseRoute):
    """Serves its own addresses, and leaves every other to the API; a browser that asks for a page
    where nothing is gets one that says so.

    One process shows one dashboard at a time: NiceGUI is one per process.
    """

    def __init__(self, keeper: Keeper, limits: SharedLimits) -> None:
        self.keeper = keeper
        self.visitors = Visitors(keeper, limits)
        self.watches = Watches(keeper)
        self._app: ASGIApp | None = None
        self._opening = asyncio.Lock()
        self._open = AsyncExitStack()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = scope["path"]
        if scope["type"] == "websocket":
            ours = ASSET.fullmatch(path) is not None
        else:
            page = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
            ours = bool(ASSET.fullmatch(path) or (page and PAGE.fullmatch(path)) or _astray(scope))
        return (Match.FULL if ours else Match.NONE), {}

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if not PAGE.fullmatch(path) and not ASSET.fullmatch(path):
            await missing()(scope, receive, send)
            return
        scope[SCOPE_KEY] = self
        if PAGE.fullmatch(path):
            visitor = await admitted(self.visitors, HTTPConnection(scope), path)
            if isinstance(visitor, Response):
                await visitor(scope, receive, send)
                return
            scope[VISITOR_KEY] = visitor
        await (await self._opened())(scope, receive, send)

    async def close(self) -> None:
        await self.watches.close()
        await self._open.aclose()
        self._app = None

    async def _opened(self) -> ASGIApp:
        async with self._opening:
            if self._app is None:
                pages = await asyncio.to_thread(import_module, "server.dashboard.pages")
                shell: FastAPI = pages.shell()
                await self._open.enter_async_context(shell.router.lifespan_context(shell))
                self._app = shell
        return self._app


def _astray(scope: Scope) -> bool:
    """Whether a browser asks for a page, rather than a program for the API."""
    asks = scope["type"] == "http" and scope["method"] == "GET" and not is_guarded(scope["path"])
    return asks and "text/html" in Headers(scope=scope).get("accept", "").lower()


def add_dashboard(app: FastAPI, keeper: Keeper, limits: SharedLimits) -> None:
    """Add the dashboard to the API's routes; it stops before the services do."""
    dashboard = Dashboard(keeper, limits)
    app.include_router(sign_in_routes(dashboard.visitors))
    app.include_router(download_routes(keeper, dashboard.visitors))
    app.router.routes.append(dashboard)
    around = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        async with around(app) as state:
            try:
                yield state
            finally:
                await dashboard.close()

    app.router.lifespan_context = lifespan
