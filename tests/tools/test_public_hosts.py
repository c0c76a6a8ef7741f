"""Vendors outside the local mode: https, public, and connected to where the check looked."""

# ruff: noqa: ARG002, ASYNC109 -- the parameters are those of httpcore's interface
from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
import pytest

from tools.wire.exchange import Limits, NoAnswer, exchange
from tools.wire.public_hosts import PublicNetwork, is_public, public_client

PUBLIC = "93.184.215.14"
LIMITS = Limits(1, 1, 2, 1000)


class Names:
    """A resolver that answers as told: the n-th question gets the n-th answer, the last stays."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


class Wire(httpcore.AsyncNetworkBackend):
    """A network that records where connections go, and the name that TLS asks for."""

    def __init__(self) -> None:
        self.connected: list[str] = []
        self.names: list[str | None] = []
        self.sent = b""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.connected.append(host)
        return Stream(self)


class Stream(httpcore.AsyncNetworkStream):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", b""]

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._answer.pop(0)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._wire.sent += buffer

    async def aclose(self) -> None:
        pass

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self._wire.names.append(server_hostname)
        return self

    def get_extra_info(self, info: str) -> Any:
        return None


async def _ask(url: str, names: Names, wire: Wire) -> int:
    async with public_client(PublicNetwork(names, wire)) as http:
        return (await exchange(http, "GET", url, limits=LIMITS)).status_code


async def test_the_checked_address_is_the_one_connected_to_and_tls_keeps_the_name() -> None:
    names, wire = Names([PUBLIC], ["127.0.0.1"]), Wire()

    assert await _ask("https://gpu.example/quote", names, wire) == 200
    assert wire.connected == [PUBLIC]
    assert wire.names == ["gpu.example"]
    assert b"Host: gpu.example\r\n" in wire.sent
    assert names.asked == ["gpu.example"]


async def test_a_name_that_is_rebound_to_this_machine_is_refused_at_the_next_connection() -> None:
    names, wire = Names([PUBLIC], ["127.0.0.1"]), Wire()
    await _ask("https://gpu.example/quote", names, wire)

    with pytest.raises(NoAnswer, match=r"gpu\.example is at 127\.0\.0\.1, which is not a public"):
        await _ask("https://gpu.example/quote", names, wire)
    assert wire.connected == [PUBLIC]


async def test_one_private_answer_among_public_ones_is_enough_to_refuse() -> None:
    wire = Wire()

    with pytest.raises(NoAnswer, match="not a public address"):
        await _ask("https://gpu.example/", Names([PUBLIC, "10.0.0.7"]), wire)
    assert wire.connected == []


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "[::1]", "localhost"],
)
async def test_this_machine_is_refused_however_it_is_spelt(host: str) -> None:
    wire = Wire()

    async with public_client(PublicNetwork(inner=wire)) as http:
        with pytest.raises(NoAnswer, match=r"not a public address|failed|not a valid URL"):
            await exchange(http, "GET", f"https://{host}/", limits=LIMITS)
    assert wire.connected == []


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd12::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:93.184.215.14",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2001:0:1::1",
        "fec0::1",
        "2001:db8::1",
        "gpu.example",
        "",
    ],
)
def test_what_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:4700:4700::1111"])
def test_what_is_public(address: str) -> None:
    assert is_public(address)


async def test_plain_http_is_refused() -> None:
    wire = Wire()

    with pytest.raises(NoAnswer, match="its address is not https"):
        await _ask("http://gpu.example/", Names([PUBLIC]), wire)
    assert wire.connected == []


async def test_a_name_without_an_address_is_no_answer() -> None:
    class Nowhere(Names):
        async def __call__(self, host: str, port: int) -> list[str]:
            raise socket.gaierror("no such name")

    with pytest.raises(NoAnswer, match="the connection failed"):
        await _ask("https://gpu.example/", Nowhere([]), Wire())


async def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    class Half(Wire):
        async def connect_tcp(self, host: str, *a: Any, **k: Any) -> httpcore.AsyncNetworkStream:
            if host == PUBLIC:
                raise httpcore.ConnectError("refused")
            return await super().connect_tcp(host, *a, **k)

    wire = Half()

    assert await _ask("https://gpu.example/", Names([PUBLIC, "1.1.1.1"]), wire) == 200
    assert wire.connected == ["1.1.1.1"]


async def test_no_proxy_of_the_environment_stands_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    wire = Wire()

    assert await _ask("https://gpu.example/", Names([PUBLIC]), wire) == 200
    assert wire.connected == [PUBLIC]
