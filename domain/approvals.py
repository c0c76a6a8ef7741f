"""Approvals: a person's yes or no to what a job may cost at one vendor, up to a named amount.

A yes binds the payee, the quote and the most that may be paid on it; each payment of the job, by
its slot, counts against that amount. Another vendor, another quote or more money is another
question.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from domain.mapping import Id, Mapped
from domain.money import ZERO, Usd


class ApprovalState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    USED = "used"
    """Approved, and a payment was made or tried: the rest of the job is paid under it, too."""


@dataclass(frozen=True, slots=True)
class Approval(Mapped):
    id: Id
    run_id: str
    slot: int
    """The slot of the launch of the job that is asked about."""
    vendor_id: str
    pay_to: str
    amount: Usd
    """The most that the job may cost at the vendor, what it has cost already included."""
    quote_id: str
    state: ApprovalState
    created_at: datetime
    expires_at: datetime
    """A person can answer until then, and a yes can first be used until then."""
    price: Usd = ZERO
    """What is to be paid now."""
    minutes: int = 0
    """What is bought now; 0 where an older version asked, or no time is bought."""
    gpu_type: str = ""
    paid: Usd = ZERO
    """What the job had cost at the vendor when it was asked."""
    covered: Mapping[int, Usd] = field(default_factory=dict, hash=False)
    """Slot → the part of `amount` that its payments use up."""
    version: Annotated[int, Field(exclude=True)] = 0
    """Grows with each count, so that two counts at once are not made from the same reading."""

    def counts(self, now: datetime) -> bool:
        """Whether payments may be made under this approval at `now`."""
        if self.state is ApprovalState.APPROVED:
            return now < self.expires_at
        return self.state is ApprovalState.USED

    @property
    def answer(self) -> str:
        """The decision, as a phrase for a person."""
        said = f"Payment of {self.price} {self.state}"
        whole = self.state is not ApprovalState.APPROVED or self.price == self.amount
        return said if whole else f"{said}, and up to {self.amount} for the whole job"

    def asks_for(self, vendor: str) -> str:
        """What a yes allows, as a phrase for a person. vendor: its name."""
        if not self.minutes:
            return f"{self.amount} to {vendor}"
        more = "more " if self.paid else ""
        said = f"{self.minutes} {more}minutes of {self.gpu_type} at {vendor} for {self.price}"
        if self.amount <= self.paid + self.price:
            return f"{said}: the whole job" if not self.paid else f"{said}, the rest of the job"
        paid = f", of which {self.paid} is paid" if self.paid else ""
        return f"{said} now; the whole job up to {self.amount}{paid}"


def asked_for(approvals: Iterable[Approval], names: Mapping[str, str]) -> str:
    """What these questions are about, in words. names: of their vendors."""
    return " and ".join(a.asks_for(names[a.vendor_id]) for a in approvals)
