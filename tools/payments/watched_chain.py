"""A chain reader that says what it reads, in steps: `chain balance`, `chain authorization` …"""

from __future__ import annotations

from domain.money import Usd
from tools.payments.chain import AuthorizationFate, Block, Chain, Transfer
from tools.wire.observer import Observer


class WatchedChain:
    """`Chain` over another one, whose promises it keeps: it adds a step to each read."""

    def __init__(self, chain: Chain, observer: Observer) -> None:
        self._chain = chain
        self._observer = observer

    async def head(self) -> Block:
        with self._observer.step("chain", "head"):
            return await self._chain.head()

    async def balance(self, address: str) -> Usd:
        with self._observer.step("chain", "balance"):
            return await self._chain.balance(address)

    async def authorization(self, payer: str, nonce: str, *, from_block: int) -> AuthorizationFate:
        with self._observer.step("chain", "authorization"):
            return await self._chain.authorization(payer, nonce, from_block=from_block)

    async def transfers(
        self,
        *,
        sender: str | None,
        recipient: str | None,
        from_block: int,
        to_block: int | None = None,
    ) -> list[Transfer]:
        with self._observer.step("chain", "transfers"):
            return await self._chain.transfers(
                sender=sender, recipient=recipient, from_block=from_block, to_block=to_block
            )

    async def transfer_in(self, tx_hash: str, *, sender: str, recipient: str) -> Transfer | None:
        with self._observer.step("chain", "transfer"):
            return await self._chain.transfer_in(tx_hash, sender=sender, recipient=recipient)
