"""Values that the tests of `tools` are made of."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace

import httpx
from pydantic import SecretStr

from domain.jobs import JobSpec
from domain.money import Usd
from domain.networks import LOCAL, Network
from domain.quotes import Vendor
from domain.vendor_secrets import GPU_VENDOR_SECRET
from mock_vendor.accounts import LOCAL_USDC_ADDRESS, dev_address, dev_key
from tools.vendors.http import HttpVendorClient, VendorTimeouts
from tools.vendors.secrets import VendorSecrets

SECRET = "vendor-secret-7f3a"
SECRETS = VendorSecrets({GPU_VENDOR_SECRET: SecretStr(SECRET)})
NETWORK: Network = replace(LOCAL, usdc=LOCAL_USDC_ADDRESS)
AGENT = dev_address("agent")
AGENT_KEY = dev_key("agent")
PAYEE = dev_address("gpu_vendor_1")
STRANGER = dev_address("stranger")
NONCE = "0x" + "ab" * 32
TX = "0x" + "11" * 32
PAYMENT_ID = "pay_0123456789abcdef"
SPEC = JobSpec(job_type="training", gpu_type="A100", minutes=90)
VENDOR = Vendor(
    vendor_id="gpu_vendor_1",
    name="FastGPU",
    endpoint="http://vendor.test/api",
    price_per_hour=Usd(1_400_000),
    reliability=0.9,
    gpu_types=("A100",),
    pay_to=PAYEE,
    secret_env=GPU_VENDOR_SECRET,
)
QUICK = VendorTimeouts(connect_s=0.05, read_s=0.05, total_s=0.1, download_s=0.1)

Handler = Callable[[httpx.Request], httpx.Response]


class Recorder:
    """A vendor, RPC node or wallet service as a list of answers; it keeps what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def client(handler: Handler, **options: int) -> HttpVendorClient:
    http = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    return HttpVendorClient(http, SECRETS, VendorTimeouts(), **options)


def requirement(**changes: object) -> dict[str, object]:
    """One way to pay, as an x402 v2 challenge writes it."""
    entry: dict[str, object] = {
        "scheme": "exact",
        "network": NETWORK.caip2,
        "asset": NETWORK.usdc,
        "amount": "2100000",
        "payTo": PAYEE,
        "maxTimeoutSeconds": 300,
        "extra": {"name": "Fake Coin", "version": "9"},
    }
    return entry | changes


def challenge_json(*entries: dict[str, object], **changes: object) -> dict[str, object]:
    challenge: dict[str, object] = {
        "x402Version": 2,
        "error": "payment required",
        "resource": {"url": "http://vendor.test/api/submit-job"},
        "accepts": list(entries or (requirement(),)),
        "extensions": {"payment-identifier": {"info": {"required": True}, "schema": {}}},
    }
    return challenge | changes


def challenge_v1_json(**changes: object) -> dict[str, object]:
    entry: dict[str, object] = {
        "scheme": "exact",
        "network": NETWORK.x402_v1_name,
        "maxAmountRequired": "2100000",
        "resource": "http://vendor.test/api/submit-job",
        "payTo": PAYEE,
        "maxTimeoutSeconds": 300,
        "asset": NETWORK.usdc,
    }
    return {"x402Version": 1, "error": "pay", "accepts": [entry | changes]}


def encoded(value: object) -> str:
    """`value` as an x402 v2 header."""
    return base64.b64encode(json.dumps(value).encode()).decode()


def decoded(header: str) -> dict[str, object]:
    value = json.loads(base64.b64decode(header))
    assert isinstance(value, dict)
    return value
