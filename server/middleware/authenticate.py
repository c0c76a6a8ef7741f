"""The door: who asks, may they, and not too often. Nothing behind it runs before that is known.

FastAPI's security schemes are a route's dependencies: they would not stand before the pages and
NiceGUI's sockets, and a route that forgot them would be open.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette._utils import get_route_path
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from domain.errors import RenterError
from ledger.keys import Keys
from server.access import (
    EVERYBODY,
    EVERYBODYS,
    NEEDS,
    PRINCIPAL,
    SIGNED_OTHERWISE,
    Forbidden,
    Principal,
    Scope,
    Unauthorized,
    is_loopback,
    key_in,
    keys_required,
    principal_with,
)
from server.config.settings import Settings
from server.keeper import Keeper
from server.middleware.http_errors import problem, problem_of
from server.middleware.origins import is_from_our_page, only_links_here
from server.middleware.rate_limits import RateLimits, SharedLimits, address_of

ADMIN_ONLY: Final = frozenset({Scope.ADMIN})
OTHER_NAME: Final = (
    "This server takes no requests under that name. Ask it at 127.0.0.1, or set API_KEYS=required "
    "to have it behind a proxy"
)


class Guard:
    """ASGI middleware over the addresses under /api/, and /metrics.

    It leaves a Principal in the scope, without which no route goes on. The pages of the dashboard
    have a door of their own.
    """

    def __init__(
        self,
        app: ASGIApp,
        keeper: Keeper,
        settings: Settings | None,
        limits: SharedLimits | None = None,
    ) -> None:
        """settings: where they are known before the services are open. limits: those that other
        doors of this server count on, too.
        """
        self._app = app
        self._keeper = keeper
        self._settings = settings
        self._limits = limits or SharedLimits()

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            refusal = await self._look(scope)
        except RenterError as error:
            refusal = problem_of(error)
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await refusal(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _look(self, scope: AsgiScope) -> JSONResponse | None:
        """None lets the request pass."""
        connection = HTTPConnection(scope)
        if not (only_links_here(connection) or is_from_our_page(connection)):
            return problem(
                HTTPStatus.FORBIDDEN,
                "A page of another site may link here, and do nothing else. Open this server's "
                "own page, or ask from a program",
            )
        path = get_route_path(scope)
        guarded = is_guarded(path)
        if not guarded and self._settings is None:
            return None
        if self._settings is None:
            self._settings = (await self._keeper.services()).settings
        settings = self._settings
        if not asks_for_keys(settings, scope):
            if not names_this_machine(connection):
                return problem(HTTPStatus.MISDIRECTED_REQUEST, OTHER_NAME)
            if guarded:
                scope[PRINCIPAL] = EVERYBODY
            return None
        if guarded and path not in SIGNED_OTHERWISE:
            scope[PRINCIPAL] = await self._principal(connection, settings)
            check_may(scope[PRINCIPAL], path)
        return None

    async def _principal(self, connection: HTTPConnection, settings: Settings) -> Principal:
        async def keys() -> Keys:
            return (await self._keeper.services()).deps.ledger.keys

        return await counted(connection, self._limits.of(settings), keys)


async def counted(
    connection: HTTPConnection, limits: RateLimits, keys: Callable[[], Awaitable[Keys]]
) -> Principal:
    """Whose key a request shows, counted by it. Raises Unauthorized, TooMany, and what `keys` does,
    which opens them.
    """
    address, key = address_of(connection), key_in(connection)
    await limits.before_looking(address, key)
    try:
        principal = await principal_with(await keys(), key)
    except Unauthorized:
        await limits.refused(address, key)
        raise
    await limits.admitted(key or "", principal.key_id or "")
    return principal


def is_guarded(path: str) -> bool:
    """Whether an address is behind the door."""
    return path == "/api" or path.startswith("/api/") or path in NEEDS


def needs(path: str) -> frozenset[Scope]:
    """The scopes that an address needs, all of them; one that is not declared, ADMIN."""
    return NEEDS.get(path, ADMIN_ONLY)


def check_may(principal: Principal, path: str) -> None:
    """Raise Forbidden unless the principal's scopes reach so far."""
    missing = [scope for scope in Scope if scope in needs(path) and not principal.may(scope)]
    if missing:
        raise Forbidden(
            f"This API key lacks the scope {missing[0].value}",
            f"Make one with it: gpu-renter keys create --scope {missing[0].value} …",
        )
    if path in EVERYBODYS and principal.owner is not None:
        raise Forbidden(
            "This address tells of everybody's runs and money, and the key speaks for one user",
            f"Make one without an owner: gpu-renter keys create --scope {_least(path)}",
        )


def _least(path: str) -> str:
    return Scope.ADMIN.value if Scope.ADMIN in needs(path) else Scope.READ.value


def asks_for_keys(settings: Settings, scope: AsgiScope) -> bool:
    """Whether a request needs a key: by the settings, or because others reach this socket."""
    return keys_required(settings) or came_over_the_network(scope)


def came_over_the_network(scope: AsgiScope) -> bool:
    """Whether the socket is one that others reach, whatever HOST says (uvicorn --host, say)."""
    host = (scope.get("server") or ("", 0))[0]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False  # a Unix socket, or a transport in this process
    return not is_loopback(host)


def names_this_machine(connection: HTTPConnection) -> bool:
    """Whether the Host header names this machine, which no foreign page can make a browser send.

    A name with a dot may belong to anybody who points it at 127.0.0.1 (DNS rebinding).
    """
    try:
        host = urlsplit(f"//{connection.headers.get('host', '')}").hostname or ""
    except ValueError:
        return False
    dotless = "." not in host and ":" not in host
    return dotless or is_loopback(host) or host.endswith(".localhost")
