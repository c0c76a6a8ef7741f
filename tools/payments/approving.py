"""Whether a person has to approve a payment, and whether one has: asked again before each signing.

What counts is what the whole job may cost at its vendor: what this run has paid that vendor and
has not got back, this payment, and the rest of the job, but never more than the run's budget has
left. Above the threshold, an approval has to cover the payment: one for the same launch, vendor,
payee and quote, whose amount has room for it beside what the job has cost so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from domain.approvals import Approval
from domain.errors import ApprovalRequired, Conflict
from domain.ids import job_id, payment_id
from domain.journal import Note, NoteType
from domain.money import ZERO, Usd
from domain.payments import PurchaseKind
from domain.policy import SpendingPolicy
from ledger.ledger import Ledger
from ledger.payments import Payment
from ledger.run import Run
from tools.payments.judge import Observe
from tools.payments.purchase import Purchase

LONGEST_RACE: Final = 8


@dataclass(frozen=True, slots=True)
class Permit:
    """What allows one payment to be signed. Only `ApprovalGate` makes it."""

    payment_id: str
    most: Usd
    """What may be signed for at the most."""
    threshold: Usd | None
    at_stake: Usd
    """The amount that was compared with the threshold."""
    approval: Approval | None
    """The approval that it counts against; None where none was needed."""

    def check(self, payment: Payment, amount: Usd) -> None:
        """Raise ApprovalRequired unless it is for this payment, and for so much."""
        if self.payment_id != payment.id or amount > self.most:
            raise ApprovalRequired(f"{amount} to {payment.vendor_id} is not what was allowed")

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the journal keeps of it."""
        return {
            "thresholdMicros": self.threshold.micros if self.threshold else None,
            "atStakeMicros": self.at_stake.micros,
            "approvalId": self.approval.id if self.approval else None,
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides whether a purchase needs an approval, and has one."""

    threshold: Usd | None
    at_stake: Usd
    """What the run may pay the vendor in all, the purchase and the rest of its job included."""
    job_paid: Usd = ZERO
    """What the job has cost so far, without the purchase."""
    ceiling: Usd = ZERO
    """What the job may cost in all."""
    asked: Sequence[Approval] = ()
    """The approvals for the purchase's launch, vendor, payee and quote, oldest first."""
    covering: Approval | None = None
    """The approval that covers the purchase."""
    covered: Mapping[int, Usd] | None = None
    """Slot → what counts against that approval, the purchase included."""

    @property
    def needed(self) -> bool:
        return self.threshold is not None and self.at_stake > self.threshold

    @property
    def allowed(self) -> bool:
        return not self.needed or self.covering is not None


class ApprovalGate:
    def __init__(self, ledger: Ledger, policy: SpendingPolicy, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._policy = policy
        self._now = now

    async def standing(self, run: Run, purchase: Purchase) -> Standing:
        """run: as it was read before anything was held for the purchase, or since."""
        threshold, price = self._policy.approval_threshold, purchase.quoted
        if threshold is None:
            return Standing(None, price)
        held = run.reservation(purchase.slot)
        left = run.budget_remaining + (held.amount if held else ZERO)
        vendor = purchase.vendor.vendor_id
        own = payment_id(run.id, purchase.slot, vendor)
        payments = [
            p
            for p in await self._ledger.payments.of_run(run.id)
            if p.vendor_id == vendor and p.id != own and not p.state.in_vain
        ]
        job = {p.slot: p.amount for p in payments if _is_of_job(p, run, purchase)}
        job_paid, paid = _sum(job.values()), _sum(p.amount - p.refunded for p in payments)
        ahead = max(price, min(price + purchase.rest, left))
        standing = Standing(threshold, paid + ahead, job_paid, job_paid + ahead)
        if not standing.needed:
            return standing
        asked = [a for a in await self._ledger.approvals.of_run(run.id) if fits(a, purchase)]
        covering, covered = self._covering(asked, job, purchase)
        return Standing(
            threshold, standing.at_stake, job_paid, standing.ceiling, asked, covering, covered
        )

    async def check(self, run: Run, purchase: Purchase) -> None:
        """Raise ApprovalRequired unless the purchase may be paid now. Changes nothing."""
        standing = await self.standing(run, purchase)
        if not standing.allowed:
            raise _required(purchase, standing)

    async def permit(self, run: Run, purchase: Purchase, observe: Observe) -> Permit:
        """Count the purchase against the approval that covers it, where it needs one.

        A slot counts once, however often it is asked for; one that came to nothing counts no more.
        Raises ApprovalRequired.
        """
        for _ in range(LONGEST_RACE):
            standing = await self.standing(run, purchase)
            if not standing.allowed:
                raise _required(purchase, standing)
            approval = standing.covering
            if approval is None or standing.covered is None:
                break
            if await self._ledger.approvals.cover(approval, standing.covered):
                observe(_used(approval, purchase))
                break
        else:
            raise Conflict(f"An approval of run {run.id} changes too fast to be used", "Try again")
        return Permit(
            payment_id(run.id, purchase.slot, purchase.vendor.vendor_id),
            purchase.quoted,
            standing.threshold,
            standing.at_stake,
            approval,
        )

    def _covering(
        self, asked: Sequence[Approval], job: Mapping[int, Usd], purchase: Purchase
    ) -> tuple[Approval, Mapping[int, Usd]] | tuple[None, None]:
        """The newest approval with room for the purchase, and what its slots come to then."""
        now = self._now()
        for approval in reversed(asked):
            covered = {purchase.slot: purchase.quoted}
            if approval.slot == purchase.launch_slot:
                covered = {**job, **covered}
            if approval.counts(now) and _sum(covered.values()) <= approval.amount:
                return approval, covered
        return None, None


def fits(approval: Approval, purchase: Purchase) -> bool:
    """Whether the approval is about the purchase's job, vendor, payee and quote.

    An older version asked about each payment for more time by itself.
    """
    vendor, order = purchase.vendor, purchase.order
    terms = {(purchase.launch_slot, purchase.quote_id)}
    if purchase.kind is PurchaseKind.EXTEND:
        terms.add((purchase.slot, f"{order['jobId']}+{purchase.minutes}"))
    return (
        (approval.slot, approval.quote_id) in terms
        and approval.vendor_id == vendor.vendor_id
        and approval.pay_to.lower() == (vendor.pay_to or "").lower()
    )


def _is_of_job(payment: Payment, run: Run, purchase: Purchase) -> bool:
    launch = payment_id(run.id, purchase.launch_slot, purchase.vendor.vendor_id)
    if payment.kind is PurchaseKind.EXTEND:
        return bool(payment.order["jobId"] == job_id(launch))
    return payment.id == launch


def _sum(amounts: Iterable[Usd]) -> Usd:
    return sum(amounts, ZERO)


def _required(purchase: Purchase, standing: Standing) -> ApprovalRequired:
    return ApprovalRequired(
        f"{purchase.quoted} to {purchase.vendor.vendor_id}: it may be paid {standing.at_stake} in "
        f"all, above {standing.threshold}, and nobody has approved that"
    )


def _used(approval: Approval, purchase: Purchase) -> Note:
    data = {
        "approvalId": approval.id,
        "vendorId": approval.vendor_id,
        "payTo": approval.pay_to,
        "amountMicros": approval.amount.micros,
        "paidMicros": approval.paid.micros,
    }
    what = f"{approval.amount} was approved for {purchase.vendor.name}"
    return Note(NoteType.APPROVAL_USED, what, data, key=f"{approval.id}:used")
