"""The wallet's money, promised once: the balance on the chain covers all that is signed and open.

Each slot that is about to be signed for counts against the balance, over all runs, in one sum for
the wallet (ledger/tallies.py). A hold outlives the settlement that it was for, and counts twice
until the sum is looked through, which happens where it stands in the way: it is never too small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from domain.errors import WalletEmpty
from domain.money import ZERO, Usd
from domain.networks import Network
from domain.payments import PaymentState
from ledger.ledger import Ledger
from ledger.payments import Payment
from ledger.tallies import Tally
from tools.payments.chain import Chain
from tools.payments.wallets import Wallet

MOST_UNCHECKED: Final = 200
"""Slots that the sum is made of before it is looked through, short or not."""
LONGEST_RACE: Final = 8
LONG_OVER_S: Final = 3600
"""Seconds after a slot's last signature expired, when it is closed if it can be."""


class Funds:
    def __init__(self, ledger: Ledger, chain: Chain, wallet: Wallet, network: Network) -> None:
        self._ledger = ledger
        self._chain = chain
        self._wallet = wallet
        self._network = network

    @property
    def _id(self) -> str:
        return f"wallet|{self._network.caip2}|{self._wallet.address.lower()}"

    async def check(self, key: str, amount: Usd) -> None:
        """Raise WalletEmpty when the wallet cannot promise `amount` as things are now."""
        tally = await self._ledger.tallies.read(self._id)
        balance = await self._chain.balance(self._wallet.address)
        if _others(tally, key) + amount > balance:
            tally = await self._looked_through(tally)
            if _others(tally, key) + amount > balance:
                raise self._empty(balance, _others(tally, key), amount)

    async def promise(self, key: str, amount: Usd) -> None:
        """Count `amount` for a reserved slot ("run:number"), before anything of it is signed.

        The balance is read after the other promises, and holds only while none of them goes: one
        that settles takes its money off the balance before its promise is lowered. Raises
        WalletEmpty, and ChainDown.
        """
        tally = await self._ledger.tallies.read(self._id)
        if len(tally.holds) >= MOST_UNCHECKED and key not in tally.holds:
            tally = await self._looked_through(tally)
        for _ in range(LONGEST_RACE):
            balance = await self._chain.balance(self._wallet.address)
            if await self._ledger.tallies.hold(tally, key, amount, balance, drops=tally.drops):
                return
            drops = tally.drops
            tally = await self._looked_through(await self._ledger.tallies.read(self._id))
            if tally.drops == drops:
                break
        raise self._empty(balance, _others(tally, key), amount)

    async def covers(self, amount: Usd) -> bool:
        """Whether the wallet holds `amount` now. Raises ChainDown."""
        return await self._chain.balance(self._wallet.address) >= amount

    async def _looked_through(self, tally: Tally) -> Tally:
        """The sum without the slots that have settled, or never will: those that are closed, and
        those that only a person can close (PaymentUnclear).
        """
        runs = {key.rpartition(":")[0] for key in tally.holds}
        books = {run.id: run for run in await self._ledger.spenders.of_ids(runs)}
        for key in tally.holds:
            run_id, _, slot = key.rpartition(":")
            run = books.get(run_id)
            closed = run is None or run.reservation(int(slot)) is None
            if closed or await self._over(run_id, int(slot)):
                await self._ledger.tallies.lower(tally, key, ZERO)
        return await self._ledger.tallies.read(tally.id)

    async def _over(self, run_id: str, slot: int) -> bool:
        """Whether the chain has long taken nothing any more of all that was signed for an open
        slot: what it did take is off the balance.
        """
        last_s = last_second(await self._ledger.payments.of_slot(run_id, slot))
        if last_s is None:
            return False
        return (await self._chain.final()).timestamp_s >= last_s + LONG_OVER_S

    def _empty(self, balance: Usd, others: Usd, amount: Usd) -> WalletEmpty:
        promised = f", {others} of it is promised to other payments," if others else ""
        return WalletEmpty(
            f"The wallet {self._wallet.address} holds {balance}{promised} and {amount} is due",
            f"Send USDC on {self._network.name} to it",
        )


def last_second(slot: Sequence[Payment]) -> int | None:
    """The last second (Unix time) in which a slot's payments may settle; None where more may be
    signed, or nothing was.
    """
    if any(p.state is PaymentState.RESERVED for p in slot):
        return None
    signed = [p.valid_before_s for p in slot if p.state is PaymentState.AUTHORIZED]
    return max(signed, default=None)


def _others(tally: Tally, key: str) -> Usd:
    """What is promised to all slots but this one."""
    return tally.total - tally.holds.get(key, ZERO)
