"""What may be paid: the rules that every payment passes before anything is signed.

They run in code on values from the registry, the quote and the settings. Nothing that a vendor,
a user or a model says reaches them except the terms to be checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from domain.errors import PolicyRefused
from domain.money import Usd
from domain.networks import Network
from domain.payments import PaymentTerms

SHORTEST_VALIDITY_S: Final = 30
"""The default of `shortest_validity_s`: with less, a payment may expire before it settles."""
LONGEST_VALIDITY_S: Final = 600


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits over all runs; None where there is none. Days and hours are UTC's."""

    user_day: Usd | None = None
    user_hour: Usd | None = None
    vendor_day: Usd | None = None
    """What one user may pay one vendor."""
    wallet_day: Usd | None = None
    """What all users together may spend, purchases by `gpu-renter pay` included."""

    @property
    def of_users(self) -> bool:
        """Whether there is one for each user."""
        return any(cap is not None for cap in (self.user_day, self.user_hour, self.vendor_day))

    @property
    def any(self) -> bool:
        return self.of_users or self.wallet_day is not None


@dataclass(frozen=True, slots=True)
class OpenRuns:
    """The most runs that may be open at once; None where there is no such limit."""

    in_all: int | None = None
    a_user: int | None = None

    @property
    def any(self) -> bool:
        return self.in_all is not None or self.a_user is not None


NO_SUCH_LIMIT: Final = OpenRuns()


@dataclass(frozen=True, slots=True)
class SpendingPolicy:
    """The owner's limits. `network` is the one chain, and its USDC the one asset, to pay in."""

    network: Network
    max_per_payment: Usd
    max_per_run: Usd | None = None
    approval_threshold: Usd | None = None
    """A job that may cost more than that at its vendor waits for a person's approval."""
    caps: Caps = Caps()
    shortest_validity_s: int = SHORTEST_VALIDITY_S
    """Terms that leave less time to pay are refused."""

    def needs_approval(self, amount: Usd) -> bool:
        return self.approval_threshold is not None and amount > self.approval_threshold

    def check_run(self, committed: Usd, amount: Usd) -> None:
        """Raise PolicyRefused when a run that has `committed` may not commit `amount` more."""
        if self.max_per_run is not None and committed + amount > self.max_per_run:
            raise PolicyRefused(
                "max_per_run",
                f"{(committed + amount).exact()} in all would be above {self.max_per_run.exact()}",
                "Raise MAX_RUN_USD if that is intended",
            )

    def check_terms(self, terms: PaymentTerms, *, quoted: Usd, pay_to: str | None) -> None:
        """Raise PolicyRefused unless `terms` may be signed.

        quoted: the price the vendor bound itself to. pay_to: the vendor's registered address.
        """
        if terms.scheme != "exact":
            raise PolicyRefused("scheme", f"only exact payments are signed, not {terms.scheme!r}")
        if terms.network != self.network.caip2:
            raise PolicyRefused(
                "network", f"{terms.network!r} is asked for, only {self.network.caip2} is allowed"
            )
        if terms.asset.lower() != self.network.usdc.lower():
            raise PolicyRefused(
                "asset", f"{terms.asset!r} is asked for, only USDC {self.network.usdc} is allowed"
            )
        if pay_to is None:
            raise PolicyRefused(
                "payee",
                "the vendor has no registered address",
                "Register it: gpu-renter vendors add --pay-to 0x…",
            )
        if terms.pay_to.lower() != pay_to.lower():
            raise PolicyRefused(
                "payee", f"{terms.pay_to!r} is not the vendor's registered address {pay_to}"
            )
        if terms.amount.micros <= 0:
            raise PolicyRefused("amount", f"{terms.amount} is not a positive amount")
        if terms.amount > quoted:
            raise PolicyRefused(
                "quote", f"{terms.amount.exact()} is asked for, {quoted.exact()} was quoted"
            )
        if terms.amount > self.max_per_payment:
            raise PolicyRefused(
                "max_per_payment",
                f"{terms.amount.exact()} is above {self.max_per_payment.exact()}",
                "Raise MAX_PAYMENT_USD if that is intended",
            )
        if terms.max_timeout_s < self.shortest_validity_s:
            raise PolicyRefused(
                "validity",
                f"the vendor gives {terms.max_timeout_s} s to pay, less than "
                f"{self.shortest_validity_s}",
                "Lower MIN_VALIDITY_S if that is intended",
            )

    def valid_before(self, terms: PaymentTerms, now_s: int) -> int:
        """When an authorization signed now ends, in Unix seconds: the vendor's wish, clamped."""
        return now_s + min(terms.max_timeout_s, LONGEST_VALIDITY_S)
