"""One face for both chains, so that the same tests run on the EVM and on the memory chain."""

import time
from typing import Any, Protocol

from eth_account import Account
from eth_utils.crypto import keccak
from web3 import Web3
from x402 import PaymentRequirements

from mock_vendor.accounts import (
    AGENT_FUNDS,
    LOCAL_CHAIN_ID,
    LOCAL_NETWORK,
    LOCAL_USDC_ADDRESS,
    TOKEN_NAME,
    TOKEN_VERSION,
    dev_address,
    dev_key,
)
from mock_vendor.chain.blocks import BASE_FEE_WEI
from mock_vendor.chain.chain import LocalChain
from mock_vendor.chain.rpc import JsonRpc
from mock_vendor.chain.token import TRANSFER, address_bytes, selector, word
from mock_vendor.facilitator.app import FacilitatorClient
from mock_vendor.facilitator.facilitator import LocalFacilitator
from mock_vendor.vendor.treasury import EvmTreasury, Treasury
from tests.support.chain_provider import InProcessProvider
from tests.support.memory_chain import MemoryChain
from tests.support.memory_facilitator import MemoryFacilitator
from tests.support.memory_treasury import MemoryTreasury

ABI_CANCEL = "cancelAuthorization(address,bytes32,bytes)"


class World(Protocol):
    """A chain with LocalUSDC, its JSON-RPC and its facilitator."""

    rpc: JsonRpc
    facilitator: FacilitatorClient
    treasury: Treasury

    def transfer(self, role: str, to: str, value: int) -> str: ...

    def cancel(self, role: str, nonce: bytes) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self.chain = MemoryChain(time.time)
        self.chain.mint(dev_address("agent"), AGENT_FUNDS)
        self.rpc = self.chain.rpc
        self.facilitator: FacilitatorClient = MemoryFacilitator(self.chain)
        self.treasury: Treasury = MemoryTreasury(self.chain)

    def transfer(self, role: str, to: str, value: int) -> str:
        return self.chain.transfer(dev_address(role), to, value)

    def cancel(self, role: str, nonce: bytes) -> None:
        self.chain.cancel(dev_address(role), "0x" + nonce.hex())


class EvmWorld:
    def __init__(self) -> None:
        self.chain = LocalChain()
        self.rpc = JsonRpc(self.chain)
        w3 = Web3(InProcessProvider(self.chain))
        self.facilitator: FacilitatorClient = LocalFacilitator(w3)
        self.treasury: Treasury = EvmTreasury(w3)

    def transfer(self, role: str, to: str, value: int) -> str:
        return send(self.rpc, role, selector(TRANSFER) + word(address_bytes(to)) + word(value))

    def cancel(self, role: str, nonce: bytes) -> None:
        message = {"authorizer": dev_address(role), "nonce": nonce}
        types = {
            "CancelAuthorization": [
                {"name": "authorizer", "type": "address"},
                {"name": "nonce", "type": "bytes32"},
            ]
        }
        domain = {
            "name": TOKEN_NAME,
            "version": TOKEN_VERSION,
            "chainId": LOCAL_CHAIN_ID,
            "verifyingContract": LOCAL_USDC_ADDRESS,
        }
        signature = Account.sign_typed_data(dev_key(role), domain, types, message).signature
        data = selector(ABI_CANCEL) + word(address_bytes(dev_address(role))) + nonce
        send(self.rpc, role, data + word(96) + word(65) + signature.ljust(96, b"\0"))


def send(rpc: JsonRpc, role: str, data: bytes) -> str:
    """Send a transaction to the token from a development account; returns its hash."""
    count = rpc.call("eth_getTransactionCount", [dev_address(role), "latest"])
    return str(rpc.call("eth_sendRawTransaction", [signed(role, data, int(count, 16))]))


def signed(role: str, data: bytes, nonce: int) -> str:
    """Return a raw signed transaction to the token."""
    transaction = {
        "nonce": nonce,
        "gasPrice": BASE_FEE_WEI,
        "gas": 200_000,
        "value": 0,
        "data": data,
        "chainId": LOCAL_CHAIN_ID,
        "to": LOCAL_USDC_ADDRESS,
    }
    raw = bytes(Account.sign_transaction(transaction, dev_key(role)).raw_transaction)
    return "0x" + raw.hex()


def requirements(amount: int = 1_000_000, to: str = "gpu_vendor_1") -> PaymentRequirements:
    """Return what a vendor would ask for."""
    return PaymentRequirements(
        scheme="exact",
        network=LOCAL_NETWORK,
        asset=LOCAL_USDC_ADDRESS,
        amount=str(amount),
        pay_to=dev_address(to),
        max_timeout_seconds=300,
        extra={"name": TOKEN_NAME, "version": TOKEN_VERSION, "quoteId": "quote"},
    )


def balance(rpc: JsonRpc, holder: str, block: str = "latest") -> int:
    """Read balanceOf through JSON-RPC."""
    data = selector("balanceOf(address)") + word(address_bytes(holder))
    return int(call(rpc, data, block), 16)


def is_closed(rpc: JsonRpc, payer: str, nonce: bytes, block: str = "latest") -> bool:
    """Read authorizationState through JSON-RPC."""
    data = selector("authorizationState(address,bytes32)") + word(address_bytes(payer)) + nonce
    return bool(int(call(rpc, data, block), 16))


def call(rpc: JsonRpc, data: bytes, block: str) -> str:
    return str(rpc.call("eth_call", [{"to": LOCAL_USDC_ADDRESS, "data": "0x" + data.hex()}, block]))


def logs(rpc: JsonRpc, event: str, *topics: bytes | None, first: str = "0x0") -> list[Any]:
    """Read the token's logs of an event."""
    wanted = ["0x" + keccak(text=event).hex(), *(t and "0x" + t.hex() for t in topics)]
    found: list[Any] = rpc.call(
        "eth_getLogs", [{"address": LOCAL_USDC_ADDRESS, "fromBlock": first, "topics": wanted}]
    )
    return found
