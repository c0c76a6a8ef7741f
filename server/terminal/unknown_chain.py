"""A chain that nobody can ask, where a payment is made without an RPC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from domain.errors import ChainDown
from domain.money import LARGEST, Usd
from domain.networks import BASE, BASE_SEPOLIA, Network
from tools.payments.chain import AuthorizationFate, Block, Transfer, Unused

_GENESIS_S: Final = {BASE.caip2: 1_686_789_347, BASE_SEPOLIA.caip2: 1_695_768_288}
_BLOCK_S: Final = 2
"""Both chains are OP Stack rollups with a block every 2 s since their genesis, never fewer."""


class UnknownChain:
    """A chain that nobody can ask: `Chain`, knowing what holds at any time, and no more.

    Every nonce was unused in the first block, so no payment ever counts as settled or expired
    here. The head is where the chain must have been by its clock, so that what settles can be
    searched for from there, once there is an RPC.
    """

    def __init__(self, network: Network, now: Callable[[], datetime]) -> None:
        self._network = network
        self._now = now

    async def head(self) -> Block:
        genesis_s = _GENESIS_S.get(self._network.caip2)
        if genesis_s is None:
            return Block(0, 0)
        return Block(max(int(self._now().timestamp()) - genesis_s, 0) // _BLOCK_S, 0)

    async def balance(self, address: str) -> Usd:  # noqa: ARG002
        """Enough: the token itself refuses what is not covered."""
        return Usd(LARGEST)

    async def final(self) -> Block:
        return Block(0, 0)

    async def block_at(self, time_s: int) -> int:  # noqa: ARG002
        return 0

    async def used(self, payer: str, nonces: Sequence[str]) -> frozenset[str]:  # noqa: ARG002
        """None, as far as anybody here knows: the token settles each once, whoever asks."""
        return frozenset()

    async def authorization(
        self,
        payer: str,  # noqa: ARG002
        nonce: str,  # noqa: ARG002
        *,
        from_block: int,  # noqa: ARG002
        valid_before_s: int | None = None,  # noqa: ARG002
    ) -> AuthorizationFate:
        return Unused(Block(0, 0))

    async def transfers(
        self,
        *,
        sender: str | None,
        recipient: str | None,
        from_block: int,
        to_block: int | None = None,
    ) -> list[Transfer]:
        del from_block, to_block
        raise self._unknown(f"Transfers from {sender} to {recipient}")

    async def transfers_in(
        self, tx_hash: str, *, sender: str, recipient: str | None
    ) -> list[Transfer]:
        raise self._unknown(f"Transfers from {sender} to {recipient} in {tx_hash}")

    async def nonce_of(self, transfer: Transfer) -> str | None:
        raise self._unknown(f"The nonce of a transfer in {transfer.tx_hash}")

    def _unknown(self, asked: str) -> ChainDown:
        return ChainDown(
            f"{asked}: there is no RPC for {self._network.name}", "Name one with --rpc-url"
        )
