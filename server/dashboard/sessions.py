"""Who looks at the pages: everybody on a server that asks for no key, else who signed in."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response

from domain.errors import RenterError
from ledger.run import Run
from server.access import EVERYBODY, Principal, Scope, Unauthorized, principal_with
from server.dashboard.plain import too_many, unavailable
from server.keeper import Keeper
from server.middleware.authenticate import asks_for_keys
from server.middleware.rate_limits import SharedLimits, TooMany, address_of

COOKIE: Final = "gpu_renter_session"
SESSION_S: Final = 12 * 3600.0
MOST_SESSIONS: Final = 10_000
OPEN_USER: Final = "dashboard"
"""Whose the runs are that are started on a page of a server that asks for no key."""
TALK: Final = (Scope.START, Scope.TICK, Scope.READ, Scope.APPROVE)
"""The scopes that talking in the chat takes."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person at a page: whose runs they see, and what they may do."""

    principal: Principal
    session: str | None = None
    """None where nobody has to sign in."""

    def may(self, *scopes: Scope) -> bool:
        return all(self.principal.may(scope) for scope in scopes)

    def sees(self, run: Run) -> bool:
        return self.may(Scope.READ) and self.owner in (None, run.user_id)

    @property
    def owner(self) -> str | None:
        """None: everybody's runs."""
        return self.principal.owner

    @property
    def user_id(self) -> str:
        return self.owner or OPEN_USER


@dataclass(frozen=True, slots=True)
class _Session:
    key: str
    ends_at: float


class Visitors:
    """The sessions of this process. The cookie holds a random word; the key stays here.

    A key that was revoked counts no more at the next page, and at the next thing done on one.
    """

    def __init__(self, keeper: Keeper, limits: SharedLimits) -> None:
        self._keeper = keeper
        self._limits = limits
        self._sessions: dict[str, _Session] = {}

    async def of(self, connection: HTTPConnection) -> Visitor | None:
        """The visitor who asks; None where they must sign in first. Raises RenterError."""
        if not await self.keys_required(connection):
            return Visitor(EVERYBODY)
        return await self._holder(connection.cookies.get(COOKIE, ""))

    async def again(self, visitor: Visitor) -> Visitor | None:
        """The same visitor with the rights of now, if they have any. Raises RenterError."""
        return visitor if visitor.session is None else await self._holder(visitor.session)

    async def keys_required(self, connection: HTTPConnection) -> bool:
        """Whether visitors must sign in."""
        return asks_for_keys((await self._keeper.services()).settings, connection.scope)

    async def count_stranger(self, connection: HTTPConnection) -> None:
        """Count a visit without a session, as the API counts a request without a key. Raises
        TooMany.
        """
        limits = self._limits.of((await self._keeper.services()).settings)
        await limits.before_looking(address_of(connection), None)
        await limits.refused(address_of(connection), None)

    async def sign_in(self, connection: HTTPConnection, key: str) -> str:
        """A new session for a key. Raises Unauthorized, TooMany where an address has tried too
        often, or what keeps the key from being looked up.
        """
        limits = self._limits.of((await self._keeper.services()).settings)
        await limits.before_looking(address_of(connection), key)
        try:
            await self._principal(key)
        except Unauthorized:
            await limits.refused(address_of(connection), key)
            raise
        now = time.monotonic()
        alive = [(s, held) for s, held in self._sessions.items() if held.ends_at > now]
        self._sessions = dict(alive[-(MOST_SESSIONS - 1) :])
        session = secrets.token_urlsafe(32)
        self._sessions[session] = _Session(key, now + SESSION_S)
        return session

    def sign_out(self, session: str | None) -> None:
        self._sessions.pop(session or "", None)

    async def _holder(self, session: str) -> Visitor | None:
        held = self._sessions.get(session)
        if held is None or held.ends_at <= time.monotonic():
            return None
        try:
            return Visitor(await self._principal(held.key), session)
        except Unauthorized:
            self.sign_out(session)
            return None

    async def _principal(self, key: str) -> Principal:
        services = await self._keeper.services()
        return await principal_with(services.deps.ledger.keys, key)


async def admitted(visitors: Visitors, connection: HTTPConnection, path: str) -> Visitor | Response:
    """Who asks for the page at `path`; or what they get instead: the way to sign in, or why not."""
    try:
        visitor = await visitors.of(connection)
        if visitor is None:
            await visitors.count_stranger(connection)
    except TooMany as error:
        return too_many(error)
    except RenterError as error:
        return unavailable(str(error))
    return visitor or RedirectResponse(f"/sign-in?next={quote(path)}", status_code=303)
