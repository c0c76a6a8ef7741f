"""One thing to buy, and what came of sending its payment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.money import ZERO, Usd
from domain.payments import PurchaseKind
from domain.quotes import Vendor
from ledger.payments import Payment
from tools.payments.sellers import Goods


@dataclass(frozen=True, slots=True)
class Purchase:
    """One thing to buy, at a price that its vendor is bound to."""

    slot: int
    kind: PurchaseKind
    vendor: Vendor
    quoted: Usd
    minutes: int
    gpu_type: str
    order: Mapping[str, Any]
    """What is asked of the vendor, as sellers.py writes it."""
    expires_at: datetime | None = None
    """When the vendor's price ends."""
    any_payee: bool = False
    """True only for a URL that a person ordered: who its first challenge names is paid."""
    job_slot: int | None = None
    """The launch slot of the job that it is for; None where it is that launch."""
    quote_id: str = ""
    """The quote at whose rate the whole job is bought."""
    rest: Usd = ZERO
    """The most that the rest of its job may cost after it, at that rate."""

    @property
    def launch_slot(self) -> int:
        return self.slot if self.job_slot is None else self.job_slot

    most_ahead: Usd | None = None
    """The most that all runs together may pay the vendor for time that is not used yet; None for
    what is used up as it is bought.
    """

    @property
    def on_chain(self) -> bool:
        """Whether it is to be paid for on the chain, as far as that is known before it is asked."""
        return self.vendor.pay_to is not None or self.any_payee

    @property
    def what(self) -> str:
        if self.kind is PurchaseKind.FETCH:
            return f"{self.order['method']} {self.order['url']}, at most {self.quoted}"
        return f"{self.minutes} minutes of {self.gpu_type} (quoted {self.quoted})"


@dataclass(frozen=True, slots=True)
class Delivery:
    """The result of sending a payment. `payment` is as the chain left it."""

    payment: Payment
    goods: Goods | None
    """What the vendor gave for it; None while it has given nothing."""
    problem: str = ""
    answered: bool = False
    """Whether the vendor said no, rather than nothing."""
    """The vendor's word, or its silence, where it gave nothing."""
