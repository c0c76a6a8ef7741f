"""Closing a slot: the chain is the judge, and the books follow it.

    paid       AuthorizationUsed(payer, nonce) with the matching Transfer   → settled, posted
    cancelled  AuthorizationCanceled(payer, nonce)                          → refused, released
    unused     in a block after the last authorization's last second        → expired, released
    used, by nothing that we signed, or by nobody knows what                → PaymentUnclear
    anything else is unknown, and stays as it is

The slot's reservation is closed last, so an open one means that something is left to do; every
step may be repeated, by anyone, at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from domain.errors import IllegalTransition, PaymentUnclear
from domain.ids import user_day
from domain.journal import Note, NoteType
from domain.money import ZERO, Usd
from domain.networks import Network
from domain.payments import PaymentState
from domain.reasons import Reason
from ledger.ledger import Ledger
from ledger.payments import Payment
from ledger.run import Reservation, Run
from tools.payments.chain import Cancelled, Chain, Settled, Unclear, Unused

LOG: Final = logging.getLogger(__name__)
Observe = Callable[[Note], None]
"""Where notes about money go; the caller writes them into the run's journal."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What closes a slot: who was paid, how much, and why the others were not."""

    winner: Payment | None
    spent: Usd
    why: str


class Judge:
    def __init__(
        self, ledger: Ledger, chain: Chain, network: Network, now: Callable[[], datetime]
    ) -> None:
        """chain: a reader of `network`; payments on other networks are left undecided."""
        self._ledger = ledger
        self._chain = chain
        self._network = network
        self._now = now

    async def judge(self, run: Run, payment: Payment, observe: Observe, word: str = "") -> Payment:
        """Close a payment's slot if the chain decides; give the payment as it is then.

        word: what the vendor said, if anything; it decides between refused and expired only.
        Raises ChainDown; PaymentUnclear, with the money held as it was.
        """
        held = run.reservation(payment.slot)
        if held is None:
            return await self._ledger.payments.get(payment.id) if payment.state.open else payment
        slot = [payment]
        # A closed slot may have been closed for another payment, which a person named.
        alone = payment.state.open and not held.shared
        if not (alone and {payment.id}.issuperset(held.armed)):
            slot = await self._ledger.payments.of_slot(run.id, payment.slot)
        if unread := set(held.armed).difference(p.id for p in slot):
            # What was not read may be paid: a replica that lags shows a slot without its rival.
            LOG.warning("run %s: payments %s of slot %d were not read", run.id, unread, held.slot)
            return payment
        verdict = await self._verdict(slot, observe)
        if verdict is None or verdict.spent > held.amount:
            # Only a person settles more than was held; resolve.py books that by hand.
            return payment
        winner = verdict.winner
        judged = payment if winner is None or winner.id != payment.id else winner
        for other in slot:
            if other.state is PaymentState.AUTHORIZED and (winner is None or other.id != winner.id):
                said = word if other.id == payment.id else ""
                closed = await self._close_unpaid(other, said, verdict.why, observe)
                judged = closed if other.id == payment.id else judged
        await self.close_slot(
            run.id, held, verdict.spent, verdict.winner.vendor_id if verdict.winner else None
        )
        return judged

    async def close_slot(
        self, run_id: str, held: Reservation, spent: Usd, vendor_id: str | None = None
    ) -> None:
        """Close a slot in the run's budget, and count what it spent against the caps.

        A slot that has changed since it was read stays open, to be judged anew.
        """
        if await self._ledger.budget.post(run_id, held, spent) and held.allowance is not None:
            slot = f"{run_id}:{held.slot}"
            await self._ledger.allowances.settle(held.allowance, slot, spent, vendor_id)

    async def settle_allowances(self) -> None:
        """Count the real spending of slots that were closed just before a crash: until then they
        stand against today's caps with all that they might have cost.
        """
        now = self._now()
        slots = [key.rpartition(":") for key in await self._ledger.allowances.unsettled(now)]
        found = await self._ledger.spenders.of_ids({run_id for run_id, *_ in slots})
        runs = {run.id: run for run in found}
        closed = [
            (runs[run_id], int(slot))
            for run_id, _, slot in slots
            if run_id in runs and runs[run_id].reservation(int(slot)) is None
        ]
        paid = {
            (p.run_id, p.slot): p
            for p in await self._ledger.payments.paid_of_runs([run.id for run, _ in closed])
        }
        for run, slot in closed:
            day, won = user_day(run.user_id, now), paid.get((run.id, slot))
            spent, vendor_id = (won.amount, won.vendor_id) if won else (ZERO, None)
            await self._ledger.allowances.settle(day, f"{run.id}:{slot}", spent, vendor_id)

    async def judge_open(self, run: Run, observe: Observe) -> None:
        """Judge each slot of `run` that holds money. Raises ChainDown; PaymentUnclear for the
        first slot that is unclear, once all others are judged.
        """
        unclear = None
        for held in run.reservations:
            slot = await self._ledger.payments.of_slot(run.id, held.slot)
            signed = [p for p in slot if p.state is not PaymentState.RESERVED]
            if signed:
                try:
                    await self.judge(run, signed[0], observe)
                except PaymentUnclear as error:
                    unclear = unclear or error
        if unclear:
            raise unclear

    async def _verdict(self, slot: Sequence[Payment], observe: Observe) -> _Verdict | None:
        """Who of a slot's payments was paid, if that is decided; the winner is closed already."""
        if settled := next((p for p in slot if p.state.paid), None):
            return _Verdict(settled, settled.amount, f"the slot was paid to {settled.vendor_id}")
        if any(p.state is PaymentState.RESERVED for p in slot):
            return None
        signed = [p for p in slot if p.state is PaymentState.AUTHORIZED]
        if not signed:
            return _Verdict(None, ZERO, "nothing that was signed can settle any more")
        if {(p.network, p.payer) for p in signed} != {(self._network.caip2, signed[0].payer)}:
            return None
        last_second = max(p.valid_before_s for p in signed)
        fate = await self._chain.authorization(
            signed[0].payer,
            signed[0].nonce,
            from_block=min(p.from_block for p in signed),
            valid_before_s=last_second,
        )
        match fate:
            case Settled():
                winner = await self._settle(signed, fate, observe)
                why = f"the slot was paid to {winner.vendor_id} in {fate.tx_hash}"
                return _Verdict(winner, fate.amount, why)
            case Cancelled():
                return _Verdict(None, ZERO, f"the nonce was cancelled in {fate.tx_hash}")
            case Unused():
                if fate.block.timestamp_s < last_second:
                    return None
                why = f"its nonce is unused in block {fate.block.number}, after its last second"
                return _Verdict(None, ZERO, why)
            case Unclear(problem, tx_hash):
                raise _unclear(signed[0], problem, tx_hash)

    async def _settle(self, signed: Sequence[Payment], fate: Settled, observe: Observe) -> Payment:
        """Book what the chain shows as paid, to whichever of the slot's vendors it went."""
        paid = (fate.pay_to.lower(), fate.amount)
        winner = next((p for p in signed if (p.pay_to.lower(), p.amount) == paid), None)
        if winner is None:
            raise _unclear(
                signed[0],
                f"its nonce paid {fate.amount.exact()} to {fate.pay_to} in {fate.tx_hash}, which "
                "no stored authorization asked for",
                fate.tx_hash,
            )
        settled = await self._ledger.payments.close(
            winner,
            PaymentState.SETTLED,
            now=self._now(),
            tx_id=fate.tx_hash,
            settled_block=fate.block_number,
        )
        observe(
            Note(
                NoteType.PAYMENT_SETTLED,
                f"{fate.amount} settled to {settled.vendor_id} in {fate.tx_hash}",
                facts(settled),
                key=f"{settled.id}:settled",
            )
        )
        return settled

    async def close_unsent(self, payment: Payment, observe: Observe) -> Payment:
        """Close an open payment whose slot is closed; give it as it is then.

        Only an armed slot's payments are ever sent, and whoever closes an armed slot closes its
        payments first. So one that is open after its slot was seen closed was never sent, and
        nobody holds it who could settle it. The order of the two reads is the proof.
        """
        run = await self._ledger.spenders.get(payment.run_id)
        current = await self._ledger.payments.get(payment.id)
        if run.reservation(payment.slot) is not None or payment.slot >= run.next_slot:
            return current
        match current.state:
            case PaymentState.RESERVED:
                await self.release(current, "its slot was closed before", observe)
                return await self._ledger.payments.get(payment.id)
            case PaymentState.AUTHORIZED:
                return await self._close_unpaid(current, "", "it was never sent", observe)
            case _:
                return current

    async def abandon(self, run: Run, slot: int, observe: Observe) -> None:
        """Release a slot in which nothing was ever signed; a signed one is left to the chain.

        Only for the holder of the run's lease.
        """
        held = run.reservation(slot)
        if held is None:
            return
        payments = await self._ledger.payments.of_slot(run.id, slot)
        for payment in payments:
            if payment.state is PaymentState.RESERVED:
                await self.release(payment, "abandoned before it was signed", observe)
        await self.free(run.id, held)

    async def release(self, payment: Payment, why: str, observe: Observe) -> bool:
        """Close an unsigned payment; False when another writer was faster."""
        try:
            released = await self._ledger.payments.close(
                payment,
                PaymentState.RELEASED,
                now=self._now(),
                reason=why[:500],
                reason_data=Reason(why).data,
            )
        except IllegalTransition:
            return False
        observe(
            Note(
                NoteType.PAYMENT_RELEASED,
                f"{released.amount} for {released.vendor_id} is free again: {why}",
                facts(released),
                key=f"{released.id}:closed",
            )
        )
        return True

    async def free(self, run_id: str, held: Reservation) -> None:
        """Release a slot's money when none of its payments can move any more."""
        slot = await self._ledger.payments.of_slot(run_id, held.slot)
        closed = {p.id for p in slot if p.state.in_vain}
        if closed.issuperset(held.armed) and len(closed) == len(slot):
            await self.close_slot(run_id, held, ZERO)

    async def _close_unpaid(
        self, payment: Payment, word: str, why: str, observe: Observe
    ) -> Payment:
        state = PaymentState.REFUSED if word else PaymentState.EXPIRED
        reason = f"{why}; {word}" if word else why
        closed = await self._ledger.payments.close(
            payment, state, now=self._now(), reason=reason[:500]
        )
        observe(
            Note(
                NoteType(f"payment_{state}"),
                f"{closed.amount} to {closed.vendor_id} was not paid: {reason}",
                facts(closed),
                key=f"{closed.id}:closed",
            )
        )
        return closed


def _unclear(payment: Payment, problem: str, tx_hash: str | None) -> PaymentUnclear:
    return PaymentUnclear(
        payment.run_id,
        payment.slot,
        payment.nonce,
        problem,
        payment_id=payment.id,
        tx_hash=tx_hash,
    )


def facts(payment: Payment) -> Mapping[str, Any]:
    """What the journal keeps of a payment; never the signed header."""
    return {
        "paymentId": payment.id,
        "slot": payment.slot,
        "vendorId": payment.vendor_id,
        "amountMicros": payment.amount.micros,
        "refundedMicros": payment.refunded.micros,
        "payTo": payment.pay_to,
        "network": payment.network,
        "x402TxId": payment.tx_id,
        "state": payment.state.value,
    }
