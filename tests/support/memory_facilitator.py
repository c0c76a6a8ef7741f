"""The x402 facilitator of a MemoryChain: the same answers as the real one, without an EVM."""

import asyncio

from x402 import PaymentPayload, PaymentRequirements
from x402.mechanisms.evm.constants import (
    ERR_ASSET_NOT_DEPLOYED_CONTRACT,
    ERR_FAILED_TO_VERIFY_SIGNATURE,
    ERR_NETWORK_MISMATCH,
    ERR_VALID_AFTER_FUTURE,
    ERR_VALID_BEFORE_EXPIRED,
)
from x402.mechanisms.evm.exact.eip3009_utils import parse_eip3009_transfer_error
from x402.schemas import SettleResponse, SupportedKind, SupportedResponse, VerifyResponse

from mock_vendor.accounts import LOCAL_NETWORK, LOCAL_USDC_ADDRESS, dev_address
from mock_vendor.chain.blocks import Reverted
from mock_vendor.facilitator.authorization import (
    Authorization,
    MalformedAuthorization,
    mismatch,
    read_authorization,
)
from tests.support.memory_chain import MemoryChain

EXPIRY_MARGIN_S = 6
"""A facilitator wants this much of the window left before it sends anything (as the SDK's)."""


class MemoryFacilitator:
    """An x402 `FacilitatorClient` over a MemoryChain.

    Verifies the real EIP-712 signature, the window, the balance and the nonce. Settles a payment
    once, and refuses it from then on.
    """

    def __init__(self, chain: MemoryChain) -> None:
        self._chain = chain

    def get_supported(self) -> SupportedResponse:
        """Return the one kind of payment: exact on the local network."""
        return SupportedResponse(
            kinds=[SupportedKind(x402_version=2, scheme="exact", network=LOCAL_NETWORK)],
            signers={"eip155:*": [dev_address("facilitator")]},
        )

    async def verify(
        self, payload: PaymentPayload, requirements: PaymentRequirements
    ) -> VerifyResponse:
        """Tell whether the payment would settle now. Changes nothing."""
        await asyncio.sleep(0)
        try:
            authorization = read_authorization(payload.payload)
        except MalformedAuthorization as error:
            return VerifyResponse(
                is_valid=False,
                invalid_reason=ERR_FAILED_TO_VERIFY_SIGNATURE,
                invalid_message=str(error),
            )
        reason = mismatch(authorization, payload, requirements) or self._chain_refusal(
            authorization, requirements
        )
        return VerifyResponse(
            is_valid=reason is None, invalid_reason=reason, payer=authorization.payer
        )

    async def settle(
        self, payload: PaymentPayload, requirements: PaymentRequirements
    ) -> SettleResponse:
        """Settle the payment, once; see the class."""
        await asyncio.sleep(0)
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
        reason = mismatch(authorization, payload, requirements) or self._chain_refusal(
            authorization, requirements
        )
        if reason:
            return SettleResponse(
                success=False,
                error_reason=reason,
                payer=authorization.payer,
                transaction="",
                network=network,
            )
        return SettleResponse(
            success=True,
            payer=authorization.payer,
            transaction=self._settle(authorization),
            network=network,
        )

    def _settle(self, authorization: Authorization) -> str:
        return self._chain.transfer_with_authorization(
            authorization.payer,
            authorization.to,
            authorization.value,
            authorization.valid_after,
            authorization.valid_before,
            authorization.nonce,
        )

    def _chain_refusal(
        self, authorization: Authorization, requirements: PaymentRequirements
    ) -> str | None:
        if requirements.network != LOCAL_NETWORK:
            return ERR_NETWORK_MISMATCH
        if requirements.asset.lower() != LOCAL_USDC_ADDRESS.lower():
            return ERR_ASSET_NOT_DEPLOYED_CONTRACT
        if authorization.valid_before < self._chain.now() + EXPIRY_MARGIN_S:
            return ERR_VALID_BEFORE_EXPIRED
        if authorization.valid_after > self._chain.now():
            return ERR_VALID_AFTER_FUTURE
        try:
            self._chain.check_authorization(
                authorization.payer,
                authorization.value,
                authorization.valid_after,
                authorization.valid_before,
                authorization.nonce,
            )
        except Reverted as reverted:
            return parse_eip3009_transfer_error(reverted)
        return None
