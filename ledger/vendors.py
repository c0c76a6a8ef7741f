"""The vendor registry: who may be dealt with, where, at which address they are paid, and what
their jobs came to.

Documents have the seed's shape (CONTRIBUTING.md), so that they can be inserted by hand;
`basePricePerHour` is in dollars there, a list price to compare by and never an amount to pay.

What jobs came to is kept beside it, and survives runs and registering again: `record`, plain
counts; `outcomes<half-life>d`, faded sums by GPU type; `blocks`, by kind of trouble; `booked`, the
newest ends that are in them. A vendor's document does not grow with its jobs. The sums' meaning
hangs on the half-life, so it is in their name: another half-life begins new sums.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic.alias_generators import to_camel

from domain.errors import ConfigError, InvalidInput, NotFound
from domain.mapping import Unfit
from domain.quotes import Vendor
from domain.reliability import (
    HALF_LIFE_DAYS,
    Block,
    Outcome,
    Trouble,
    block_for,
    outcome_of,
    weight,
)
from domain.vendor_secrets import GPU_VENDOR_SECRET, SEEDED_VENDORS
from ledger.store import Document, Store

COLLECTION: Final = "vendors"
OUTCOMES: Final = f"outcomes{HALF_LIFE_DAYS}d"
SECRET_ENV: Final = "secretEnv"
"""The name of an environment variable, or null. Never a value."""
BOOKED_KEPT: Final = 100
"""How many ends a vendor's document remembers, so that none is counted twice."""


@dataclass(frozen=True, slots=True)
class End:
    """How a purchase from a vendor ended."""

    key: str
    """The job's id, or what else names it: an end is counted once."""
    gpu_type: str
    trouble: Trouble | None = None
    """None: the job completed."""
    worked_minutes: float = 0.0
    """The work that was done, in minutes at the expected pace."""
    taken_minutes: float = 0.0
    """What it took, where the job completed."""


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

    async def without_secret_env(self) -> list[str]:
        """The ids of the vendors whose entries do not say which secret they get."""
        found = await self.documents.find({SECRET_ENV: {"$exists": False}}, sort=[("vendorId", 1)])
        ids = [str(document.get("vendorId")) for document in found]
        return [id_ for id_ in ids if id_ not in SEEDED_VENDORS]

    async def put(self, vendor: Vendor, now: datetime) -> None:
        """Register a vendor, or change what is registered under its id, whoever put it there."""
        found = await self.documents.find({"vendorId": vendor.vendor_id}, limit=1)
        await self.documents.put(
            found[0]["_id"] if found else vendor.vendor_id,
            vendor.document() | {"updatedAt": now},
            {"createdAt": now},
        )

    async def record(self, vendor_id: str, end: End, now: datetime) -> bool:
        """Count an end in the vendor's record; if it was trouble, block the vendor for a while.

        Idempotent: a repeated end is not counted again while it is among the vendor's BOOKED_KEPT
        newest. False when it was counted before, or the vendor is unknown.
        """
        found = await self.documents.find({"vendorId": vendor_id}, limit=1)
        if not found:
            return False
        before = _blocks(found[0])
        update: dict[str, dict[str, Any]] = {
            "$inc": _increments(end, now),
            "$push": {"booked": {"$each": [end.key], "$slice": -BOOKED_KEPT}},
            "$set": {f"{OUTCOMES}.{_slug(end.gpu_type)}.gpuType": end.gpu_type[:64]},
        }
        if end.trouble is not None:
            last = next((block for block in before if block.trouble is end.trouble), None)
            at = f"blocks.{end.trouble.value}"
            update["$inc"][f"{at}.times"] = weight(now)
            update["$max"] = {f"{at}.until": block_for(end.trouble, last, now).until}
        guard = {"booked": {"$ne": end.key}}
        return await self.documents.change(found[0]["_id"], guard, update)

    async def remove(self, vendor_id: str) -> None:
        """Raises NotFound."""
        found = await self.documents.find({"vendorId": vendor_id}, limit=1)
        if not found or not await self.documents.delete(found[0]["_id"]):
            raise NotFound(f"There is no vendor {vendor_id[:64]!r}", "See: gpu-renter vendors list")


def _vendor(document: Document) -> Vendor:
    try:
        jobs = document.get("record", {})
        record = {
            "completed": jobs.get("completed", 0),
            "failed": jobs.get("failed", 0),
            "records": [sums for _, sums in sorted(document.get(OUTCOMES, {}).items())],
            "blocks": _blocks(document),
        }
        return Vendor.of({**document, **record, SECRET_ENV: _secret_env(document)})
    except Unfit as error:
        raise _unusable(document, error.field, error.problem) from error
    except (InvalidInput, TypeError, AttributeError) as error:
        field = error.field if isinstance(error, InvalidInput) else "a field"
        raise _unusable(document, field, "it is not of the right kind") from error


def _secret_env(document: Document) -> str | None:
    """The variable that the entry names. One that an earlier version, or a person, stored without
    a name gets none, unless it is a seeded vendor's.
    """
    if SECRET_ENV in document:
        named = document[SECRET_ENV]
        return named if named is None else str(named)
    return GPU_VENDOR_SECRET if document.get("vendorId") in SEEDED_VENDORS else None


def _increments(end: End, now: datetime) -> dict[str, float]:
    """What an end adds to the counts and sums; `$inc` takes them in any order."""
    outcome, sums = outcome_of(end.trouble), f"{OUTCOMES}.{_slug(end.gpu_type)}"
    if outcome is None:
        return {}
    completed = outcome is Outcome.COMPLETED
    added = {outcome.value: 1.0}
    added["done_minutes" if completed else "lost_minutes"] = end.worked_minutes
    if completed:
        added["taken_minutes"] = end.taken_minutes
    counted: dict[str, float] = {f"record.{'completed' if completed else 'failed'}": 1}
    return counted | {f"{sums}.{to_camel(n)}": weight(now) * value for n, value in added.items()}


def _blocks(document: Document) -> list[Block]:
    stored: Mapping[str, Document] = document.get("blocks", {})
    return [Block.of({"trouble": kind, **block}) for kind, block in sorted(stored.items())]


def _slug(gpu_type: str) -> str:
    """A GPU type as a field's name."""
    return re.sub(r"[^a-z0-9]+", "_", gpu_type.casefold())[:32]


def _unusable(document: Document, field: str, problem: str) -> ConfigError:
    return ConfigError(
        f"vendors.{field}",
        f"{problem}, in the registry's entry of {str(document.get('vendorId'))[:64]!r}",
        "Mend it with gpu-renter vendors add --replace",
    )
