"""The outermost ring of the API: headers on every answer, and the last catch."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.middleware.http_errors import UNEXPECTED, problem

LOG: Final = logging.getLogger(__name__)
API: Final = "/api/"

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # To no other site. With no-referrer, a browser would hide the page's origin from us, too, in
    # what its forms post: a foreign page can send "Origin: null", too.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NOTHING: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
PAGES: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    )
)
"""NiceGUI writes its components into the page, and Vue compiles their templates there; both are
ours. Nothing comes from another machine, and nothing goes to one.
"""


class Edge:
    """ASGI middleware. Nothing that goes wrong inside is told outside."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Content-Security-Policy", content_policy(path))
                if path.startswith(API):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception:
            LOG.exception("%s %s failed", scope["method"], path)
            if started:
                raise
            await problem(HTTPStatus.INTERNAL_SERVER_ERROR, UNEXPECTED)(scope, receive, answer)


def content_policy(path: str) -> str:
    """What a browser may do with the answer: with the API's nothing, with a page what it needs."""
    plain = path.startswith(API) or path in ("/healthz", "/readyz", "/metrics", "/openapi.json")
    return NOTHING if plain else PAGES
