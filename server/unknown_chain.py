"""A chain that nobody can ask, where a payment is made without an RPC."""

from __future__ import annotations

from collections.abc import Callable
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

    async def authorization(
        self, payer: str, nonce: str, *, from_block: int  # noqa: ARG002
    ) -> AuthorizationFate:  # fmt: skip
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

    async def transfer_in(self, tx_hash: str, *, sender: str, recipient: str) -> Transfer | None:
        raise self._unknown(f"A transfer from {sender} to {recipient} in {tx_hash}")

    def _unknown(self, asked: str) -> ChainDown:
        return ChainDown(
            f"{asked}: there is no RPC for {self._network.name}", "Name one with --rpc-url"
        )
