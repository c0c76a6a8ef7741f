"""The API as others reach it: with keys required, over the world's own services."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import httpx
from fastapi import FastAPI

from server.access import Scope, new_key
from server.api.callbacks import callback_routes
from server.api.chat import chat_routes
from server.api.events import event_routes
from server.api.requests import HELP
from server.api.runs import api_routes
from server.keeper import Keeper
from server.middleware.authenticate import Guard
from server.middleware.body_limit import Bodies
from server.middleware.http_errors import add_error_handlers
from server.middleware.idempotency import Idempotent
from server.middleware.security_headers import Edge
from server.wiring import Services

if TYPE_CHECKING:
    from tests.redteam.stage import Scene


@dataclass(frozen=True, slots=True)
class Door:
    services: Services
    http: httpx.AsyncClient

    async def key(self, owner: str, scopes: frozenset[Scope]) -> str:
        """A new key in force."""
        made = new_key(owner, scopes, self.services.deps.now())
        await self.services.deps.ledger.keys.add(made.record)
        return made.secret

    async def ask(self, path: str, body: dict[str, Any], key: str) -> httpx.Response:
        """POST the body as JSON; a path that ends with ? is got, with the body as its query."""
        headers = {} if key == "-" else {"authorization": f"Bearer {key}"}
        if path.endswith("?"):
            return await self.http.get(path[:-1], params=body, headers=headers)
        return await self.http.post(path, json=body, headers=headers)


@asynccontextmanager
async def open_door(scene: Scene) -> AsyncIterator[Door]:
    """The routes behind all rings that stand before them in server/app.py."""
    services = scene.world.process.services
    services = replace(services, settings=services.settings.completed(api_keys="required"))

    @asynccontextmanager
    async def given() -> AsyncIterator[Services]:
        yield services

    keeper = Keeper(given)
    app = FastAPI()
    for routes in (api_routes, callback_routes, chat_routes, event_routes):
        app.include_router(routes(keeper))
    add_error_handlers(app, HELP)
    app.add_middleware(Idempotent, keeper=keeper)
    app.add_middleware(Bodies)
    app.add_middleware(Guard, keeper=keeper, settings=services.settings)
    app.add_middleware(Edge)
    transport = httpx.ASGITransport(app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as http:
            yield Door(services, http)
    finally:
        await keeper.close()
