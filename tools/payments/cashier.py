"""Paying for one purchase: reserve, sign, persist, send, and let the chain judge.

    authorize   approval → reserve money → challenge → policy → sign → persist (sends no payment)
    deliver     send the persisted bytes, then ask the chain                (any number of times)

Each step finds what an earlier, interrupted one left in the ledger and goes on from there. The
rules are those of CONTRIBUTING.md, "What must never break": one nonce per slot, persist before
sending, resend the same bytes, and only the chain (judge.py) says paid or not paid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from domain.errors import (
    PaymentUnclear,
    PolicyRefused,
    SlotClosed,
    VendorError,
    VendorRefused,
    VendorUnauthorized,
    WalletEmpty,
)
from domain.ids import payment_id, slot_nonce, user_day
from domain.journal import Note, NoteType
from domain.money import ZERO
from domain.payments import PaymentState, PaymentTerms, PurchaseKind
from domain.policy import SpendingPolicy
from domain.quotes import Rail, Vendor
from domain.reasons import Reason, ReasonCode
from ledger.allowances import Charge
from ledger.ledger import Ledger
from ledger.payments import Payment
from ledger.run import Lease, Reservation, Run
from tools.payments.admission import admit, billed_by, check_clock
from tools.payments.approving import ApprovalGate, Permit
from tools.payments.authorization import sign_payment
from tools.payments.chain import (
    AuthorizationFate,
    Cancelled,
    Chain,
    Settled,
    Unclear,
    Unused,
)
from tools.payments.challenge import Challenge
from tools.payments.exposure import Exposure
from tools.payments.fetch import Fetched, Fetcher
from tools.payments.funds import Funds
from tools.payments.judge import Judge, Observe, facts
from tools.payments.purchase import Delivery, Purchase
from tools.payments.sellers import Seller, seller_of
from tools.payments.wallets import Wallet
from tools.vendors.base import PaymentHeader, PaymentRequired402, VendorClient
from tools.wire.observer import note

LOCAL_TX_PREFIX: Final = "local_tx_"
SLOTS_AHEAD: Final = 3
"""Slots after the one to be paid, whose nonces must be unused too: a history that a restored backup
has lost may have given up some slots, and paid a later one.
"""
CLOCKS: Final = timedelta(hours=1)
"""By how much a run's time of creation and the chain's clock may differ."""


class Cashier:
    def __init__(
        self,
        ledger: Ledger,
        vendors: VendorClient,
        wallet: Wallet,
        chain: Chain,
        policy: SpendingPolicy,
        now: Callable[[], datetime],
        fetcher: Fetcher | None = None,
    ) -> None:
        """fetcher: the seller of FETCH purchases, where there are any."""
        self._ledger = ledger
        self._vendors = vendors
        self._fetcher = fetcher
        self._wallet = wallet
        self._chain = chain
        self.judge = Judge(ledger, chain, policy.network, now)
        self.exposure = Exposure(ledger, now, vendors_clock=policy.network.is_local)
        self.funds = Funds(ledger, chain, wallet, policy.network)
        self.policy = policy
        self.approvals = ApprovalGate(ledger, policy, now)
        self._now = now

    async def authorize(
        self, lease: Lease, run: Run, purchase: Purchase, observe: Observe
    ) -> Delivery:
        """Hold the money and persist a signed authorization; send nothing that pays.

        Gives the stored payment when it was authorized before. `goods` come only from a vendor
        that asks for no payment: its charge is booked at once, on no rail; a URL's goods are free.

        Raises, with the money free again: PolicyRefused, WalletEmpty, VendorError. Raises
        BudgetExceeded, SlotClosed, LeaseLost, and ApprovalRequired where a person has to be asked
        first, with nothing taken. ChainDown, WalletDown and StoreDown leave the reservation as it
        is, to be taken up again; so does PaymentUnclear, where the chain shows that the run has
        paid for something which the ledger does not know.
        """
        await self.approvals.check(run, purchase)
        held = await self._hold(lease, run, purchase, observe)
        payment = await self._ledger.payments.open(self._reserved(run, purchase))
        note(payment=payment.id)
        if payment.state is PaymentState.RELEASED:
            await self.judge.free(payment.run_id, held)
            raise SlotClosed(f"Payment {payment.id} was released before it was signed")
        if payment.state is PaymentState.AUTHORIZED:  # a crash may have kept it out of the journal
            permit = await self.approvals.permit(run, purchase, observe)
            observe(_authorized(payment, purchase, permit))
        if payment.state is not PaymentState.RESERVED:
            return Delivery(payment, None)
        try:
            await self._check_slot(payment, held)
            # Before the first request: a vendor outside x402 takes it for the order.
            permit = await self.approvals.permit(run, purchase, observe)
            answer = await self._seller(payment, purchase.vendor).request()
            if isinstance(answer, Fetched):
                await self._abandon(payment, held, Reason.of(ReasonCode.FREE), observe)
                return Delivery(await self._ledger.payments.get(payment.id), answer)
            on_no_chain = not isinstance(answer, PaymentRequired402) or answer.challenge is None
            if on_no_chain and await self._has_rival(payment, held):
                raise PolicyRefused("rail", "the slot may still settle on the chain")
            if not isinstance(answer, PaymentRequired402):
                return Delivery(await self._book(payment, held, None, permit, observe), answer)
            if answer.challenge is None:
                tx_id = billed_by(answer, purchase)
                return Delivery(await self._book(payment, held, tx_id, permit, observe), None)
            # What was reserved may be more than this buyer wants to pay by now.
            most = min(payment.amount, purchase.quoted)
            terms = admit(self.policy, answer.challenge, purchase, most)
            await self._check_unspent(run, payment, held)
            payment = await self._sign(payment, answer.challenge, terms, permit)
        except (PolicyRefused, VendorError) as error:
            await self._abandon(payment, held, str(error), observe)
            raise
        observe(_authorized(payment, purchase, permit))
        return Delivery(payment, None)

    async def deliver(
        self, lease: Lease, payment: Payment, vendor: Vendor, observe: Observe
    ) -> Delivery:
        """Send an authorized payment's bytes, again if need be, and let the chain judge it.

        Idempotent: the vendor answers the same payment with the same job. Sends nothing once the
        payment or its slot is closed: its bytes may be valid still. Raises LeaseLost with nothing
        sent, and ChainDown when the chain could not be asked; nothing is lost, call it again.
        Raises PaymentUnclear where the chain does not explain the payment and the vendor gave
        nothing for it; what it gave is taken, and the payment stays open.
        """
        note(payment=payment.id)
        if not (payment.state.open or payment.state is PaymentState.SETTLED):
            return Delivery(payment, None, payment.reason)
        try:
            run = await self.arm(lease, payment)
        except SlotClosed as closed:
            return Delivery(await self.judge.close_unsent(payment, observe), None, str(closed))
        sent = await self.send(payment, vendor)
        try:
            judged = await self.judge.judge(run, payment, observe, sent.problem)
        except PaymentUnclear as unclear:
            if sent.goods is None:
                raise
            observe(unclear_note(unclear))
            return sent
        if sent.problem and not judged.state.paid:
            judged = await self._look_for_its_money(judged, observe)
        return replace(sent, payment=judged)

    async def _look_for_its_money(self, payment: Payment, observe: Observe) -> Payment:
        """Note it where the wallet cannot cover a payment for which its vendor gives nothing:
        somebody took money out of the wallet, and the vendor is not to blame.
        """
        ours = payment.on_chain and not payment.unfunded
        if not ours or await self.funds.covers(payment.amount):
            return payment
        await self._ledger.payments.set_unfunded(payment)
        why = f"The wallet holds less than the {payment.amount} that {payment.vendor_id} is to get"
        observe(Note(NoteType.WALLET_SHORT, why, facts(payment), key=f"{payment.id}:short"))
        return replace(payment, unfunded=True)

    async def arm(self, lease: Lease, payment: Payment) -> Run:
        """The payment's run, with its slot marked as one that only the chain may close.

        It comes before the first send. Raises LeaseLost and SlotClosed: then nothing may be sent.
        """
        run = await self._ledger.spenders.get(payment.run_id)
        if payment.state is not PaymentState.AUTHORIZED:
            return run
        held = run.reservation(payment.slot)
        if held is None:
            raise SlotClosed(f"The slot of payment {payment.id} was closed before it was sent")
        return run.with_reservation(await self._ledger.budget.arm(lease, run, held, payment.id))

    async def send(self, payment: Payment, vendor: Vendor) -> Delivery:
        """Send an armed payment's bytes once, without asking the chain what became of it."""
        if payment.on_chain and not payment.header:
            return Delivery(payment, None, "its signed bytes are not kept any more")
        seller = self._seller(payment, vendor)
        goods, problem, answered = None, "", False
        try:
            if payment.on_chain:
                header = PaymentHeader(payment.header_name, payment.header)
                answer = await seller.request(payment=header)
            else:
                answer = await seller.request(legacy_tx_id=_legacy_tx_id(payment))
            if isinstance(answer, PaymentRequired402):
                problem = f"the vendor did not take the payment: {answer.reason or 'no reason'}"
                answered = True
            else:
                goods = answer
        except VendorError as error:
            problem = str(error)
            answered = isinstance(error, VendorRefused | VendorUnauthorized)
        return Delivery(payment, goods, problem, answered)

    def _seller(self, payment: Payment, vendor: Vendor) -> Seller:
        return seller_of(payment.kind, payment.order, vendor, self._vendors, self._fetcher)

    async def _hold(
        self, lease: Lease, run: Run, purchase: Purchase, observe: Observe
    ) -> Reservation:
        """Hold the money in the run's budget, and against all that is limited over several runs.

        The reservation comes first: what is counted elsewhere for a slot that holds nothing is a
        crash's leftover.
        """
        present, amount, now = run.reservation(purchase.slot), purchase.quoted, self._now()
        before = present.amount if present else ZERO
        caps, charge, held = self.policy.caps, self._charge(run, purchase), present
        day = present.allowance if present else None
        try:
            self.policy.check_run(run.spent + run.reserved - before, max(before, amount))
            if caps.any:
                day = day or user_day(run.user_id, now)
                await self._ledger.allowances.check(caps, day, charge, now)
            if present:
                held = await self._ledger.budget.share(lease, run, purchase.slot, amount)
            else:
                await self._check_shared_limits(purchase, charge)
                held = await self._ledger.budget.reserve(lease, run, purchase.slot, amount, day)
            if caps.any and day is not None:
                await self._ledger.allowances.hold(caps, day, charge, now)
            await self._hold_shared_limits(purchase, replace(charge, amount=held.amount))
        except (PolicyRefused, WalletEmpty):
            if held:  # what an earlier tick has signed for it stays with the chain
                await self.judge.abandon(run.with_reservation(held), held.slot, observe)
            raise
        return held

    async def _check_shared_limits(self, purchase: Purchase, charge: Charge) -> None:
        """Raise PolicyRefused or WalletEmpty where the vendor's exposure or the wallet's balance
        would not hold a charge now.
        """
        if not purchase.on_chain:
            return
        if purchase.most_ahead is not None:
            most, vendor = purchase.most_ahead, charge.vendor_id
            await self.exposure.check(vendor, charge.slot, charge.amount, most)
        await self.funds.check(charge.slot, charge.amount)

    async def _hold_shared_limits(self, purchase: Purchase, charge: Charge) -> None:
        """Count a reserved charge against the vendor's exposure and the wallet's balance. Raises as
        `_check_shared_limits`.
        """
        if not purchase.on_chain:
            return
        if purchase.most_ahead is not None:
            most, vendor = purchase.most_ahead, charge.vendor_id
            await self.exposure.hold(vendor, charge.slot, purchase.quoted, most)
        await self.funds.promise(charge.slot, charge.amount)

    def _charge(self, run: Run, purchase: Purchase) -> Charge:
        return Charge(f"{run.id}:{purchase.slot}", purchase.vendor.vendor_id, purchase.quoted)

    def _reserved(self, run: Run, purchase: Purchase) -> Payment:
        return Payment(
            id=payment_id(run.id, purchase.slot, purchase.vendor.vendor_id),
            run_id=run.id,
            slot=purchase.slot,
            kind=purchase.kind,
            vendor_id=purchase.vendor.vendor_id,
            amount=purchase.quoted,
            state=PaymentState.RESERVED,
            rail=Rail.X402,
            created_at=self._now(),
            order=purchase.order,
            minutes=purchase.minutes,
            gpu_type=purchase.gpu_type,
        )

    async def _check_slot(self, payment: Payment, held: Reservation) -> None:
        """Raise PolicyRefused when the slot was begun with another wallet, network or token.

        One nonce settles once for one payer and one token: only those may share a slot.
        """
        if not held.shared:
            return
        ours = (self._wallet.address, self.policy.network.caip2, self.policy.network.usdc)
        for other in await self._ledger.payments.of_slot(payment.run_id, payment.slot):
            if other.nonce and (other.payer, other.network, other.asset) != ours:
                raise PolicyRefused("slot", "it was begun with another wallet, network or token")

    async def _has_rival(self, payment: Payment, held: Reservation) -> bool:
        """Whether another vendor holds an authorization for the payment's slot."""
        return held.shared and any(
            other.id != payment.id and other.nonce and other.state is PaymentState.AUTHORIZED
            for other in await self._ledger.payments.of_slot(payment.run_id, payment.slot)
        )

    async def _check_unspent(self, run: Run, payment: Payment, held: Reservation) -> None:
        """Raise PaymentUnclear where the chain knows a payment of this run and the ledger does not.

        That is how a database restored from before a payment, or a second one that was given the
        same id, shows. Asked are the nonces of this slot, the next few, and earlier ones that are
        closed by no word of the chain's.
        """
        alone = payment.slot == 0 and not held.shared
        stored = [] if alone else await self._ledger.payments.of_run(run.id)
        known = {
            p.slot for p in stored if p.state.paid or p.resolved or (p.nonce and p.id != payment.id)
        }
        ahead = 0 if payment.kind is PurchaseKind.FETCH else SLOTS_AHEAD
        slots = {
            slot_nonce(run.id, slot): slot
            for slot in range(payment.slot + 1 + ahead)
            if slot not in known
        }
        payer = self._wallet.address
        used = await self._chain.used(payer, list(slots))
        if not used:
            return
        since_s = int((run.created_at - CLOCKS).timestamp())
        from_block = await self._chain.block_at(since_s)
        for nonce in sorted(used, key=slots.__getitem__):
            fate = await self._chain.authorization(payer, nonce, from_block=from_block)
            slot = slots[nonce]
            if isinstance(fate, Cancelled) and slot != payment.slot:
                continue
            problem, tx_hash = _of_another_history(fate)
            ours = payment.id if slot == payment.slot else None
            raise PaymentUnclear(run.id, slot, nonce, problem, payment_id=ours, tx_hash=tx_hash)

    async def _sign(
        self, payment: Payment, challenge: Challenge, terms: PaymentTerms, permit: Permit
    ) -> Payment:
        permit.check(payment, terms.amount)
        head = await self._chain.head()
        check_clock(self._now(), head, self.policy.network)
        now_s = max(int(self._now().timestamp()), head.timestamp_s)
        signed = await sign_payment(
            self._wallet,
            self.policy.network,
            challenge,
            terms,
            nonce=slot_nonce(payment.run_id, payment.slot),
            valid_before_s=self.policy.valid_before(terms, now_s),
            payment_id=payment.id,
        )
        return await self._ledger.payments.close(
            payment,
            PaymentState.AUTHORIZED,
            now=self._now(),
            amount=signed.amount,
            network=self.policy.network.caip2,
            asset=self.policy.network.usdc,
            pay_to=signed.pay_to,
            payer=signed.payer,
            nonce=signed.nonce,
            valid_before_s=signed.valid_before_s,
            from_block=head.number,
            header_name=signed.header_name,
            header=signed.header,
        )

    async def _book(
        self,
        payment: Payment,
        held: Reservation,
        tx_id: str | None,
        permit: Permit,
        observe: Observe,
    ) -> Payment:
        """Book a charge that no chain settles: spent by our own record, marked as such."""
        booked = await self._ledger.payments.close(
            payment,
            PaymentState.SETTLED,
            now=self._now(),
            rail=Rail.NONE,
            tx_id=tx_id or LOCAL_TX_PREFIX + payment.id.removeprefix("pay_"),
        )
        await self.judge.close_slot(payment.run_id, held, booked.amount, booked.vendor_id)
        observe(
            Note(
                NoteType.PAYMENT_BOOKED,
                f"{payment.vendor_id} bills outside x402: {booked.amount} booked, settled on no "
                "chain",
                {**facts(booked), **permit.facts},
                key=f"{payment.id}:settled",
            )
        )
        return booked

    async def _abandon(
        self, payment: Payment, held: Reservation, why: str, observe: Observe
    ) -> None:
        """Give up a payment that was not signed, and its money unless a rival still needs it."""
        if await self.judge.release(payment, why, observe):
            await self.judge.free(payment.run_id, held)


def _authorized(payment: Payment, purchase: Purchase, permit: Permit) -> Note:
    return Note(
        NoteType.PAYMENT_AUTHORIZED,
        f"Authorized {payment.amount} to {purchase.vendor.name} for {purchase.what}",
        {**facts(payment), **permit.facts},
        key=f"{payment.id}:authorized",
    )


def _of_another_history(fate: AuthorizationFate) -> tuple[str, str | None]:
    """What used a nonce that this ledger knows no use of, and in which transaction."""
    match fate:
        case Cancelled():
            return f"its nonce was cancelled in {fate.tx_hash}", fate.tx_hash
        case Settled():
            paid = f"{fate.amount} to {fate.pay_to} in {fate.tx_hash}"
            return f"its nonce paid {paid}, of which the ledger knows nothing", fate.tx_hash
        case Unclear():
            return fate.problem, fate.tx_hash
        case Unused():
            return "its nonce was used a moment ago, and not by this ledger", None


def unclear_note(unclear: PaymentUnclear) -> Note:
    """The journal's note of an unclear payment, once for each payment."""
    data = {
        "slot": unclear.slot,
        "nonce": unclear.nonce,
        "paymentId": unclear.payment_id,
        "x402TxId": unclear.tx_hash,
    }
    key = f"{unclear.slot}:{unclear.nonce}:unclear"
    return Note(NoteType.PAYMENT_UNCLEAR, str(unclear), data, key=key)


def _legacy_tx_id(payment: Payment) -> str | None:
    """The id that a vendor billed outside x402 gave and expects back; None where it gave none."""
    ours = payment.tx_id is None or payment.tx_id.startswith(LOCAL_TX_PREFIX)
    return None if ours else payment.tx_id
