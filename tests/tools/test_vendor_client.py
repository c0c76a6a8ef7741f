"""The vendor client's answers and errors, at the HTTP seam."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from domain.errors import (
    ConfigError,
    InvalidInput,
    VendorBroken,
    VendorError,
    VendorGarbage,
    VendorRefused,
    VendorUnauthorized,
    VendorUnreachable,
)
from domain.jobs import JobStatus
from domain.money import Usd
from tests.tools.builders import (
    SECRET,
    SPEC,
    TX,
    VENDOR,
    Recorder,
    challenge_json,
    client,
    encoded,
)
from tests.tools.test_challenge import JSON
from tools.vendors.base import (
    Accepted,
    ClaimedRefund,
    Extended,
    JobOrder,
    PaymentHeader,
    PaymentRequired402,
)
from tools.vendors.http import HttpVendorClient, request_body
from tools.vendors.secrets import VendorSecrets

ORDER = JobOrder("tpl_1", {"epochs": 3, "a": {"z": 1, "b": "é"}}, "http://agent.test/cb")
PAYMENT = PaymentHeader("PAYMENT-SIGNATURE", "c2lnbmVk")
QUOTE = {
    "vendorJobTemplateId": "tpl_1",
    "priceEstimate": 2.1,
    "currency": "USD",
    "etaMinutes": 5,
    "expiresAt": "2026-12-01T10:00:00Z",
}
REPORT = {"status": "running", "progress": 0.5, "logs": ["one", "two"]}
ACCEPTED = {"vendorJobId": "job_1", "status": "running"}

CALLS: dict[str, Callable[[HttpVendorClient], Awaitable[object]]] = {
    "quote": lambda c: c.quote(VENDOR, SPEC, 90),
    "submit-job": lambda c: c.submit_job(VENDOR, ORDER, payment=PAYMENT),
    "extend-job": lambda c: c.extend_job(VENDOR, "job_1", 30, payment=PAYMENT),
    "job-status": lambda c: c.job_status(VENDOR, "job_1"),
    "cancel-job": lambda c: c.cancel_job(VENDOR, "job_1"),
}
each_call = pytest.mark.parametrize("call", list(CALLS))


def ok(body: object, **headers: str) -> httpx.Response:
    return httpx.Response(200, content=json.dumps(body).encode(), headers=headers)


async def test_a_quote_is_asked_for_and_read() -> None:
    vendor = Recorder(ok(QUOTE))
    quote = await client(vendor).quote(VENDOR, SPEC, 90)
    request = vendor.requests[0]
    assert str(request.url) == "http://vendor.test/api/quote"
    body = json.loads(request.content)
    assert body == {
        "jobType": "training",
        "gpuType": "A100",
        "maxHours": 1.5,
    }
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    assert request.headers["x-vendor-id"] == "gpu_vendor_1"
    assert (quote.template_id, quote.price, quote.minutes) == ("tpl_1", Usd(2_100_000), 90)
    assert (quote.gpu_type, quote.eta_minutes) == ("A100", 5.0)
    assert quote.expires_at == datetime(2026, 12, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("price", "micros"), [(3 * 1.4, 4_200_000), (2, 2_000_000), ("1.25", 1_250_000)]
)
async def test_prices_are_read_to_the_micro_dollar(price: object, micros: int) -> None:
    quote = await client(Recorder(ok(QUOTE | {"priceEstimate": price}))).quote(VENDOR, SPEC, 90)
    assert quote.price == Usd(micros)


@pytest.mark.parametrize(
    "changes",
    [
        {"priceEstimate": 0},
        {"priceEstimate": 1e-9},
        {"priceEstimate": -1},
        {"priceEstimate": 1_000_001},
        {"priceEstimate": 1e300},
        {"priceEstimate": True},
        {"priceEstimate": "free"},
        {"priceEstimate": None},
        {"currency": "EUR"},
        {"currency": None},
        {"etaMinutes": None},
        {"etaMinutes": -1},
        {"etaMinutes": "soon"},
        {"etaMinutes": 10**400},
        {"expiresAt": "tomorrow"},
        {"expiresAt": 5},
        {"expiresAt": "0001-01-01T00:00:00+14:00"},
        {"vendorJobTemplateId": None},
        {"vendorJobTemplateId": ""},
        {"vendorJobTemplateId": "two words"},
        {"vendorJobTemplateId": "x" * 201},
    ],
)
async def test_a_quote_that_makes_no_sense_is_garbage(changes: dict[str, object]) -> None:
    with pytest.raises(VendorGarbage, match="gpu_vendor_1 quote: "):
        await client(Recorder(ok(QUOTE | changes))).quote(VENDOR, SPEC, 90)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"priceEstimate": 0}, "priceEstimate: it is zero"),
        ({"priceEstimate": "<script>"}, "priceEstimate: it is not an amount in dollars"),
        ({"etaMinutes": -1}, "etaMinutes: "),
        ({"currency": "<script>"}, "currency: "),
        ({"vendorJobTemplateId": "x" * 300}, "vendorJobTemplateId: it is not an identifier"),
        ({"vendorJobTemplateId": SECRET}, "vendorJobTemplateId: it repeats our secret"),
        ({"expiresAt": "<script>"}, "expiresAt: it is not an ISO 8601 time"),
    ],
)
async def test_what_does_not_fit_is_named_by_its_field_and_not_repeated(
    changes: dict[str, object], says: str
) -> None:
    with pytest.raises(VendorGarbage, match=f"gpu_vendor_1 quote: {says}") as error:
        await client(Recorder(ok(QUOTE | changes))).quote(VENDOR, SPEC, 90)

    assert not any(said in str(error.value) for said in ("<script>", SECRET, "xxx", "pydantic"))


async def test_a_field_that_an_answer_lacks_is_called_missing() -> None:
    without = {name: value for name, value in QUOTE.items() if name != "etaMinutes"}
    with pytest.raises(VendorGarbage, match="quote: etaMinutes: it is missing"):
        await client(Recorder(ok(without))).quote(VENDOR, SPEC, 90)


async def test_an_accepted_job_is_read_with_its_claims() -> None:
    settled = encoded({"success": True, "transaction": TX.upper().replace("X", "x")})
    body = ACCEPTED | {"paymentTxId": "other"}
    vendor = Recorder(ok(body, **{"PAYMENT-RESPONSE": settled}))
    accepted = await client(vendor).submit_job(VENDOR, ORDER, payment=PAYMENT)
    assert accepted == Accepted("job_1", JobStatus.RUNNING, TX)
    assert vendor.requests[0].headers["PAYMENT-SIGNATURE"] == "c2lnbmVk"


@pytest.mark.parametrize("claim", ["", "%%%", "é", encoded([]), encoded({"transaction": "0x12"})])
async def test_a_malformed_receipt_claims_nothing(claim: str) -> None:
    answer = httpx.Response(
        200, json=ACCEPTED, headers=[(b"payment-response", claim.encode("latin-1"))]
    )
    accepted = await client(Recorder(answer)).submit_job(VENDOR, ORDER)
    assert isinstance(accepted, Accepted)
    assert accepted.claimed_tx_id is None


async def test_the_same_order_is_the_same_bytes_however_it_is_built() -> None:
    vendor = Recorder(ok(ACCEPTED))
    shuffled = JobOrder("tpl_1", {"a": {"b": "é", "z": 1}, "epochs": 3}, "http://agent.test/cb")
    body = request_body(ORDER)
    for order in (ORDER, shuffled):
        await client(vendor).submit_job(VENDOR, order, payment=PAYMENT)
    assert [request.content for request in vendor.requests] == [body, body]
    assert body == (
        b'{"callbackUrl":"http://agent.test/cb","jobParams":{"a":{"b":"\\u00e9","z":1},"epochs":3},'
        b'"vendorJobTemplateId":"tpl_1"}'
    )


def test_a_legacy_id_goes_into_the_body() -> None:
    body = request_body(JobOrder("t", {}), legacy_tx_id="local_tx_1")
    assert json.loads(body)["x402TxId"] == "local_tx_1"


@pytest.mark.parametrize("params", [{"x": float("nan")}, {"x": object()}, {"x": {1, 2}}])
def test_parameters_that_are_no_json_are_refused(params: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="job parameters"):
        request_body(JobOrder("t", params))


@pytest.mark.parametrize("call", ["submit-job", "extend-job"])
async def test_a_402_is_an_answer_that_carries_the_challenge(call: str) -> None:
    challenge = {"PAYMENT-REQUIRED": encoded(challenge_json())}
    required = await CALLS[call](client(Recorder(httpx.Response(402, headers=challenge))))
    assert isinstance(required, PaymentRequired402)
    assert required.challenge is not None
    assert required.challenge.accepts[0].amount == Usd(2_100_000)
    assert required.reason == "payment required"


async def test_a_402_outside_x402_carries_the_legacy_id() -> None:
    answer = httpx.Response(402, json={"error": "pay\x00first"}, headers={"x402-tx-id": "loc_1"})
    required = await CALLS["submit-job"](client(Recorder(answer)))
    assert required == PaymentRequired402(None, "loc_1", "pay first")


async def test_a_malformed_challenge_is_garbage() -> None:
    answer = httpx.Response(402, headers={"PAYMENT-REQUIRED": "%%%"})
    with pytest.raises(VendorGarbage, match="submit-job: its x402 challenge is malformed"):
        await CALLS["submit-job"](client(Recorder(answer)))


async def test_a_report_is_read() -> None:
    body = REPORT | {
        "finalMetrics": {"loss": 0.25, "best": True, "note": "a\nb", "deep": {"x": 1}, "n": 2**70},
        "artifactUrl": "/artifacts/job_1/model.json",
        "errorMessage": "out\x1b of memory",
        "usedMinutes": 12.5,
        "refund": {"amount": 0.7, "txHash": TX},
    }
    vendor = Recorder(ok(body))
    report = await client(vendor).job_status(VENDOR, "job/1&x=2")
    assert vendor.requests[0].url.params["vendorJobId"] == "job/1&x=2"
    assert (report.status, report.progress, tuple(report.logs)) == (
        JobStatus.RUNNING,
        0.5,
        ("one", "two"),
    )
    assert report.final_metrics == {"loss": 0.25, "best": True, "note": "a b"}
    assert report.artifact_url == "/artifacts/job_1/model.json"
    assert report.error_message == "out of memory"
    assert report.used_minutes == 12.5
    assert report.refund == ClaimedRefund(Usd(700_000), TX)


async def test_logs_are_bounded_and_stripped() -> None:
    logs = ["\x1b[2Jhi\u202e there\r\n", "x" * 9_999] + ["line"] * 6_000
    vendor = client(Recorder(ok(REPORT | {"logs": logs})))
    report = await vendor.job_status(VENDOR, "job_1")
    assert report.logs[0] == "[2Jhi there"
    assert (len(report.logs), len(report.logs[1])) == (5_000, 500)


async def test_our_secret_is_blotted_out_wherever_a_vendor_echoes_it() -> None:
    echoes = {"logs": [f"Bearer {SECRET}"], "errorMessage": SECRET, "finalMetrics": {"s": SECRET}}
    body = REPORT | echoes
    report = await client(Recorder(ok(body))).job_status(VENDOR, "job_1")
    assert SECRET not in repr(report)
    with pytest.raises(VendorUnauthorized) as error:
        await client(Recorder(httpx.Response(401, json={"error": SECRET}))).job_status(VENDOR, "j")
    assert SECRET not in str(error.value) + repr(client(Recorder()))


@pytest.mark.parametrize(("said", "read"), [(0, 0.0), (1, 1.0), (1.0005, 1.0), (-0.0005, 0.0)])
async def test_progress_is_between_0_and_1(said: float, read: float) -> None:
    report = await client(Recorder(ok(REPORT | {"progress": said}))).job_status(VENDOR, "j")
    assert report.progress == read


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "exploded"},
        {"status": ["running"]},
        {"progress": 57},
        {"progress": None},
        {"progress": True},
        {"logs": None},
        {"logs": "one"},
        {"logs": [1]},
        {"finalMetrics": []},
        {"artifactUrl": "a b"},
        {"errorMessage": 5},
        {"usedMinutes": -1},
        {"refund": {"amount": 1}},
        {"refund": {"txHash": TX}},
        {"refund": "soon"},
    ],
)
async def test_a_report_that_makes_no_sense_is_garbage(changes: dict[str, object]) -> None:
    with pytest.raises(VendorGarbage, match="gpu_vendor_1 job-status: "):
        await client(Recorder(ok(REPORT | changes))).job_status(VENDOR, "job_1")


NONSENSE = {
    "costSoFar": -1,
    "estimatedRemainingMinutes": "soon",
    "paidUntil": 1764000000,
    "paidMinutes": [],
}


async def test_nonsense_in_what_the_agent_does_not_go_by_costs_no_job() -> None:
    report = await client(Recorder(ok(REPORT | NONSENSE))).job_status(VENDOR, "job_1")
    assert (report.status, report.progress) == (JobStatus.RUNNING, 0.5)
    accepted = await client(Recorder(ok(ACCEPTED | NONSENSE))).submit_job(VENDOR, ORDER)
    assert isinstance(accepted, Accepted)
    extended = await client(Recorder(ok({"vendorJobId": "job_1"} | NONSENSE))).extend_job(
        VENDOR, "job_1", 30
    )
    assert isinstance(extended, Extended)


async def test_an_extension_must_be_of_the_job_asked_for() -> None:
    body = {"vendorJobId": "job_1", "paidUntil": "2026-12-01T10:00:00Z", "paymentTxId": TX}
    vendor = Recorder(ok(body))
    extended = await client(vendor).extend_job(VENDOR, "job_1", 30, payment=PAYMENT)
    assert not isinstance(extended, PaymentRequired402)
    assert extended.claimed_tx_id == TX
    assert vendor.requests[0].content == b'{"minutes":30,"vendorJobId":"job_1"}'
    with pytest.raises(VendorGarbage, match="not the job"):
        await client(vendor).extend_job(VENDOR, "job_2", 30)


async def test_a_cancellation_tells_of_the_refund() -> None:
    body = {"status": "cancelled", "refund": {"amount": "0.50", "txHash": TX}}
    report = await client(Recorder(ok(body))).cancel_job(VENDOR, "job_1")
    assert (report.status, report.refund) == (
        JobStatus.CANCELLED,
        ClaimedRefund(Usd(500_000), TX),
    )


@each_call
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.ConnectTimeout("t"), VendorUnreachable),
        (httpx.ReadTimeout("t"), VendorUnreachable),
        (httpx.ConnectError("refused"), VendorUnreachable),
        (httpx.ReadError("reset"), VendorUnreachable),
        (httpx.RemoteProtocolError("cut short"), VendorUnreachable),
        (httpx.Response(401), VendorUnauthorized),
        (httpx.Response(403), VendorUnauthorized),
        (httpx.Response(404), VendorRefused),
        (httpx.Response(409, json={"error": "used"}), VendorRefused),
        (httpx.Response(500), VendorBroken),
        (httpx.Response(503), VendorBroken),
        (httpx.Response(307, headers={"location": "http://evil.test"}), VendorGarbage),
        (httpx.Response(200, content=b""), VendorGarbage),
        (httpx.Response(200, content=b"<html>"), VendorGarbage),
        (httpx.Response(200, content=b"[" * 100_000), VendorGarbage),
        (httpx.Response(200, content=b"\xff"), VendorGarbage),
        (httpx.Response(200, content=b"[]"), VendorGarbage),
        (httpx.Response(200, content=b"{}"), VendorGarbage),
        (httpx.Response(200, content=b'{"status": NaN}'), VendorGarbage),
        (httpx.Response(200, content=b"x" * (1024 * 1024 + 1)), VendorGarbage),
    ],
)
async def test_every_failure_is_a_typed_error(
    call: str, answer: httpx.Response | Exception, error: type[VendorError]
) -> None:
    vendor = Recorder(answer)
    with pytest.raises(error) as raised:
        await CALLS[call](client(vendor))
    assert type(raised.value) is error
    assert (raised.value.vendor_id, raised.value.call) == ("gpu_vendor_1", call)
    assert {request.url.host for request in vendor.requests} == {"vendor.test"}


async def test_a_compressed_answer_is_not_unpacked() -> None:
    def vendor(_: httpx.Request) -> httpx.Response:
        answer = httpx.Response(200, content=b"{}")
        answer.headers["content-encoding"] = "gzip"
        return answer

    with pytest.raises(VendorGarbage, match="compressed"):
        await client(vendor).job_status(VENDOR, "job_1")


async def test_a_refusal_says_its_status_and_the_vendors_words() -> None:
    answer = httpx.Response(409, json={"error": "already\nused"})
    with pytest.raises(VendorRefused, match=r"it refused \(409 already used\)") as error:
        await CALLS["submit-job"](client(Recorder(answer)))
    assert error.value.status_code == 409
    with pytest.raises(VendorUnauthorized, match="GPU_VENDOR_SECRET"):
        await CALLS["quote"](client(Recorder(httpx.Response(401))))


@each_call
async def test_only_reads_are_retried_and_only_once(call: str) -> None:
    vendor = Recorder(httpx.ReadTimeout("t"))
    with pytest.raises(VendorUnreachable):
        await CALLS[call](client(vendor))
    assert len(vendor.requests) == (2 if call in ("quote", "job-status") else 1)


async def test_a_second_try_that_answers_is_enough() -> None:
    report = await client(Recorder(httpx.ReadTimeout("t"), ok(REPORT))).job_status(VENDOR, "j")
    assert report.status is JobStatus.RUNNING


async def test_cookies_of_a_vendor_are_not_sent_back() -> None:
    vendor = Recorder(ok(REPORT, **{"set-cookie": "id=1"}))
    asked = client(vendor)
    await asked.job_status(VENDOR, "j")
    await asked.job_status(VENDOR, "j")
    assert "cookie" not in vendor.requests[1].headers


@pytest.mark.parametrize("secret", ["", "two words", "line\nbreak", "é"])
def test_a_secret_no_header_can_carry_is_a_configuration_error(secret: str) -> None:
    with pytest.raises(ConfigError, match="GPU_VENDOR_SECRET_ACME") as error:
        VendorSecrets({"GPU_VENDOR_SECRET_ACME": SecretStr(secret)})
    assert not secret or secret not in str(error.value)


def of_two() -> VendorSecrets:
    names = ("GPU_VENDOR_SECRET", "GPU_VENDOR_SECRET_ACME")
    return VendorSecrets({name: SecretStr(f"the-value-of-{name.lower()}") for name in names})


async def test_each_vendor_is_shown_its_own_secret_and_no_other() -> None:
    vendor = Recorder(ok(REPORT))
    asked = HttpVendorClient(httpx.AsyncClient(transport=httpx.MockTransport(vendor)), of_two())
    for secret_env in ("GPU_VENDOR_SECRET", "GPU_VENDOR_SECRET_ACME", None):
        await asked.job_status(replace(VENDOR, secret_env=secret_env), "j")
    assert [request.headers.get("authorization") for request in vendor.requests] == [
        "Bearer the-value-of-gpu_vendor_secret",
        "Bearer the-value-of-gpu_vendor_secret_acme",
        None,
    ]
    with pytest.raises(VendorUnauthorized, match="--secret-env"):
        await client(Recorder(httpx.Response(401))).job_status(
            replace(VENDOR, secret_env=None), "j"
        )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("GPU_VENDOR_SECRET_OTHER", "GPU_VENDOR_SECRET_OTHER is not set"),
        *((name, "no vendor's secret") for name in ("X402_PRIVATE_KEY", "CDP_WALLET_SECRET")),
        *((name, "no vendor's secret") for name in ("MONGODB_URI", "AWS_SECRET_ACCESS_KEY", "")),
    ],
)
async def test_a_vendor_whose_secret_is_missing_or_not_its_own_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    if name:
        monkeypatch.setenv(name, "a-value-that-stays-here")
    vendor = Recorder(ok(REPORT))
    with pytest.raises(VendorUnauthorized, match=says) as error:
        await client(vendor).job_status(replace(VENDOR, secret_env=name), "j")
    assert not vendor.requests
    assert error.value.remedy


async def test_the_secret_of_another_vendor_is_blotted_out_of_what_one_says() -> None:
    stolen = "the-value-of-gpu_vendor_secret_acme"
    http = httpx.AsyncClient(
        transport=httpx.MockTransport(Recorder(ok({**REPORT, "logs": [f"found {stolen}"]})))
    )
    report = await HttpVendorClient(http, of_two()).job_status(VENDOR, "j")
    assert stolen not in report.logs[0]


@pytest.mark.parametrize(("name", "value"), [("Authorization", "x"), ("X-PAYMENT", "a\r\nb: c")])
def test_only_payment_headers_carry_payments(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match="payment header"):
        PaymentHeader(name, value)


FIELDS = [*QUOTE, *REPORT, *ACCEPTED, "finalMetrics", "refund", "usedMinutes", "artifactUrl"]


@settings(max_examples=40)
@given(JSON, st.sampled_from(FIELDS), st.sampled_from([{}, QUOTE, REPORT, ACCEPTED]))
async def test_random_answers_never_break_a_parser(
    value: Any, field: str, base: dict[str, Any]
) -> None:
    for call in CALLS.values():
        for body in (value, base | {field: value}):
            try:
                await call(client(Recorder(ok(body))))
            except VendorGarbage as error:
                shown = str(error)
            else:
                shown = ""
            assert shown.isprintable()
