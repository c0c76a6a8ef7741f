"""The settings of payments: on which network, from which wallet, and how much at the most."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from domain import networks
from domain.errors import ConfigError
from domain.money import Usd
from domain.policy import LONGEST_VALIDITY_S, SHORTEST_VALIDITY_S
from server.config.fields import Dollars, HttpUrl, NetworkName, PrivateKey, SecretHttpUrl

WalletMode = Literal["local", "key", "cdp"]


class PaymentSettings(BaseSettings):
    """What the agent pays with, and the limits that stand outside any model."""

    network: NetworkName = Field(
        default=networks.LOCAL, description="eip155:31337 (local), base-sepolia or base"
    )
    rpc_url: SecretHttpUrl | None = Field(
        default=None, description="an http(s) JSON-RPC address of the network"
    )
    max_payment_usd: Dollars = Field(
        default=Usd.parse(100), description="the most dollars that one payment may move, above 0"
    )
    max_run_usd: Dollars | None = Field(
        None, description="the most dollars that one run may spend, or leave it out"
    )
    max_user_day_usd: Dollars | None = Field(
        None, description="the most dollars that one user may spend in a day, or leave it out"
    )
    max_user_hour_usd: Dollars | None = Field(
        None, description="the most dollars that one user may spend in an hour, or leave it out"
    )
    max_vendor_day_usd: Dollars | None = Field(
        None, description="the most dollars a user may pay one vendor in a day, or leave it out"
    )
    max_wallet_day_usd: Dollars | None = Field(
        None, description="the most dollars that all users may spend in a day, or leave it out"
    )
    approval_threshold_usd: Dollars | None = Field(
        None,
        description="dollars that a job may cost unasked, slices and all, or leave it out",
    )
    approval_minutes: float = Field(
        60.0, gt=0, le=10_080, description="minutes that a payment waits for approval"
    )
    max_exposure_usd: Dollars = Field(
        Usd.parse(2), description="the most dollars to prepay a vendor, over all runs"
    )
    first_slice_minutes: int = Field(
        60, ge=1, le=43_200, description="minutes to prepay a vendor without a record"
    )
    min_validity_s: int = Field(
        SHORTEST_VALIDITY_S,
        ge=10,
        le=LONGEST_VALIDITY_S,
        description="the least seconds that a seller must leave to pay, 10 to 600",
    )
    x402_private_key: PrivateKey | None = Field(
        default=None, description="64 hexadecimal digits, the key of the account that pays"
    )
    x402_wallet_id: str = Field(
        default="agentic-gpu-renter",
        pattern=r"^[A-Za-z0-9-]{2,36}$",
        description="the name of the CDP account that pays: 2 to 36 letters, digits or hyphens",
    )
    cdp_api_key_id: SecretStr | None = Field(default=None, description="the id of a CDP API key")
    cdp_api_key_secret: SecretStr | None = Field(
        default=None, description="the CDP API key's secret"
    )
    cdp_wallet_secret: SecretStr | None = Field(default=None, description="the CDP wallet secret")
    cdp_base_path: HttpUrl | None = Field(
        default=None, description="another base address of the CDP API"
    )

    @property
    def wallet_mode(self) -> WalletMode:
        if self.cdp_wallet_secret is not None:
            return "cdp"
        return "local" if self.x402_private_key is None else "key"

    @model_validator(mode="after")
    def _whole_payments(self) -> Self:
        """Raise ConfigError where nothing could be paid, or not from one wallet."""
        if not self.max_payment_usd:
            raise ConfigError("MAX_PAYMENT_USD", "it is 0", "Set it to an amount above 0")
        self._check_wallet()
        return self

    def _check_wallet(self) -> None:
        three = ("cdp_api_key_id", "cdp_api_key_secret", "cdp_wallet_secret")
        given = [n for n in (*three, "cdp_base_path") if getattr(self, n) is not None]
        missing = [n for n in three if getattr(self, n) is None]
        if given and self.x402_private_key is not None:
            raise ConfigError(
                "X402_PRIVATE_KEY",
                f"it is set, and so is {given[0].upper()}: two wallets, and no way to choose",
                "Keep the private key or the CDP_* variables",
            )
        if given and missing:
            raise ConfigError(
                missing[0].upper(),
                f"it is missing, but {given[0].upper()} is set",
                "A CDP wallet needs CDP_API_KEY_ID, CDP_API_KEY_SECRET and CDP_WALLET_SECRET",
            )
        named = "x402_wallet_id" in self.model_fields_set
        if named and not given and self.x402_private_key is None:
            raise ConfigError(
                "CDP_API_KEY_ID",
                "it is missing, but X402_WALLET_ID names a CDP account",
                "Set the three CDP_* variables, or leave X402_WALLET_ID out",
            )
