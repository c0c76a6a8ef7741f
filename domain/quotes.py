"""Vendors as registered, and the offers they make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Protocol

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from domain.jobs import ANY_GPU, MINUTES_PER_HOUR, JobSpec
from domain.mapping import Mapped, Text
from domain.money import Usd
from domain.reasons import Reason, ReasonCode
from domain.reliability import Block, Chances, Record, block_at, chances

MOST_TYPES_OFFERED: Final = 12


class Rail(StrEnum):
    """How a vendor is paid."""

    X402 = "x402"
    NONE = "none"
    """Billed outside x402: the charge is booked, and nothing settles on a chain."""


class VendorAddress(Protocol):
    """Where to reach a vendor, and with which secret: as registered, or as at launch."""

    @property
    def vendor_id(self) -> str: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def secret_env(self) -> str | None: ...


def _list_price(stored: object) -> Usd:
    return stored if isinstance(stored, Usd) else Usd.parse(stored, "basePricePerHour")


ListPrice = Annotated[
    Usd,
    Field(alias="basePricePerHour"),
    BeforeValidator(_list_price),
    PlainSerializer(Usd.dollars),
]
"""Stored as dollars: a price to compare vendors by, never an amount to pay."""


NotRegistered: Final = Field(exclude=True)
"""Marks fields that the ledger counts, and that a vendor's registry entry does not hold."""


@dataclass(frozen=True, slots=True)
class Vendor(Mapped):
    """A line of the registry: a vendor that a person has decided to deal with."""

    vendor_id: Text
    name: Text
    endpoint: Annotated[str, AfterValidator(lambda url: url.rstrip("/"))]
    price_per_hour: ListPrice
    reliability: Annotated[float, Field(alias="reliabilityScore", allow_inf_nan=False)]
    """Share of jobs expected to complete, 0 to 1."""
    gpu_types: Annotated[tuple[Text, ...], Field(alias="supportedGpuTypes")]
    pay_to: str | None = None
    """The only address that may be paid; None for a vendor that is not paid over x402."""
    secret_env: str | None = None
    """The environment variable with the secret to show this vendor; None: it is shown none."""

    completed: Annotated[int, NotRegistered] = 0
    """Jobs that it has completed for us."""
    failed: Annotated[int, NotRegistered] = 0
    """Jobs that it has failed."""
    records: Annotated[tuple[Record, ...], NotRegistered] = ()
    """The same counts by GPU type, in which older jobs count less."""
    blocks: Annotated[tuple[Block, ...], NotRegistered] = ()
    """What it did wrong last, by kind; in force until each ends."""

    def can_run(self, gpu_type: str) -> bool:
        return gpu_type.casefold() in (gpu.casefold() for gpu in self.gpu_types)

    def types_for(self, spec: JobSpec) -> tuple[str, ...]:
        """The types it has among those that will do for the job, the preferred first."""
        if spec.gpu_type == ANY_GPU:
            return self.gpu_types
        return tuple(gpu for gpu in spec.types if self.can_run(gpu))


@dataclass(frozen=True, slots=True)
class Quote(Mapped):
    """A vendor's binding price for `minutes` of one GPU type."""

    vendor_id: str
    template_id: Annotated[str, Field(alias="vendorJobTemplateId")]
    """The vendor's `vendorJobTemplateId`; the quote's id everywhere here."""
    gpu_type: str
    minutes: int
    price: Usd
    eta_minutes: float
    expires_at: datetime | None

    def whole(self, needed_minutes: int) -> Usd:
        """What `needed_minutes` cost at this rate, and never less than what is quoted."""
        return self.price.scaled(max(needed_minutes, self.minutes), self.minutes)

    def expired(self, now: datetime) -> bool:
        return self.expires_at is not None and now >= self.expires_at


@dataclass(frozen=True, slots=True)
class Offer:
    """A quote beside what the registry and this run know of its vendor."""

    quote: Quote
    vendor: Vendor
    failures_in_run: int = 0
    needed_minutes: int = 0
    """What the whole job needs; the quote may be for a first slice of it."""
    as_of: datetime | None = None
    """When the vendor's record and blocks are read; None: by the registry alone."""

    @property
    def projected(self) -> Usd:
        """What the whole job costs at the quote's rate."""
        return self.quote.whole(self.needed_minutes)

    @property
    def minutes(self) -> int:
        """GPU time of the whole job."""
        return max(self.needed_minutes, self.quote.minutes)

    @property
    def chances(self) -> Chances:
        """How likely the vendor is to finish the job."""
        vendor, hours = self.vendor, self.minutes / MINUTES_PER_HOUR
        return chances(vendor.reliability, vendor.records, self.quote.gpu_type, hours, self.as_of)

    @property
    def block(self) -> Block | None:
        """Why the vendor is rented last now; None when it is not."""
        return block_at(self.vendor.blocks, self.as_of) if self.as_of else None


def nobody_has(spec: JobSpec, vendors: Iterable[Vendor]) -> str:
    """Why no vendor in `vendors`, the whole registry, can run the job: a sentence for a person."""
    known = list(vendors)
    if spec.only_vendors:
        unknown = [n for n in spec.only_vendors if n not in {v.vendor_id for v in known}]
        if unknown:
            return f"no vendor is registered as {' or '.join(unknown)}, to rent from alone"
        return Reason.of(
            ReasonCode.LACKS_GPU,
            vendors=" or ".join(spec.only_vendors),
            gpu=spec.gpu,
            on_offer=on_offer(v for v in known if v.vendor_id in spec.only_vendors),
        )
    without = f" beside {', '.join(spec.excluded_vendors)}" if spec.excluded_vendors else ""
    others = (v for v in known if v.vendor_id not in spec.excluded_vendors)
    nobody = ReasonCode.NOBODY_HAS
    return Reason.of(nobody, gpu=spec.gpu, beside=without, on_offer=on_offer(others))


def on_offer(vendors: Iterable[Vendor]) -> str:
    """The GPU types of these vendors as the end of a sentence: "; on offer: A10, A100"."""
    types = sorted({gpu for vendor in vendors for gpu in vendor.gpu_types})
    if not types:
        return ""
    more = len(types) - MOST_TYPES_OFFERED
    told = ", ".join(types[:MOST_TYPES_OFFERED]) + (f" and {more} more" if more > 0 else "")
    return f"; on offer: {told}"


def able_vendors(vendors: Iterable[Vendor], spec: JobSpec) -> list[Vendor]:
    """The vendors that can run the job, and that the goal lets it run at."""
    return [
        vendor
        for vendor in vendors
        if vendor.types_for(spec)
        and vendor.vendor_id not in spec.excluded_vendors
        and (not spec.only_vendors or vendor.vendor_id in spec.only_vendors)
    ]
