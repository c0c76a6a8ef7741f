"""The seller at any x402 URL: one request, asked without a payment and then with one.

What is stored of a request is its method, its address without the query, and a fingerprint of the
whole; headers, query and body may hold secrets and stay with the person who ordered.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from domain.errors import (
    Conflict,
    InvalidInput,
    VendorBroken,
    VendorGarbage,
    VendorRefused,
    VendorUnreachable,
)
from domain.networks import Network
from tools.payments.challenge import read_challenge
from tools.vendors.answers import payment_response, said, settled_tx
from tools.vendors.base import PaymentHeader, PaymentRequired402
from tools.wire.canonical import canonical_json
from tools.wire.exchange import Answer, Limits, NoAnswer, exchange
from tools.wire.untrusted import Unreadable, clean_text

LARGEST_GOODS_BYTES: Final = 16 * 1024 * 1024
LONGEST_URL: Final = 2_000
UNREACHABLE_REMEDY: Final = (
    "Nothing was paid. Check the address, and whether the seller is up; then buy it with another "
    "--id"
)
"""For a seller who was asked what it costs. One who was sent a payment may have taken it."""

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)
_OURS: Final = frozenset(
    {"accept-encoding", "connection", "content-length", "cookie", "expect", "host"}
    | {"payment-signature", "x-payment", "transfer-encoding", "te", "upgrade"}
)
"""Headers that the exchange itself decides about."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a URL gave: a 2xx answer. `body` and `content_type` are the seller's word."""

    status_code: int
    content_type: str
    body: bytes = field(repr=False)
    claimed_tx_id: str | None
    """The transaction that the seller says was settled. Believe the chain only."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """One HTTP request, checked. Make it with `fetch_request`."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)

    @property
    def seller(self) -> str:
        """Host and port: who is dealt with."""
        return urlsplit(self.url).netloc.lower()

    @property
    def on_this_machine(self) -> bool:
        """Whether the address is literally one of this machine."""
        return urlsplit(self.url).hostname in _LOOPBACK

    @property
    def shown_url(self) -> str:
        """The address without its query, which may hold a key."""
        return self.url.partition("?")[0]

    def order(self, network: Network) -> Mapping[str, Any]:
        """What is stored of it. The same request on the same network is the same order."""
        body = hashlib.sha256(self.body or b"").hexdigest()
        whole = canonical_json({"method": self.method, "url": self.url, "body": body})
        return {
            "method": self.method,
            "url": self.shown_url,
            "requestSha256": hashlib.sha256(whole).hexdigest(),
            "network": network.caip2,
        }


def fetch_request(
    url: str,
    *,
    method: str | None,
    headers: Iterable[str],
    data: bytes | None,
    plain_http: bool,
) -> FetchRequest:
    """The request that a person asks for. headers: `Name: value` each.

    plain_http: whether an address without TLS is fine; this machine's own always is. Raises
    InvalidInput, naming the option, without repeating a header's value.
    """
    verb = (method or ("GET" if data is None else "POST")).upper()
    if verb not in METHODS:
        raise InvalidInput("--method", f"{verb[:20]!r} is none of {', '.join(METHODS)}")
    given: dict[str, str] = {}
    for line in headers:
        name, colon, value = line.partition(":")
        if not colon or not _HEADER_NAME.fullmatch(name.strip()):
            raise InvalidInput("--header", f"{name[:40]!r} is not followed by a colon and a value")
        if not value.isprintable() or not value.isascii():
            raise InvalidInput("--header", f"the value of {name.strip()} is not printable ASCII")
        if name.strip().lower() in _OURS:
            raise InvalidInput("--header", f"{name.strip()} is set by the payment itself")
        given[name.strip()] = value.strip()
    if data is not None and "content-type" not in {name.lower() for name in given}:
        given["Content-Type"] = "application/json"
    return FetchRequest(verb, _checked_url(url, plain_http), given, data)


def _checked_url(url: str, plain_http: bool) -> str:
    shown = repr(clean_text(url.partition("?")[0], 100))
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.scheme not in ("http", "https") or len(url) > LONGEST_URL:
        raise InvalidInput("URL", f"{shown} is not an http(s) address")
    if not url.isascii() or not url.isprintable() or " " in url or parts.fragment:
        raise InvalidInput("URL", f"{shown} holds what no request can carry", "Percent-encode it")
    if parts.username or parts.password:
        raise InvalidInput("URL", "it holds a user or a password", "Give it with --header")
    if parts.scheme == "http" and not plain_http and parts.hostname not in _LOOPBACK:
        raise InvalidInput("URL", f"{shown} is not encrypted", "Use https")
    return url


class Fetcher:
    """The seller of one request. Sent once a call, to that address alone: no redirects."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        request: FetchRequest,
        network: Network,
        limits: Limits | None = None,
    ) -> None:
        self._http = http
        self._request = request
        self._order = request.order(network)
        self._limits = limits or Limits(10, 60, 60, LARGEST_GOODS_BYTES)

    def check(self, order: Mapping[str, Any]) -> None:
        """Raise Conflict unless `order` is of this very request."""
        if dict(order) != dict(self._order):
            raise Conflict(
                f"This --id was used for another request: {order.get('method')} "
                f"{order.get('url')} on {order.get('network')}",
                "Repeat it with the same URL, method, data and network, or take another --id",
            )

    async def request(
        self,
        *,
        payment: PaymentHeader | None = None,
        legacy_tx_id: str | None = None,  # noqa: ARG002 -- a URL is paid over x402 only
    ) -> Fetched | PaymentRequired402:
        """Ask once. Raises VendorUnreachable, VendorBroken, VendorRefused and VendorGarbage."""
        answer = await self._answer(payment)
        seller, call = self._request.seller, self._request.method
        if answer.status_code == httpx.codes.PAYMENT_REQUIRED:
            challenge = read_challenge(answer.headers, answer.body, vendor_id=seller, call=call)
            why = (challenge and challenge.error) or said(answer)
            return PaymentRequired402(challenge, None, why)
        words = f"{answer.status_code} {said(answer)}".strip()
        if 200 <= answer.status_code < 300:
            content_type = clean_text(answer.headers.get("content-type", ""), 100)
            return Fetched(
                answer.status_code, content_type, answer.body, settled_tx(payment_response(answer))
            )
        if answer.status_code >= 500:
            raise VendorBroken(seller, call, f"it failed ({words})")
        if answer.status_code >= 400:
            raise VendorRefused(seller, call, f"it refused ({words})", answer.status_code)
        raise VendorGarbage(seller, call, f"it answered {words}; redirects are not followed")

    async def _answer(self, payment: PaymentHeader | None) -> Answer:
        request = self._request
        headers = dict(request.headers)
        if payment is not None:
            headers[payment.name] = payment.value
        try:
            return await exchange(
                self._http,
                request.method,
                request.url,
                limits=self._limits,
                headers=headers,
                content=request.body,
            )
        except NoAnswer as error:
            remedy = UNREACHABLE_REMEDY if payment is None else ""
            raise VendorUnreachable(request.seller, request.method, str(error), remedy) from None
        except Unreadable as error:
            raise VendorGarbage(request.seller, request.method, str(error)) from None
