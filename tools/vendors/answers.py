"""From a vendor's JSON to our values. Every function raises Unreadable for what does not fit.

Only what the agent goes by is read: nonsense in any other field costs no running job.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeGuard

from domain.jobs import JobSpec, JobStatus
from domain.money import MICROS_PER_DOLLAR, Usd
from domain.quotes import Quote
from tools.vendors.base import (
    Accepted,
    CancelReport,
    ClaimedRefund,
    Extended,
    JobReport,
    Primitive,
)
from tools.vendors.fields import Fields
from tools.wire.untrusted import Unreadable, clean_text, is_plain_id, parse_object

HIGHEST_QUOTE: Final = Usd(1_000_000 * MICROS_PER_DOLLAR)
LONGEST_MINUTES: Final = 60 * 24 * 366
MOST_LOG_LINES: Final = 5_000
LONGEST_LOG_LINE: Final = 500
LONGEST_ERROR: Final = 500
LONGEST_URL: Final = 2_000
MOST_METRICS: Final = 64
LONGEST_METRIC: Final = 200
PROGRESS_SLACK: Final = 0.001
"""How far outside 0..1 rounding may put a progress before it counts as nonsense."""

_TX_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)
_LARGEST_INTEGER: Final = 2**63 - 1


def quote(fields: Fields, vendor_id: str, spec: JobSpec, minutes: int) -> Quote:
    """The offer in an answer to `POST /quote`."""
    if fields.data.get("currency") != "USD":
        raise Unreadable("currency is not USD")
    price = fields.money("priceEstimate")
    if price is None:
        raise Unreadable("priceEstimate is missing")
    if not price:
        raise Unreadable("priceEstimate is zero")
    if price > HIGHEST_QUOTE:
        raise Unreadable(f"priceEstimate {price} is absurd")
    eta_minutes = fields.number("etaMinutes", low=0, high=LONGEST_MINUTES)
    if eta_minutes is None:
        raise Unreadable("etaMinutes is missing")
    return Quote(
        vendor_id=vendor_id,
        template_id=fields.identifier("vendorJobTemplateId"),
        gpu_type=spec.gpu_type,
        minutes=minutes,
        price=price,
        eta_minutes=eta_minutes,
        expires_at=fields.time("expiresAt"),
    )


def accepted(fields: Fields, payment_response: str | None) -> Accepted:
    """The job in a 2xx answer to `POST /submit-job`."""
    return Accepted(
        vendor_job_id=fields.identifier("vendorJobId"),
        status=fields.choice("status", JobStatus),
        claimed_tx_id=_claimed_tx(fields, payment_response),
    )


def extended(fields: Fields, vendor_job_id: str, payment_response: str | None) -> Extended:
    """The extension in a 2xx answer to `POST /extend-job`, which must be of the job asked for."""
    if fields.identifier("vendorJobId") != vendor_job_id:
        raise Unreadable("vendorJobId is not the job asked for")
    return Extended(
        vendor_job_id=vendor_job_id,
        claimed_tx_id=_claimed_tx(fields, payment_response),
    )


def job_report(fields: Fields) -> JobReport:
    """The report in an answer to `GET /job-status`."""
    progress = fields.number("progress", low=-PROGRESS_SLACK, high=1 + PROGRESS_SLACK)
    if progress is None:
        raise Unreadable("progress is missing")
    return JobReport(
        status=fields.choice("status", JobStatus),
        progress=min(max(progress, 0.0), 1.0),
        logs=fields.lines("logs", most=MOST_LOG_LINES, longest=LONGEST_LOG_LINE),
        final_metrics=_metrics(fields.object("finalMetrics")),
        artifact_url=_url(fields),
        error_message=fields.text("errorMessage", LONGEST_ERROR),
        used_minutes=_minutes(fields, "usedMinutes"),
        refund=_refund(fields),
    )


def cancel_report(fields: Fields) -> CancelReport:
    """The outcome in an answer to `POST /cancel-job`."""
    return CancelReport(status=fields.choice("status", JobStatus), refund=_refund(fields))


def settled_tx(payment_response: str | None) -> str | None:
    """The transaction that a `PAYMENT-RESPONSE` header claims, or None. Never raises."""
    if not payment_response or len(payment_response) > 16_384:
        return None
    try:
        claim = parse_object(base64.b64decode(payment_response.encode("ascii"), validate=True))
    except (Unreadable, UnicodeEncodeError, binascii.Error):
        return None
    transaction = claim.get("transaction")
    if isinstance(transaction, str) and _TX_HASH.fullmatch(transaction):
        return transaction.lower()
    return None


def _claimed_tx(fields: Fields, payment_response: str | None) -> str | None:
    claimed = fields.data.get("paymentTxId")
    fallback = claimed if isinstance(claimed, str) and is_plain_id(claimed) else None
    return settled_tx(payment_response) or fallback


def _minutes(fields: Fields, name: str) -> float | None:
    return fields.number(name, low=0, high=LONGEST_MINUTES)


def _url(fields: Fields) -> str | None:
    value = fields.data.get("artifactUrl")
    if value is None:
        return None
    if not isinstance(value, str) or not is_plain_id(value, LONGEST_URL):
        raise Unreadable("artifactUrl is not a URL")
    if fields.repeats_a_secret(value):
        raise Unreadable("artifactUrl repeats our secret")
    return value


def _refund(fields: Fields) -> ClaimedRefund | None:
    refund = fields.object("refund")
    if refund is None:
        return None
    amount = refund.money("amount")
    if amount is None:
        raise Unreadable("refund.amount is missing")
    return ClaimedRefund(amount=amount, tx_hash=refund.identifier("txHash"))


def _metrics(fields: Fields | None) -> Mapping[str, Primitive]:
    """The numbers, texts and truth values among the first metrics; what is nested is left out."""
    metrics: dict[str, Primitive] = {}
    if fields is not None:
        for name, value in list(fields.data.items())[:MOST_METRICS]:
            key = clean_text(name, LONGEST_METRIC, fields.secrets)
            if isinstance(value, str):
                metrics[key] = clean_text(value, LONGEST_METRIC, fields.secrets)
            elif value is None or isinstance(value, bool | float) or _is_storable(value):
                metrics[key] = value
    return MappingProxyType(metrics)


def _is_storable(value: object) -> TypeGuard[int]:
    """Whether MongoDB can hold this integer."""
    return isinstance(value, int) and abs(value) <= _LARGEST_INTEGER
