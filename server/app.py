"""The HTTP API. `app` serves the configured services; `create_app` any others."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from fastapi import FastAPI

from server.access import check_exposure, keys_required
from server.api.artifacts import artifact_routes
from server.api.callbacks import callback_routes
from server.api.chat import chat_routes
from server.api.docs_page import docs_routes
from server.api.documented import describe_keys
from server.api.events import Streams, event_routes
from server.api.health import health_routes
from server.api.reports import report_routes
from server.api.requests import HELP
from server.api.runs import api_routes
from server.config.settings import Settings
from server.dashboard import add_dashboard
from server.keeper import Keeper
from server.local.seed import seed_local
from server.local.stack import LocalStack, attach
from server.middleware.authenticate import Guard
from server.middleware.body_limit import Bodies
from server.middleware.http_errors import add_error_handlers
from server.middleware.idempotency import Idempotent
from server.middleware.rate_limits import SharedLimits
from server.middleware.security_headers import Edge
from server.telemetry.logs import TOO_TALKATIVE
from server.telemetry.telemetry import Telemetry
from server.wiring import OpenServices, Services, now, open_services

LOG: Final = logging.getLogger(__name__)

DESCRIPTION: Final = """\
An agent that rents GPUs and pays for them in USDC over x402, within a budget.

1. `POST /api/agent-start` with a goal and a budget starts a run;
2. `POST /api/agent-tick` moves it on by one step; repeat until "Job completed" or "Run failed";
3. `GET /api/agent-status` shows the run, its jobs, its payments and what the agent observed.

Amounts are dollars, exact to the micro-dollar; times are UTC. Every error is
`{"error": "what is wrong. What to do about it"}`.
"""


def create_app(
    open_: OpenServices, settings: Settings | None = None, streams: Streams | None = None
) -> FastAPI:
    """The API over the services that `open_` opens.

    It starts whether they can be opened or not: until they are, it answers 503 and tries again
    with each request. settings: where they are known before; whether a key is needed is then
    known too, while the services are away.
    """
    telemetry = Telemetry()
    keeper = Keeper(telemetry.over(open_))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001
        for name in TOO_TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        keeper.begin()
        try:
            yield
        finally:
            await keeper.close()

    app = FastAPI(
        title="agentic-gpu-renter",
        version=_version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(docs_routes(app))
    app.include_router(api_routes(keeper))
    app.include_router(artifact_routes(keeper))
    app.include_router(callback_routes(keeper))
    app.include_router(chat_routes(keeper))
    app.include_router(event_routes(keeper, streams))
    app.include_router(report_routes(keeper))
    app.include_router(health_routes(keeper, telemetry, settings))
    limits = SharedLimits()
    add_dashboard(app, keeper, limits)
    add_error_handlers(app, HELP)
    describe_keys(app, asked=settings is None or keys_required(settings))
    app.add_middleware(Idempotent, keeper=keeper)
    app.add_middleware(Bodies)
    app.add_middleware(Guard, keeper=keeper, settings=settings, limits=limits)
    app.add_middleware(Edge)
    return app


@asynccontextmanager
async def open_configured() -> AsyncIterator[Services]:
    """The services that the settings name; what they leave out is found running or started here.

    In the local mode an empty vendor registry gets the two local vendors. Raises ConfigError,
    DependencyDown.
    """
    asked = Settings.load()
    async with AsyncExitStack() as stack:
        settings = await attach(asked)
        if settings is None:
            settings = (await stack.enter_async_context(LocalStack(asked))).settings
        services = await stack.enter_async_context(open_services(settings))
        if asked.needs_chain:
            await seed_local(services.deps.ledger.vendors, settings, now())
        await check_exposure(settings, services.deps.ledger.keys)
        for need, mode, detail in asked.modes():
            LOG.info("%s: %s (%s)", need, mode, detail)
        yield services


def _version() -> str:
    try:
        return version("agentic-gpu-renter")
    except PackageNotFoundError:
        return "0"


app: Final = create_app(open_configured)
