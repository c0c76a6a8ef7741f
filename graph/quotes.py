"""The quotes that a choice is made from: how much time each vendor is asked for, and how fresh."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from domain.jobs import JobSpec
from domain.quotes import Quote, Vendor
from domain.reliability import chances, trust
from graph.deps import Limits
from tools.market import NoQuote, ask_for_quotes
from tools.vendors.base import VendorClient

LEAST_LIFE: Final = timedelta(seconds=30)
"""A quote that ends sooner could not be paid in time, and is none."""
UNAFFORDABLE: Final = "not asked: a minute of it costs more than MAX_EXPOSURE_USD"


async def quotes_of(
    client: VendorClient, able: Sequence[Vendor], spec: JobSpec, limits: Limits, now: datetime
) -> tuple[list[Quote], list[NoQuote]]:
    """What the able vendors offer for their first slices, and why the others offer nothing."""
    wanted = {vendor: _first_slice(vendor, spec, limits, now) for vendor in able}
    quotes, without = await ask_for_quotes(
        client,
        {vendor: minutes for vendor, minutes in wanted.items() if minutes},
        spec,
        limits.quote_deadline_s,
        lasting=now + LEAST_LIFE,
        fresh_until=now + timedelta(minutes=limits.quote_fresh_minutes),
    )
    without += [NoQuote(v.vendor_id, UNAFFORDABLE) for v, minutes in wanted.items() if not minutes]
    return quotes, without


def _first_slice(vendor: Vendor, spec: JobSpec, limits: Limits, now: datetime) -> int:
    """The minutes to ask a quote for: what the vendor's record earns it, and its risk bears."""
    ahead = chances(vendor.reliability, vendor.records, spec.gpu_type, spec.hours, now)
    return limits.slices.minutes(
        spec.minutes,
        vendor.price_per_hour,
        earned=trust(vendor.records, spec.gpu_type, now),
        in_vain=ahead.in_vain,
    )
