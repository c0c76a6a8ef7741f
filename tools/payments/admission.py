"""What must hold before anything is signed: the seller's terms, and the clock."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from domain.errors import ChainDown, PolicyRefused, VendorGarbage
from domain.money import Usd
from domain.networks import Network
from domain.payments import PaymentTerms, PurchaseKind
from domain.policy import SpendingPolicy
from tools.payments.chain import Block
from tools.payments.challenge import Challenge
from tools.payments.purchase import Purchase
from tools.vendors.base import PaymentRequired402

MOST_APART_S: Final = 300
"""How far our clock and a public chain's newest block may be apart when something is signed."""


def admit(
    policy: SpendingPolicy, challenge: Challenge, purchase: Purchase, quoted: Usd
) -> PaymentTerms:
    """The cheapest of the challenge's terms that the policy passes and we can sign; the first of
    several equally cheap ones. Raises the first refusal where there are none.
    """
    fitting: list[PaymentTerms] = []
    refusals: list[PolicyRefused] = []
    for terms in challenge.accepts:
        pay_to = purchase.vendor.pay_to or (terms.pay_to if purchase.any_payee else None)
        try:
            policy.check_terms(terms, quoted=quoted, pay_to=pay_to)
            challenge.requirement(terms)
        except PolicyRefused as refusal:
            refusals.append(refusal)
        else:
            fitting.append(terms)
    if not fitting:
        raise refusals[0]
    return min(fitting, key=lambda terms: terms.amount)


def billed_by(answer: PaymentRequired402, purchase: Purchase) -> str:
    """The id under which a vendor without x402 bills a job; more time is not sold so. Raises
    VendorGarbage.
    """
    if purchase.kind is not PurchaseKind.LAUNCH or answer.legacy_tx_id is None:
        raise VendorGarbage(
            purchase.vendor.vendor_id,
            purchase.kind.value,
            "it answered 402 without an x402 challenge"
            + (" or an x402-tx-id" if purchase.kind is PurchaseKind.LAUNCH else ""),
        )
    return answer.legacy_tx_id


def check_clock(now: datetime, head: Block, network: Network) -> None:
    """Raise ChainDown where our clock and the chain's are far apart: what a fast clock signs could
    settle later than anybody expects.
    """
    apart_s = abs(int(now.timestamp()) - head.timestamp_s)
    if network.is_local or not head.timestamp_s or apart_s <= MOST_APART_S:
        return  # a local chain's newest block may be old, and an unknown one has no time
    raise ChainDown(
        f"This machine's clock and the newest block of {network.name} are {apart_s:,} s apart",
        "Set the clock; if it is right, the node at RPC_URL is behind: take another",
    )
