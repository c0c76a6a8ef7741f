"""`Idempotency-Key`: the same key and body get the same answer, for 24 hours; another body 409.

Answers above 499 are not kept, nor are 408, 425 and 429: they are worth trying again, with the
same key. A request that dies in the middle is taken over by the next one with its key.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import Header
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.errors import InvalidInput, RenterError
from ledger.idempotency import Given, Idempotency, Marker
from server.access import principal_of
from server.keeper import Keeper
from server.middleware.body_limit import replay
from server.middleware.http_errors import problem_of

LOG: Final = logging.getLogger(__name__)
HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
MARKER: Final = "renter.idempotency"
"""The key in the ASGI scope of the request's marker."""
LARGEST_ANSWER_BYTES: Final = 1024 * 1024

PATIENCE: Final = {
    "/api/agent-start": timedelta(seconds=30),
    "/api/agent-approve": timedelta(seconds=30),
    "/api/chat": timedelta(seconds=180),
}
"""The addresses that take the header, and how long one that died keeps others waiting."""

_WORTH_ANOTHER_TRY: Final = frozenset({408, 425, 429})
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


class Idempotent:
    """ASGI middleware, behind the guard and the counting of bodies."""

    def __init__(self, app: ASGIApp, keeper: Keeper) -> None:
        self._app = app
        self._keeper = keeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = Headers(scope=scope).get(HEADER) if _takes_keys(scope) else None
        if key is None:
            await self._app(scope, receive, send)
            return
        try:
            body = (await receive()).get("body", b"")
            services = await self._keeper.services()
            ledger, now = services.deps.ledger.idempotency, services.deps.now
            begun = await ledger.begin(
                _marker_id(scope, key), _fingerprint(body), now(), PATIENCE[scope["path"]]
            )
        except RenterError as error:
            await problem_of(error)(scope, receive, send)
            return
        if isinstance(begun, Given):
            await _response(begun)(scope, receive, send)
            return
        scope[MARKER] = begun
        await self._handle(ledger, begun, now, scope, replay(body, receive), send)

    async def _handle(
        self,
        ledger: Idempotency,
        marker: Marker,
        now: Callable[[], datetime],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Have the request answered, and keep the answer before its last byte goes out."""
        answer = _Recorded()
        kept = False

        async def tell(message: Message) -> None:
            nonlocal kept
            answer.take(message)
            if answer.whole and not kept:
                kept = True
                await _close(ledger, marker, answer.given(), now())
            await send(message)

        try:
            await self._app(scope, receive, tell)
        finally:
            if not kept:
                await _close(ledger, marker, None, now())


async def _close(ledger: Idempotency, marker: Marker, given: Given | None, now: datetime) -> None:
    """Keep the answer, or free the key. Where neither can be done, the marker's patience ends it:
    the next request is handled anew then, under the same derived ids.
    """
    try:
        if given is None:
            await ledger.give_up(marker, now)
        else:
            await ledger.done(marker, given)
    except RenterError as error:
        LOG.warning("An answer under an Idempotency-Key could not be kept: %s", error)


class _Recorded:
    """An answer on its way out, read along."""

    def __init__(self) -> None:
        self.whole = False
        self._status = 0
        self._content_type = ""
        self._body = bytearray()

    def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._content_type = Headers(raw=message["headers"]).get("content-type", "")
        elif message["type"] == "http.response.body":
            if len(self._body) <= LARGEST_ANSWER_BYTES:
                self._body += message.get("body", b"")
            self.whole = not message.get("more_body", False)

    def given(self) -> Given | None:
        """The answer, if it is one to keep."""
        passing = self._status >= 500 or self._status in _WORTH_ANOTHER_TRY
        if passing or len(self._body) > LARGEST_ANSWER_BYTES:
            return None
        return Given(self._status, self._content_type, bytes(self._body))


def marker_of(
    connection: HTTPConnection,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias=HEADER,
            min_length=1,
            max_length=255,
            pattern=r"^[\x21-\x7e]+$",
            description="Repeated within 24 hours with the same body, it gets the same answer.",
        ),
    ] = None,
) -> Marker | None:
    """The marker of a request with an Idempotency-Key; for `Depends`."""
    found = connection.scope.get(MARKER) if idempotency_key else None
    return found if isinstance(found, Marker) else None


def _takes_keys(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in PATIENCE


def _marker_id(scope: Scope, key: str) -> str:
    """The marker's id, made of key, owner and address. Raises InvalidInput, Unauthorized."""
    if not _KEY.fullmatch(key):
        raise InvalidInput(HEADER, "it is not 1 to 255 printable ASCII characters without spaces")
    principal = principal_of(HTTPConnection(scope))
    whose = f"key:{principal.key_id}" if principal.owner is None else f"user:{principal.owner}"
    return hashlib.sha256("\0".join((whose, scope["path"], key)).encode()).hexdigest()


def _fingerprint(body: bytes) -> str:
    """Equal for bodies that mean the same JSON, whatever the order of their fields."""
    try:
        value: Any = json.loads(body, parse_float=str)
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        canonical = body
    return hashlib.sha256(canonical).hexdigest()


def _response(given: Given) -> Response:
    headers = {"Content-Type": given.content_type, REPLAYED: "true"}
    return Response(given.body, given.status, headers)
