"""A chain reader that says what it reads, in steps: `chain balance`, `chain authorization` …"""

from __future__ import annotations

from collections.abc import Sequence

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

    async def final(self) -> Block:
        with self._observer.step("chain", "final"):
            return await self._chain.final()

    async def block_at(self, time_s: int) -> int:
        with self._observer.step("chain", "block"):
            return await self._chain.block_at(time_s)

    async def used(self, payer: str, nonces: Sequence[str]) -> frozenset[str]:
        with self._observer.step("chain", "used"):
            return await self._chain.used(payer, nonces)

    async def authorization(
        self, payer: str, nonce: str, *, from_block: int, valid_before_s: int | None = None
    ) -> AuthorizationFate:
        with self._observer.step("chain", "authorization"):
            return await self._chain.authorization(
                payer, nonce, from_block=from_block, valid_before_s=valid_before_s
            )

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

    async def transfers_in(
        self, tx_hash: str, *, sender: str, recipient: str | None
    ) -> list[Transfer]:
        with self._observer.step("chain", "transfer"):
            return await self._chain.transfers_in(tx_hash, sender=sender, recipient=recipient)

    async def nonce_of(self, transfer: Transfer) -> str | None:
        with self._observer.step("chain", "transfer"):
            return await self._chain.nonce_of(transfer)
