"""Asking the market: quotes from many vendors at once, within a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from domain.errors import VendorError
from domain.jobs import JobSpec
from domain.quotes import Quote, Vendor
from tools.vendors.base import VendorClient


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
) -> tuple[list[Quote], list[NoQuote]]:
    """Quotes from all vendors at once, in their order; a slow one delays nobody.

    wanted: the minutes to ask each for. deadline_s: seconds after which the silent are left out.
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
    await asyncio.gather(*late, return_exceptions=True)
    quotes: list[Quote] = []
    without: list[NoQuote] = []
    for task, vendor in asked.items():
        if task in late:
            without.append(NoQuote(vendor.vendor_id, f"no quote within {deadline_s:g} s"))
            continue
        try:
            quotes.append(task.result())
        except VendorError as error:
            without.append(NoQuote(vendor.vendor_id, str(error)))
    return quotes, without
