"""The door of LangGraph's server (`langgraph dev`): the rules of the API's, for all of its routes.

It offers what no one needs here and what would go past the checks of the graph: writing a run's
state, starting it at any node, copying a thread, rolling a step back. What is left is what Studio
is for: to say something to a thread, to answer the question that it asks, to go on from an earlier
state, and to look at it.

    StudioDoor     whose page asks, and who (ASGI middleware, outermost)
    authorize      whether they may do this, and with whose threads (LangGraph's `Auth`)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final, NoReturn, cast

from langgraph_sdk import Auth
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from domain.errors import RenterError
from ledger.keys import Keys
from ledger.ledger import Ledger
from ledger.store import Store
from server.access import (
    EVERYBODY,
    NEEDS,
    PRINCIPAL,
    Principal,
    Scope,
)
from server.config.settings import Settings
from server.local.running import settings_of_serve
from server.middleware.authenticate import OTHER_NAME, asks_for_keys, counted, names_this_machine
from server.middleware.http_errors import problem, problem_of
from server.middleware.origins import is_from_our_page
from server.middleware.rate_limits import RateLimits

ALIVE: Final = "/ok"
"""Says that the server answers, and nothing else; needs no key."""
IN_PROCESS: Final = "/noauth"
"""The root path of requests that the server makes to itself; none from outside can have it."""
OTHER_ORIGIN: Final = (
    "This server takes no requests of another origin's pages. STUDIO_ORIGINS names those that it "
    "takes them of"
)
SHOWN: Final = ("x-pagination-total", "x-pagination-next", "content-location")
"""Headers that a page may read besides the body."""
OWNER: Final = "owner"
"""The owner's key in a thread's metadata, and in the user that LangGraph hands to the graph."""
STUDIO_USER: Final = "studio"
"""The owner of runs where no key names one."""
INPUTS: Final = frozenset({"messages", "goal", "budget"})
STRICT_RESUME: Final = "__pregel_strict_resume"
"""A harmless input field: the answer counts only for the question that it names."""
EVERY: Final = tuple(Scope)
TALKING: Final = NEEDS["/api/chat"]
"""The scopes that a message needs, for it may start, move, explain or approve."""


class DoorLedger:
    """The ledger, opened when the door first needs it to look up a key or a run's owner."""

    def __init__(self) -> None:
        self._opening = asyncio.Lock()
        self._store: Store | None = None

    async def open(self) -> Ledger:
        """Raises ConfigError."""
        async with self._opening:
            if self._store is None:
                settings = await asyncio.to_thread(settings_of_serve)
                assert settings.mongodb_uri is not None
                uri = settings.mongodb_uri.get_secret_value()
                self._store = await asyncio.to_thread(Store.open, uri, settings.mongodb_db_name)
            return Ledger.over(self._store)

    async def close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            await store.close()


class StudioDoor:
    """ASGI middleware. It leaves a Principal in the scope, as the API's guard does."""

    def __init__(self, app: ASGIApp, ledger: DoorLedger, settings: Settings | None = None) -> None:
        """settings: those of this process, where not given."""
        self._app = app
        self._ledger = ledger
        self._settings = settings
        self._limits: RateLimits | None = None
        self._cross_origin: CORSMiddleware | None = None

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope.get("root_path") == IN_PROCESS:
            await self._app(scope, receive, send)
            return
        try:
            settings = await self._read_settings()
            refusal = self._refuse_page(scope, settings)
        except RenterError as error:
            refusal = problem_of(error)
        if refusal is not None:
            await _answer(refusal, scope, receive, send)
            return
        assert self._cross_origin is not None
        await self._cross_origin(scope, receive, send)

    async def _read_settings(self) -> Settings:
        if self._settings is None:
            self._settings = await asyncio.to_thread(Settings.load)
        if self._cross_origin is None:
            self._cross_origin = CORSMiddleware(
                self._behind_origins,
                allow_origins=sorted(self._settings.pages_of_studio),
                allow_methods=["*"],
                allow_headers=["*"],
                allow_private_network=True,
                expose_headers=SHOWN,
            )
        return self._settings

    def _refuse_page(self, scope: AsgiScope, settings: Settings) -> JSONResponse | None:
        """None lets the request pass."""
        connection = HTTPConnection(scope)
        if not asks_for_keys(settings, scope) and not names_this_machine(connection):
            return problem(HTTPStatus.MISDIRECTED_REQUEST, OTHER_NAME)
        if not is_from_our_page(connection, settings.pages_of_studio):
            return problem(HTTPStatus.FORBIDDEN, OTHER_ORIGIN)
        return None

    async def _behind_origins(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        try:
            if scope["path"] != ALIVE:
                scope[PRINCIPAL] = await self._principal(scope)
        except RenterError as error:
            await _answer(problem_of(error), scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _principal(self, scope: AsgiScope) -> Principal:
        settings = await self._read_settings()
        if not asks_for_keys(settings, scope):
            return EVERYBODY
        limits = self._limits = self._limits or RateLimits(settings)

        async def keys() -> Keys:
            return (await self._ledger.open()).keys

        return await counted(HTTPConnection(scope), limits, keys)


async def _answer(refusal: JSONResponse, scope: AsgiScope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await refusal(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008})


def identity_of(principal: Principal) -> dict[str, Any]:
    """The user that LangGraph hands to `authorize` and to the graph."""
    return {
        "identity": principal.owner or "everybody",
        OWNER: principal.owner or "",
        "permissions": [scope.value for scope in EVERY if principal.may(scope)],
    }


async def authorize(
    ledger: DoorLedger, ctx: Auth.types.AuthContext, value: Mapping[str, Any]
) -> dict[str, Any]:
    """Which threads an action may reach: those whose metadata fits what is returned.

    What is not named here nobody may do. Raises Auth.exceptions.HTTPException.
    """
    owner = str(ctx.user[OWNER])
    match ctx.resource, ctx.action:
        case "assistants", "read" | "search":
            _need(ctx, Scope.READ)
            return {}
        case "threads", "read" | "search":
            _need(ctx, Scope.READ)
        case "threads", "create":
            _need(ctx, Scope.START)
            if "metadata" not in value:
                _refuse("A thread is not copied: its run has the thread's id")
            _own(value["metadata"], owner)
            await _check_run(ledger, value, owner)
        case "threads", "update" if "action" in value:
            _need(ctx, Scope.TICK)
            if value["action"] == "rollback":
                _refuse("A step is not rolled back: money may have moved. Use interrupt")
        case "threads", "update" if "metadata" in value:
            _need(ctx, Scope.START)
            if OWNER in (value["metadata"] or {}):
                _own(value["metadata"], owner)
        case "threads", "update":
            _refuse("A run's state is not written from outside: say what you want in a message")
        case "threads", "delete":
            _need(ctx, Scope.TICK)
            await _check_over(ledger, value)
        case "threads", "create_run":
            _check_new_step(ctx, value)
            _own(value["metadata"], owner)
            await _check_run(ledger, value, owner)
        case _:
            _refuse(f"{ctx.resource.capitalize()} are not offered here")
    return {OWNER: owner} if owner else {}


def _check_new_step(ctx: Auth.types.AuthContext, value: Mapping[str, Any]) -> None:
    """A step of the graph: with words, with an answer to its question, or with nothing."""
    asked: Mapping[str, Any] = value.get("kwargs") or {}
    command = {k: v for k, v in (asked.get("command") or {}).items() if v is not None}
    if value.get("thread_id") is None:
        _refuse("A step needs a thread: its id is the run's", HTTPStatus.UNPROCESSABLE_ENTITY)
    if value.get("multitask_strategy") == "rollback":
        _refuse("A step is not rolled back: money may have moved. Use interrupt")
    if other := sorted(command.keys() - {"resume"}):
        _refuse(f"command.{other[0]}: only an answer (resume) is taken. Say the rest in a message")
    given = asked.get("input")
    if given is not None and not isinstance(given, Mapping):
        _refuse("input: it is not a JSON object", HTTPStatus.UNPROCESSABLE_ENTITY)
    if unknown := sorted((given or {}).keys() - INPUTS):
        _refuse(
            f"input.{unknown[0]}: only {', '.join(sorted(INPUTS))} are taken. Leave it out",
            HTTPStatus.UNPROCESSABLE_ENTITY,
        )
    configured = (asked.get("config") or {}).get("configurable") or {}
    inner = {n for n in configured if n.startswith("__pregel")}
    if ours := sorted(inner - {STRICT_RESUME}):
        _refuse(f"config.configurable.{ours[0]}: it is the server's own. Leave it out")
    needed = TALKING if given else {Scope.TICK, Scope.APPROVE} if command else {Scope.TICK}
    _need(ctx, *needed)


def _need(ctx: Auth.types.AuthContext, *scopes: Scope) -> None:
    missing = [scope for scope in EVERY if scope in scopes and scope.value not in ctx.permissions]
    if missing:
        _refuse(f"This API key lacks the scope {missing[0].value}")


def _own(metadata: dict[str, Any], owner: str) -> None:
    """Note the owner in a thread's metadata; a key that speaks for one user can name no other."""
    if owner and metadata.get(OWNER, owner) != owner:
        _refuse(f"metadata.{OWNER}: it says whose the thread is, and is not to be set")
    metadata.setdefault(OWNER, owner or STUDIO_USER)


async def _check_run(ledger: DoorLedger, value: Mapping[str, Any], owner: str) -> None:
    """Raise 404 where the thread's run is another's: the server may have forgotten its thread."""
    if not owner:
        return
    run = await (await ledger.open()).runs.find(str(value.get("thread_id") or ""))
    if run is not None and run.user_id != owner:
        _refuse("There is no such thread", HTTPStatus.NOT_FOUND)


async def _check_over(ledger: DoorLedger, value: Mapping[str, Any]) -> None:
    """Raise 409 while the run of a thread that is to be deleted goes on."""
    books = await ledger.open()
    for thread_id in value.get("thread_ids") or [value.get("thread_id")]:
        run = await books.runs.find(str(thread_id))
        if run is not None and not run.status.ended:
            _refuse(f"Run {run.id} goes on: cancel it first", HTTPStatus.CONFLICT)


def _refuse(why: str, status: HTTPStatus = HTTPStatus.FORBIDDEN) -> NoReturn:
    raise Auth.exceptions.HTTPException(status_code=status, detail=why)


_LEDGER: Final = DoorLedger()
auth: Final = Auth()
"""What langgraph.json names as `auth`."""


@auth.authenticate
async def authenticate(scope: dict[str, Any]) -> Auth.types.MinimalUserDict:
    """The identity of the caller, as the door found it."""
    principal = scope.get(PRINCIPAL)
    if not isinstance(principal, Principal):
        raise Auth.exceptions.HTTPException(status_code=401, detail="An API key is needed")
    return cast("Auth.types.MinimalUserDict", identity_of(principal))


@auth.on
async def on_any_action(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> dict[str, Any]:
    return await authorize(_LEDGER, ctx, value)


@asynccontextmanager
async def _closing(_: Starlette) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await _LEDGER.close()


app: Final = Starlette(middleware=[Middleware(StudioDoor, ledger=_LEDGER)], lifespan=_closing)
"""What langgraph.json names as `http.app`: LangGraph puts its middleware before all its routes."""
