"""Comparing the ledger with the wallet's transfers on the chain, a page of blocks after the other.

    out    every transfer of more than nothing from the wallet to anybody else
    back   every such transfer into it from an address that it had paid before

The chain's total is out less back, whatever the ledger believes. What explains each is looked up
afterwards, one to one: a payment by its transaction, payee and amount; a refund by its transaction
and event; a withdrawal by a person's word. What nothing explains is kept, as a stray, and looked at
again each time. Money from elsewhere is the owner's, and counts nowhere.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from domain.errors import Conflict, PaymentUnclear
from domain.ids import slot_nonce, transfer_id
from domain.networks import Network
from domain.payments import PaymentState
from ledger.compared import Compared, Stray, Sums
from ledger.ledger import Ledger
from ledger.payments import Payment
from tools.payments.cashier import CLOCKS
from tools.payments.chain import Chain, Transfer

BLOCKS_A_PAGE: Final = 50_000
AT_ONCE: Final = 200
"""Transactions that the ledger is asked about in one command."""
MOST_BACK: Final = 500
"""How many unexplained transfers into the wallet are kept one by one."""
LONGEST_WINDOW: Final = 1_900_000
"""How far back a first comparison begins on a public chain: 44 days of Base."""
SLOTS_TRACED: Final = 32
"""Slots after a run's last one whose nonces are known: a restored backup lost them."""
LONGEST_RACE: Final = 16

Key = tuple[str, str, int]
"""What a payment is known by on the chain: transaction, payee in lower case, micro-dollars."""


@dataclass(slots=True)
class _Tally:
    """A comparison under way: the state, in a form that grows."""

    sums: Sums
    payees: set[str]
    strays: dict[str, Stray]
    missing: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, state: Compared) -> _Tally:
        return cls(state.sums, set(state.payees), dict(state.strays), list(state.missing))

    def add(self, **micros: int) -> None:
        now = {name: getattr(self.sums, name) + more for name, more in micros.items()}
        self.sums = replace(self.sums, **now)

    def keep(self, stray: Stray) -> None:
        """Keep what nothing explains. What came back is bounded: anyone may send a cent."""
        back = sum(not s.outgoing for s in self.strays.values())
        if stray.outgoing or stray.id in self.strays or back < MOST_BACK:
            self.strays[stray.id] = stray
        else:
            self.add(unlisted=stray.amount.micros)

    def over(self, state: Compared, block: int) -> Compared:
        return replace(
            state,
            block=block,
            sums=self.sums,
            payees=frozenset(self.payees),
            strays=self.strays,
            missing=tuple(self.missing),
        )


class Comparison:
    """The comparison of one wallet on one network. Idempotent, and safe beside others of it."""

    def __init__(self, ledger: Ledger, chain: Chain, network: Network, payer: str) -> None:
        self._ledger = ledger
        self._chain = chain
        self._network = network
        self._payer = payer

    async def state(self) -> Compared:
        """The comparison as stored; a new one begins where the wallet's first run began."""
        id_ = f"{self._network.caip2}:{self._payer}"
        if found := await self._ledger.comparisons.find(id_):
            return found
        start = 0
        if not self._network.is_local:
            start = final = (await self._chain.final()).number
            signed = await self._ledger.payments.first_block(self._payer, self._network.caip2)
            if signed is not None:
                start = min(start, signed)
            if (began := await self._ledger.spenders.first_created()) is not None:
                began_s = int((began - CLOCKS).timestamp())
                start = min(start, await self._chain.block_at(began_s))
            start = max(0, start, final - LONGEST_WINDOW)
        return await self._ledger.comparisons.begin(Compared(id_, start, start - 1))

    async def catch_up(self) -> Compared:
        """Compare what came since the stored block; each page is stored as it is done.

        Raises ChainDown, StoreDown.
        """
        final = (await self._chain.final()).number
        for _ in range(LONGEST_RACE):
            state: Compared | None = await self.state()
            if self._network.is_local and state is not None and final < state.block:
                return await self.all_of_it()  # another chain, begun anew
            while state is not None and state.block < final:
                last = min(state.block + BLOCKS_A_PAGE, final)
                tally = _Tally.of(state)
                await self._page(tally, state.block + 1, last, state.start, {})
                state = await self._ledger.comparisons.advance(state, tally.over(state, last))
            if state is not None:
                return state
        raise self._racing()

    async def all_of_it(self) -> Compared:
        """Compare everything anew, and store what it came to. Raises as `catch_up`."""
        final = (await self._chain.final()).number
        for _ in range(LONGEST_RACE):
            state = await self.state()
            tally = _Tally(Sums(), set(state.payees), {})
            unplaced = {
                p.id: p
                for p in await self._ledger.payments.unplaced(self._payer, self._network.caip2)
                if p.from_block >= state.start
            }
            first = state.start
            while first <= final:
                last = min(first + BLOCKS_A_PAGE - 1, final)
                await self._page(tally, first, last, state.start, unplaced)
                first = last + 1
            for payment in unplaced.values():
                tally.missing.append(payment.id)
                tally.add(ledger=payment.amount.micros)
            whole = replace(tally.over(state, max(final, state.start - 1)), since=None)
            if (stored := await self._ledger.comparisons.advance(state, whole)) is not None:
                return stored
        raise self._racing()

    async def explain(self) -> Compared:
        """Look at the strays again, and drop those that are booked or acknowledged by now."""
        return await self.change(self._explained)

    async def change(self, make: Callable[[Compared], Awaitable[Compared]]) -> Compared:
        """Replace the state by what `make` makes of it; again if another writer was faster."""
        for _ in range(LONGEST_RACE):
            state = await self.state()
            changed = await make(state)
            if changed == state:
                return state
            if (stored := await self._ledger.comparisons.advance(state, changed)) is not None:
                return stored
        raise self._racing()

    async def unclear(self, state: Compared) -> tuple[list[Stray], list[PaymentUnclear]]:
        """The transfers out that nothing explains, and those of them that a run's nonce made.

        What is about to be booked, by a tick or the next reconciliation, is neither.
        """
        out = [stray for stray in state.strays.values() if stray.outgoing]
        if not out:
            return [], []
        booked_soon = {
            (p.nonce, p.pay_to.lower(), p.amount)
            for p in await self._ledger.payments.open_ones()
            if p.payer == self._payer and p.network == self._network.caip2
        }
        unknown, unclear = [], []
        for stray in out:
            if (stray.nonce, stray.other.lower(), stray.amount) in booked_soon:
                continue
            if stray.run_id is None or stray.nonce is None:
                unknown.append(stray)
                continue
            unclear.append(
                PaymentUnclear(
                    stray.run_id,
                    stray.slot,
                    stray.nonce,
                    f"its nonce paid {stray.amount} to {stray.other} in {stray.tx_hash}, of which "
                    "the ledger knows nothing",
                    tx_hash=stray.tx_hash,
                )
            )
        return unknown, unclear

    async def unexplained(self, tx_hash: str) -> list[Stray]:
        """The transfers out of the wallet in a transaction that no payment explains, each with the
        run whose nonce made it. Raises ChainDown.
        """
        return list((await self._traced(await self._unexplained(tx_hash))).values())

    async def _unexplained(self, tx_hash: str) -> list[Stray]:
        moved = await self._chain.transfers_in(tx_hash, sender=self._payer, recipient=None)
        explained = Counter(_key(p) for p in await self._paid([tx_hash]))
        strays = []
        for transfer in moved:
            key = (transfer.tx_hash, transfer.recipient.lower(), transfer.amount.micros)
            if explained[key]:
                explained[key] -= 1
            elif transfer.recipient.lower() != self._payer.lower():
                strays.append(_stray(transfer, outgoing=True))
        return strays

    async def _explained(self, state: Compared) -> Compared:
        tally = _Tally.of(state)
        known = await self._ledger.comparisons.acknowledged(
            stray.id for stray in state.strays.values() if stray.outgoing
        )
        for id_ in known:
            stray = tally.strays.pop(id_)
            tally.add(acknowledged=stray.amount.micros)
            if not await self._ledger.paid_to(stray.other, self._payer, self._network.caip2):
                tally.payees.discard(stray.other.lower())
        for stray in [s for s in tally.strays.values() if s.outgoing]:
            if not await self._paid([stray.tx_hash]):
                continue
            if stray.id not in {s.id for s in await self._unexplained(stray.tx_hash)}:
                tally.strays.pop(stray.id)
                tally.add(ledger=stray.amount.micros)
        for stray in [s for s in tally.strays.values() if not s.outgoing and not s.traced]:
            refunds = await self._refunds(stray.tx_hash, stray.other)
            if payment := refunds.get(stray.log_index):
                tally.strays.pop(stray.id)
                self._refunded(tally, stray, payment)
        untraced = [s for s in tally.strays.values() if s.outgoing and not s.traced]
        tally.strays |= await self._traced(untraced)
        return tally.over(state, state.block)

    async def _page(
        self, tally: _Tally, first: int, last: int, start: int, unplaced: dict[str, Payment]
    ) -> None:
        """Compare blocks `first` to `last`.

        start: of the whole comparison; payments from before it are left out. unplaced: those that
        settled in an unknown block; what is found is taken out.
        """
        window = {"from_block": first, "to_block": last}
        out = await self._chain.transfers(sender=self._payer, recipient=None, **window)
        into = await self._chain.transfers(sender=None, recipient=self._payer, **window)
        moved = sorted([*out, *into], key=lambda t: (t.block_number, t.log_index))
        paid: defaultdict[Key, list[Payment]] = defaultdict(list)
        async for payments in self._in_parts(list(dict.fromkeys(t.tx_hash for t in out))):
            for payment in payments:
                paid[_key(payment)].append(payment)
        known = await self._ledger.comparisons.acknowledged(
            transfer_id(t.tx_hash, t.log_index) for t in out
        )
        matched = set[str]()
        for transfer in moved:
            if transfer.sender.lower() == transfer.recipient.lower():
                continue
            if transfer_id(transfer.tx_hash, transfer.log_index) in known:
                tally.add(chain=transfer.amount.micros, acknowledged=transfer.amount.micros)
            elif transfer.sender.lower() == self._payer.lower():
                if found := self._goes_out(tally, transfer, paid):
                    matched.add(found.id)
                    unplaced.pop(found.id, None)
                    if found.settled_block is None:
                        await self._ledger.payments.place(found, transfer.block_number)
            elif transfer.sender.lower() in tally.payees:
                await self._comes_back(tally, transfer, start)
        for payment in await self._ledger.settled_between(first, last):
            if self._ours(payment) and payment.id not in matched:
                tally.missing.append(payment.id)
                tally.add(ledger=payment.amount.micros)

    def _goes_out(
        self, tally: _Tally, transfer: Transfer, paid: Mapping[Key, list[Payment]]
    ) -> Payment | None:
        """Count a transfer out; the payment that it is, if there is one."""
        recipient = transfer.recipient.lower()
        tally.payees.add(recipient)
        tally.add(chain=transfer.amount.micros)
        payments = paid.get((transfer.tx_hash, recipient, transfer.amount.micros))
        if not payments:
            tally.keep(_stray(transfer, outgoing=True))
            return None
        tally.add(ledger=transfer.amount.micros)
        return payments.pop()

    async def _comes_back(self, tally: _Tally, transfer: Transfer, start: int) -> None:
        """Count a transfer from somebody whom the wallet has paid."""
        stray = _stray(transfer, outgoing=False)
        payment = (await self._refunds(transfer.tx_hash, transfer.sender)).get(transfer.log_index)
        if payment and payment.from_block < start and payment.settled_block is None:
            return
        tally.add(chain=-transfer.amount.micros)
        if payment:
            self._refunded(tally, stray, payment)
        else:
            tally.keep(stray)

    def _refunded(self, tally: _Tally, stray: Stray, payment: Payment) -> None:
        """Count a refund that the ledger has booked, and keep what came beyond it."""
        tally.add(ledger=-payment.refunded.micros)
        if rest := stray.amount - payment.refunded:
            tally.keep(replace(stray, amount=rest, traced=True))

    async def _refunds(self, tx_hash: str, sender: str) -> dict[int, Payment]:
        """The refunds of a transaction that are booked, by their event in it.

        Those that an older version booked have no event: it took the payee's first.
        """
        booked = [
            p
            for p in await self._ledger.refunded_in(tx_hash)
            if p.state is PaymentState.REFUNDED and p.pay_to == sender and self._ours(p)
        ]
        found = {p.refund_log: p for p in booked if p.refund_log is not None}
        old = [p for p in booked if p.refund_log is None]
        if old:
            moved = await self._chain.transfers_in(tx_hash, sender=sender, recipient=self._payer)
            free = [t for t in moved if t.log_index not in found]
            found |= {t.log_index: p for t, p in zip(free, old, strict=False)}
        return found

    async def _in_parts(self, tx_hashes: Sequence[str]) -> AsyncIterator[list[Payment]]:
        for n in range(0, len(tx_hashes), AT_ONCE):
            yield await self._paid(tx_hashes[n : n + AT_ONCE])

    async def _paid(self, tx_hashes: Iterable[str]) -> list[Payment]:
        """The wallet's payments that these transactions settled."""
        found = await self._ledger.settled_in(list(tx_hashes))
        return [p for p in found if p.state.paid and self._ours(p)]

    def _ours(self, payment: Payment) -> bool:
        return (
            payment.on_chain
            and payment.payer == self._payer
            and payment.network == self._network.caip2
        )

    async def _traced(self, strays: Sequence[Stray]) -> dict[str, Stray]:
        """Strays with the run whose nonce made them, where one of ours did."""
        nonces: dict[str, str] = {}
        for stray in strays:
            nonce = await self._chain.nonce_of(_transfer(stray, self._payer))
            if nonce is not None:
                nonces[stray.id] = nonce
        wanted, slots = set(nonces.values()), dict[str, tuple[str, int]]()
        if wanted:
            async for page in self._ledger.spenders.slots():
                for run_id, next_slot in page:
                    for slot in range(next_slot + SLOTS_TRACED):
                        if (nonce := slot_nonce(run_id, slot)) in wanted:
                            slots[nonce] = (run_id, slot)
                if len(slots) == len(wanted):
                    break
        traced = {}
        for stray in strays:
            made = nonces.get(stray.id)
            marked = replace(stray, traced=True, nonce=made)
            if made in slots:
                run_id, slot = slots[made]
                marked = replace(marked, run_id=run_id, slot=slot)
            traced[stray.id] = marked
        return traced

    def _racing(self) -> Conflict:
        return Conflict(
            f"Other reconciliations of {self._payer} are always faster", "Try again in a moment"
        )


def _key(payment: Payment) -> Key:
    return str(payment.tx_id), payment.pay_to.lower(), payment.amount.micros


def _stray(transfer: Transfer, *, outgoing: bool) -> Stray:
    return Stray(
        tx_hash=transfer.tx_hash,
        log_index=transfer.log_index,
        block=transfer.block_number,
        outgoing=outgoing,
        other=transfer.recipient if outgoing else transfer.sender,
        amount=transfer.amount,
    )


def _transfer(stray: Stray, wallet: str) -> Transfer:
    sender, recipient = (wallet, stray.other) if stray.outgoing else (stray.other, wallet)
    return Transfer(stray.tx_hash, stray.log_index, stray.block, sender, recipient, stray.amount)
