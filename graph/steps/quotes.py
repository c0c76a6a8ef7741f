"""The quotes that a choice is made from: how much time each vendor is asked for, and how fresh."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from domain.jobs import MINUTES_PER_HOUR, JobSpec
from domain.quotes import Quote, Vendor
from domain.reasons import Reason, ReasonCode
from domain.reliability import chances, trust
from graph.deps import Limits
from tools.market import NoQuote, ask_for_quotes
from tools.vendors.base import VendorClient

LEAST_LIFE: Final = timedelta(seconds=30)
"""A quote that ends sooner counts as none: it could not be paid in time."""
LIMIT: Final = "MAX_EXPOSURE_USD"
MOST_TYPES_ASKED: Final = 4
"""How many of the GPU types that will do one vendor is asked for."""


async def quotes_of(
    client: VendorClient, able: Sequence[Vendor], spec: JobSpec, limits: Limits, now: datetime
) -> tuple[list[Quote], list[NoQuote]]:
    """What the able vendors offer for their first slices, and why the others offer nothing.

    A vendor that has several suitable types is asked for each, and its cheapest offer counts. An
    offer above the goal's hourly price counts as none. Registered prices only guide: a vendor whose
    offer is above MAX_EXPOSURE_USD is asked once more, for less time.
    """
    by_type: dict[str, list[Vendor]] = {}
    for vendor in able:
        for gpu in vendor.types_for(spec)[:MOST_TYPES_ASKED]:
            by_type.setdefault(gpu, []).append(vendor)
    answers = await asyncio.gather(
        *(
            _quotes_of_type(client, vendors, replace(spec, gpu_type=gpu, gpu_types=()), limits, now)
            for gpu, vendors in by_type.items()
        )
    )
    best: dict[str, Quote] = {}
    without: dict[str, NoQuote] = {}
    for quotes, none in answers:
        for quote in quotes:
            known = best.get(quote.vendor_id)
            if known is None or _dearer(known, quote):
                best[quote.vendor_id] = quote
        without |= {n.vendor_id: n for n in none if n.vendor_id not in without}
    for vendor_id, quote in list(best.items()):
        hour = quote.price.scaled(MINUTES_PER_HOUR, quote.minutes)
        if spec.max_hourly is not None and hour > spec.max_hourly:
            why = f"it asks for {hour} an hour, above the {spec.max_hourly} that the goal allows"
            without[vendor_id] = NoQuote(vendor_id, why)
            del best[vendor_id]
    offered = [best[v.vendor_id] for v in able if v.vendor_id in best]
    return offered, [n for vendor_id, n in without.items() if vendor_id not in best]


def _dearer(one: Quote, other: Quote) -> bool:
    """Whether a minute of one quote costs more than a minute of the other."""
    return one.price.micros * other.minutes > other.price.micros * one.minutes


async def _quotes_of_type(
    client: VendorClient, able: Sequence[Vendor], spec: JobSpec, limits: Limits, now: datetime
) -> tuple[list[Quote], list[NoQuote]]:
    """The same for the one type of `spec`."""

    async def ask(wanted: Mapping[Vendor, int]) -> tuple[list[Quote], list[NoQuote]]:
        quotes, without = await ask_for_quotes(
            client,
            {vendor: minutes for vendor, minutes in wanted.items() if minutes},
            spec,
            limits.quote_deadline_s,
            lasting=now + LEAST_LIFE,
            fresh_until=now + timedelta(minutes=limits.quote_fresh_minutes),
        )
        dear = Reason.of(ReasonCode.MINUTE_DEAR, limit=LIMIT)
        none = [NoQuote(v.vendor_id, dear) for v, minutes in wanted.items() if not minutes]
        return quotes, without + none

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
        dear = Reason.of(ReasonCode.DEAR, limit=LIMIT)
        without += none + [NoQuote(q.vendor_id, dear) for q in again if q.price > exposure]
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
