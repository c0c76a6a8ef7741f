"""The vendor registry: who may be dealt with, where, and at which address they are paid.

Documents have the seed's shape, so that they can be inserted by hand; `basePricePerHour` is in
dollars there, a list price to compare by and never an amount to pay.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from domain.errors import ConfigError, InvalidInput, NotFound
from domain.money import Usd
from domain.quotes import Vendor
from ledger.store import Document, Store

COLLECTION: Final = "vendors"


class Vendors:
    def __init__(self, store: Store) -> None:
        self.documents = store.documents(COLLECTION)

    async def all(self) -> list[Vendor]:
        """Every registered vendor. Raises ConfigError naming a field that is not usable."""
        found = await self.documents.find({}, sort=[("vendorId", 1)])
        return [_vendor(document) for document in found]

    async def get(self, vendor_id: str) -> Vendor:
        """Raises NotFound."""
        found = await self.documents.find({"vendorId": vendor_id}, limit=1)
        if not found:
            raise NotFound(f"There is no vendor {vendor_id[:64]!r}", "See: gpu-renter vendors list")
        return _vendor(found[0])

    async def put(self, vendor: Vendor, now: datetime) -> None:
        """Register a vendor, or change what is registered under its id."""
        await self.documents.put(
            vendor.vendor_id,
            {
                "vendorId": vendor.vendor_id,
                "name": vendor.name,
                "endpoint": vendor.endpoint,
                "basePricePerHour": vendor.price_per_hour.dollars(),
                "reliabilityScore": vendor.reliability,
                "supportedGpuTypes": list(vendor.gpu_types),
                "payTo": vendor.pay_to,
                "updatedAt": now,
            },
            {"createdAt": now},
        )

    async def record(self, vendor_id: str, *, completed: bool) -> None:
        """Count one more job that the vendor completed, or failed. Unknown vendors have no record.

        The caller sees to it that a job is counted once.
        """
        found = await self.documents.find({"vendorId": vendor_id}, limit=1)
        if found:
            outcome = "completed" if completed else "failed"
            await self.documents.change(found[0]["_id"], {}, {"$inc": {f"record.{outcome}": 1}})

    async def remove(self, vendor_id: str) -> None:
        """Raises NotFound."""
        found = await self.documents.find({"vendorId": vendor_id}, limit=1)
        if not found or not await self.documents.delete(found[0]["_id"]):
            raise NotFound(f"There is no vendor {vendor_id[:64]!r}", "See: gpu-renter vendors list")


def _vendor(document: Document) -> Vendor:
    try:
        return Vendor(
            vendor_id=str(document["vendorId"]),
            name=str(document["name"]),
            endpoint=str(document["endpoint"]).rstrip("/"),
            price_per_hour=Usd.parse(document["basePricePerHour"], "basePricePerHour"),
            reliability=float(document["reliabilityScore"]),
            gpu_types=tuple(str(gpu) for gpu in document["supportedGpuTypes"]),
            pay_to=document.get("payTo"),
            completed=document.get("record", {}).get("completed", 0),
            failed=document.get("record", {}).get("failed", 0),
        )
    except KeyError as error:
        raise _unusable(document, str(error.args[0]), "it is missing") from error
    except (TypeError, ValueError, AttributeError, InvalidInput) as error:
        field = error.field if isinstance(error, InvalidInput) else "a field"
        raise _unusable(document, field, "it is not of the right kind") from error


def _unusable(document: Document, field: str, problem: str) -> ConfigError:
    return ConfigError(
        f"vendors.{field}",
        f"{problem}, in the registry's entry of {str(document.get('vendorId'))[:64]!r}",
        "Mend it with gpu-renter vendors add --replace",
    )
