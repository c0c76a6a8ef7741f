"""What the vendors do, call by call, free of HTTP."""

import json
import logging
import secrets
from collections.abc import Callable
from typing import Any

from mock_vendor.accounts import MICROS_PER_DOLLAR
from mock_vendor.facilitator.app import FacilitatorClient
from mock_vendor.vendor import workload
from mock_vendor.vendor.billing import Billing, PaymentFaults, Receipt
from mock_vendor.vendor.challenge import Purchase
from mock_vendor.vendor.faults import CHALLENGE_FAULTS, JOB_FAULTS, FaultBoard
from mock_vendor.vendor.incoming import required_text
from mock_vendor.vendor.jobs import (
    ARTIFACT_NAME,
    CHECKPOINT_NAME,
    PAID_TIME_RAN_OUT,
    Jobs,
    is_positive,
    paid_until,
    read_params,
    status_json,
)
from mock_vendor.vendor.locks import KeyedLocks
from mock_vendor.vendor.problems import VendorError
from mock_vendor.vendor.quoting import MAX_HOURS, extension_price, make_quote, quote_json
from mock_vendor.vendor.records import Job, Payment, Quote, Refund
from mock_vendor.vendor.settings import VendorProfile, VendorSettings
from mock_vendor.vendor.store import Store
from mock_vendor.vendor.treasury import Refunds, Treasury

logger = logging.getLogger(__name__)


def random_id(prefix: str) -> str:
    """Return an id that nobody can guess."""
    return f"{prefix}_{secrets.token_urlsafe(18)}"


class VendorService:
    """All vendors of the process over one store."""

    def __init__(
        self,
        settings: VendorSettings,
        store: Store,
        facilitator: FacilitatorClient,
        treasury: Treasury,
        faults: FaultBoard,
        clock: Callable[[], float],
        new_id: Callable[[str], str] = random_id,
    ) -> None:
        self.faults = faults
        self.billing = Billing(store, facilitator, treasury.settlement, self._deliver)
        self._settings = settings
        self._store = store
        self._vendors = settings.profiles()
        self._clock = clock
        self._new_id = new_id
        self._jobs = Jobs(store, settings, clock, new_id)
        self._refunds = Refunds(store, treasury)
        self._locks = KeyedLocks()

    def vendor(self, vendor_id: str) -> VendorProfile:
        """Return a vendor. Raises VendorError (404)."""
        found = self._vendors.get(vendor_id)
        if found is None:
            raise VendorError(404, "unknown vendor")
        return found

    def quote(self, vendor: VendorProfile, body: dict[str, Any]) -> dict[str, Any]:
        """Answer POST /quote; the price holds until the quote expires."""
        expires_at = self._clock() + self._settings.quote_ttl_s
        quote = make_quote(vendor, body, self._new_id("quote"), expires_at)
        self._store.add_quote(quote)
        return quote_json(quote)

    async def submit(
        self,
        vendor: VendorProfile,
        body: dict[str, Any],
        payment_header: str | None,
        url: str,
        faults: PaymentFaults,
    ) -> Receipt:
        """Answer POST /submit-job: challenge, or take the payment and launch the job."""
        quote = self._store.quote(required_text(body, "vendorJobTemplateId"))
        if quote is None or quote.vendor_id != vendor.vendor_id:
            raise VendorError(404, "unknown vendorJobTemplateId")
        read_params(body.get("jobParams"))
        if vendor.rail != "x402":
            return self._submit_unpaid(vendor, quote, body)
        purchase = Purchase(
            vendor=vendor,
            kind="job",
            subject=quote.quote_id,
            amount=quote.amount,
            body=body,
            url=url,
            description=f"{quote.gpu_type} for {quote.hours:g} h at {vendor.name}",
        )

        def refuse_late() -> None:
            if self._store.job_of_quote(quote.quote_id):
                raise VendorError(409, "this quote is used")
            if self._clock() > quote.expires_at:
                raise VendorError(410, "this quote has expired")

        return await self._charge(purchase, payment_header, faults, refuse_late, "submit-job")

    async def extend(
        self,
        vendor: VendorProfile,
        body: dict[str, Any],
        payment_header: str | None,
        url: str,
        faults: PaymentFaults,
    ) -> Receipt:
        """Answer POST /extend-job: challenge, or take the payment and add the minutes."""
        job = self._job(vendor, required_text(body, "vendorJobId"))
        minutes = body.get("minutes")
        if minutes is None:
            raise VendorError(400, "minutes is required")
        if not is_positive(minutes) or minutes > MAX_HOURS * 60:
            raise VendorError(400, "minutes must be a positive number")
        amount = extension_price(job.price_per_hour, minutes)

        def refuse_ended() -> None:
            current = self._job(vendor, job.job_id)
            if current.status != "running":
                raise VendorError(409, f"the job is {current.status}")

        if vendor.rail != "x402":
            refuse_ended()
            longer = self._jobs.extend(job, float(minutes), amount)
            answer = {"vendorJobId": job.job_id, "paidUntil": paid_until(longer)}
            return Receipt(answer, "")
        purchase = Purchase(
            vendor=vendor,
            kind="extend",
            subject=job.job_id,
            amount=amount,
            body=body,
            url=url,
            description=f"{minutes:g} more minutes of {job.job_id}",
        )
        return await self._charge(purchase, payment_header, faults, refuse_ended, "extend-job")

    async def status(self, vendor: VendorProfile, job_id: str, base_url: str) -> dict[str, Any]:
        """Answer GET /job-status; with pace "poll" this runs one epoch."""
        async with self._locks.hold(job_id):
            job = self._job(vendor, job_id)
            if job.behaviour == "ghost_job_404":
                raise VendorError(404, "unknown job")
            if self._settings.pace == "poll":
                job = self._jobs.step(job)
        if job.status == "failed" and self._settings.refund_on_failure:
            await self._try_refund(vendor, job)
        url = f"{base_url.rstrip('/')}/artifacts/{job_id}/{ARTIFACT_NAME}"
        answer = status_json(job, self._store.logs(job_id), url)
        refund = self._store.refund(job_id)
        if refund is not None and refund.sent:
            answer["refund"] = _refund_json(refund)
        return answer

    async def cancel(self, vendor: VendorProfile, body: dict[str, Any]) -> dict[str, Any]:
        """Answer POST /cancel-job: stop the job and refund the unused paid time, once."""
        job_id = required_text(body, "vendorJobId")
        async with self._locks.hold(job_id):
            job = self._jobs.cancel(self._job(vendor, job_id))
        if job.status == "completed":
            raise VendorError(409, "the job is completed")
        owed = _owed(job)
        if owed and self.faults.strikes("failing_refund", vendor.vendor_id, "cancel-job"):
            raise VendorError(502, "the refund failed")
        if owed and self.faults.strikes("claimed_refund", vendor.vendor_id, "cancel-job"):
            claimed = "0x" + workload.digest(f"no refund of {job_id}".encode())
            amount = owed / MICROS_PER_DOLLAR
            return {"status": "cancelled", "refund": {"amount": amount, "txHash": claimed}}
        if not owed:
            return {"status": "cancelled"}
        refund = await self._try_refund(vendor, job)
        if refund is None:
            raise VendorError(
                503,
                "cancelled; the refund is not sent yet: ask again",
                headers={"Retry-After": "1"},
            )
        return {"status": "cancelled", "refund": _refund_json(refund)}

    def artifact(self, vendor: VendorProfile, job_id: str, name: str) -> bytes:
        """Return a file of a job: its model when completed, its checkpoint at any time."""
        job = self._job(vendor, job_id)
        if name == ARTIFACT_NAME and job.status == "completed":
            return workload.artifact(workload.load(job.training))
        if name == CHECKPOINT_NAME and job.epochs_done:
            return job.training
        raise VendorError(404, "no such artifact")

    async def step_all(self) -> list[Job]:
        """Run one epoch of each running job: one beat of pace "clock". Give those that ended."""
        ended = []
        for job_id in self._store.running_jobs():
            async with self._locks.hold(job_id):
                job = self._store.job(job_id)
                if job is not None and (stepped := self._jobs.step(job)).status != "running":
                    ended.append(stepped)
        return ended

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    async def _charge(
        self,
        purchase: Purchase,
        payment_header: str | None,
        faults: PaymentFaults,
        before_first: Callable[[], None],
        call: str,
    ) -> Receipt:
        if payment_header is not None:
            return await self.billing.pay(purchase, payment_header, faults, before_first)
        before_first()
        crooked = self.faults.first(CHALLENGE_FAULTS, purchase.vendor.vendor_id, call)
        raise self.billing.challenge(purchase, fault=crooked)

    def _submit_unpaid(self, vendor: VendorProfile, quote: Quote, body: dict[str, Any]) -> Receipt:
        job = self._store.job_of_quote(quote.quote_id)
        if job is None:
            if self._clock() > quote.expires_at:
                raise VendorError(410, "this quote has expired")
            expected = "legacy_" + workload.digest(quote.quote_id.encode())[:24]
            if vendor.rail == "legacy402" and body.get("x402TxId") != expected:
                raise VendorError(402, "Payment required", headers={"x402-tx-id": expected})
            job = self._launch(vendor, quote, body, payer="")
        return Receipt({"vendorJobId": job.job_id, "status": _launch_status(job)}, "")

    def _deliver(self, payment: Payment) -> dict[str, Any]:
        body = json.loads(payment.body)
        if payment.kind == "extend":
            job = self._store.job(payment.subject)
            if job is None:
                raise VendorError(404, "unknown job")
            longer = self._jobs.extend(job, float(body["minutes"]), payment.amount)
            return {
                "vendorJobId": job.job_id,
                "paidUntil": paid_until(longer),
                "paymentTxId": payment.tx_hash,
            }
        quote = self._store.quote(payment.subject)
        if quote is None:
            raise VendorError(404, "unknown vendorJobTemplateId")
        job = self._launch(self.vendor(payment.vendor_id), quote, body, payment.payer)
        return {
            "vendorJobId": job.job_id,
            "status": _launch_status(job),
            "paymentTxId": payment.tx_hash,
        }

    def _launch(self, vendor: VendorProfile, quote: Quote, body: dict[str, Any], payer: str) -> Job:
        fault = self.faults.first(JOB_FAULTS, vendor.vendor_id, "submit-job", paying=True)
        return self._jobs.launch(quote, vendor, body, payer, fault or "")

    def _job(self, vendor: VendorProfile, job_id: str) -> Job:
        job = self._store.job(job_id)
        if job is None or job.vendor_id != vendor.vendor_id:
            raise VendorError(404, "unknown job")
        return job

    async def _try_refund(self, vendor: VendorProfile, job: Job) -> Refund | None:
        owed = _owed(job)
        if not owed:
            return None
        try:
            return await self._refunds.send(vendor, job.job_id, job.payer, owed)
        except Exception as error:  # noqa: BLE001 - kept in the store; the next call sends it
            logger.warning("refund of %s not sent yet: %r", job.job_id, error)
            return None


def _owed(job: Job) -> int:
    if not job.payer or job.status in ("running", "completed") or job.error == PAID_TIME_RAN_OUT:
        return 0
    return job.unused_amount


def _launch_status(job: Job) -> str:
    return "queued" if job.behaviour == "never_boot" else "running"


def _refund_json(refund: Refund) -> dict[str, Any]:
    return {"amount": refund.amount / MICROS_PER_DOLLAR, "txHash": refund.tx_hash}
