"""The seller of one URL: what may be asked, what comes back, and what is kept of it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from domain.errors import (
    Conflict,
    InvalidInput,
    VendorBroken,
    VendorGarbage,
    VendorRefused,
    VendorUnreachable,
)
from domain.networks import BASE, LOCAL
from domain.payments import PurchaseKind
from tests.tools.builders import TX, VENDOR, Recorder, challenge_json, challenge_v1_json, encoded
from tools.payments.fetch import Fetched, Fetcher, FetchRequest, fetch_request
from tools.payments.sellers import seller_of
from tools.vendors.base import PaymentHeader, PaymentRequired402
from tools.vendors.http import HttpVendorClient
from tools.vendors.secrets import VendorSecrets
from tools.wire.exchange import Limits

PAYMENT = PaymentHeader("PAYMENT-SIGNATURE", "c2lnbmVk")
SMALL = Limits(1, 1, 1, 1_000)


def request_of(url: str = "https://shop.test/thing?key=hush", **changes: Any) -> FetchRequest:
    options: dict[str, Any] = {"method": None, "headers": [], "data": None, "plain_http": False}
    return fetch_request(url, **options | changes)


def fetcher(recorder: Recorder, request: FetchRequest | None = None) -> Fetcher:
    http = httpx.AsyncClient(transport=httpx.MockTransport(recorder))
    return Fetcher(http, request or request_of(), LOCAL, SMALL)


async def test_the_same_request_goes_out_with_and_without_the_payment() -> None:
    shop = Recorder(httpx.Response(200, content=b"goods"))
    request = request_of(method="put", headers=["X-Unit: C"], data=b"[1]")
    seller = fetcher(shop, request)
    await seller.request()
    await seller.request(payment=PAYMENT)
    first, second = shop.requests
    assert (first.method, str(first.url), first.content) == ("PUT", request.url, b"[1]")
    assert "PAYMENT-SIGNATURE" not in first.headers
    assert second.headers["PAYMENT-SIGNATURE"] == PAYMENT.value
    assert second.content == first.content
    assert first.headers["X-Unit"] == second.headers["X-Unit"] == "C"


async def test_the_goods_are_the_bytes_that_came() -> None:
    claim = encoded({"success": True, "transaction": TX, "network": "x"})
    headers = {"content-type": "text/plain\t; x", "PAYMENT-RESPONSE": claim}
    goods = await fetcher(Recorder(httpx.Response(201, headers=headers, content=b"\xff"))).request()
    assert isinstance(goods, Fetched)
    assert (goods.status_code, goods.body, goods.claimed_tx_id) == (201, b"\xff", TX)
    assert goods.content_type == "text/plain ; x"
    assert "ff" not in repr(goods)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(402, headers={"PAYMENT-REQUIRED": encoded(challenge_json())}),
        httpx.Response(402, json=challenge_v1_json()),
    ],
)
async def test_both_versions_of_the_challenge_are_read(answer: httpx.Response) -> None:
    read = await fetcher(Recorder(answer)).request()
    assert isinstance(read, PaymentRequired402)
    assert read.challenge is not None
    assert read.challenge.accepts[0].amount.micros == 2_100_000


async def test_a_402_without_a_challenge_is_none_and_never_a_legacy_bill() -> None:
    answer = httpx.Response(402, headers={"x402-tx-id": "bill_me"}, json={"error": "pay\x1b[31m"})
    read = await fetcher(Recorder(answer)).request()
    assert isinstance(read, PaymentRequired402)
    assert (read.challenge, read.legacy_tx_id, read.reason) == (None, None, "pay [31m")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(301, headers={"location": "https://evil.test"}), VendorGarbage),
        (httpx.Response(304), VendorGarbage),
        (httpx.Response(403, json={"error": "no"}), VendorRefused),
        (httpx.Response(500, content=b"<html>"), VendorBroken),
        (httpx.Response(200, content=b"x" * 1_001), VendorGarbage),
        (httpx.Response(200, headers={"content-encoding": "gzip"}), VendorGarbage),
        (httpx.Response(402, headers={"PAYMENT-REQUIRED": "%%%"}), VendorGarbage),
        (httpx.ConnectError("refused"), VendorUnreachable),
        (httpx.ReadTimeout("slow"), VendorUnreachable),
    ],
)
async def test_any_other_answer_is_one_typed_error(
    answer: httpx.Response | Exception, error: type[Exception]
) -> None:
    shop = Recorder(answer)
    with pytest.raises(error, match=r"shop\.test GET"):
        await fetcher(shop).request(payment=PAYMENT)
    assert len(shop.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "shop.test",
        "ftp://shop.test",
        "https://",
        "https://shop.test:0/",
        "https://shop.test:x/",
        "https://u:p@shop.test/",
        "https://shop.test/a b",
        "https://shop.test/\n",
        "https://ü.test",
        "https://shop.test/#f",
        "http://shop.test/",
        "https://shop.test/" + "a" * 2_000,
    ],
)
def test_an_address_that_cannot_be_paid_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="URL"):
        request_of(url)


def test_plain_http_is_for_this_machine_and_local_networks() -> None:
    assert request_of("http://127.0.0.1:8/x").seller == "127.0.0.1:8"
    assert request_of("http://shop.test/", plain_http=True).seller == "shop.test"


@pytest.mark.parametrize(
    "header",
    [
        "Host: x",
        "Content-Length: 5",
        "cookie: a=b",
        "PAYMENT-SIGNATURE: x",
        "x-payment: y",
        "no colon",
        "bad name: x",
        "X: \x07",
        "X: ü",
        ": v",
    ],
)
def test_a_header_that_would_bend_the_request_is_refused(header: str) -> None:
    with pytest.raises(InvalidInput, match="--header"):
        request_of(headers=[header])


def test_an_order_holds_no_secret_and_tells_requests_apart() -> None:
    request = request_of(headers=["Authorization: hush-token"], data=b"hush-body")
    order = request.order(LOCAL)
    assert "hush" not in str(order)
    assert "hush" not in repr(request)
    others = [
        request_of("https://shop.test/thing?key=other", data=b"hush-body"),
        request_of(data=b"other"),
        request_of(data=b"hush-body", method="PUT"),
    ]
    assert order not in [other.order(LOCAL) for other in others]
    assert order != request.order(BASE)
    assert order == request_of(data=b"hush-body").order(LOCAL)


def test_a_fetch_is_sold_only_by_the_seller_of_that_very_request() -> None:
    client = HttpVendorClient(httpx.AsyncClient(), VendorSecrets({}))
    seller = fetcher(Recorder(httpx.Response(200)))
    order = request_of().order(LOCAL)
    assert seller_of(PurchaseKind.FETCH, order, VENDOR, client, seller) is seller
    with pytest.raises(Conflict):
        seller_of(PurchaseKind.FETCH, order, VENDOR, client)
    other = request_of("https://other.test/").order(LOCAL)
    with pytest.raises(Conflict, match="another request"):
        seller_of(PurchaseKind.FETCH, other, VENDOR, client, seller)
