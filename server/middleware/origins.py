"""Whose page asks: browsers say so, in headers that a page cannot change. Every door asks here.

Starlette's CORS middleware tells a browser what a page may read, and lets what needs no preflight
through.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final
from urllib.parse import SplitResult, urlsplit

from starlette.requests import HTTPConnection

from server.access import is_loopback

_OUR_OWN: Final = frozenset({"same-origin", "none"})
"""Sec-Fetch-Site of our own page's requests, and of an address that a person typed."""
_PORTS: Final = {"http": 80, "https": 443}


def is_from_our_page(connection: HTTPConnection, allowed: Set[str] = frozenset()) -> bool:
    """Whether a request comes from no page of another origin, but for the `allowed` ones.

    Programs send neither header. A browser sends `Origin` with whatever changes something, a form
    or a text/plain body that needs no preflight too, and with every WebSocket; `Sec-Fetch-Site`
    with all the rest, and beside it, but to an address without TLS that is not this machine's.
    """
    origin, site = connection.headers.get("origin"), connection.headers.get("sec-fetch-site")
    by_own = site is None or site in _OUR_OWN
    if origin is None:
        return by_own
    if origin in allowed:
        return True
    host = _address(f"//{connection.headers.get('host', '')}")
    page = _address(origin)
    if host is None or page is None:
        return False
    if is_loopback(host.hostname or "") and is_loopback(page.hostname or ""):
        return host.port == page.port
    return by_own and _same_host(page, host)


def only_links_here(connection: HTTPConnection) -> bool:
    """Whether a browser merely opens an address of ours, wherever the link was: this only reads,
    and shows the result to the person alone.
    """
    scope = connection.scope
    reads = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
    return reads and connection.headers.get("sec-fetch-mode") == "navigate"


def _same_host(page: SplitResult, host: SplitResult) -> bool:
    """Behind a proxy that ends TLS, a page and its requests to us have different schemes; the proxy
    may leave the port out of Host, and then only the names are compared.
    """
    ports = host.port is None or host.port == (page.port or _PORTS.get(page.scheme))
    return page.hostname == host.hostname and ports


def _address(text: str) -> SplitResult | None:
    """The address as parts; None where it has no host, or an impossible port."""
    try:
        parts = urlsplit(text)
        ours = parts.port != 0  # reading it raises ValueError
    except ValueError:
        return None
    return parts if parts.hostname and ours else None
