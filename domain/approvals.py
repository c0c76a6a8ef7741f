"""Approvals: a person's yes or no to exactly one payee, amount and quote, once, for a while."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from eth_utils.crypto import keccak

from domain.money import Usd


class ApprovalState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    USED = "used"
    """Approved, and the payment was made or tried: it approves nothing more."""


@dataclass(frozen=True, slots=True)
class Approval:
    id: str
    run_id: str
    slot: int
    vendor_id: str
    pay_to: str
    amount: Usd
    quote_id: str
    state: ApprovalState
    created_at: datetime
    expires_at: datetime


def approval_id(
    run_id: str, slot: int, vendor_id: str, pay_to: str, amount: Usd, quote_id: str
) -> str:
    """The id of the one approval for these terms: other terms need another approval."""
    terms = f"approval|{run_id}|{slot}|{vendor_id}|{pay_to.lower()}|{amount.micros}|{quote_id}"
    return "apr_" + keccak(text=terms).hex()[:32]
