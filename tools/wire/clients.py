"""HTTP clients: one set of certificates, and no proxy on the way to this machine."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any

import httpx


@cache
def tls() -> ssl.SSLContext:
    """What every client checks a server's certificate with. To load it takes 30 ms."""
    return httpx.create_ssl_context()


def direct() -> dict[str, httpx.AsyncHTTPTransport]:
    """httpx mounts that bypass the environment's proxy on the way to this machine."""
    return {
        f"all://{host}": httpx.AsyncHTTPTransport(verify=tls())
        for host in ("localhost", "127.0.0.1")
    }


def open_client(**options: Any) -> httpx.AsyncClient:
    """A client that follows no redirect. Options are httpx's."""
    return httpx.AsyncClient(
        **{"follow_redirects": False, "verify": tls(), "mounts": direct(), **options}
    )
