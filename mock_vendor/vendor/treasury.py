"""A vendor's own view of the chain, and paying refunds: transfers of the token from its account,
each sent exactly once.
"""

import asyncio
from dataclasses import dataclass, replace
from typing import Final, Protocol

from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import TransactionNotFound, Web3RPCError

from mock_vendor.accounts import LOCAL_CHAIN_ID, LOCAL_USDC_ADDRESS
from mock_vendor.chain.token import TRANSFER, address_bytes, selector, word
from mock_vendor.facilitator.authorization import Authorization
from mock_vendor.facilitator.facilitator import connected
from mock_vendor.vendor.locks import KeyedLocks
from mock_vendor.vendor.records import Refund
from mock_vendor.vendor.settings import VendorProfile
from mock_vendor.vendor.settlements import settlement_on_chain
from mock_vendor.vendor.store import Store

_GAS: Final = 120_000
_POLLS: Final = 100
_POLL_S: Final = 0.05


class RefundPending(Exception):
    """The refund is signed and kept, but not known to be mined; ask again."""


@dataclass(frozen=True)
class SignedTransfer:
    """A transfer ready to broadcast, and its hash."""

    raw: str
    tx_hash: str


class Treasury(Protocol):
    """The chain, as far as a vendor needs it. Methods raise when the chain can't be reached."""

    async def settlement(self, authorization: Authorization, asset: str) -> str | None:
        """Return the hash of the transaction that settled a payment, "" where its nonce went
        elsewhere, None where its nonce is not used.
        """

    async def sign(self, vendor: VendorProfile, to: str, amount: int, key: str) -> SignedTransfer:
        """Sign a transfer of micro-dollars. `key` names the refund. Sends nothing."""

    async def broadcast(self, transfer: SignedTransfer) -> None:
        """Send it. Sending the same again does nothing."""

    async def is_mined(self, transfer: SignedTransfer) -> bool:
        """Tell whether it is mined and moved the money."""

    async def is_void(self, transfer: SignedTransfer) -> bool:
        """Tell whether it can't be mined any more (or already is): its place is taken."""


class EvmTreasury:
    """The chain behind `w3`."""

    def __init__(self, w3: Web3) -> None:
        self._w3 = w3

    @classmethod
    def at(cls, rpc_url: str) -> "EvmTreasury":
        """Return a treasury on the chain at a JSON-RPC URL."""
        return cls(connected(rpc_url))

    async def settlement(self, authorization: Authorization, asset: str) -> str | None:
        """See Treasury."""
        return await asyncio.to_thread(settlement_on_chain, self._w3, authorization, asset)

    async def sign(self, vendor: VendorProfile, to: str, amount: int, key: str) -> SignedTransfer:  # noqa: ARG002 - part of Treasury
        """See Treasury."""
        return await asyncio.to_thread(self._sign, vendor, to, amount)

    async def broadcast(self, transfer: SignedTransfer) -> None:
        """See Treasury."""
        try:
            await asyncio.to_thread(self._w3.eth.send_raw_transaction, HexBytes(transfer.raw))
        except Web3RPCError as error:
            if not await self.is_mined(transfer) and "already known" not in str(error):
                raise

    async def is_mined(self, transfer: SignedTransfer) -> bool:
        """See Treasury."""
        try:
            receipt = await asyncio.to_thread(
                self._w3.eth.get_transaction_receipt, HexBytes(transfer.tx_hash)
            )
        except TransactionNotFound:
            return False
        return receipt["status"] == 1

    async def is_void(self, transfer: SignedTransfer) -> bool:
        """See Treasury."""
        raw = HexBytes(transfer.raw)
        sender = Web3.to_checksum_address(Account.recover_transaction(raw))
        nonce = int(TypedTransaction.from_bytes(raw).as_dict()["nonce"])
        return nonce < await asyncio.to_thread(self._w3.eth.get_transaction_count, sender)

    def _sign(self, vendor: VendorProfile, to: str, amount: int) -> SignedTransfer:
        sender = Web3.to_checksum_address(vendor.pay_to)
        price = self._w3.eth.gas_price
        transaction = {
            "type": 2,
            "chainId": LOCAL_CHAIN_ID,
            "nonce": self._w3.eth.get_transaction_count(sender),
            "to": LOCAL_USDC_ADDRESS,
            "value": 0,
            "gas": _GAS,
            "maxFeePerGas": 2 * price,
            "maxPriorityFeePerGas": 0,
            "data": selector(TRANSFER) + word(address_bytes(to)) + word(amount),
        }
        signed = Account.sign_transaction(transaction, vendor.refund_key.get_secret_value())
        return SignedTransfer("0x" + signed.raw_transaction.hex(), "0x" + signed.hash.hex())


class Refunds:
    """Sends each job's refund exactly once, whatever crashes in between.

    The amount is written first, then the signed transaction, then it is broadcast. After a crash
    the very same transaction is looked for and sent again; a new one is signed only when the
    chain proves that the old one can never be mined.
    """

    def __init__(self, store: Store, treasury: Treasury) -> None:
        self._store = store
        self._treasury = treasury
        self._locks = KeyedLocks()

    async def send(self, vendor: VendorProfile, job_id: str, to: str, amount: int) -> Refund:
        """Refund a job and return the mined refund; again returns the first one.

        Raises RefundPending when it is not known to be mined, or what the treasury raises.
        """
        async with self._locks.hold(vendor.pay_to):
            planned = self._store.refund(job_id)
            if planned is None:
                planned = Refund(job_id, vendor.vendor_id, to, amount)
                self._store.save_refund(planned)
            if planned.sent:
                return planned
            for earlier in self._store.unsent_refunds(vendor.vendor_id):
                if earlier.job_id != job_id and earlier.raw:
                    await self._push(vendor, earlier)
            return await self._push(vendor, planned)

    async def _push(self, vendor: VendorProfile, refund: Refund) -> Refund:
        transfer = SignedTransfer(refund.raw, refund.tx_hash)
        if refund.raw:
            void = await self._treasury.is_void(transfer)
            if await self._treasury.is_mined(transfer):
                return self._sent(refund)
            if void:
                refund = replace(refund, raw="", tx_hash="")
        if not refund.raw:
            transfer = await self._treasury.sign(
                vendor, refund.to, refund.amount, f"refund of {refund.job_id}"
            )
            refund = replace(refund, raw=transfer.raw, tx_hash=transfer.tx_hash)
            self._store.save_refund(refund)
        await self._treasury.broadcast(transfer)
        for _ in range(_POLLS):
            if await self._treasury.is_mined(transfer):
                return self._sent(refund)
            await asyncio.sleep(_POLL_S)
        raise RefundPending(f"the refund of {refund.job_id} is not mined yet")

    def _sent(self, refund: Refund) -> Refund:
        done = replace(refund, sent=True)
        self._store.save_refund(done)
        return done
