"""A person's word about money that the ledger cannot explain: `gpu-renter reconcile --resolve`.

It goes only as far as the chain leaves open. What a payment was is read from the transaction that
the person names; that nothing was paid is taken from a person only once nothing can settle any
more and no transfer is to be seen. The reason stands in the run's journal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from domain.errors import Conflict, InvalidInput, PaymentUnclear
from domain.ids import is_purchase, payment_id, slot_nonce
from domain.journal import Note, NoteType
from domain.money import ZERO, Usd
from domain.networks import Network
from domain.payments import PaymentState, PurchaseKind
from domain.quotes import Rail
from ledger.compared import Stray
from ledger.ledger import Ledger
from ledger.payments import Payment
from ledger.run import Run
from tools.payments.cashier import CLOCKS
from tools.payments.chain import Chain, Settled, Unused
from tools.payments.compare import Comparison
from tools.payments.judge import Judge, Observe, facts

LEASE_SECONDS: Final = 60.0
LONGEST_REASON: Final = 300
LONGEST_RACE: Final = 8
NOBODY: Final = "unknown"
"""The vendor of a payment to an address that is nobody's in the registry."""


class Resolver:
    """Closes by hand what neither chain nor ledger can close. Of one wallet on one network."""

    def __init__(
        self,
        ledger: Ledger,
        judge: Judge,
        chain: Chain,
        network: Network,
        payer: str,
        now: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._judge = judge
        self._chain = chain
        self._network = network
        self._payer = payer
        self._now = now
        self._comparison = Comparison(ledger, chain, network, payer)

    async def acknowledge(self, tx_hash: str, reason: str) -> list[Stray]:
        """Note that a person knows the transfers out of the wallet in a transaction that no payment
        explains.

        Returns those transfers; idempotent. Raises InvalidInput where there are none, or where a
        run's nonce made one: that is a payment.
        """
        option, tx_hash = "--acknowledge", tx_hash.lower()
        strays = await self._strays(option, tx_hash)
        for stray in strays:
            if stray.run_id is not None:
                raise InvalidInput(
                    option,
                    f"{stray.amount} to {stray.other} is a payment for slot {stray.slot} of run "
                    f"{stray.run_id}",
                    f"Use: gpu-renter reconcile --resolve {stray.run_id} --paid {tx_hash} "
                    '--reason "…"',
                )
        said = reason[:LONGEST_REASON]
        await self._ledger.comparisons.acknowledge(self._payer, strays, said, self._now())
        return strays

    async def paid(self, run_id: str, tx_hash: str, reason: str) -> list[Payment]:
        """Book what a run paid in a transaction, as the chain shows it; the payments.

        The run's budget follows, and grows where it cannot hold them: they are spent. Said again,
        it finishes what was interrupted. Raises InvalidInput unless the transaction used a nonce
        of this run's, NotFound, LeaseHeld, ChainDown.
        """
        option, tx_hash = "--paid", tx_hash.lower()
        async with self._held(run_id) as (run, observe):
            begun = [p for p in await self._ledger.payments.of_run(run.id) if p.tx_id == tx_hash]
            unfinished = [p for p in begun if p.resolved]
            if not unfinished:
                strays = await self._strays(option, tx_hash)
                mine = [stray for stray in strays if stray.run_id == run.id]
                if not mine:
                    raise InvalidInput(
                        option,
                        f"{tx_hash} used no nonce of run {run.id}",
                        f"If you know what it was: gpu-renter reconcile --acknowledge {tx_hash}",
                    )
                unfinished = [await self._settle(run, stray, reason) for stray in mine]
            for payment in unfinished:
                await self._book(payment, observe)
            return unfinished

    async def unpaid(self, run_id: str, reason: str, chosen: str | None = None) -> Payment:
        """Close an open payment of a run as one that paid nothing; the payment.

        chosen: which one, where the run has several. Raises Conflict where the chain decides by
        itself or it may still settle, InvalidInput, NotFound, LeaseHeld, ChainDown.
        """
        async with self._held(run_id) as (run, observe):
            payment = await self._chosen(run, chosen)
            slot = await self._ledger.payments.of_slot(run.id, payment.slot)
            await self._check_unpaid(run, payment, slot)
            held = run.reservation(payment.slot)
            assert held is not None
            said = f"closed by hand: {reason}"
            for other in slot:
                if other.state.open:
                    signed = other.state is PaymentState.AUTHORIZED
                    closed = await self._ledger.payments.close(
                        other,
                        PaymentState.EXPIRED if signed else PaymentState.RELEASED,
                        now=self._now(),
                        reason=said[:500],
                        resolved=reason[:LONGEST_REASON],
                    )
                    observe(_note(closed, "not paid"))
            await self._judge.close_slot(run.id, held, ZERO)
            return await self._ledger.payments.get(payment.id)

    @asynccontextmanager
    async def _held(self, run_id: str) -> AsyncIterator[tuple[Run, Observe]]:
        """The run under its lease, with all closed that the chain decides; notes are written."""
        async with self._ledger.at_work(run_id, self._now, LEASE_SECONDS) as (run, _, notes):
            with suppress(PaymentUnclear):
                await self._judge.judge_open(run, notes.append)
            yield await self._ledger.spenders.get(run_id), notes.append
        await self._ledger.runs.schedule.make_due(run_id, self._now())

    async def _strays(self, option: str, tx_hash: str) -> list[Stray]:
        if strays := await self._comparison.unexplained(tx_hash):
            return strays
        if await self._chain.transfers_in(tx_hash, sender=self._payer, recipient=None):
            raise InvalidInput(option, f"payments in the ledger explain {tx_hash} already")
        raise InvalidInput(
            option,
            f"the chain shows no final transfer out of {self._payer} in {tx_hash[:80]}",
            "Give the hash of a transaction on this network; a young one takes some minutes",
        )

    async def _settle(self, run: Run, stray: Stray, reason: str) -> Payment:
        """The payment that the transfer is, settled; no other of its slot is open after it."""
        slot = await self._ledger.payments.of_slot(run.id, stray.slot)
        vendors = {(v.pay_to or "").lower(): v.vendor_id for v in await self._ledger.vendors.all()}
        vendor_id = vendors.get(stray.other.lower(), NOBODY)
        ours = next((p for p in slot if p.state.open and p.vendor_id == vendor_id), None)
        paid = {
            "amount": stray.amount,
            "rail": Rail.X402,
            "network": self._network.caip2,
            "asset": self._network.usdc,
            "pay_to": stray.other,
            "payer": self._payer,
            "nonce": stray.nonce or "",
            "from_block": stray.block,
            "tx_id": stray.tx_hash,
            "settled_block": stray.block,
            "resolved": reason[:LONGEST_REASON],
            "header": "",
        }
        if ours is None:
            settled = await self._ledger.payments.open(
                Payment(
                    id=payment_id(run.id, stray.slot, f"{vendor_id}|{stray.id}"),
                    run_id=run.id,
                    slot=stray.slot,
                    kind=PurchaseKind.FETCH if is_purchase(run.id) else PurchaseKind.LAUNCH,
                    vendor_id=vendor_id,
                    state=PaymentState.SETTLED,
                    created_at=self._now(),
                    order={},
                    **paid,  # type: ignore[arg-type]
                )
            )
        else:
            settled = await self._ledger.payments.close(
                ours, PaymentState.SETTLED, now=self._now(), **paid
            )
        for other in slot:
            if other.state.open and other.id != settled.id:
                signed = other.state is PaymentState.AUTHORIZED
                await self._ledger.payments.close(
                    other,
                    PaymentState.EXPIRED if signed else PaymentState.RELEASED,
                    now=self._now(),
                    reason=f"its slot was paid in {stray.tx_hash}",
                )
        return settled

    async def _book(self, payment: Payment, observe: Observe) -> None:
        """Put a payment that was settled by hand into its run's budget, once."""
        for _ in range(LONGEST_RACE):
            run = await self._ledger.spenders.get(payment.run_id)
            held = run.reservation(payment.slot)
            if held is None and await self._spent(run) == run.spent:
                break
            if await self._ledger.budget.post_by_hand(run, held, payment):
                if held is not None and held.allowance is not None:
                    slot = f"{run.id}:{held.slot}"
                    await self._ledger.allowances.settle(
                        held.allowance, slot, payment.amount, payment.vendor_id
                    )
                break
        else:
            raise Conflict(f"Run {payment.run_id} changes too fast", "Say it again")
        observe(_note(payment, f"paid in {payment.tx_id}"))

    async def _spent(self, run: Run) -> Usd:
        """What the run's payments come to, of the slots that are closed."""
        held = {r.slot for r in run.reservations}
        paid = await self._ledger.payments.paid_of_runs([run.id])
        return sum((p.amount - p.refunded for p in paid if p.slot not in held), ZERO)

    async def _chosen(self, run: Run, chosen: str | None) -> Payment:
        payments = [
            p
            for p in await self._ledger.payments.of_run(run.id)
            if p.state.open and run.reservation(p.slot) and chosen in (None, p.id)
        ]
        if not payments:
            what = f"no open payment {chosen}" if chosen else "no open payment"
            raise Conflict(f"Run {run.id} has {what}: there is nothing to decide")
        if len({p.slot for p in payments}) > 1:
            listed = ", ".join(f"{p.id} ({p.amount} to {p.vendor_id})" for p in payments)
            raise InvalidInput("--payment", f"run {run.id} has several: {listed}", "Name one")
        return payments[0]

    async def _check_unpaid(self, run: Run, payment: Payment, slot: list[Payment]) -> None:
        """Raise Conflict unless nothing can settle and the chain shows no transfer."""
        signed = [p for p in slot if p.state is PaymentState.AUTHORIZED]
        if any((p.network, p.payer) != (self._network.caip2, self._payer) for p in signed):
            raise Conflict(
                f"Payment {payment.id} is of another network or wallet, which only that can decide",
                "Run this with its NETWORK and wallet",
            )
        last_second = max((p.valid_before_s for p in signed), default=0)
        since = int((run.created_at - CLOCKS).timestamp())
        from_block = min(p.from_block for p in signed) if signed else None
        nonce = slot_nonce(run.id, payment.slot)
        fate = await self._chain.authorization(
            self._payer,
            nonce,
            from_block=await self._chain.block_at(since) if from_block is None else from_block,
            valid_before_s=last_second or None,
        )
        match fate:
            case Settled():
                raise Conflict(
                    f"The chain shows that it paid {fate.amount} to {fate.pay_to}",
                    f"Use: gpu-renter reconcile --resolve {run.id} --paid {fate.tx_hash} "
                    '--reason "…"',
                )
            case Unused() if not signed:
                raise Conflict(
                    f"Nothing was signed for payment {payment.id}: there is nothing to decide",
                    f"To end the run: gpu-renter cancel {run.id}",
                )
        final = await self._chain.final()
        if final.timestamp_s < last_second:
            until = datetime.fromtimestamp(last_second, UTC)
            raise Conflict(
                f"Payment {payment.id} may still settle until {until:%Y-%m-%d %H:%M:%S} UTC by the "
                "chain's clock",
                "Wait for it: by then the chain may decide by itself",
            )


def _note(payment: Payment, what: str) -> Note:
    return Note(
        NoteType.PAYMENT_RESOLVED,
        f"A person closed {payment.amount} to {payment.vendor_id} as {what}: {payment.resolved}",
        facts(payment),
        key=f"{payment.id}:resolved",
    )
