"""Asking the market: quotes from many vendors at once, within a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from domain.errors import RenterError, VendorError
from domain.jobs import JobSpec
from domain.quotes import Quote, Vendor
from tools.vendors.base import VendorClient
from tools.wire.untrusted import clean_text

LONGEST_PROBLEM: Final = 200
PARTING_S: Final = 0.5
"""What a call that was given up has for closing its connection."""


@dataclass(frozen=True, slots=True)
class NoQuote:
    """A vendor that gave no usable quote, and why."""

    vendor_id: str
    problem: str


async def ask_for_quotes(
    client: VendorClient,
    wanted: Mapping[Vendor, int],
    spec: JobSpec,
    deadline_s: float,
    *,
    lasting: datetime | None = None,
    fresh_until: datetime | None = None,
) -> tuple[list[Quote], list[NoQuote]]:
    """Quotes from all vendors at once, in their order; a slow one delays nobody.

    wanted: the minutes to ask each for. deadline_s: seconds after which the silent are left out.
    lasting: until when a quote has to hold at least. fresh_until: when it counts as expired at the
    latest, whatever its vendor says.
    """
    asked = {
        asyncio.create_task(client.quote(vendor, spec, minutes)): vendor
        for vendor, minutes in wanted.items()
    }
    if not asked:
        return [], []
    try:
        _, late = await asyncio.wait(asked, timeout=deadline_s)
    finally:
        for task in asked:
            task.cancel()
    for task in late:
        task.add_done_callback(_forget)
    if late:
        await asyncio.wait(late, timeout=PARTING_S)
    quotes: list[Quote] = []
    without: list[NoQuote] = []
    for task, vendor in asked.items():
        if task in late:
            without.append(NoQuote(vendor.vendor_id, f"no quote within {deadline_s:g} s"))
            continue
        try:
            quote = task.result()
        except RenterError as error:
            problem = error.problem if isinstance(error, VendorError) else error.message
            words = f"{problem}. {error.remedy}" if error.remedy else problem
            without.append(NoQuote(vendor.vendor_id, clean_text(words, LONGEST_PROBLEM)))
            continue
        if lasting is not None and quote.expired(lasting):
            without.append(NoQuote(vendor.vendor_id, "its offer ends too soon to be paid"))
        else:
            quotes.append(_bounded(quote, fresh_until))
    return quotes, without


def _forget(task: asyncio.Task[Quote]) -> None:
    """Take note of how a call ended that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


def _bounded(quote: Quote, fresh_until: datetime | None) -> Quote:
    if fresh_until is None or (quote.expires_at is not None and quote.expires_at <= fresh_until):
        return quote
    return replace(quote, expires_at=fresh_until)
