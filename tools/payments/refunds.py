"""Refunds: a vendor's claim to have paid back, believed once its transfer is on the chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from domain.journal import Note
from domain.money import ZERO
from domain.networks import Network
from domain.payments import PaymentState
from ledger.jobs import Job
from ledger.ledger import Ledger
from ledger.payments import Payment
from ledger.run import Run
from tools.payments.chain import Chain
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
        run = await self._ledger.runs.get(job.run_id)
        for payment in await self._refundable(job):
            if _booked(payment, run):
                continue
            # In one spelling, so that one transaction cannot be claimed twice.
            if await self._ledger.payments.claim_refund(payment, claim.tx_hash.lower()):
                observe(
                    Note(
                        "refund_claimed",
                        f"{job.vendor_id} says that it refunds {claim.amount} in {claim.tx_hash}"
                        if said
                        else f"{claim.amount} came from {job.vendor_id} in {claim.tx_hash}, which "
                        "it had not told",
                        facts(payment),
                        key=f"{payment.id}:refund_claimed:{claim.tx_hash}",
                    )
                )
            return

    async def _refundable(self, job: Job) -> list[Payment]:
        """The job's payments that may be paid back, the newest first: of those that are known to
        have settled, and then of the others.
        """
        found = [
            await self._ledger.payments.find(payment_id)
            for payment_id in (*reversed(job.extensions), job.payment_id)
        ]
        payments = [p for p in found if p and p.on_chain and p.state in _REFUNDABLE]
        return sorted(payments, key=lambda p: p.state is not PaymentState.SETTLED)

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
        run = await self._ledger.runs.get(run_id)
        for payment in payments:
            if payment.state is PaymentState.REFUNDED and not _booked(payment, run):
                await self._ledger.budget.refund(run_id, payment.refund, payment.refunded)
        return not any(map(_claimed, payments))

    async def _pass_on(self, payments: Sequence[Payment]) -> bool:
        """Give a refund that was claimed for a payment which never settled to one that did; say
        whether there was any.

        A crash in between leaves it claimed by none: reconcile finds it on the chain.
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
                    await self._ledger.payments.claim_refund(heir, lost.refund_tx)
                    break
        return passed

    async def _confirm(self, payment: Payment, observe: Observe) -> None:
        if not payment.on_chain or payment.network != self._network.caip2:
            return
        transfer = await self._chain.transfer_in(
            str(payment.refund_tx), sender=payment.pay_to, recipient=payment.payer
        )
        if transfer is None or transfer.block_number < payment.from_block:
            return
        to_vendor = await self._of_vendor(payment)
        if any(p.state is PaymentState.AUTHORIZED for p in to_vendor):
            return  # it may be for what is not seen to be paid yet, and is booked once
        paid = sum((p.amount - p.refunded for p in to_vendor if p.state.paid), ZERO)
        amount = min(transfer.amount, paid)
        # The budget first: an open claim is what brings everyone back here after a crash.
        if not _booked(payment, await self._ledger.runs.get(payment.run_id)) and (
            not await self._ledger.budget.refund(payment.run_id, payment.refund, amount)
        ):
            run = await self._ledger.runs.get(payment.run_id)
            if not _booked(payment, run):
                return  # the payment's slot is not closed yet
        refunded = await self._ledger.payments.close(
            payment, PaymentState.REFUNDED, now=self._now(), refunded=amount
        )
        observe(
            Note(
                "payment_refunded",
                f"{refunded.refunded} came back from {payment.vendor_id} in {payment.refund_tx}",
                facts(refunded),
                key=f"{payment.id}:refunded",
            )
        )

    async def _of_vendor(self, payment: Payment) -> list[Payment]:
        """The run's payments to the vendor: no refund is larger than the sum of the paid ones."""
        payments = await self._ledger.payments.of_run(payment.run_id)
        return [p for p in payments if p.vendor_id == payment.vendor_id]


def _claimed(payment: Payment) -> bool:
    """Whether its vendor says that it paid back, and the chain has not shown it yet."""
    return payment.refund_tx is not None and payment.state is PaymentState.SETTLED


def _booked(payment: Payment, run: Run) -> bool:
    """Whether the payment's refund is in the run's budget; earlier versions kept the bare hash."""
    return payment.refund in run.refunds or payment.refund_tx in run.refunds
