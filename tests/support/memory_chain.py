"""LocalUSDC on a chain that is a few Python lists: what the EVM chain does, in microseconds.

For test campaigns that make thousands of payments. It keeps the rules that payments depend on:
balances, single-use nonces per payer, validity windows against the block's time, events and
receipts. A test suite runs the same checks on this and on the EVM.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from starlette.applications import Starlette

from mock_vendor.accounts import LOCAL_CHAIN_ID, LOCAL_USDC_ADDRESS
from mock_vendor.chain.blocks import ZERO_HASH, Block, Call, ChainError, Log, Reverted, Transaction
from mock_vendor.chain.rpc import JsonRpc, create_rpc_app
from mock_vendor.chain.token import (
    AUTHORIZATION_CANCELED_EVENT,
    AUTHORIZATION_STATE,
    AUTHORIZATION_USED_EVENT,
    BALANCE_OF,
    TRANSFER_EVENT,
    address_bytes,
    selector,
    topic,
    word,
)

_TOKEN = address_bytes(LOCAL_USDC_ADDRESS)
_ZERO_ADDRESS = "0x" + "00" * 20
_STALE_AFTER_S = 1.0
_GAS = 60_000


@dataclass(frozen=True)
class Transfer:
    """A movement of the token. `value` in micro-dollars, `timestamp` in s, addresses checksummed.

    `nonce` is the EIP-3009 nonce (0x and 64 hex digits) when an authorization made the transfer.
    """

    tx_hash: str
    block_number: int
    timestamp: int
    sender: str
    recipient: str
    value: int
    nonce: str | None = None


class MemoryChain:
    """The chain. A `ChainView` like LocalChain, and direct methods for tests.

    `clock` gives seconds since the epoch; `advance` moves this chain's time alone.
    """

    chain_id = LOCAL_CHAIN_ID

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._mutex = threading.RLock()
        self._offset_s = 0
        self._blocks = [Block(0, int(clock()), ZERO_HASH, ZERO_HASH)]
        self._numbers = {self._blocks[0].hash: 0}
        self._places: dict[bytes, int] = {}
        self._balances: dict[bytes, int] = {}
        self._closed_nonces: dict[tuple[bytes, bytes], int] = {}
        self._serial = 0
        self.transfers: list[Transfer] = []
        self.rpc = JsonRpc(self)

    def now(self) -> int:
        """Return the chain's time in whole seconds: what the next block's timestamp would be."""
        return max(self._blocks[-1].timestamp, int(self._clock() + self._offset_s))

    def advance(self, seconds: int) -> Block:
        """Let time pass on this chain and mine a block at the new time."""
        with self._mutex:
            self.increase_time(seconds)
            return self.mine()

    def balance_of(self, holder: str) -> int:
        """Return an account's tokens, in micro-dollars."""
        return self._balances.get(address_bytes(holder), 0)

    def is_closed(self, payer: str, nonce: str) -> bool:
        """Tell whether the payer's nonce is used or cancelled (the token's authorizationState)."""
        return (address_bytes(payer), address_bytes(nonce)) in self._closed_nonces

    def mint(self, to: str, value: int) -> str:
        """Create tokens out of nothing. Returns the transaction hash."""
        return self._move(_ZERO_ADDRESS, to, value)

    def transfer(self, sender: str, to: str, value: int, *, key: str | None = None) -> str:
        """Move tokens; returns the transaction hash. Raises Reverted when the balance is short.

        With a `key`, the hash follows from it and a second call with it does nothing, as when
        the same signed transaction is broadcast twice.
        """
        with self._mutex:
            if key is not None and keyed_hash(key) in self._places:
                return "0x" + keyed_hash(key).hex()
            return self._move(sender, to, value, tx_hash=keyed_hash(key) if key else None)

    def batch(self, moves: Sequence[tuple[str, str, int]]) -> str:
        """Move tokens several times, (sender, recipient, value) each, in one transaction, as a
        contract could. Returns its hash.
        """
        with self._mutex:
            logs: list[Log] = []
            for sender, to, value in moves:
                logs += self._shift(sender, to, value)
            mined = self._mine_transaction(address_bytes(moves[0][0]), tuple(logs))
            head = self._blocks[-1]
            for sender, to, value in moves:
                self._record(mined, head, sender, to, value, None)
            return mined

    def cancel(self, payer: str, nonce: str) -> str:
        """Cancel an unused nonce, as its owner could. Raises Reverted when it is closed."""
        with self._mutex:
            self._close(payer, nonce)
            topics = (topic(AUTHORIZATION_CANCELED_EVENT), word(address_bytes(payer)))
            log = Log(_TOKEN, (*topics, address_bytes(nonce)), b"")
            return self._mine_transaction(address_bytes(payer), (log,))

    def transfer_with_authorization(
        self, payer: str, to: str, value: int, valid_after: int, valid_before: int, nonce: str
    ) -> str:
        """Use an authorization whose signature the caller has checked.

        Returns the transaction hash. Raises Reverted with the token's own words.
        """
        with self._mutex:
            self.check_authorization(payer, value, valid_after, valid_before, nonce)
            self._close(payer, nonce)
            used = topic(AUTHORIZATION_USED_EVENT), word(address_bytes(payer))
            log = Log(_TOKEN, (*used, address_bytes(nonce)), b"")
            return self._move(payer, to, value, before=(log,), nonce=nonce)

    def check_authorization(
        self, payer: str, value: int, valid_after: int, valid_before: int, nonce: str
    ) -> None:
        """Raise Reverted if the authorization would be refused by a block mined now."""
        if not self.now() > valid_after:
            raise Reverted("FiatToken: authorization is not yet valid")
        if not self.now() < valid_before:
            raise Reverted("FiatToken: authorization is expired")
        if self.is_closed(payer, nonce):
            raise Reverted("FiatToken: authorization is used or canceled")
        if self.balance_of(payer) < value:
            raise Reverted("ERC20: transfer amount exceeds balance")

    def json_rpc(self, method: str, params: list[object]) -> object:
        """Answer one JSON-RPC call in process. Raises ChainError."""
        return self.rpc.call(method, params)

    def asgi(self) -> Starlette:
        """Return the chain's JSON-RPC endpoint as an ASGI app (POST /)."""
        return create_rpc_app(self.rpc)

    def head(self) -> Block:
        """Return the newest block; mines an empty one when the last is over a second old."""
        with self._mutex:
            latest = self._blocks[-1]
            if self._clock() + self._offset_s - latest.timestamp > _STALE_AFTER_S:
                return self.mine()
            return latest

    def block(self, number: int) -> Block | None:
        """Return a block by number, or None."""
        return self._blocks[number] if 0 <= number < len(self._blocks) else None

    def block_by_hash(self, block_hash: bytes) -> Block | None:
        """Return a block by hash, or None."""
        number = self._numbers.get(block_hash)
        return None if number is None else self._blocks[number]

    def locate(self, tx_hash: bytes) -> tuple[Block, int] | None:
        """Return a mined transaction's block and its index there, or None."""
        number = self._places.get(tx_hash)
        return None if number is None else (self._blocks[number], 0)

    def call(self, call: Call, block: Block) -> bytes:
        """Answer balanceOf and authorizationState after `block`. Raises Reverted for others."""
        words = [call.data[i : i + 32] for i in range(4, len(call.data), 32)]
        if call.to == _TOKEN and call.data[:4] == selector(BALANCE_OF) and words:
            return word(self._balance_at(words[0][12:], block.number))
        if call.to == _TOKEN and call.data[:4] == selector(AUTHORIZATION_STATE) and len(words) > 1:
            closed_in = self._closed_nonces.get((words[0][12:], words[1]))
            return word(int(closed_in is not None and closed_in <= block.number))
        raise Reverted("the memory chain does not know this function")

    def estimate_gas(self, call: Call) -> int:  # noqa: ARG002 - part of ChainView
        """Return the fixed price of everything."""
        return _GAS

    def code(self, address: bytes, block: Block) -> bytes:  # noqa: ARG002 - part of ChainView
        """Return a stand-in for the token's code, nothing for other accounts."""
        return b"\xfe" if address == _TOKEN else b""

    def balance(self, address: bytes, block: Block) -> int:  # noqa: ARG002 - part of ChainView
        """Return zero: nobody pays for gas here."""
        return 0

    def nonce(self, address: bytes, block: Block) -> int:
        """Return how many transactions the account had sent after `block`."""
        mined = self._blocks[: block.number + 1]
        return sum(t.sender == address for b in mined for t in b.transactions)

    def submit(self, raw: bytes) -> bytes:
        """Refuse: nothing executes signed transactions here."""
        raise ChainError(f"the memory chain takes no raw transactions ({len(raw)} bytes)", -32601)

    def increase_time(self, seconds: int) -> int:
        """Move the chain's clock forward without mining. Returns the total offset in seconds."""
        with self._mutex:
            self._offset_s += seconds
            return self._offset_s

    def mine(self, timestamp: int | None = None) -> Block:
        """Mine an empty block now, or at a given time."""
        with self._mutex:
            return self._append((), self.now() if timestamp is None else timestamp)

    def _balance_at(self, holder: bytes, number: int) -> int:
        owner = str(to_checksum_address(holder))
        later = [t for t in self.transfers if t.block_number > number]
        received = sum(t.value for t in later if t.recipient == owner)
        sent = sum(t.value for t in later if t.sender == owner)
        return self._balances.get(holder, 0) - received + sent

    def _close(self, payer: str, nonce: str) -> None:
        if self.is_closed(payer, nonce):
            raise Reverted("FiatToken: authorization is used or canceled")
        self._closed_nonces[address_bytes(payer), address_bytes(nonce)] = len(self._blocks)

    def _move(
        self,
        sender: str,
        to: str,
        value: int,
        *,
        before: tuple[Log, ...] = (),
        nonce: str | None = None,
        tx_hash: bytes | None = None,
    ) -> str:
        with self._mutex:
            logs = self._shift(sender, to, value)
            mined = self._mine_transaction(address_bytes(sender), (*before, *logs), tx_hash)
            self._record(mined, self._blocks[-1], sender, to, value, nonce)
            return mined

    def _shift(self, sender: str, to: str, value: int) -> tuple[Log, ...]:
        """Change the balances; the event of it."""
        source, target = address_bytes(sender), address_bytes(to)
        if sender != _ZERO_ADDRESS:
            if self.balance_of(sender) < value:
                raise Reverted("ERC20: transfer amount exceeds balance")
            if value:
                self._balances[source] -= value
        self._balances[target] = self.balance_of(to) + value
        return (Log(_TOKEN, (topic(TRANSFER_EVENT), word(source), word(target)), word(value)),)

    def _record(
        self, tx_hash: str, block: Block, sender: str, to: str, value: int, nonce: str | None
    ) -> None:
        ends = str(to_checksum_address(sender)), str(to_checksum_address(to))
        self.transfers.append(Transfer(tx_hash, block.number, block.timestamp, *ends, value, nonce))

    def _mine_transaction(
        self, sender: bytes, logs: tuple[Log, ...], tx_hash: bytes | None = None
    ) -> str:
        self._serial += 1
        transaction = Transaction(
            hash=tx_hash or keyed_hash(f"serial {self._serial}"),
            sender=sender,
            to=_TOKEN,
            nonce=self._serial,
            value=0,
            gas=_GAS,
            gas_price=0,
            data=b"",
            success=True,
            gas_used=_GAS,
            logs=logs,
        )
        self._append((transaction,), self.now())
        return "0x" + transaction.hash.hex()

    def _append(self, transactions: tuple[Transaction, ...], timestamp: int) -> Block:
        latest = self._blocks[-1]
        block = Block(latest.number + 1, timestamp, latest.hash, ZERO_HASH, transactions)
        self._blocks.append(block)
        self._numbers[block.hash] = block.number
        self._places.update({t.hash: block.number for t in transactions})
        return block


def keyed_hash(key: str) -> bytes:
    """Return the transaction hash that a keyed transfer will have."""
    return keccak(text=f"memory chain transaction|{key}")
