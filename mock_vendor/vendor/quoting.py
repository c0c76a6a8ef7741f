"""What things cost: quotes for hours, and the price of more minutes."""

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from mock_vendor.accounts import MICROS_PER_DOLLAR
from mock_vendor.vendor.incoming import required_text
from mock_vendor.vendor.jobs import is_positive
from mock_vendor.vendor.problems import VendorError
from mock_vendor.vendor.records import Quote
from mock_vendor.vendor.settings import VendorProfile

MAX_HOURS: Final = 24 * 365
MAX_GPUS: Final = 1_000
_MICROS_PER_CENT: Final = MICROS_PER_DOLLAR // 100


def make_quote(
    vendor: VendorProfile, body: dict[str, Any], quote_id: str, expires_at: float
) -> Quote:
    """Price a POST /quote: `round(price * GPUs * maxHours, 2)`, a cent at least.

    `jobMetadata.gpuCount` says how many GPUs; without it, it is one.
    Raises VendorError (400) for a field that is missing or wrong.
    """
    job_type, gpu_type = required_text(body, "jobType"), required_text(body, "gpuType")
    hours = body.get("maxHours")
    if hours is None:
        raise VendorError(400, "maxHours is required")
    if not is_positive(hours) or hours > MAX_HOURS:
        raise VendorError(400, f"maxHours must be a number above 0, at most {MAX_HOURS}")
    if gpu_type not in vendor.gpu_types:
        raise VendorError(400, f"gpuType {gpu_type} is not offered")
    gpu_count = _gpu_count(body.get("jobMetadata"))
    dollars = Decimal(str(round(float(vendor.price_per_hour) * gpu_count * hours, 2)))
    return Quote(
        quote_id=quote_id,
        vendor_id=vendor.vendor_id,
        job_type=job_type,
        gpu_type=gpu_type,
        hours=float(hours),
        amount=max(_MICROS_PER_CENT, int(dollars * MICROS_PER_DOLLAR)),
        expires_at=expires_at,
        gpu_count=gpu_count,
    )


def _gpu_count(metadata: Any) -> int:
    count = metadata.get("gpuCount", 1) if isinstance(metadata, dict) else 1
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_GPUS:
        raise VendorError(400, f"jobMetadata.gpuCount must be 1 to {MAX_GPUS}")
    return count


def quote_json(quote: Quote) -> dict[str, Any]:
    """Render the answer of POST /quote."""
    until = datetime.fromtimestamp(quote.expires_at, UTC).isoformat(timespec="seconds")
    return {
        "vendorJobTemplateId": quote.quote_id,
        "priceEstimate": quote.amount / MICROS_PER_DOLLAR,
        "currency": "USD",
        "etaMinutes": math.ceil(quote.hours * 60),
        "expiresAt": until.replace("+00:00", "Z"),
    }


def extension_price(price_per_hour: int, minutes: float) -> int:
    """Return the price of more minutes at so many micro-dollars an hour, rounded up to a cent."""
    cents = math.ceil(price_per_hour * Decimal(str(minutes)) / (60 * _MICROS_PER_CENT))
    return cents * _MICROS_PER_CENT
