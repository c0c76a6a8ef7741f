"""The two vendors of the recovery demo, as the mock vendor serves them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from domain.money import Usd
from domain.quotes import Vendor
from domain.vendor_secrets import GPU_VENDOR_SECRET
from ledger.vendors import Vendors
from mock_vendor.vendor.settings import seeded_vendors
from server.config.settings import Settings

RELIABILITY: Final = {"gpu_vendor_1": 0.9, "gpu_vendor_2": 0.95}


def local_vendors(settings: Settings) -> list[Vendor]:
    """FastGPU and ReliableGPU at the local mock vendor's address."""
    return [
        Vendor(
            vendor_id=profile.vendor_id,
            name=profile.name,
            endpoint=settings.local_vendor_url,
            price_per_hour=Usd.parse(profile.price_per_hour),
            reliability=RELIABILITY[profile.vendor_id],
            gpu_types=profile.gpu_types,
            pay_to=profile.pay_to,
            secret_env=GPU_VENDOR_SECRET,
        )
        for profile in seeded_vendors(Decimal(str(settings.base_price_per_hour)))
    ]


async def seed(
    vendors: Vendors, settings: Settings, now: datetime, endpoint: str | None = None
) -> list[Vendor]:
    """Register them, or put them back as they were. Returns them.

    endpoint: where the mock vendor answers, instead of this machine's VENDOR_PORT.
    """
    seeded = local_vendors(settings)
    if endpoint is not None:
        seeded = [replace(vendor, endpoint=endpoint) for vendor in seeded]
    for vendor in seeded:
        await vendors.put(vendor, now)
    return seeded


async def seed_local(vendors: Vendors, settings: Settings, now: datetime) -> list[Vendor]:
    """Seed an empty registry; else let the seeded vendors follow the mock vendor to its address.

    A vendor that a person registered is never touched: only an entry that is still paid at the
    development account of its id counts as seeded. Returns what was written.
    """
    registered = {vendor.vendor_id: vendor for vendor in await vendors.all()}
    if not registered:
        return await seed(vendors, settings, now)
    moved = [
        vendor
        for vendor in local_vendors(settings)
        if (known := registered.get(vendor.vendor_id))
        and known.pay_to == vendor.pay_to
        and known.endpoint != vendor.endpoint
    ]
    for vendor in moved:
        await vendors.put(vendor, now)
    return moved
