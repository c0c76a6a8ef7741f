"""What the vendor remembers: quotes, payments, jobs and refunds, as frozen values."""

from dataclasses import dataclass, field
from typing import Any, Literal

PaymentState = Literal["held", "settling", "done", "refused"]
PaymentKind = Literal["job", "extend"]
JobStatus = Literal["running", "completed", "failed", "cancelled"]


@dataclass(frozen=True)
class Quote:
    """A price promised until `expires_at` (s). `amount` in micro-dollars for `hours` of all
    `gpu_count` GPUs."""

    quote_id: str
    vendor_id: str
    job_type: str
    gpu_type: str
    hours: float
    amount: int
    expires_at: float
    gpu_count: int = 1


@dataclass(frozen=True)
class Payment:
    """One payment identifier's fate at one vendor.

    held: taken, never sent on (a fault). settling: may have settled; ask the facilitator again.
    done: settled and delivered; `answer` is what the payer got. refused: final, nothing settled.
    """

    vendor_id: str
    payment_id: str
    kind: PaymentKind
    subject: str
    """The quote or the job paid for."""
    body: str
    """The request's body, canonical."""
    header: str
    """The PAYMENT-SIGNATURE as received."""
    requirements: str
    """What was asked for, as x402 JSON."""
    payer: str
    nonce: str
    signature: str
    amount: int
    state: PaymentState
    tx_hash: str = ""
    reason: str = ""
    answer: str = ""
    response_header: str = ""


@dataclass(frozen=True)
class Job:
    """A job. Minutes are job minutes: an epoch uses `total_minutes / epochs` of them."""

    job_id: str
    vendor_id: str
    quote_id: str
    payer: str
    """Who paid over x402 and gets refunds; empty when billed elsewhere."""
    status: JobStatus
    created_at: float
    price_per_hour: int
    """Of all its GPUs, in micro-dollars, as it was quoted: more time costs the same."""
    paid_amount: int
    """All that was paid for it, in micro-dollars."""
    paid_minutes: float
    total_minutes: float
    epochs: int
    training: bytes
    epochs_done: int = 0
    fail_after: int | None = None
    """Dies once this many epochs are done; None: it doesn't."""
    behaviour: str = ""
    """The fault that rules this job, if any."""
    polls: int = 0
    """Polls so far of a job ruled by a fault."""
    paused_polls: int = 0
    paused_since: float | None = None
    error: str = ""
    callback_url: str = ""
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def used_minutes(self) -> float:
        """The paid time used so far; all of it while the job stands still for want of more."""
        if self.paused_since is not None:
            return self.paid_minutes
        return self.trained_minutes

    @property
    def trained_minutes(self) -> float:
        """The job minutes of the epochs that are done."""
        return self.total_minutes * self.epochs_done / self.epochs

    @property
    def unused_amount(self) -> int:
        """The part of what was paid that pays for unused minutes, rounded down."""
        unused = max(0.0, self.paid_minutes - self.trained_minutes)
        return int(self.paid_amount * unused / self.paid_minutes + 1e-6)


@dataclass(frozen=True)
class Refund:
    """Money to go back for a job. `raw` is the signed transaction, once there is one."""

    job_id: str
    vendor_id: str
    to: str
    amount: int
    raw: str = ""
    tx_hash: str = ""
    sent: bool = False
