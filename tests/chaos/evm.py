"""The real EVM in the memory chain's place: the same cases, with the token's own code."""

from __future__ import annotations

import time
from typing import Any, Final, cast

from eth_account import Account
from eth_utils.address import to_checksum_address
from starlette.applications import Starlette
from web3 import Web3

from mock_vendor.accounts import (
    LOCAL_CHAIN_ID,
    LOCAL_USDC_ADDRESS,
    TOKEN_NAME,
    TOKEN_VERSION,
    dev_address,
    dev_key,
)
from mock_vendor.chain.blocks import BASE_FEE_WEI, Block
from mock_vendor.chain.chain import LocalChain, create_chain_app
from mock_vendor.chain.rpc import JsonRpc
from mock_vendor.chain.token import (
    AUTHORIZATION_STATE,
    AUTHORIZATION_USED_EVENT,
    TRANSFER_EVENT,
    address_bytes,
    selector,
    topic,
    word,
)
from mock_vendor.facilitator.facilitator import LocalFacilitator
from mock_vendor.vendor.treasury import EvmTreasury
from tests.support.chain_provider import InProcessProvider
from tests.support.memory_chain import MemoryChain, Transfer
from tests.support.world import Clock, Outside

CANCEL: Final = "cancelAuthorization(address,bytes32,bytes)"
_CANCEL_TYPES: Final = {
    "CancelAuthorization": [
        {"name": "authorizer", "type": "address"},
        {"name": "nonce", "type": "bytes32"},
    ]
}


class EvmChain:
    """A LocalChain with the memory chain's questions, answered from its blocks."""

    def __init__(self, clock: Clock) -> None:
        self.local = LocalChain(clock=clock.seconds)
        self._rpc = JsonRpc(self.local)

    def now(self) -> int:
        return self.local.head().timestamp

    def head(self) -> Block:
        return self.local.head()

    def block(self, number: int) -> Block | None:
        return self.local.block(number)

    def asgi(self) -> Starlette:
        return create_chain_app(self.local)

    def is_closed(self, payer: str, nonce: str) -> bool:
        data = selector(AUTHORIZATION_STATE) + word(address_bytes(payer)) + address_bytes(nonce)
        call = {"to": LOCAL_USDC_ADDRESS, "data": "0x" + data.hex()}
        return bool(int(str(self._rpc.call("eth_call", [call, "latest"])), 16))

    def cancel(self, payer: str, nonce: str) -> str:
        """As the payer could: a signed cancelAuthorization, sent by the development agent."""
        assert payer == dev_address("agent")
        domain = {
            "name": TOKEN_NAME,
            "version": TOKEN_VERSION,
            "chainId": LOCAL_CHAIN_ID,
            "verifyingContract": LOCAL_USDC_ADDRESS,
        }
        message = {"authorizer": payer, "nonce": address_bytes(nonce)}
        signature = Account.sign_typed_data(dev_key("agent"), domain, _CANCEL_TYPES, message)
        data = selector(CANCEL) + word(address_bytes(payer)) + address_bytes(nonce)
        data += word(96) + word(65) + bytes(signature.signature).ljust(96, b"\0")
        count = self._rpc.call("eth_getTransactionCount", [payer, "latest"])
        transaction = {
            "nonce": int(str(count), 16),
            "gasPrice": BASE_FEE_WEI,
            "gas": 200_000,
            "value": 0,
            "data": data,
            "chainId": LOCAL_CHAIN_ID,
            "to": LOCAL_USDC_ADDRESS,
        }
        raw = bytes(Account.sign_transaction(transaction, dev_key("agent")).raw_transaction)
        return "0x" + self.local.submit(raw).hex()

    @property
    def transfers(self) -> list[Transfer]:
        """Every transfer of the token, in the chain's order, from the blocks themselves."""
        found: list[Transfer] = []
        for number in range(self.local.head().number + 1):
            block = self.local.block(number)
            for transaction in block.transactions if block else ():
                found += _transfers(cast(Block, block), transaction)
        return found


def _transfers(block: Block, transaction: Any) -> list[Transfer]:
    nonce, found = None, []
    for log in transaction.logs if transaction.success else ():
        if log.address != address_bytes(LOCAL_USDC_ADDRESS):
            continue
        if log.topics[0] == topic(AUTHORIZATION_USED_EVENT):
            nonce = "0x" + log.topics[2].hex()
        elif log.topics[0] == topic(TRANSFER_EVENT):
            sender, recipient = (str(to_checksum_address(t[12:])) for t in log.topics[1:3])
            value = int.from_bytes(log.data, "big")
            tx_hash = "0x" + transaction.hash.hex()
            found.append(
                Transfer(tx_hash, block.number, block.timestamp, sender, recipient, value, nonce)
            )
    return found


def on_evm(clock: Clock) -> Outside:
    """A fresh EVM chain with the token, and a facilitator and treasuries that use it."""
    # The SDK's facilitator looks at the machine's clock, so the world's must not lie behind it.
    clock.advance(int(time.time()) - int(clock.seconds()))
    chain = EvmChain(clock)
    w3 = Web3(InProcessProvider(chain.local))
    # Not a MemoryChain, but everything that a world asks of one.
    return Outside(cast(MemoryChain, chain), LocalFacilitator(w3), EvmTreasury(w3))
