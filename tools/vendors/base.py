"""What the agent can ask of a vendor, and what it hears back.

The protocol is what `mock_vendor/vendor/` serves. Every text field is a vendor's word: bounded,
stripped of control characters, to be stored and shown but never followed. Amounts and
transaction hashes in answers are claims until the chain confirms them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Protocol

from pydantic import Field

from domain.errors import InvalidInput
from domain.jobs import JobSpec, JobStatus
from domain.mapping import Mapped
from domain.quotes import Quote, Vendor, VendorAddress
from tools.payments.challenge import Challenge
from tools.vendors.fields import (
    Amount,
    ClaimedId,
    ErrorText,
    Identifier,
    Log,
    Metrics,
    Minutes,
    Progress,
    Url,
)

PAYMENT_HEADERS: Final = ("PAYMENT-SIGNATURE", "X-PAYMENT")


@dataclass(frozen=True, slots=True)
class PaymentHeader:
    """A persisted payment as it goes over the wire: the header's name and its exact value."""

    name: str
    value: str = field(repr=False)

    def __post_init__(self) -> None:
        if self.name not in PAYMENT_HEADERS:
            raise InvalidInput("payment header", f"{self.name!r} is none of {PAYMENT_HEADERS}")
        if not self.value.isascii() or not self.value.isprintable():
            raise InvalidInput("payment header", "its value is not printable ASCII")


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What a launch submits: the quoted template and the job's own parameters (JSON values)."""

    template_id: str
    job_params: Mapping[str, object]
    callback_url: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted(Mapped):
    """The vendor took the job."""

    vendor_job_id: Identifier
    status: JobStatus
    claimed_tx_id: Annotated[ClaimedId, Field(alias="paymentTxId")] = None
    """The transaction the vendor says was settled. Believe it only after asking the chain."""


@dataclass(frozen=True, slots=True)
class Extended(Mapped):
    """The vendor prolonged the job."""

    vendor_job_id: Identifier
    claimed_tx_id: Annotated[ClaimedId, Field(alias="paymentTxId")] = None


@dataclass(frozen=True, slots=True)
class PaymentRequired402:
    """The vendor answered 402. After a payment was sent, this proves nothing about the payment."""

    challenge: Challenge | None
    """None when the answer is no x402 challenge: the vendor is billed outside x402."""
    legacy_tx_id: str | None
    """The `x402-tx-id` header of such a vendor, expected back as `x402TxId`."""
    reason: str


@dataclass(frozen=True, slots=True)
class ClaimedRefund(Mapped):
    """A refund the vendor says it made."""

    amount: Amount
    tx_hash: Identifier


@dataclass(frozen=True, slots=True)
class JobReport(Mapped):
    """One answer to a status poll."""

    status: JobStatus
    progress: Progress
    """0 to 1."""
    logs: Log
    """All lines so far, from the first."""
    final_metrics: Metrics = field(default_factory=dict)
    artifact_url: Url | None = None
    error_message: ErrorText | None = None
    used_minutes: Minutes | None = None
    refund: ClaimedRefund | None = None


@dataclass(frozen=True, slots=True)
class CancelReport(Mapped):
    """The answer to a cancellation."""

    status: JobStatus
    refund: ClaimedRefund | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A downloaded file."""

    path: Path
    sha256: str
    """64 hex digits, of the bytes on disk."""
    size: int
    """Bytes."""


class VendorClient(Protocol):
    """The calls of the vendor protocol.

    Every call may raise VendorUnreachable or VendorBroken (what the vendor did is unknown),
    VendorUnauthorized, VendorRefused (another 4xx) and VendorGarbage. After a call that carried a
    payment, none of them says whether the payment settled; only the chain does.
    """

    async def quote(self, vendor: Vendor, spec: JobSpec, minutes: int) -> Quote:
        """The vendor's binding price for `minutes` of `spec.gpu_type`. Idempotent."""

    async def submit_job(
        self,
        vendor: Vendor,
        order: JobOrder,
        *,
        payment: PaymentHeader | None = None,
        legacy_tx_id: str | None = None,
    ) -> Accepted | PaymentRequired402:
        """Submit once, never retried in here. With the same payment, idempotent at the vendor."""

    async def extend_job(
        self,
        vendor: Vendor,
        vendor_job_id: str,
        minutes: int,
        *,
        payment: PaymentHeader | None = None,
    ) -> Extended | PaymentRequired402:
        """Prolong once, never retried in here. With the same payment, idempotent at the vendor."""

    async def job_status(self, vendor: VendorAddress, vendor_job_id: str) -> JobReport:
        """Where the job stands. Idempotent."""

    async def cancel_job(self, vendor: VendorAddress, vendor_job_id: str) -> CancelReport:
        """End the job. Idempotent at the vendor; sent once."""

    async def download(
        self, vendor: VendorAddress, artifact_url: str, vendor_job_id: str, folder: Path
    ) -> Artifact:
        """Fetch the artifact into `folder`; again replaces the same file. Idempotent."""
