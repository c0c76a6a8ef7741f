"""A server that others reach: keys are required, and each caller has one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
from fastapi import FastAPI

from server.access import EVERY_SCOPE, NewKey, Scope, new_key
from server.app import create_app
from server.wiring import Services, now
from tests.server.conftest import Api, opening, serving

ALL_BUT_ADMIN = EVERY_SCOPE - {Scope.ADMIN}


@dataclass(frozen=True, slots=True)
class Exposed:
    """The API with API_KEYS=required."""

    app: FastAPI
    http: httpx.AsyncClient
    services: Services

    async def key(self, owner: str | None, *scopes: Scope) -> NewKey:
        made = new_key(owner, scopes or ALL_BUT_ADMIN, now())
        assert await self.services.deps.ledger.keys.add(made.record)
        return made

    def with_key(self, key: NewKey | str) -> Api:
        """The API as somebody with this key uses it."""
        secret = key if isinstance(key, str) else key.secret
        return Api(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(self.app, client=("198.51.100.7", 1)),
                base_url="http://api",
                headers={"Authorization": f"Bearer {secret}"},
            )
        )


def with_settings(services: Services, **changes: Any) -> Services:
    """The same services, as other settings would have opened them."""
    return replace(services, settings=services.settings.completed(**changes))


@asynccontextmanager
async def exposed(services: Services, **changes: Any) -> AsyncIterator[Exposed]:
    asked = with_settings(services, **{"api_keys": "required", **changes})
    app = create_app(opening(asked), asked.settings)
    async with serving(app) as api:
        yield Exposed(app, api.http, asked)
