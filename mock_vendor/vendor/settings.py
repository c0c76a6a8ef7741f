"""The vendor's settings: one class, read from the environment by `VendorSettings()`."""

from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from mock_vendor.accounts import dev_address, dev_key
from mock_vendor.vendor.faults import Fault

Rail = Literal["x402", "none", "legacy402"]


class VendorProfile(BaseModel):
    """One vendor that the process serves.

    `rail` says how it is paid: "x402"; "none" (never asks); "legacy402" (answers 402 with an
    `x402-tx-id` header and wants that id back as `x402TxId`).
    """

    model_config = ConfigDict(frozen=True)

    vendor_id: str
    name: str
    price_per_hour: Decimal
    """In dollars."""
    pay_to: str
    gpu_types: tuple[str, ...] = ("A10", "A100")
    refund_key: SecretStr
    """Hex private key of `pay_to`, which pays refunds."""
    rail: Rail = "x402"


class VendorSettings(BaseSettings):
    """Everything that can be set, by field name or by the environment.

    A field's variable is the one named beside it, else VENDOR_ and the field's name: VENDOR_ADMIN.
    """

    model_config = SettingsConfigDict(env_prefix="VENDOR_", extra="ignore", populate_by_name=True)

    gpu_vendor_secret: SecretStr = Field(
        default=SecretStr("local-vendor-secret"), validation_alias="GPU_VENDOR_SECRET"
    )
    port: int = Field(default=4001, validation_alias="PORT")
    base_price_per_hour: Decimal = Field(
        default=Decimal("1.4"), gt=0, validation_alias="BASE_PRICE_PER_HOUR"
    )
    """FastGPU's price, in dollars."""
    fail_vendor_id: str = Field(default="", validation_alias="FAIL_VENDOR_ID")
    """Each job of this vendor dies part-way."""
    fail_rate: float = Field(default=0.1, ge=0, le=1, validation_alias="FAIL_RATE")
    """The share of other jobs that die part-way."""
    fail_seed: int = Field(default=0, validation_alias="FAIL_SEED")
    rpc_url: str = Field(default="http://127.0.0.1:8545", validation_alias="RPC_URL")
    x402_facilitator_url: str = Field(default="", validation_alias="X402_FACILITATOR_URL")
    """Empty: the facilitator in this process."""
    vendor_data_dir: Path | None = Field(default=None, validation_alias="VENDOR_DATA_DIR")
    """Where jobs and payments are kept; None keeps them in memory."""
    vendor_faults: list[Fault] = Field(default_factory=list, validation_alias="VENDOR_FAULTS")
    pace: Literal["poll", "clock"] = Field(default="poll", validation_alias="PACE")
    """What runs an epoch: a status poll, or the clock."""
    refund_on_failure: bool = Field(default=False, validation_alias="REFUND_ON_FAILURE")
    """Refund the unused time of a job that the vendor failed, unasked."""
    clock_epoch_s: float = 1.0
    pause_poll_limit: int = 10
    """How many further polls an unpaid job waits for an extension before it fails."""
    pause_limit_s: float | None = None
    """The same in seconds; None: no limit by the clock (600 s when `pace` is "clock")."""
    quote_ttl_s: int = 600
    admin: bool = False
    """Serve /admin (needs the secret too)."""
    hang_s: float = 3600.0
    """How long a hanging fault hangs."""
    drip_interval_s: float = 1.0
    oversized_bytes: int = 8 << 20
    vendors: tuple[VendorProfile, ...] = ()
    """Empty: the two seeded vendors."""

    def profiles(self) -> dict[str, VendorProfile]:
        """Return the vendors served, by id."""
        return {v.vendor_id: v for v in self.vendors or seeded_vendors(self.base_price_per_hour)}


def vendor_profile(
    vendor_id: str,
    name: str,
    price_per_hour: Decimal | str,
    *,
    rail: Rail = "x402",
    gpu_types: tuple[str, ...] = ("A10", "A100"),
) -> VendorProfile:
    """Return a vendor whose account is the development account of its id."""
    return VendorProfile(
        vendor_id=vendor_id,
        name=name,
        price_per_hour=Decimal(price_per_hour),
        pay_to=dev_address(vendor_id),
        gpu_types=gpu_types,
        refund_key=SecretStr(dev_key(vendor_id)),
        rail=rail,
    )


def seeded_vendors(base_price_per_hour: Decimal = Decimal("1.4")) -> tuple[VendorProfile, ...]:
    """Return FastGPU and ReliableGPU."""
    return (
        vendor_profile("gpu_vendor_1", "FastGPU", base_price_per_hour),
        vendor_profile("gpu_vendor_2", "ReliableGPU", "1.8"),
    )
