"""Bodies under /api/: read whole, counted in bytes and in time, before any route runs.

Starlette's own limit has no deadline, and reads no further: who still sends may never read why.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.middleware.http_errors import problem

API: Final = "/api/"
LARGEST_BODY_BYTES: Final = 64 * 1024
MOST_DRAINED_BYTES: Final = 64 * 1024 * 1024
"""How much of an oversized body is still read, so that its sender gets to read our answer."""
BODY_DEADLINE_S: Final = 20.0


class Bodies:
    """ASGI middleware, behind the guard: who may not ask is not listened to."""

    def __init__(self, app: ASGIApp, deadline_s: float = BODY_DEADLINE_S) -> None:
        self._app = app
        self._deadline_s = deadline_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        taken = scope["type"] == "http" and scope["path"].startswith(API)
        if taken and scope["method"] in ("POST", "PUT", "PATCH"):
            body = await _read_body(receive, self._deadline_s)
            if isinstance(body, HTTPStatus):
                await problem(body, self._refusal(body))(scope, receive, send)
                return
            receive = replay(body, receive)
        await self._app(scope, receive, send)

    def _refusal(self, status: HTTPStatus) -> str:
        if status is HTTPStatus.REQUEST_TIMEOUT:
            return f"The body did not arrive within {self._deadline_s:g} seconds. Send it again"
        return f"The body is larger than {LARGEST_BODY_BYTES // 1024} KiB. Send less"


async def _read_body(receive: Receive, deadline_s: float) -> bytes | HTTPStatus:
    """The body, or the status that says why it is not taken."""
    chunks: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(deadline_s):
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


def replay(body: bytes, receive: Receive) -> Receive:
    """`receive`, giving the body that was read already first."""
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return unread.pop() if unread else await receive()

    return replayed
