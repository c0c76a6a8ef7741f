"""Payments count against their job's approval: each slot once, and only what may still be paid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from domain.approvals import Approval, ApprovalState
from domain.errors import ApprovalRequired
from domain.ids import job_id, payment_id
from domain.journal import Note
from domain.money import Usd
from domain.networks import LOCAL
from domain.payments import PaymentState, PurchaseKind
from domain.policy import SpendingPolicy
from ledger.ledger import Ledger
from tests.support.builders import NOON, a_payment, a_vendor, at, leased, open_ledger
from tests.support.stack import FreshDatabase
from tools.payments.approving import ApprovalGate, Permit
from tools.payments.purchase import Purchase

VENDOR = a_vendor()
PAY_TO = VENDOR.pay_to or ""
JOB = job_id(payment_id("run_1", 0, VENDOR.vendor_id))


def a_purchase(slot: int = 0, dollars: object = "1.4", **changes: Any) -> Purchase:
    """The launch in slot 0, or more time in a later one."""
    launch = Purchase(
        slot=slot,
        kind=PurchaseKind.LAUNCH if slot == 0 else PurchaseKind.EXTEND,
        vendor=VENDOR,
        quoted=Usd.parse(dollars),
        minutes=60,
        gpu_type="A100",
        order={} if slot == 0 else {"jobId": JOB},
        job_slot=0,
        quote_id="quote_1",
        rest=Usd.parse("2.8"),
    )
    return replace(launch, **changes)


def a_yes(dollars: object = "4.2", **changes: Any) -> Approval:
    terms = (0, VENDOR.vendor_id, PAY_TO, Usd.parse(dollars), "quote_1")
    later = NOON + timedelta(hours=1)
    approval = Approval("apr_1", "run_1", *terms, ApprovalState.APPROVED, NOON, later)
    return replace(approval, **changes)


@dataclass
class Desk:
    ledger: Ledger
    gate: ApprovalGate
    notes: list[Note] = field(default_factory=list)

    async def permit(self, purchase: Purchase) -> Permit:
        run = await self.ledger.runs.get("run_1")
        return await self.gate.permit(run, purchase, self.notes.append)

    async def paid(self, slot: int, dollars: object = "1.4", **changes: Any) -> None:
        """A payment of the job that the vendor has been promised."""
        kind = PurchaseKind.LAUNCH if slot == 0 else PurchaseKind.EXTEND
        order = {"vendorJobTemplateId": "quote_1"} if slot == 0 else {"jobId": JOB}
        payment = a_payment(slot=slot, kind=kind, order=order, amount=Usd.parse(dollars))
        await self.ledger.payments.open(replace(payment, **changes))

    async def covered(self) -> dict[int, Usd]:
        [approval] = await self.ledger.approvals.of_run("run_1")
        return dict(approval.covered)


@pytest.fixture
async def desk(database: FreshDatabase) -> AsyncIterator[Desk]:
    async with open_ledger(database) as ledger:
        await leased(ledger, 20)
        policy = SpendingPolicy(LOCAL, Usd.parse(100), approval_threshold=Usd.parse(2))
        yield Desk(ledger, ApprovalGate(ledger, policy, at(NOON)))


async def test_a_slot_counts_once_however_often_it_is_asked_for(desk: Desk) -> None:
    await desk.ledger.approvals.ask(a_yes())
    permits = [await desk.permit(a_purchase()) for _ in range(3)]
    assert {p.approval.id for p in permits if p.approval} == {"apr_1"}
    assert await desk.covered() == {0: Usd.parse("1.4")}
    assert {note.key for note in desk.notes} == {"apr_1:used"}


async def test_payments_of_the_job_count_together_up_to_the_amount(desk: Desk) -> None:
    await desk.ledger.approvals.ask(a_yes("2.8"))
    await desk.permit(a_purchase())
    await desk.paid(0)
    await desk.permit(a_purchase(1))
    await desk.paid(1)
    with pytest.raises(ApprovalRequired, match=r"\$7\.00 in all, above \$2\.00"):
        await desk.permit(a_purchase(2))
    assert await desk.covered() == {0: Usd.parse("1.4"), 1: Usd.parse("1.4")}


@pytest.mark.parametrize("state", [s for s in PaymentState if s.in_vain])
async def test_what_came_to_nothing_counts_no_more(desk: Desk, state: PaymentState) -> None:
    await desk.ledger.approvals.ask(a_yes("2.8"))
    await desk.permit(a_purchase())
    await desk.paid(0)
    await desk.permit(a_purchase(1))
    await desk.paid(1, state=state)
    await desk.permit(a_purchase(2))
    assert await desk.covered() == {0: Usd.parse("1.4"), 2: Usd.parse("1.4")}


async def test_two_counts_at_once_are_not_made_from_the_same_reading(desk: Desk) -> None:
    """Of two slots for which there is room for one, one is granted."""
    await desk.ledger.approvals.ask(a_yes("2.8"))
    await desk.permit(a_purchase())
    await desk.paid(0)
    await desk.paid(1, state=PaymentState.RESERVED)
    await desk.paid(2, state=PaymentState.RESERVED)
    both = await asyncio.gather(
        desk.permit(a_purchase(1)), desk.permit(a_purchase(2)), return_exceptions=True
    )
    assert [type(answer) for answer in both] == [ApprovalRequired] * 2, "both are under way"

    [read] = await desk.ledger.approvals.of_run("run_1")
    first = {0: Usd.parse("1.4"), 1: Usd.parse("1.4")}
    assert await desk.ledger.approvals.cover(read, first)
    assert not await desk.ledger.approvals.cover(read, {0: Usd.parse("1.4"), 2: Usd.parse("1.4")})
    assert await desk.covered() == first


@pytest.mark.parametrize(
    "change",
    [
        {"quote_id": "quote_2"},
        {"job_slot": 1},
        {"quoted": Usd.parse("4.3")},
        {"vendor": a_vendor(pay_to="0x" + "9" * 40)},
        {"vendor": a_vendor("gpu_vendor_2")},
    ],
)
async def test_other_terms_are_not_approved(desk: Desk, change: dict[str, Any]) -> None:
    await desk.ledger.approvals.ask(a_yes())
    with pytest.raises(ApprovalRequired):
        await desk.permit(a_purchase(**change))
    [untouched] = await desk.ledger.approvals.of_run("run_1")
    assert untouched.state is ApprovalState.APPROVED


@pytest.mark.parametrize(
    "change",
    [
        {"state": ApprovalState.PENDING},
        {"state": ApprovalState.REJECTED},
        {"state": ApprovalState.EXPIRED},
        {"expires_at": NOON},
        {"run_id": "run_2"},
    ],
)
async def test_what_is_no_yes_for_this_run_now_approves_nothing(
    desk: Desk, change: dict[str, Any]
) -> None:
    await desk.ledger.approvals.ask(a_yes(**change))
    with pytest.raises(ApprovalRequired):
        await desk.permit(a_purchase())


async def test_what_the_run_paid_the_vendor_before_counts_to_the_threshold(desk: Desk) -> None:
    small = a_purchase(1, "0.5", kind=PurchaseKind.LAUNCH, order={}, job_slot=None, rest=Usd(0))
    assert (await desk.permit(small)).approval is None
    await desk.paid(0, "1.6")
    with pytest.raises(ApprovalRequired, match=r"\$2\.10 in all"):
        await desk.permit(small)


async def test_no_more_counts_than_the_budget_has_left(desk: Desk) -> None:
    await desk.ledger.runs.create("run_2", "user_1", "Train", Usd.parse("1.9"), NOON)
    run = await desk.ledger.runs.get("run_2")
    permit = await desk.gate.permit(run, a_purchase(), desk.notes.append)
    assert permit.at_stake == Usd.parse("1.9")


def test_a_permit_is_for_one_payment_and_amount() -> None:
    payment = a_payment()
    permit = Permit(payment.id, Usd.parse("1.4"), None, Usd.parse("1.4"), None)
    permit.check(payment, Usd.parse("1.4"))
    with pytest.raises(ApprovalRequired):
        permit.check(payment, Usd(1_400_001))
    with pytest.raises(ApprovalRequired):
        permit.check(a_payment(slot=1), Usd.parse("1.4"))
