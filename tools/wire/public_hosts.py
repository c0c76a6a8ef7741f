"""HTTP to public addresses alone: for vendors and receivers whose address somebody else chose.

A name is resolved once for each connection, every answer is looked at, and the connection goes to
the very address that was: who answers the next question for the same name otherwise (DNS
rebinding) is not asked. TLS and the Host header keep the name.

httpx looks a name up as it connects, and lets nobody see the answer in between: hence a network
backend of our own.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import httpcore
import httpx

from tools.wire.clients import tls

Resolver = Callable[[str, int], Awaitable[list[str]]]
"""Host and port to the IP addresses of the host. Raises OSError where there are none."""

_NAT64: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))


class NotPublic(httpcore.ConnectError):
    """The address is one of this machine's or network's, or of none."""


def is_public(address: str) -> bool:
    """Whether an IP address lies in the public Internet, and means itself alone.

    An IPv6 address that stands for an IPv4 one (mapped, NAT64, 6to4, Teredo) does not count: what
    it reaches is up to the network.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        disguised = ip.ipv4_mapped or ip.sixtofour or ip.teredo or ip.is_site_local
        if disguised or any(ip in network for network in _NAT64):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


async def resolve(host: str, port: int) -> list[str]:
    """The system's answer for a host, in its order. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in found))


async def public_addresses(host: str, port: int, resolver: Resolver = resolve) -> list[str]:
    """The addresses of a host. Raises NotPublic when any is not public, and OSError for none.

    A number in any spelling (2130706433, 0x7f.1, 127.1) is resolved to the address that it means.
    """
    addresses = await resolver(host, port)
    private = [address for address in addresses if not is_public(address)]
    if private:
        raise NotPublic(f"{host} is at {private[0]}, which is not a public address")
    if not addresses:
        raise OSError(f"{host} has no address")
    return addresses


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """The network as seen by a client that connects to public addresses alone."""

    def __init__(
        self, resolver: Resolver = resolve, inner: httpcore.AsyncNetworkBackend | None = None
    ) -> None:
        self._resolver = resolver
        self._inner = inner or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = await public_addresses(host, port, self._resolver)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"{host} was not resolved in time") from error
        except OSError as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved") from error
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(
                    address,
                    port,
                    timeout=timeout,
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        raise NotPublic(f"{path} is a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class PublicTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over a `PublicNetwork`, for https alone."""

    def __init__(self, network: httpcore.AsyncNetworkBackend | None = None) -> None:
        super().__init__(verify=tls())
        # httpx has no parameter for the network; a test sees to it that this one is used.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls(),
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=network or PublicNetwork(),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.scheme != "https":
            raise httpx.UnsupportedProtocol(
                "its address is not https", request=request
            ) from NotPublic("its address is not https")
        return await super().handle_async_request(request)


def public_client(network: httpcore.AsyncNetworkBackend | None = None) -> httpx.AsyncClient:
    """A client for addresses that somebody else chose. No proxy: that would resolve them anew."""
    return httpx.AsyncClient(
        transport=PublicTransport(network), follow_redirects=False, trust_env=False, verify=tls()
    )


def refusal(error: BaseException) -> str:
    """What a `NotPublic` behind an httpx error says; empty when there is none."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, NotPublic):
        cause = cause.__cause__
    return str(cause) if cause is not None else ""
