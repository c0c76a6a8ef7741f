"""Executes transactions and calls with py-evm, on states named by their root.

Holds no blocks and no clock: a state is the 32-byte root that an execution returned. Every root
ever returned stays readable, so calls on older blocks work.
"""

from dataclasses import dataclass

from eth.abc import ComputationAPI, SignedTransactionAPI
from eth.constants import CREATE_CONTRACT_ADDRESS
from eth.db.atomic import AtomicDB
from eth.exceptions import Revert, VMError
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.shanghai import ShanghaiVM
from eth.vm.forks.shanghai.state import ShanghaiState
from eth.vm.message import Message
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_typing import Address, BlockNumber, Hash32
from eth_utils.exceptions import ValidationError
from rlp.exceptions import DecodingError as RlpDecodingError  # type: ignore[import-untyped]
from trie.constants import BLANK_NODE_HASH

from mock_vendor.chain.blocks import (
    BASE_FEE_WEI,
    BLOCK_GAS_LIMIT,
    Call,
    ChainError,
    Log,
    Reverted,
    Transaction,
)

_ERROR_SELECTOR = bytes.fromhex("08c379a0")
_COINBASE = Address(b"\x00" * 20)
_NEW_CONTRACT = Address(b"\x00" * 19 + b"\x01")
_INTRINSIC_GAS = 21_000
_CREATION_GAS = 32_000


@dataclass(frozen=True)
class Moment:
    """The block facts a contract can see: number and timestamp (s)."""

    number: int
    timestamp: int


class Evm:
    """A world of accounts and contracts, kept in memory."""

    def __init__(self, chain_id: int) -> None:
        self._chain_id = chain_id
        self._db = AtomicDB()

    def genesis(self, balances_wei: dict[bytes, int]) -> bytes:
        """Return the root of a state in which only these balances exist."""
        state = self._state(BLANK_NODE_HASH, Moment(0, 0))
        for address, balance in balances_wei.items():
            state.set_balance(Address(address), balance)
        state.persist()
        return bytes(state.state_root)

    def decode(self, raw: bytes) -> SignedTransactionAPI:
        """Parse a signed transaction. Raises ChainError when it is malformed or not for here."""
        try:
            transaction = ShanghaiVM.get_transaction_builder().decode(raw)
            transaction.check_signature_validity()
        except (RlpDecodingError, ValidationError, VMError, IndexError, ValueError) as error:
            raise ChainError(f"invalid transaction: {error}") from error
        if transaction.chain_id != self._chain_id:
            raise ChainError(f"invalid chain id: have {transaction.chain_id}")
        return transaction

    def execute(
        self, root: bytes, moment: Moment, transaction: SignedTransactionAPI
    ) -> tuple[bytes, Transaction]:
        """Run a transaction. Returns the new state's root and the outcome; a revert is one too.

        Raises ChainError when the transaction cannot be mined at all (nonce, balance, gas).
        """
        state = self._state(root, moment)
        expected = state.get_nonce(transaction.sender)
        if transaction.nonce != expected:
            low = "low" if transaction.nonce < expected else "high"
            raise ChainError(f"nonce too {low}: next nonce {expected}, have {transaction.nonce}")
        if transaction.gas > BLOCK_GAS_LIMIT:
            raise ChainError("exceeds block gas limit")
        try:
            computation = state.apply_transaction(transaction)
        except (ValidationError, VMError) as error:
            raise ChainError(f"transaction refused: {error}") from error
        state.persist()
        return bytes(state.state_root), _outcome(transaction, computation)

    def call(self, root: bytes, moment: Moment, call: Call) -> bytes:
        """Run a message without changing anything. Raises Reverted."""
        return bytes(self._run(root, moment, call).output)

    def estimate_gas(self, root: bytes, moment: Moment, call: Call) -> int:
        """Return an amount of gas that suffices for the call, with a margin of a third."""
        used = self._run(root, moment, call).get_gas_used()
        data_gas = 16 * len(call.data) + (0 if call.to else _CREATION_GAS + 2 * len(call.data))
        return int(min(BLOCK_GAS_LIMIT, (_INTRINSIC_GAS + data_gas + used) * 4 // 3))

    def code(self, root: bytes, address: bytes) -> bytes:
        """Return an account's code."""
        return bytes(self._state(root, Moment(0, 0)).get_code(Address(address)))

    def balance(self, root: bytes, address: bytes) -> int:
        """Return an account's balance in wei."""
        return int(self._state(root, Moment(0, 0)).get_balance(Address(address)))

    def nonce(self, root: bytes, address: bytes) -> int:
        """Return an account's nonce."""
        return int(self._state(root, Moment(0, 0)).get_nonce(Address(address)))

    def _run(self, root: bytes, moment: Moment, call: Call) -> ComputationAPI:
        state = self._state(root, moment)
        sender = Address(call.sender)
        context = state.get_transaction_context_class()(gas_price=0, origin=sender)
        if call.to is None:
            apply = state.computation_class.apply_create_message
            message = Message(
                gas=call.gas,
                to=CREATE_CONTRACT_ADDRESS,
                sender=sender,
                value=call.value,
                data=b"",
                code=call.data,
                create_address=_NEW_CONTRACT,
            )
        else:
            apply = state.computation_class.apply_message
            to = Address(call.to)
            message = Message(
                gas=call.gas,
                to=to,
                sender=sender,
                value=call.value,
                data=call.data,
                code=state.get_code(to),
            )
        computation = apply(state, message, context)
        if computation.is_error:
            raise _revert(computation)
        return computation

    def _state(self, root: bytes, moment: Moment) -> ShanghaiState:
        context = ExecutionContext(
            coinbase=_COINBASE,
            timestamp=moment.timestamp,
            block_number=BlockNumber(moment.number),
            difficulty=0,
            mix_hash=Hash32(b"\x00" * 32),
            gas_limit=BLOCK_GAS_LIMIT,
            prev_hashes=(),
            chain_id=self._chain_id,
            base_fee_per_gas=BASE_FEE_WEI,
        )
        return ShanghaiState(self._db, context, Hash32(root))


def _outcome(transaction: SignedTransactionAPI, computation: ComputationAPI) -> Transaction:
    created = transaction.to == CREATE_CONTRACT_ADDRESS
    return Transaction(
        hash=bytes(transaction.hash),
        sender=bytes(transaction.sender),
        to=None if created else bytes(transaction.to),
        nonce=transaction.nonce,
        value=transaction.value,
        gas=transaction.gas,
        gas_price=min(
            transaction.max_fee_per_gas, BASE_FEE_WEI + transaction.max_priority_fee_per_gas
        ),
        data=bytes(transaction.data),
        success=not computation.is_error,
        gas_used=computation.get_gas_used() + transaction.intrinsic_gas,
        logs=tuple(
            Log(bytes(address), tuple(t.to_bytes(32, "big") for t in topics), bytes(data))
            for address, topics, data in computation.get_log_entries()
        ),
        contract_address=bytes(computation.msg.storage_address) if created else None,
        type_id=getattr(transaction, "type_id", None) or 0,
    )


def _revert(computation: ComputationAPI) -> Reverted:
    output = bytes(computation.output)
    if not isinstance(computation.error, Revert):
        return Reverted(str(computation.error))
    if output[:4] == _ERROR_SELECTOR:
        try:
            return Reverted(str(decode(["string"], output[4:])[0]), output)
        except DecodingError:
            return Reverted("", output)
    return Reverted("", output)
