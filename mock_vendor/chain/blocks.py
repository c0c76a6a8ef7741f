"""The values a chain is made of: blocks, transactions, logs; and what can go wrong with them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from eth_utils.crypto import keccak

ZERO_HASH = b"\x00" * 32
BASE_FEE_WEI = 1_000_000_000
BLOCK_GAS_LIMIT = 30_000_000


class ChainError(Exception):
    """A request that the chain cannot serve; carries its JSON-RPC error code."""

    def __init__(self, message: str, code: int = -32000, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class Reverted(ChainError):
    """A call that the contract refused. `output` is what it returned, `reason` its text if any."""

    def __init__(self, reason: str, output: bytes = b"") -> None:
        message = f"execution reverted: {reason}" if reason else "execution reverted"
        super().__init__(message, code=3, data="0x" + output.hex())
        self.reason = reason


@dataclass(frozen=True)
class Log:
    """An event of a contract: 20-byte address, 32-byte topics, ABI-encoded data."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True)
class Transaction:
    """A mined transaction with its outcome. Amounts are in wei; `to` is None for a creation."""

    hash: bytes
    sender: bytes
    to: bytes | None
    nonce: int
    value: int
    gas: int
    gas_price: int
    data: bytes
    success: bool
    gas_used: int
    logs: tuple[Log, ...] = ()
    contract_address: bytes | None = None
    type_id: int = 0


@dataclass(frozen=True)
class Block:
    """A mined block. `timestamp` is in whole seconds since the epoch."""

    number: int
    timestamp: int
    parent_hash: bytes
    state_root: bytes
    transactions: tuple[Transaction, ...] = ()

    @property
    def hash(self) -> bytes:
        """A hash over everything in the block, so that equal chains have equal hashes."""
        return keccak(
            self.number.to_bytes(8, "big")
            + self.timestamp.to_bytes(8, "big")
            + self.parent_hash
            + self.state_root
            + b"".join(t.hash for t in self.transactions)
        )


@dataclass(frozen=True)
class Call:
    """A read-only message to a contract (eth_call) or the draft of a transaction."""

    to: bytes | None
    data: bytes
    sender: bytes
    value: int = 0
    gas: int = BLOCK_GAS_LIMIT


class ChainView(Protocol):
    """What the JSON-RPC layer needs of a chain. Implemented by the EVM and by the memory chain."""

    chain_id: int

    def head(self) -> Block:
        """Return the newest block, mining an empty one first when the clock has moved on."""

    def block(self, number: int) -> Block | None:
        """Return a block by number, or None."""

    def block_by_hash(self, block_hash: bytes) -> Block | None:
        """Return a block by hash, or None."""

    def locate(self, tx_hash: bytes) -> tuple[Block, int] | None:
        """Return the block of a mined transaction and its index there, or None."""

    def call(self, call: Call, block: Block) -> bytes:
        """Run a read-only call on the state after `block`. Raises Reverted."""

    def estimate_gas(self, call: Call) -> int:
        """Return enough gas for the call. Raises Reverted."""

    def code(self, address: bytes, block: Block) -> bytes:
        """Return the account's code (empty for a plain account)."""

    def balance(self, address: bytes, block: Block) -> int:
        """Return the account's balance in wei."""

    def nonce(self, address: bytes, block: Block) -> int:
        """Return how many transactions the account has sent."""

    def submit(self, raw: bytes) -> bytes:
        """Mine a signed transaction and return its hash. Raises ChainError."""

    def increase_time(self, seconds: int) -> int:
        """Move the chain's clock forward; returns the total offset in seconds."""

    def mine(self, timestamp: int | None = None) -> Block:
        """Mine an empty block now, or at a given later time."""


def logs_between(view: ChainView, first: int, last: int) -> Iterator[tuple[Block, int, int, Log]]:
    """Yield (block, transaction index, log index in the block, log) over a closed block range."""
    for number in range(first, last + 1):
        block = view.block(number)
        if block is None:
            return
        index = 0
        for position, transaction in enumerate(block.transactions):
            for log in transaction.logs:
                yield block, position, index, log
                index += 1
