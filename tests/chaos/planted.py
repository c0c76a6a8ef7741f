"""Bugs planted on purpose, one at a time, to show that the harness finds them.

    with planted("release_on_402"):
        ...  # the agent has this bug here

Each is the mistake that one rule of the design exists against.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

import httpx

from domain.errors import RenterError, VendorError
from domain.ids import payment_id, slot_nonce
from domain.money import ZERO, Usd
from domain.payments import PaymentState
from domain.quotes import Vendor
from ledger.budget import Budget
from ledger.payments import Payment, Payments
from ledger.run import Lease, Reservation, Run
from tools.payments import cashier
from tools.payments.approving import ApprovalGate, Permit
from tools.payments.authorization import sign_payment
from tools.payments.cashier import Cashier
from tools.payments.judge import Observe
from tools.payments.purchase import Delivery, Purchase
from tools.vendors.base import PaymentHeader, PaymentRequired402

Bug = Callable[[ExitStack], None]


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The agent has this bug as long as the block runs. One of BUGS, or OF_MANY_RUNS."""
    with ExitStack() as stack:
        {**BUGS, **OF_MANY_RUNS}[name](stack)
        yield


def random_nonce(stack: ExitStack) -> None:
    """Rule 2 broken: every signature has a nonce of its own."""
    stack.enter_context(
        patch.object(cashier, "slot_nonce", lambda run_id, slot: "0x" + secrets.token_hex(32))  # noqa: ARG005
    )


def no_reservation_guard(stack: ExitStack) -> None:
    """Rule 1 broken: money is taken off without looking whether it is there, or taken already."""

    async def reserve(
        self: Budget,
        lease: Lease,  # noqa: ARG001
        run: Run,
        slot: int,
        amount: Usd,
        allowance: str | None = None,
    ) -> Reservation:
        update = {
            "$inc": {"budgetRemaining": -amount.micros, "nextSlot": 1},
            "$set": {
                f"reservations.{slot}": {
                    "amount": amount.micros,
                    "shared": False,
                    "allowance": allowance,
                    "armed": [],
                    "version": 0,
                }
            },
        }
        await self._documents.change(run.id, {}, update)
        return Reservation(slot, amount)

    stack.enter_context(patch.object(Budget, "reserve", reserve))


def send_before_persist(stack: ExitStack) -> None:
    """Rule 3 broken: the signed bytes go out first, and into the ledger afterwards."""
    at_work: ContextVar[Cashier] = ContextVar("at_work")
    sign, close = Cashier._sign, Payments.close

    async def signing(self: Cashier, *args: Any) -> Payment:
        at_work.set(self)
        return await sign(self, *args)

    async def closing(self: Payments, payment: Payment, state: PaymentState, **f: Any) -> Payment:
        if state is PaymentState.AUTHORIZED:
            till = at_work.get()
            vendor = await till._ledger.vendors.get(payment.vendor_id)
            header = PaymentHeader(f["header_name"], f["header"])
            with contextlib.suppress(VendorError):
                await till._seller(payment, vendor).request(payment=header)
        return await close(self, payment, state, **f)

    stack.enter_context(patch.object(Cashier, "_sign", signing))
    stack.enter_context(patch.object(Payments, "close", closing))


def _release_when(stack: ExitStack, gives_up: Callable[[Delivery], bool]) -> None:
    deliver = Cashier.deliver

    async def delivering(
        self: Cashier, lease: Lease, payment: Payment, vendor: Vendor, observe: Observe
    ) -> Delivery:
        delivery = await deliver(self, lease, payment, vendor, observe)
        if delivery.payment.state is PaymentState.AUTHORIZED and gives_up(delivery):
            run = await self._ledger.runs.get(payment.run_id)
            closed = await self._ledger.payments.close(payment, PaymentState.EXPIRED)
            if held := run.reservation(payment.slot):
                await self._ledger.budget.post(run.id, held, ZERO)
            return replace(delivery, payment=closed)
        return delivery

    stack.enter_context(patch.object(Cashier, "deliver", delivering))


def release_on_timeout(stack: ExitStack) -> None:
    """Rule 5 broken: silence counts as failure."""
    _release_when(stack, lambda d: d.goods is None and "402" not in d.problem)


def release_on_402(stack: ExitStack) -> None:
    """Rule 6 broken: a 402 after paying counts as "not paid"."""
    _release_when(stack, lambda d: "did not take the payment" in d.problem)


def trust_a_receipt(stack: ExitStack) -> None:
    """Rule 6 broken: the vendor's transaction hash closes the payment."""
    deliver = Cashier.deliver

    async def delivering(
        self: Cashier, lease: Lease, payment: Payment, vendor: Vendor, observe: Observe
    ) -> Delivery:
        delivery = await deliver(self, lease, payment, vendor, observe)
        claimed = delivery.goods.claimed_tx_id if delivery.goods else None
        if claimed and delivery.payment.state is PaymentState.AUTHORIZED:
            settled = await self._ledger.payments.close(
                payment, PaymentState.SETTLED, tx_id=claimed
            )
            run = await self._ledger.runs.get(payment.run_id)
            if held := run.reservation(payment.slot):
                await self._ledger.budget.post(run.id, held, payment.amount)
            return replace(delivery, payment=settled)
        return delivery

    stack.enter_context(patch.object(Cashier, "deliver", delivering))


def follow_redirects(stack: ExitStack) -> None:
    """Rule 7 broken."""
    send = httpx.AsyncClient.send

    async def sending(self: httpx.AsyncClient, request: httpx.Request, **kw: Any) -> httpx.Response:
        return await send(self, request, **{**kw, "follow_redirects": True})

    stack.enter_context(patch.object(httpx.AsyncClient, "send", sending))


def sign_on_retry(stack: ExitStack) -> None:
    """Rule 3 broken, as the stock client does: each send carries a new signature."""
    deliver = Cashier.deliver

    async def delivering(
        self: Cashier, lease: Lease, payment: Payment, vendor: Vendor, observe: Observe
    ) -> Delivery:
        with contextlib.suppress(RenterError):
            asked = await self._seller(payment, vendor).request()
            if isinstance(asked, PaymentRequired402) and asked.challenge is not None:
                signed = await sign_payment(
                    self._wallet,
                    self.policy.network,
                    asked.challenge,
                    asked.challenge.accepts[0],
                    nonce=slot_nonce(payment.run_id, payment.slot),
                    valid_before_s=payment.valid_before_s + 1,
                    payment_id=payment.id,
                )
                payment = replace(payment, header=signed.header)
        return await deliver(self, lease, payment, vendor, observe)

    stack.enter_context(patch.object(Cashier, "deliver", delivering))


def double_refund(stack: ExitStack) -> None:
    """Rule 9 broken: one transfer back is booked as often as it is looked at."""

    async def refund(self: Budget, run_id: str, tx_hash: str, amount: Usd) -> bool:
        del tx_hash
        update = {"$inc": {"budgetRemaining": amount.micros, "spent": -amount.micros}}
        return await self._documents.change(run_id, {}, update)

    stack.enter_context(patch.object(Budget, "refund", refund))


def believe_a_refund(stack: ExitStack) -> None:
    """Rule 9 broken: the vendor's word grows the budget."""
    from tools.payments.refunds import Refunds

    claim = Refunds.claim

    async def claiming(self: Refunds, job: Any, claimed: Any, observe: Observe) -> None:
        await claim(self, job, claimed, observe)
        payment = await self._ledger.payments.get(job.payment_id)
        if payment.state is PaymentState.SETTLED:
            await self._ledger.payments.close(
                payment, PaymentState.REFUNDED, refunded=claimed.amount
            )

    stack.enter_context(patch.object(Refunds, "claim", claiming))


def pay_unapproved(stack: ExitStack) -> None:
    """Whether a person has approved is looked at in `approve` alone: who gets to `pay` pays."""

    async def check(self: ApprovalGate, run: Run, purchase: Purchase) -> None:
        del self, run, purchase

    async def permit(self: ApprovalGate, run: Run, purchase: Purchase, observe: Observe) -> Permit:
        del observe
        standing = await self.standing(run, purchase)
        paid = payment_id(run.id, purchase.slot, purchase.vendor.vendor_id)
        return Permit(paid, purchase.quoted, standing.threshold, standing.at_stake, None)

    stack.enter_context(patch.object(ApprovalGate, "check", check))
    stack.enter_context(patch.object(ApprovalGate, "permit", permit))


def exposure_of_each_run_alone(stack: ExitStack) -> None:
    """Rule 8 broken: what a vendor was prepaid is bounded in each run, and not over all of them."""
    from tools.payments.exposure import Exposure

    async def passing(self: Exposure, vendor_id: str, key: str, amount: Usd, bound: Usd) -> None:
        del self, vendor_id, key, amount, bound

    stack.enter_context(patch.object(Exposure, "check", passing))
    stack.enter_context(patch.object(Exposure, "hold", passing))


BUGS: Final[Mapping[str, Bug]] = {
    bug.__name__: bug
    for bug in (
        random_nonce,
        no_reservation_guard,
        send_before_persist,
        release_on_timeout,
        release_on_402,
        trust_a_receipt,
        follow_redirects,
        sign_on_retry,
        double_refund,
        believe_a_refund,
        pay_unapproved,
    )
}
OF_MANY_RUNS: Final[Mapping[str, Bug]] = {
    "exposure_of_each_run_alone": exposure_of_each_run_alone,
}
"""Bugs that no case of one run can show: tests/graph/test_limits.py finds them."""

CAUGHT_BY: Final[Mapping[str, str]] = {
    "random_nonce": "simple",
    "no_reservation_guard": "tight pause@1/runs.reserve#1:before+1",
    "send_before_persist": "simple crash@1/payments.authorized#1:before",
    "release_on_timeout": "simple net.lost_request@1/http.submit-job#2*1",
    "release_on_402": "simple net.refused_unseen@1/http.submit-job#2*1",
    "trust_a_receipt": "simple net.forged@1/http.submit-job#2*1",
    "follow_redirects": "simple net.redirected@1/http.submit-job#2*1",
    "sign_on_retry": "simple",
    "double_refund": "refund do.restart@9",
    "pay_unapproved": "asked do.to-pay@2",
    "believe_a_refund": "simple vendor.never_boot@gpu_vendor_1/submit-job*1 "
    "vendor.claimed_refund@gpu_vendor_1/cancel-job*0 do.advance-2400@3",
}
"""For each bug a case that it must break; the campaigns find the same and more."""
