"""A vendor's view of a MemoryChain: the same answers as the EVM's, in microseconds."""

from __future__ import annotations

import json

from mock_vendor.facilitator.authorization import Authorization
from mock_vendor.vendor.settings import VendorProfile
from mock_vendor.vendor.treasury import SignedTransfer
from tests.support.memory_chain import MemoryChain, keyed_hash


class MemoryTreasury:
    """A MemoryChain."""

    def __init__(self, chain: MemoryChain) -> None:
        self._chain = chain

    async def settlement(self, authorization: Authorization, asset: str) -> str | None:  # noqa: ARG002 - part of Treasury
        """See Treasury."""
        return settlement(self._chain, authorization)

    async def sign(self, vendor: VendorProfile, to: str, amount: int, key: str) -> SignedTransfer:
        """See Treasury."""
        raw = json.dumps({"from": vendor.pay_to, "to": to, "amount": amount, "key": key})
        return SignedTransfer(raw, "0x" + keyed_hash(key).hex())

    async def broadcast(self, transfer: SignedTransfer) -> None:
        """See Treasury."""
        order = json.loads(transfer.raw)
        self._chain.transfer(order["from"], order["to"], order["amount"], key=order["key"])

    async def is_mined(self, transfer: SignedTransfer) -> bool:
        """See Treasury."""
        return self._chain.locate(bytes.fromhex(transfer.tx_hash[2:])) is not None

    async def is_void(self, transfer: SignedTransfer) -> bool:  # noqa: ARG002 - part of Treasury
        """See Treasury."""
        return False


def settlement(chain: MemoryChain, authorization: Authorization) -> str | None:
    """See `settlement_on_chain` in mock_vendor/vendor/settlements.py."""
    wanted = (*authorization.key, authorization.to, authorization.value)
    for transfer in chain.transfers:
        if (transfer.sender, transfer.nonce, transfer.recipient, transfer.value) == wanted:
            return transfer.tx_hash
    return "" if chain.is_closed(*authorization.key) else None
