"""A vendor client that says what it does, in steps: `vendor quote` of gpu_vendor_1, and so on."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from domain.jobs import JobSpec
from domain.quotes import Quote, Vendor, VendorAddress
from tools.vendors.base import (
    Accepted,
    Artifact,
    CancelReport,
    Extended,
    JobOrder,
    JobReport,
    PaymentHeader,
    PaymentRequired402,
    VendorClient,
)
from tools.wire.observer import Observer, Step


class WatchedVendors:
    """`VendorClient` over another one, whose promises it keeps: it adds a step to each call."""

    def __init__(self, vendors: VendorClient, observer: Observer) -> None:
        self._vendors = vendors
        self._observer = observer

    async def quote(self, vendor: Vendor, spec: JobSpec, minutes: int) -> Quote:
        with self._step("quote", vendor):
            return await self._vendors.quote(vendor, spec, minutes)

    async def submit_job(
        self,
        vendor: Vendor,
        order: JobOrder,
        *,
        payment: PaymentHeader | None = None,
        legacy_tx_id: str | None = None,
    ) -> Accepted | PaymentRequired402:
        with self._step("submit-job", vendor):
            return await self._vendors.submit_job(
                vendor, order, payment=payment, legacy_tx_id=legacy_tx_id
            )

    async def extend_job(
        self,
        vendor: Vendor,
        vendor_job_id: str,
        minutes: int,
        *,
        payment: PaymentHeader | None = None,
    ) -> Extended | PaymentRequired402:
        with self._step("extend-job", vendor):
            return await self._vendors.extend_job(vendor, vendor_job_id, minutes, payment=payment)

    async def job_status(self, vendor: VendorAddress, vendor_job_id: str) -> JobReport:
        with self._step("job-status", vendor):
            return await self._vendors.job_status(vendor, vendor_job_id)

    async def cancel_job(self, vendor: VendorAddress, vendor_job_id: str) -> CancelReport:
        with self._step("cancel-job", vendor):
            return await self._vendors.cancel_job(vendor, vendor_job_id)

    async def download(
        self, vendor: VendorAddress, artifact_url: str, vendor_job_id: str, folder: Path
    ) -> Artifact:
        with self._step("artifact", vendor):
            return await self._vendors.download(vendor, artifact_url, vendor_job_id, folder)

    def _step(self, call: str, vendor: VendorAddress) -> AbstractContextManager[Step]:
        return self._observer.step("vendor", call, vendor=vendor.vendor_id)
