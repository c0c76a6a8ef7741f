"""A local EVM chain with LocalUSDC, as JSON-RPC: the laptop's stand-in for Base.

It mines each transaction at once in a block of its own. Its time follows the wall clock, also
without transactions: reading the latest block mines an empty one when the last is over a second
old. With a folder it survives restarts and SIGKILL: each block is journaled before it is
answered for, and the journal is replayed, times and all, on the next start. eth-tester, which
drives the same py-evm, forgets its chain with the process.
"""

import json
import threading
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_account import Account
from starlette.applications import Starlette

from mock_vendor.accounts import (
    AGENT_FUNDS,
    LOCAL_CHAIN_ID,
    LOCAL_USDC_ADDRESS,
    ROLES,
    TOKEN_NAME,
    TOKEN_SYMBOL,
    TOKEN_VERSION,
    dev_address,
    dev_key,
)
from mock_vendor.chain.blocks import BASE_FEE_WEI, ZERO_HASH, Block, Call, ChainError, Transaction
from mock_vendor.chain.evm import Evm, Moment
from mock_vendor.chain.journal import FolderLock, Journal
from mock_vendor.chain.rpc import JsonRpc, create_rpc_app
from mock_vendor.chain.token import MINT, selector

_ETHER = 10**18
_GAS_FUNDS_WEI = 1_000_000 * _ETHER
_STALE_AFTER_S = 1.0


class LocalChain:
    """The chain. A `ChainView`; every method is safe to call from any thread."""

    chain_id = LOCAL_CHAIN_ID

    def __init__(
        self,
        folder: Path | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the chain kept in `folder`, or a fresh one in memory without it.

        A fresh chain has LocalUSDC at LOCAL_USDC_ADDRESS and AGENT_FUNDS micro-dollars in the
        agent's account. Raises FolderInUse when another live process holds the folder.
        """
        self._clock = clock
        self._mutex = threading.RLock()
        self._evm = Evm(LOCAL_CHAIN_ID)
        self._blocks: list[Block] = []
        self._numbers: dict[bytes, int] = {}
        self._places: dict[bytes, tuple[int, int]] = {}
        self._offset_s = 0
        self._lock = FolderLock(folder) if folder else None
        self._journal: Journal | None = None
        try:
            self._open(Journal(folder / "chain.jsonl") if folder else None)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files and free the folder. May be called twice."""
        with self._mutex:
            if self._journal:
                self._journal.close()
            if self._lock:
                self._lock.close()

    def head(self) -> Block:
        """Return the newest block; mines an empty one when the last is over a second old."""
        with self._mutex:
            latest = self._blocks[-1]
            if self._now() - latest.timestamp > _STALE_AFTER_S:
                return self._append_block((), latest.state_root, self._next_time(), [])
            return latest

    def block(self, number: int) -> Block | None:
        """Return a block by number, or None."""
        with self._mutex:
            return self._blocks[number] if 0 <= number < len(self._blocks) else None

    def block_by_hash(self, block_hash: bytes) -> Block | None:
        """Return a block by hash, or None."""
        with self._mutex:
            number = self._numbers.get(block_hash)
            return None if number is None else self._blocks[number]

    def locate(self, tx_hash: bytes) -> tuple[Block, int] | None:
        """Return a mined transaction's block and its index there, or None."""
        with self._mutex:
            place = self._places.get(tx_hash)
            return None if place is None else (self._blocks[place[0]], place[1])

    def call(self, call: Call, block: Block) -> bytes:
        """Run a read-only call on the state after `block`. Raises Reverted."""
        with self._mutex:
            return self._evm.call(block.state_root, Moment(block.number, block.timestamp), call)

    def estimate_gas(self, call: Call) -> int:
        """Return enough gas for the call on the newest state. Raises Reverted."""
        with self._mutex:
            head = self.head()
            moment = Moment(head.number, head.timestamp)
            return self._evm.estimate_gas(head.state_root, moment, call)

    def code(self, address: bytes, block: Block) -> bytes:
        """Return an account's code after `block`."""
        with self._mutex:
            return self._evm.code(block.state_root, address)

    def balance(self, address: bytes, block: Block) -> int:
        """Return an account's balance in wei after `block`."""
        with self._mutex:
            return self._evm.balance(block.state_root, address)

    def nonce(self, address: bytes, block: Block) -> int:
        """Return how many transactions the account had sent after `block`."""
        with self._mutex:
            return self._evm.nonce(block.state_root, address)

    def submit(self, raw: bytes) -> bytes:
        """Mine a signed transaction in a block of its own, durably, and return its hash.

        Raises ChainError: "already known" for a mined one, or why it cannot be mined.
        """
        with self._mutex:
            return self._submit(raw, self._next_time())

    def increase_time(self, seconds: int) -> int:
        """Move the chain's clock forward for good (also over restarts). Returns the offset."""
        if seconds < 0:
            raise ChainError("time does not run backwards", -32602)
        with self._mutex:
            self._offset_s += seconds
            if self._journal:
                self._journal.append({"offset": self._offset_s})
            return self._offset_s

    def mine(self, timestamp: int | None = None) -> Block:
        """Mine an empty block now, or at `timestamp` (s), which may not lie in the past."""
        with self._mutex:
            latest = self._blocks[-1]
            at = self._next_time() if timestamp is None else timestamp
            if at < latest.timestamp:
                raise ChainError("timestamp is before the latest block's", -32602)
            return self._append_block((), latest.state_root, at, [])

    def _open(self, journal: Journal | None) -> None:
        lines = journal.lines if journal else []
        if lines:
            self._replay(lines)
        self._journal = journal
        if not lines:
            self._start(int(self._clock()))
        if self._nonce_of("deployer") == 0:
            self._deploy_token()
        if self._nonce_of("deployer") == 1:
            self._mint(dev_address("agent"), AGENT_FUNDS)

    def _now(self) -> float:
        return self._clock() + self._offset_s

    def _next_time(self) -> int:
        return max(self._blocks[-1].timestamp, int(self._now()))

    def _submit(self, raw: bytes, timestamp: int) -> bytes:
        transaction = self._evm.decode(raw)
        if bytes(transaction.hash) in self._places:
            raise ChainError("already known")
        latest = self._blocks[-1]
        moment = Moment(latest.number + 1, timestamp)
        root, outcome = self._evm.execute(latest.state_root, moment, transaction)
        self._append_block((outcome,), root, timestamp, ["0x" + raw.hex()])
        return outcome.hash

    def _append_block(
        self, transactions: tuple[Transaction, ...], root: bytes, timestamp: int, raws: list[str]
    ) -> Block:
        latest = self._blocks[-1]
        block = Block(latest.number + 1, timestamp, latest.hash, root, transactions)
        if self._journal:
            line: dict[str, Any] = {"t": timestamp, **({"tx": raws} if raws else {})}
            self._journal.append(line, durable=bool(raws))
        self._add(block)
        return block

    def _add(self, block: Block) -> None:
        self._blocks.append(block)
        self._numbers[block.hash] = block.number
        for index, transaction in enumerate(block.transactions):
            self._places[transaction.hash] = (block.number, index)

    def _start(self, timestamp: int) -> None:
        if self._journal:
            self._journal.append({"genesis": timestamp, "chainId": LOCAL_CHAIN_ID})
        balances = {bytes.fromhex(dev_address(r)[2:]): _GAS_FUNDS_WEI for r in ROLES}
        self._add(Block(0, timestamp, ZERO_HASH, self._evm.genesis(balances)))

    def _replay(self, lines: list[dict[str, Any]]) -> None:
        self._start(int(lines[0]["genesis"]))
        for line in lines[1:]:
            if "offset" in line:
                self._offset_s = int(line["offset"])
            elif "tx" in line:
                for raw in line["tx"]:
                    self._submit(bytes.fromhex(raw[2:]), int(line["t"]))
            else:
                self._append_block((), self._blocks[-1].state_root, int(line["t"]), [])

    def _nonce_of(self, role: str) -> int:
        return self.nonce(bytes.fromhex(dev_address(role)[2:]), self._blocks[-1])

    def _deploy_token(self) -> None:
        names = encode(["string"] * 3, [TOKEN_NAME, TOKEN_VERSION, TOKEN_SYMBOL])
        self._send_as_deployer(None, local_usdc_bytecode() + names, nonce=0)

    def _mint(self, to: str, amount: int) -> None:
        data = selector(MINT) + encode(["address", "uint256"], [to, amount])
        self._send_as_deployer(LOCAL_USDC_ADDRESS, data, nonce=1)

    def _send_as_deployer(self, to: str | None, data: bytes, nonce: int) -> None:
        transaction = {
            "nonce": nonce,
            "gasPrice": BASE_FEE_WEI,
            "gas": 5_000_000,
            "value": 0,
            "data": data,
            "chainId": LOCAL_CHAIN_ID,
            **({"to": to} if to else {}),
        }
        signed = Account.sign_transaction(transaction, dev_key("deployer"))
        self.submit(bytes(signed.raw_transaction))


def local_usdc_bytecode() -> bytes:
    """Return LocalUSDC's creation code, compiled from contracts/LocalUSDC.sol."""
    file = resources.files(__package__) / "contracts" / "LocalUSDC.json"
    return bytes.fromhex(str(json.loads(file.read_text())["bytecode"])[2:])


def create_chain_app(chain: LocalChain) -> Starlette:
    """Return the chain's JSON-RPC endpoint as an ASGI app (POST /)."""
    return create_rpc_app(JsonRpc(chain))
