"""Whose page asks: browsers say so, in headers that a page cannot change."""

from __future__ import annotations

from collections.abc import Set
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from server.access import is_loopback

_OUR_OWN: Final = frozenset({"same-origin", "none"})
"""Sec-Fetch-Site of our own page's requests, and of an address that a person typed."""


def is_from_our_page(connection: HTTPConnection, allowed: Set[str] = frozenset()) -> bool:
    """Whether a request comes from no page of another origin, but for the `allowed` ones.

    Programs send neither header. A browser sends `Origin` with whatever changes something, a form
    or a text/plain body that needs no preflight too, and `Sec-Fetch-Site` with all the rest. On
    this machine, its names stand for each other, on the same port.
    """
    origin = connection.headers.get("origin")
    if origin is None:
        site = connection.headers.get("sec-fetch-site")
        return site is None or site in _OUR_OWN
    asking = _place(origin)
    if origin in allowed:
        return True
    return asking is not None and asking == _place(f"//{connection.headers.get('host', '')}")


def _place(address: str) -> tuple[str, int | None] | None:
    """Host and port of an address. Where a proxy ends TLS, the schemes of a page and of its
    requests to us are not the same.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host:
        return None
    return ("127.0.0.1" if is_loopback(host) else host, port)
