"""The x402 facilitator of a real (or local EVM) chain, in process and over HTTP.

It pays the gas and broadcasts `transferWithAuthorization`. A payment is settled once. Asked again,
it is refused with the reason `invalid_exact_evm_nonce_already_used`, as by the official
facilitator, so that a seller who asks before each delivery delivers once. After a lost answer the
seller asks the chain (vendor/settlements.py).
"""

import asyncio
import threading
from typing import Any

from hexbytes import HexBytes
from web3 import Web3
from x402 import PaymentPayload, PaymentRequirements, x402FacilitatorSync
from x402.mechanisms.evm.constants import (
    ERR_FAILED_TO_VERIFY_SIGNATURE,
    TX_STATUS_SUCCESS,
)
from x402.mechanisms.evm.exact import ExactEvmFacilitatorScheme
from x402.mechanisms.evm.exact.facilitator import ExactEvmSchemeConfig
from x402.mechanisms.evm.signers import FacilitatorWeb3Signer
from x402.mechanisms.evm.types import TransactionReceipt
from x402.schemas import SettleResponse, SupportedResponse, VerifyResponse

from mock_vendor.accounts import LOCAL_NETWORK, dev_key
from mock_vendor.facilitator.authorization import (
    MalformedAuthorization,
    mismatch,
    read_authorization,
)
from mock_vendor.vendor.settlements import is_used

RECEIPT_POLL_S = 0.02
RPC_TIMEOUT_S = 10.0


def connected(rpc_url: str) -> Web3:
    """Return the chain at a JSON-RPC URL."""
    options: dict[str, Any] = {"timeout": RPC_TIMEOUT_S}
    return Web3(
        Web3.HTTPProvider(rpc_url, request_kwargs=options, exception_retry_configuration=None)
    )


class FacilitatorSigner(FacilitatorWeb3Signer):
    """The SDK's signer, with receipts polled fast and no transaction nonce lost.

    The SDK keeps a reserved transaction nonce when a broadcast fails, after which every later
    settlement waits for the gap. Here a failed broadcast forgets it, and the next one asks the
    chain again.
    """

    def __init__(self, private_key: str, w3: Web3, confirmation_timeout_s: float) -> None:
        super().__init__(private_key, "http://127.0.0.1:0", confirmation_timeout_s)
        self._w3 = w3
        self._sending = threading.Lock()

    def write_contract(
        self,
        address: str,
        abi: list[dict[str, Any]],
        function_name: str,
        *args: Any,
        data_suffix: str | None = None,
    ) -> str:
        """Broadcast a contract call and return its transaction hash."""
        with self._sending:
            sent = False
            try:
                tx_hash = super().write_contract(
                    address, abi, function_name, *args, data_suffix=data_suffix
                )
                sent = True
            finally:
                if not sent:
                    self._next_nonce = None
            return tx_hash

    def wait_for_transaction_receipt(self, tx_hash: str) -> TransactionReceipt:
        """Wait for a transaction to be mined. Raises web3's TimeExhausted."""
        receipt = self._w3.eth.wait_for_transaction_receipt(
            HexBytes(tx_hash),
            timeout=self._confirmation_timeout_seconds,
            poll_latency=RECEIPT_POLL_S,
        )
        return TransactionReceipt(
            status=TX_STATUS_SUCCESS if receipt["status"] == 1 else 0,
            block_number=receipt["blockNumber"],
            tx_hash=tx_hash,
            logs=list(receipt["logs"]),
        )


class LocalFacilitator:
    """An x402 `FacilitatorClient` that settles on the chain behind `w3` with one key.

    One settlement at a time. A chain that cannot be reached raises (requests' or web3's error):
    the outcome is then unknown and the caller must ask again.
    """

    def __init__(
        self,
        w3: Web3,
        *,
        confirmation_timeout_s: float = 20.0,
    ) -> None:
        """Wire a facilitator; nothing is sent yet. Its key is the local dev key."""
        self._w3 = w3
        signer = FacilitatorSigner(dev_key("facilitator"), w3, confirmation_timeout_s)
        self._sdk = x402FacilitatorSync()
        self._sdk.register(
            [LOCAL_NETWORK],
            ExactEvmFacilitatorScheme(signer, ExactEvmSchemeConfig(simulate_in_settle=True)),
        )
        self._settling = threading.Lock()

    @classmethod
    def at(cls, rpc_url: str) -> "LocalFacilitator":
        """Return a facilitator for the chain at a JSON-RPC URL."""
        return cls(connected(rpc_url))

    def get_supported(self) -> SupportedResponse:
        """Return the kinds of payment taken: exact, on the local network."""
        return self._sdk.get_supported()

    async def verify(
        self, payload: PaymentPayload, requirements: PaymentRequirements
    ) -> VerifyResponse:
        """Tell whether the payment would settle now, by simulating it. Changes nothing."""
        return await asyncio.to_thread(self._verify, payload, requirements)

    async def settle(
        self, payload: PaymentPayload, requirements: PaymentRequirements
    ) -> SettleResponse:
        """Settle the payment and wait until it is mined; see the module for repeats."""
        return await asyncio.to_thread(self._settle, payload, requirements)

    def _verify(self, payload: PaymentPayload, requirements: PaymentRequirements) -> VerifyResponse:
        try:
            read_authorization(payload.payload)
        except MalformedAuthorization as error:
            return VerifyResponse(
                is_valid=False,
                invalid_reason=ERR_FAILED_TO_VERIFY_SIGNATURE,
                invalid_message=str(error),
            )
        return self._sdk.verify(payload, requirements)

    def _settle(self, payload: PaymentPayload, requirements: PaymentRequirements) -> SettleResponse:
        network = str(requirements.network)
        try:
            authorization = read_authorization(payload.payload)
        except MalformedAuthorization as error:
            return SettleResponse(
                success=False,
                error_reason=ERR_FAILED_TO_VERIFY_SIGNATURE,
                error_message=str(error),
                transaction="",
                network=network,
            )
        with self._settling:
            if requirements.network == LOCAL_NETWORK and not mismatch(
                authorization, payload, requirements
            ):
                # Raises where the chain cannot be reached: the SDK would make a refusal of it.
                is_used(self._w3, authorization, requirements.asset)
            return self._sdk.settle(payload, requirements)
