"""Refunds: a vendor's claim to have paid back, believed once its transfer is on the chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from domain.journal import Note, NoteType
from domain.money import ZERO
from domain.networks import Network
from domain.payments import PaymentState
from ledger.jobs import Job
from ledger.ledger import Ledger
from ledger.payments import Payment
from ledger.run import Run
from tools.payments.chain import Chain, Transfer
from tools.payments.judge import Observe, facts
from tools.vendors.base import ClaimedRefund

_REFUNDABLE: Final = (PaymentState.AUTHORIZED, PaymentState.SETTLED)
"""A vendor may pay back before the chain has shown us its own payment."""


class Refunds:
    def __init__(
        self, ledger: Ledger, chain: Chain, network: Network, now: Callable[[], datetime]
    ) -> None:
        self._ledger = ledger
        self._chain = chain
        self._network = network
        self._now = now

    async def claim(
        self, job: Job, claim: ClaimedRefund, observe: Observe, *, said: bool = True
    ) -> None:
        """Note what a vendor says it paid back for a job. Changes no budget.

        said: False where the vendor said nothing, and the chain shows it all the same.
        A later claim takes the place of an earlier one that the chain has not confirmed.
        """
        tx_hash = claim.tx_hash.lower()  # in one spelling
        run = await self._ledger.spenders.get(job.run_id)
        payments = await self._payments(job)
        if said and any(p.refund_tx == tx_hash for p in payments):
            return
        for payment in _refundable(payments):
            if payment.refund_log is not None or _booked(payment, run):
                continue
            if await self._ledger.payments.claim_refund(payment, tx_hash, claim.amount):
                observe(
                    Note(
                        NoteType.REFUND_CLAIMED,
                        f"{job.vendor_id} says that it refunds {claim.amount} in {claim.tx_hash}"
                        if said
                        else f"{claim.amount} came from {job.vendor_id} in {claim.tx_hash}, which "
                        "it had not told",
                        facts(payment),
                        key=f"{payment.id}:refund_claimed:{claim.tx_hash}",
                    )
                )
            return

    async def _payments(self, job: Job) -> list[Payment]:
        """The job's payments, the newest first."""
        found = [
            await self._ledger.payments.find(payment_id)
            for payment_id in (*reversed(job.extensions), job.payment_id)
        ]
        return [payment for payment in found if payment]

    async def confirm(self, run_id: str, observe: Observe) -> bool:
        """Book the run's claimed refunds that the chain shows by now; True when none is left open.

        Raises ChainDown.

        Idempotent: a transaction is booked once, and each step may be repeated.
        """
        payments = await self._ledger.payments.of_run(run_id)
        if await self._pass_on(payments):
            payments = await self._ledger.payments.of_run(run_id)
        if claimed := list(filter(_claimed, payments)):
            for payment in claimed:
                await self._confirm(payment, observe)
            payments = await self._ledger.payments.of_run(run_id)
        run = await self._ledger.spenders.get(run_id)
        for payment in payments:
            if payment.state is PaymentState.REFUNDED and not _booked(payment, run):
                await self._ledger.budget.refund(run_id, payment.refund, payment.refunded)
        return not any(map(_claimed, payments))

    async def _pass_on(self, payments: Sequence[Payment]) -> bool:
        """Move a refund claimed for a payment that never settled to one that did; returns whether
        any moved.

        After a crash in between, no payment claims it: reconcile finds it on the chain.
        """
        passed = False
        for lost in payments:
            if lost.refund_tx is None or not lost.state.in_vain:
                continue
            await self._ledger.payments.unclaim_refund(lost)
            passed = True
            for heir in payments:
                settled = heir.on_chain and heir.state is PaymentState.SETTLED
                if settled and heir.pay_to == lost.pay_to and heir.refund_tx is None:
                    await self._ledger.payments.claim_refund(
                        heir, lost.refund_tx, lost.refund_claim
                    )
                    break
        return passed

    async def _confirm(self, payment: Payment, observe: Observe) -> None:
        if not payment.on_chain or payment.network != self._network.caip2:
            return
        transfers = await self._chain.transfers_in(
            str(payment.refund_tx), sender=payment.pay_to, recipient=payment.payer
        )
        transfers = [t for t in transfers if t.block_number >= payment.from_block]
        if not transfers:
            return
        to_vendor = await self._of_vendor(payment)
        if any(p.state is PaymentState.AUTHORIZED for p in to_vendor):
            return  # perhaps for a payment not yet seen
        run = await self._ledger.spenders.get(payment.run_id)
        if _booked_before(payment, run, to_vendor):
            transfer: Transfer | None = transfers[0]
        else:
            payment, transfer = await self._its_own(payment, transfers)
        if transfer is None:
            return
        paid = sum((p.amount - p.refunded for p in to_vendor if p.state.paid), ZERO)
        amount = min(transfer.amount, paid)
        # The budget first: an open claim is what brings everyone back here after a crash.
        if not _booked(payment, run) and (
            not await self._ledger.budget.refund(payment.run_id, payment.refund, amount)
        ):
            run = await self._ledger.spenders.get(payment.run_id)
            if not _booked(payment, run):
                return  # the payment's slot is not closed yet
        refunded = await self._ledger.payments.close(
            payment,
            PaymentState.REFUNDED,
            now=self._now(),
            refunded=amount,
        )
        observe(
            Note(
                NoteType.PAYMENT_REFUNDED,
                f"{refunded.refunded} came back from {payment.vendor_id} in {payment.refund_tx}",
                facts(refunded),
                key=f"{payment.id}:refunded",
            )
        )

    async def _its_own(
        self, payment: Payment, transfers: Sequence[Transfer]
    ) -> tuple[Payment, Transfer | None]:
        """The payment, and the one event of its transaction that pays it back, if there is one.

        transfers: all of the transaction from the payee to us. Which one is this payment's is
        stored before anything is booked, and no other payment gets it. A claim to another payment's
        event is dropped.
        """
        by_log = {t.log_index: t for t in transfers}
        if payment.refund_log is not None:
            return payment, by_log.get(payment.refund_log)
        others = [
            p
            for p in await self._ledger.refunded_in(str(payment.refund_tx))
            if p.id != payment.id and p.pay_to == payment.pay_to
        ]
        taken = {p.refund_log for p in others if p.refund_log is not None}
        old = [p for p in others if p.state is PaymentState.REFUNDED and p.refund_log is None]
        taken |= {t.log_index for t in transfers[: len(old)]}  # an older version took the first
        free = [t for t in transfers if t.log_index not in taken]
        claimed = [p.refund_claim for p in others if p.refund_log is None and p not in old]

        mine = payment.refund_claim
        likely = [t for t in free if t.amount == mine or t.amount not in claimed]
        for transfer in sorted(likely, key=lambda t: (t.amount != mine, t.log_index)):
            if await self._ledger.payments.take_refund(payment, transfer.log_index):
                return replace(payment, refund_log=transfer.log_index), transfer
        if not free:
            await self._ledger.payments.unclaim_refund(payment)
        return payment, None

    async def _of_vendor(self, payment: Payment) -> list[Payment]:
        """The run's payments to the vendor: no refund is larger than the sum of the paid ones."""
        payments = await self._ledger.payments.of_run(payment.run_id)
        return [p for p in payments if p.vendor_id == payment.vendor_id]


def _claimed(payment: Payment) -> bool:
    """Whether its vendor says that it paid back, and the chain has not shown it yet."""
    return payment.refund_tx is not None and payment.state is PaymentState.SETTLED


def _refundable(payments: Sequence[Payment]) -> list[Payment]:
    """Those that may be paid back: first those that are known to have settled."""
    found = [p for p in payments if p.on_chain and p.state in _REFUNDABLE]
    return sorted(found, key=lambda p: p.state is not PaymentState.SETTLED)


def _booked(payment: Payment, run: Run) -> bool:
    """Whether the payment's refund is in the run's budget."""
    known = {payment.refund} if payment.refund_log is not None else payment.old_refunds
    return not known.isdisjoint(run.refunds)


def _booked_before(payment: Payment, run: Run, of_run: Sequence[Payment]) -> bool:
    """Whether an earlier version put it into the budget, and got no further. It knew one refund of
    a payee in a transaction, so that may be another payment's.
    """
    others = (p for p in of_run if p.id != payment.id and p.refund_tx == payment.refund_tx)
    done = any(p.state is PaymentState.REFUNDED and p.refund_log is None for p in others)
    return payment.refund_log is None and not done and _booked(payment, run)
