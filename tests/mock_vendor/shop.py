"""A vendor in this process on a memory chain, and a customer who can sign payments."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from eth_account import Account
from fastapi import FastAPI
from x402 import PaymentPayload, PaymentRequired, PaymentRequirements
from x402.extensions.payment_identifier import append_payment_identifier_to_extensions
from x402.http import decode_payment_required_header, encode_payment_signature_header

from mock_vendor.accounts import AGENT_FUNDS, dev_address, dev_key
from mock_vendor.facilitator.app import FacilitatorClient
from mock_vendor.vendor.app import create_app
from mock_vendor.vendor.service import VendorService
from mock_vendor.vendor.settings import VendorSettings
from mock_vendor.vendor.treasury import Treasury
from tests.support.memory_chain import MemoryChain
from tests.support.memory_facilitator import MemoryFacilitator
from tests.support.memory_treasury import MemoryTreasury

Json = dict[str, Any]
SECRET = "local-vendor-secret"
VENDOR = "gpu_vendor_1"


def sign(
    requirements: PaymentRequirements,
    *,
    nonce: bytes,
    key: str | None = None,
    valid_before: int | None = None,
    valid_after: int = 0,
) -> PaymentPayload:
    """Sign a payment that meets the requirements, as the agent would."""
    account = Account.from_key(key or dev_key("agent"))
    window_end = int(time.time()) + 300 if valid_before is None else valid_before
    message = {
        "from": account.address,
        "to": requirements.pay_to,
        "value": int(requirements.amount),
        "validAfter": valid_after,
        "validBefore": window_end,
        "nonce": nonce,
    }
    types = {
        "TransferWithAuthorization": [
            {"name": "from", "type": "address"},
            {"name": "to", "type": "address"},
            {"name": "value", "type": "uint256"},
            {"name": "validAfter", "type": "uint256"},
            {"name": "validBefore", "type": "uint256"},
            {"name": "nonce", "type": "bytes32"},
        ]
    }
    domain = {
        "name": requirements.extra["name"],
        "version": requirements.extra["version"],
        "chainId": int(requirements.network.split(":")[1]),
        "verifyingContract": requirements.asset,
    }
    signed = account.sign_typed_data(domain, types, message)
    authorization = {name: str(value) for name, value in message.items()}
    authorization["nonce"] = "0x" + nonce.hex()
    return PaymentPayload(
        payload={"authorization": authorization, "signature": "0x" + signed.signature.hex()},
        accepted=requirements,
    )


def header_for(
    required: PaymentRequired, payment_id: str, *, nonce: bytes | None = None, **options: Any
) -> str:
    """Return the PAYMENT-SIGNATURE header that meets a challenge."""
    payload = sign(
        required.accepts[0], nonce=nonce or payment_id.encode().ljust(32, b"\0")[-32:], **options
    )
    extensions = {k: dict(v) for k, v in (required.extensions or {}).items()}
    append_payment_identifier_to_extensions(extensions, payment_id)
    return encode_payment_signature_header(payload.model_copy(update={"extensions": extensions}))


@dataclass
class Shop:
    """The vendor's app, its chain, and a client that speaks as the agent."""

    app: FastAPI
    chain: MemoryChain
    client: httpx.AsyncClient
    ids: int = field(default=0)

    @property
    def service(self) -> VendorService:
        service: VendorService = self.app.state.service
        return service

    def settled(self, vendor: str = VENDOR) -> list[int]:
        """Return what reached a vendor on the chain, in micro-dollars."""
        return [t.value for t in self.chain.transfers if t.recipient == dev_address(vendor)]

    async def quote(self, hours: float = 2, vendor: str = VENDOR, **wishes: Any) -> Json:
        wish = {"jobType": "train", "gpuType": "A10", "maxHours": hours, **wishes}
        answer = await self.client.post("/quote", json=wish, headers={"x-vendor-id": vendor})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def submission(self, hours: float = 2, vendor: str = VENDOR, **params: Any) -> Json:
        """Return a submit-job body for a fresh quote."""
        quote = await self.quote(hours, vendor)
        return {"vendorJobTemplateId": quote["vendorJobTemplateId"], "jobParams": params}

    async def challenge(
        self, body: Json, path: str = "/submit-job", vendor: str = VENDOR
    ) -> PaymentRequired:
        answer = await self.client.post(path, json=body, headers={"x-vendor-id": vendor})
        assert answer.status_code == 402, answer.text
        required = decode_payment_required_header(answer.headers["PAYMENT-REQUIRED"])
        assert isinstance(required, PaymentRequired)
        return required

    async def send(
        self, body: Json, header: str, path: str = "/submit-job", vendor: str = VENDOR
    ) -> httpx.Response:
        headers = {"PAYMENT-SIGNATURE": header, "x-vendor-id": vendor}
        return await self.client.post(path, json=body, headers=headers)

    async def signed(self, body: Json, path: str = "/submit-job", **options: Any) -> str:
        """Return a signed header for the body's challenge, under a fresh payment identifier."""
        self.ids += 1
        required = await self.challenge(body, path)
        return header_for(required, f"payment_number_{self.ids:04}", **options)

    async def launched(self, hours: float = 2, **params: Any) -> str:
        """Quote, pay and launch; return the job's id."""
        body = await self.submission(hours, **params)
        answer = await self.send(body, await self.signed(body))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["vendorJobId"])

    async def status(self, job_id: str) -> Json:
        answer = await self.client.get("/job-status", params={"vendorJobId": job_id})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def cancel(self, job_id: str) -> httpx.Response:
        return await self.client.post("/cancel-job", json={"vendorJobId": job_id})

    async def faults(self, *faults: Json) -> None:
        """Switch on exactly these faults."""
        answer = await self.client.put("/admin/faults", json={"faults": list(faults)})
        assert answer.status_code == 200, answer.text


@asynccontextmanager
async def open_shop(
    chain: MemoryChain | None = None,
    *,
    facilitator: FacilitatorClient | None = None,
    treasury: Treasury | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    **settings: Any,
) -> AsyncIterator[Shop]:
    """Open a vendor that never fails by chance, with a funded customer on a new chain."""
    if chain is None:
        chain = MemoryChain(clock)
        chain.mint(dev_address("agent"), AGENT_FUNDS)
    app = create_app(
        VendorSettings(**{"fail_rate": 0, "admin": True} | settings),
        facilitator=facilitator or MemoryFacilitator(chain),
        treasury=treasury or MemoryTreasury(chain),
        clock=clock,
        sleep=sleep,
    )
    headers = {"Authorization": f"Bearer {SECRET}", "x-vendor-id": VENDOR}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://vendor", headers=headers
    ) as client:
        try:
            yield Shop(app, chain, client)
        finally:
            app.state.service.close()
