"""The quotes that a choice is made from: how much time each vendor is asked for, and how fresh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
TOO_DEAR: Final = "it asks for more than MAX_EXPOSURE_USD, however little time it is asked for"
UNAFFORDABLE: Final = "not asked: a minute of it costs more than MAX_EXPOSURE_USD"


async def quotes_of(
    client: VendorClient, able: Sequence[Vendor], spec: JobSpec, limits: Limits, now: datetime
) -> tuple[list[Quote], list[NoQuote]]:
    """What the able vendors offer for their first slices, and why the others offer nothing.

    List prices only guide: whose offer is above MAX_EXPOSURE_USD is asked for less time, once.
    """

    async def ask(wanted: Mapping[Vendor, int]) -> tuple[list[Quote], list[NoQuote]]:
        quotes, without = await ask_for_quotes(
            client,
            {vendor: minutes for vendor, minutes in wanted.items() if minutes},
            spec,
            limits.quote_deadline_s,
            lasting=now + LEAST_LIFE,
            fresh_until=now + timedelta(minutes=limits.quote_fresh_minutes),
        )
        none = [v.vendor_id for v, minutes in wanted.items() if not minutes]
        return quotes, without + [NoQuote(vendor_id, UNAFFORDABLE) for vendor_id in none]

    exposure = limits.slices.exposure
    quotes, without = await ask({v: _first_slice(v, spec, limits, now) for v in able})
    over = {q.vendor_id: q for q in quotes if q.price > exposure}
    if over:
        less = {
            v: over[v.vendor_id].minutes * exposure.micros // over[v.vendor_id].price.micros
            for v in able
            if v.vendor_id in over
        }
        again, none = await ask(less)
        without += none + [NoQuote(q.vendor_id, TOO_DEAR) for q in again if q.price > exposure]
        quotes = [q for q in quotes + again if q.price <= exposure]
    return quotes, without


def _first_slice(vendor: Vendor, spec: JobSpec, limits: Limits, now: datetime) -> int:
    """The minutes to ask a quote for: what the vendor's record earns it, and its risk bears."""
    ahead = chances(vendor.reliability, vendor.records, spec.gpu_type, spec.hours, now)
    return limits.slices.minutes(
        spec.minutes,
        vendor.price_per_hour.scaled(spec.gpu_count, 1),
        earned=trust(vendor.records, spec.gpu_type, now),
        in_vain=ahead.in_vain,
    )
