"""Buying one thing from a URL, under the same ledger, policy and retry rules as the agent.

An id is one purchase with one slot and so one nonce: whatever is repeated under it, in any process,
the token lets at most one payment of it settle. A purchase that was given up stays given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from domain.approvals import Approval, ApprovalState
from domain.errors import (
    Conflict,
    PolicyRefused,
    RenterError,
    SlotClosed,
    VendorError,
    WalletEmpty,
)
from domain.ids import approval_id, purchase_id_of
from domain.jobs import RunStatus
from domain.journal import Note, NoteType
from domain.money import ZERO, Usd
from domain.networks import Network
from domain.payments import PaymentState, PurchaseKind
from domain.quotes import Vendor
from domain.reasons import Reason, ReasonCode
from ledger.ledger import Ledger
from ledger.payments import Payment
from ledger.run import Lease, Run
from tools.payments.cashier import Cashier
from tools.payments.fetch import Fetched, Fetcher, FetchRequest
from tools.payments.judge import facts
from tools.payments.purchase import Purchase

SLOT: Final = 0
POLL_S: Final = 1.0


class Outcome(StrEnum):
    FREE = "free"
    """No payment was asked."""
    PAID = "paid"
    """The chain shows it."""
    UNKNOWN = "unknown"
    """An authorization was sent, and the chain has not decided."""
    NOT_PAID = "not_paid"
    """Nothing was paid, and nothing can be any more."""


@dataclass(frozen=True, slots=True)
class Bought:
    """What came of one call. `goods` is what the seller gave this time."""

    outcome: Outcome
    run_id: str
    payment: Payment | None
    goods: Fetched | None
    problem: str
    """The seller's word or the chain's silence, where something is missing."""
    had_goods: bool
    """Whether the seller gave the goods, this time or before."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person wants to buy. pay_to: the only address to pay; None takes the seller's word."""

    purchase_id: str
    request: FetchRequest
    most: Usd
    pay_to: str | None


class Buyer:
    """Who buys one wish."""

    def __init__(
        self,
        wish: Wish,
        take: Callable[[Fetched], None],
        ledger: Ledger,
        cashier: Cashier,
        fetcher: Fetcher,
        network: Network,
        now: Callable[[], datetime],
        *,
        lease_seconds: float,
        patience_s: float,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """take: is given the goods the moment they are there, before the chain is asked. fetcher:
        of the wish's request. cashier: one with this very fetcher.

        patience_s: how long to wait for the chain once the goods are there.
        """
        self.sent = False
        """Whether an authorization was sent: any failure from then on leaves it unknown."""
        self._wish = wish
        self._take = take
        self._ledger = ledger
        self._cashier = cashier
        self._fetcher = fetcher
        self._network = network
        self._now = now
        self._lease_seconds = lease_seconds
        self._patience_s = patience_s
        self._pause = pause

    async def buy(self) -> Bought:
        """Buy, or go on with what was begun under the same id.

        Raises PolicyRefused, WalletEmpty, VendorError, SlotClosed and BudgetExceeded with nothing
        paid; Conflict; and DependencyDown before anything was sent.
        """
        wish = self._wish
        run_id = purchase_id_of(wish.purchase_id)
        goal = f"{wish.request.method} {wish.request.shown_url}"
        await self._ledger.purchases.create(run_id, goal, wish.most, self._now())
        held = self._ledger.at_work(run_id, self._now, self._lease_seconds)
        async with held as (run, lease, notes):
            return await self._buy(run, lease, notes)

    async def _buy(self, run: Run, lease: Lease, notes: list[Note]) -> Bought:
        stored = next(iter(await self._ledger.payments.of_slot(run.id, SLOT)), None)
        if stored is not None:
            self._check_same(stored)
        if stored is None or stored.state is PaymentState.RESERVED:
            await self._approve(run)
            try:
                delivery = await self._cashier.authorize(lease, run, self._purchase(), notes.append)
            except SlotClosed as error:
                raise SlotClosed(
                    "This purchase was given up before anything was signed, so nothing was paid",
                    "Begin anew with another --id",
                ) from error
            except (PolicyRefused, WalletEmpty, VendorError) as refusal:
                await self._end(run, lease, RunStatus.FAILED, str(refusal)[:500])
                raise
            if isinstance(delivery.goods, Fetched):
                self._take(delivery.goods)
                notes.append(_received(delivery.payment, delivery.goods))
                await self._end(run, lease, RunStatus.COMPLETED, Reason.of(ReasonCode.FREE))
                return Bought(Outcome.FREE, run.id, None, delivery.goods, "", had_goods=True)
            stored = delivery.payment
        free = Reason(stored.reason, stored.reason_data).code is ReasonCode.FREE
        # An older version stored the sentence alone.
        if free or (not stored.reason_data and stored.reason == ReasonCode.FREE.sentence):
            return await self._ask_again(run)
        if stored.state is not PaymentState.AUTHORIZED and not stored.state.paid:
            await self._end(run, lease, RunStatus.FAILED, stored.reason)
            return Bought(Outcome.NOT_PAID, run.id, stored, None, stored.reason, had_goods=False)
        return await self._deliver(run, lease, stored, notes)

    async def _approve(self, run: Run) -> None:
        """Store that who orders approves: of this purchase, to this payee, up to --max-usd."""
        wish, now, purchase = self._wish, self._now(), self._purchase()
        if not self._cashier.policy.needs_approval(wish.most):
            return
        pay_to = wish.pay_to or ""
        terms = (SLOT, purchase.vendor.vendor_id, pay_to, wish.most, purchase.quote_id)
        approval = Approval(
            approval_id(run.id, *terms),
            run.id,
            *terms,
            ApprovalState.APPROVED,
            created_at=now,
            expires_at=now + timedelta(seconds=self._lease_seconds + self._patience_s),
            price=wish.most,
        )
        await self._ledger.approvals.grant(approval)

    async def _ask_again(self, run: Run) -> Bought:
        """What cost nothing once is asked for again; if it costs now, it takes another id."""
        answer = await self._fetcher.request()
        if not isinstance(answer, Fetched):
            problem = "it asked for no payment before, and does now: take another --id"
            return Bought(Outcome.NOT_PAID, run.id, None, None, problem, had_goods=True)
        self._take(answer)
        return Bought(Outcome.FREE, run.id, None, answer, "", had_goods=True)

    async def _deliver(self, run: Run, lease: Lease, payment: Payment, notes: list[Note]) -> Bought:
        """Send the stored bytes; hand the goods over; then ask the chain."""
        await self._cashier.arm(lease, payment)
        self.sent = True
        sent = await self._cashier.send(payment, self._seller())
        goods = sent.goods if isinstance(sent.goods, Fetched) else None
        if goods is not None:
            self._take(goods)
            notes.append(_received(payment, goods))
        problem = sent.problem
        try:
            payment = await self._judged(payment, notes, problem, wait=goods is not None)
        except RenterError as error:
            problem = f"{problem}; {error}" if problem else str(error)
        before = await self._ledger.observations.of_run(run.id, types=[NoteType.GOODS_RECEIVED])
        had_goods = goods is not None or bool(before)
        outcome = Outcome.PAID if payment.state.paid else Outcome.NOT_PAID
        if payment.state.open:
            outcome = Outcome.UNKNOWN
        if outcome is Outcome.NOT_PAID:
            problem = payment.reason
            await self._end(run, lease, RunStatus.FAILED, problem)
        elif outcome is Outcome.PAID and had_goods:
            await self._end(run, lease, RunStatus.COMPLETED, "")
        return Bought(outcome, run.id, payment, goods, problem, had_goods)

    async def _judged(
        self, payment: Payment, notes: list[Note], word: str, *, wait: bool
    ) -> Payment:
        """The payment as the chain leaves it; `wait` gives a settlement time to be confirmed."""
        left = self._patience_s if wait else 0.0
        while True:
            run = await self._ledger.purchases.get(payment.run_id)
            payment = await self._cashier.judge.judge(run, payment, notes.append, word)
            if payment.state is not PaymentState.AUTHORIZED or left <= 0:
                return payment
            await self._pause(min(POLL_S, left))
            left -= POLL_S

    async def _end(self, run: Run, lease: Lease, status: RunStatus, reason: str) -> None:
        if not run.status.ended:
            await self._ledger.purchases.end(lease, status, reason, self._now())

    def _check_same(self, payment: Payment) -> None:
        """Raise Conflict unless the id was used for this request, network and payee before, and
        for no more money than may be paid now.
        """
        wish = self._wish
        self._fetcher.check(payment.order)
        if wish.pay_to and payment.pay_to and wish.pay_to.lower() != payment.pay_to.lower():
            raise Conflict(
                f"Under this --id, {payment.pay_to} was authorized already, not {wish.pay_to}",
                "Repeat it without --pay-to to see what became of it",
            )
        if payment.state is PaymentState.AUTHORIZED and payment.amount > wish.most:
            dollars = payment.amount.exact().lstrip("$")
            raise Conflict(
                f"Under this --id, {payment.amount.exact()} was authorized already, more than the "
                f"{wish.most.exact()} that may be paid now",
                f"Repeat it with --max-usd {dollars} to see what became of it, or take another "
                "--id",
            )

    def _purchase(self) -> Purchase:
        wish = self._wish
        return Purchase(
            slot=SLOT,
            kind=PurchaseKind.FETCH,
            vendor=self._seller(),
            quoted=wish.most,
            minutes=0,
            gpu_type="",
            order=wish.request.order(self._network),
            any_payee=wish.pay_to is None,
            quote_id=wish.purchase_id,
        )

    def _seller(self) -> Vendor:
        request = self._wish.request
        seller, address = request.seller, request.shown_url
        return Vendor(seller, seller, address, ZERO, 1.0, (), self._wish.pay_to)


def _received(payment: Payment, goods: Fetched) -> Note:
    return Note(
        NoteType.GOODS_RECEIVED,
        f"{payment.vendor_id} answered {goods.status_code} with {len(goods.body):,} bytes",
        {
            **facts(payment),
            "status": goods.status_code,
            "contentType": goods.content_type,
            "bytes": len(goods.body),
            "sha256": goods.sha256,
        },
        key=f"{payment.id}:goods",
    )
