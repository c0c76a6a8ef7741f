"""The life of a payment: its states, and the moves between them.

    reserved ──→ authorized ──→ settled ──→ refunded
        │             ├──→ refused   the vendor said no, and the chain shows it can never settle
        │             └──→ expired   the same proof, with no word from the vendor
        └──→ released                never signed, so nothing can settle

A slot is a run's n-th purchase. Every payment of a slot signs the slot's one nonce, so the token
contract itself lets at most one of them settle (EIP-3009: a nonce is used once per payer).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from domain.errors import IllegalTransition
from domain.money import Usd


class PaymentState(StrEnum):
    RESERVED = "reserved"
    AUTHORIZED = "authorized"
    SETTLED = "settled"
    REFUNDED = "refunded"
    REFUSED = "refused"
    EXPIRED = "expired"
    RELEASED = "released"

    @property
    def open(self) -> bool:
        """True while the payment may still move money that is not booked yet."""
        return self in (PaymentState.RESERVED, PaymentState.AUTHORIZED)

    @property
    def paid(self) -> bool:
        """True when it has moved money, which may have come back since."""
        return self in (PaymentState.SETTLED, PaymentState.REFUNDED)

    @property
    def sent_again(self) -> bool:
        """Whether the signed bytes are still of use: a settled payment is shown to its seller until
        that gives what it was paid for.
        """
        return self.open or self is PaymentState.SETTLED

    @property
    def in_vain(self) -> bool:
        """True when it ended without having moved money."""
        return not (self.open or self.paid)

    @property
    def status(self) -> str:
        """This state in one of three words: pending, completed or failed."""
        return _STATUS[self]


_STATUS: Final = {
    PaymentState.RESERVED: "pending",
    PaymentState.AUTHORIZED: "pending",
    PaymentState.SETTLED: "completed",
    PaymentState.REFUNDED: "completed",
    PaymentState.REFUSED: "failed",
    PaymentState.EXPIRED: "failed",
    PaymentState.RELEASED: "failed",
}

TRANSITIONS: Final[dict[PaymentState, frozenset[PaymentState]]] = {
    PaymentState.RESERVED: frozenset(
        {PaymentState.AUTHORIZED, PaymentState.RELEASED, PaymentState.SETTLED}
    ),
    PaymentState.AUTHORIZED: frozenset(
        {PaymentState.SETTLED, PaymentState.REFUSED, PaymentState.EXPIRED}
    ),
    PaymentState.SETTLED: frozenset({PaymentState.REFUNDED}),
    PaymentState.REFUNDED: frozenset(),
    PaymentState.REFUSED: frozenset(),
    PaymentState.EXPIRED: frozenset(),
    PaymentState.RELEASED: frozenset(),
}
"""reserved → settled is for a charge outside x402, which is booked without an authorization."""


def check_transition(before: PaymentState, after: PaymentState) -> None:
    """Raise IllegalTransition unless a payment may go from `before` to `after`."""
    if after not in TRANSITIONS[before]:
        raise IllegalTransition(f"A payment cannot go from {before} to {after}")


class PurchaseKind(StrEnum):
    LAUNCH = "launch"
    EXTEND = "extend"
    FETCH = "fetch"
    """One paid request to any x402 endpoint (`gpu-renter pay`)."""


@dataclass(frozen=True, slots=True)
class PaymentTerms:
    """What a 402 challenge asks for, as read from one entry of its `accepts`."""

    scheme: str
    network: str
    """CAIP-2 id."""
    asset: str
    pay_to: str
    amount: Usd
    max_timeout_s: int
