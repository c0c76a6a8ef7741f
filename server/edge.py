"""The outermost ring of the API: bounded bodies, headers on every answer, and the last catch."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.http_errors import UNEXPECTED, problem

LOG: Final = logging.getLogger(__name__)
API: Final = "/api/"
LARGEST_BODY_BYTES: Final = 64 * 1024
MOST_DRAINED_BYTES: Final = 16 * 1024 * 1024
"""Of a body that is too large: read on so far, so that its sender gets to read our answer."""
BODY_DEADLINE_S: Final = 20.0


class Edge:
    """ASGI middleware. A body under /api/ is read whole, and counted, before any route runs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        api = scope["path"].startswith(API)
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                if api:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        try:
            if api and scope["method"] in ("POST", "PUT", "PATCH"):
                body = await _read_body(receive)
                if isinstance(body, HTTPStatus):
                    await problem(body, _REFUSALS[body])(scope, receive, answer)
                    return
                receive = _replay(body, receive)
            await self._app(scope, receive, answer)
        except Exception:
            LOG.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise
            await problem(HTTPStatus.INTERNAL_SERVER_ERROR, UNEXPECTED)(scope, receive, answer)


_REFUSALS: Final = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        f"The body is larger than {LARGEST_BODY_BYTES // 1024} KiB. Send less"
    ),
    HTTPStatus.REQUEST_TIMEOUT: (
        f"The body did not arrive within {BODY_DEADLINE_S:g} seconds. Send it again"
    ),
}


async def _read_body(receive: Receive) -> bytes | HTTPStatus:
    """The body, or the status that says why it is not taken."""
    chunks: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            while more and size <= MOST_DRAINED_BYTES:
                message = await receive()
                chunk = message.get("body", b"")
                size += len(chunk)
                if size <= LARGEST_BODY_BYTES:
                    chunks.append(chunk)
                more = message.get("more_body", False)
    except TimeoutError:
        return HTTPStatus.REQUEST_TIMEOUT
    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE if size > LARGEST_BODY_BYTES else b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return unread.pop() if unread else await receive()

    return replayed
