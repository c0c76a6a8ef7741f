"""What can be bought, each asked for in the same way: without a payment, then with one.

A seller is made from a payment's `kind` and `order`, so a stored payment can always be sent again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from domain.errors import Conflict
from domain.payments import PurchaseKind
from domain.quotes import Vendor
from tools.payments.fetch import Fetched, Fetcher
from tools.vendors.base import (
    Accepted,
    Extended,
    JobOrder,
    PaymentHeader,
    PaymentRequired402,
    VendorClient,
)

Goods = Accepted | Extended | Fetched


class Seller(Protocol):
    async def request(
        self, *, payment: PaymentHeader | None = None, legacy_tx_id: str | None = None
    ) -> Goods | PaymentRequired402:
        """Ask once. With the same payment, the same goods. Raises VendorError."""


@dataclass(frozen=True, slots=True)
class JobLaunch:
    client: VendorClient
    vendor: Vendor
    order: JobOrder

    async def request(
        self, *, payment: PaymentHeader | None = None, legacy_tx_id: str | None = None
    ) -> Goods | PaymentRequired402:
        return await self.client.submit_job(
            self.vendor, self.order, payment=payment, legacy_tx_id=legacy_tx_id
        )


@dataclass(frozen=True, slots=True)
class JobExtension:
    client: VendorClient
    vendor: Vendor
    vendor_job_id: str
    minutes: int

    async def request(
        self,
        *,
        payment: PaymentHeader | None = None,
        legacy_tx_id: str | None = None,  # noqa: ARG002 -- extensions are sold over x402 only
    ) -> Goods | PaymentRequired402:
        return await self.client.extend_job(
            self.vendor, self.vendor_job_id, self.minutes, payment=payment
        )


def launch_order(
    template_id: str, job_params: Mapping[str, Any], callback_url: str | None = None
) -> Mapping[str, Any]:
    """The order of a job launch, as it is stored."""
    order = {"vendorJobTemplateId": template_id, "jobParams": dict(job_params)}
    return order if callback_url is None else {**order, "callbackUrl": callback_url}


def extension_order(job_id: str, vendor_job_id: str, minutes: int) -> Mapping[str, Any]:
    """The order of `minutes` more for a running job, as it is stored."""
    return {"jobId": job_id, "vendorJobId": vendor_job_id, "minutes": minutes}


def seller_of(
    kind: PurchaseKind,
    order: Mapping[str, Any],
    vendor: Vendor,
    client: VendorClient,
    fetcher: Fetcher | None = None,
) -> Seller:
    """The seller of a stored order. Raises Conflict for a fetch without its `fetcher`, because its
    headers are not stored.
    """
    if kind is PurchaseKind.FETCH:
        if fetcher is None:
            raise Conflict("This buys one URL, not a job", "Go on with it: gpu-renter pay URL --id")
        fetcher.check(order)
        return fetcher
    if kind is PurchaseKind.EXTEND:
        return JobExtension(client, vendor, order["vendorJobId"], order["minutes"])
    wanted = (order["vendorJobTemplateId"], order["jobParams"], order.get("callbackUrl"))
    return JobLaunch(client, vendor, JobOrder(*wanted))
