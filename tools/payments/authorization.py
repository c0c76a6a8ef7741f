"""Building the signed x402 payment: the bytes that let a vendor take one exact amount, once.

Sources: EIP-3009 (TransferWithAuthorization), x402 specification v1 and v2 (scheme `exact` on
EVM), x402 extension `payment-identifier`. The token's domain comes from `Network`, never from
the challenge, so no text from a vendor can choose what is signed over.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import Any, Final

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.address import is_address, to_checksum_address
from x402.http.constants import PAYMENT_SIGNATURE_HEADER, X_PAYMENT_HEADER
from x402.http.utils import encode_payment_signature_header
from x402.schemas.payments import PaymentPayload, PaymentRequired, PaymentRequirements
from x402.schemas.v1 import PaymentPayloadV1

from domain.errors import InvalidInput, PolicyRefused, WalletDown
from domain.money import Usd
from domain.networks import Network
from domain.payments import PaymentTerms
from tools.payments.challenge import Challenge, Requirement
from tools.payments.wallets import TypedData, Wallet

PAYMENT_IDENTIFIER: Final = "payment-identifier"
_NONCE: Final = re.compile(r"0x[0-9a-f]{64}", re.ASCII)
_PAYMENT_ID: Final = re.compile(r"[A-Za-z0-9_-]{16,128}", re.ASCII)
_SIGNATURE: Final = re.compile(r"0x[0-9a-f]{130}", re.ASCII)
_LAST_SECOND: Final = 2**40


@dataclass(frozen=True, slots=True)
class SignedPayment:
    """One authorization, ready to be persisted and then sent."""

    header_name: str
    """`PAYMENT-SIGNATURE` (x402 v2) or `X-PAYMENT` (v1)."""
    header: str = field(repr=False)
    """The exact value to send, ASCII."""
    payer: str
    pay_to: str
    amount: Usd
    nonce: str
    valid_before_s: int


async def sign_payment(
    wallet: Wallet,
    network: Network,
    challenge: Challenge,
    terms: PaymentTerms,
    *,
    nonce: str,
    valid_before_s: int,
    payment_id: str,
) -> SignedPayment:
    """Sign `terms`, which the spending policy has passed, and encode the payment.

    nonce: 0x and 64 hex digits. valid_before_s: Unix seconds at which it ends. Sends nothing.
    For a local key the same arguments give the same bytes. Raises PolicyRefused when `terms` is
    not an entry of `challenge`, or not `network`'s USDC by scheme `exact`; InvalidInput for a bad
    nonce, time or id; WalletDown when the wallet cannot sign or signs with another key.
    """
    _check(network, terms, nonce, valid_before_s, payment_id)
    requirement = challenge.requirement(terms)
    typed_data = TypedData(
        token_name=network.eip712_name,
        token_version=network.eip712_version,
        chain_id=network.chain_id,
        verifying_contract=network.usdc,
        payer=wallet.address,
        pay_to=str(to_checksum_address(terms.pay_to)),
        value=terms.amount.micros,
        valid_after_s=0,
        valid_before_s=valid_before_s,
        nonce=nonce,
    )
    signature = (await wallet.sign_typed_data(typed_data)).lower()
    _check_signature(typed_data, signature)
    payload = _payload(challenge, requirement, typed_data, signature, payment_id)
    return SignedPayment(
        header_name=(
            X_PAYMENT_HEADER if isinstance(payload, PaymentPayloadV1) else PAYMENT_SIGNATURE_HEADER
        ),
        header=encode_payment_signature_header(payload),
        payer=typed_data.payer,
        pay_to=typed_data.pay_to,
        amount=terms.amount,
        nonce=nonce,
        valid_before_s=valid_before_s,
    )


def _check(
    network: Network, terms: PaymentTerms, nonce: str, valid_before_s: int, payment_id: str
) -> None:
    """The last guard before a signature: what `domain.policy` also checks, and our own values."""
    if terms.scheme != "exact":
        raise PolicyRefused("scheme", f"only exact payments are signed, not {terms.scheme!r}")
    if terms.network != network.caip2:
        raise PolicyRefused("network", f"{terms.network!r} is not {network.caip2}")
    if terms.asset.lower() != network.usdc.lower():
        raise PolicyRefused("asset", f"{terms.asset!r} is not USDC {network.usdc}")
    if not is_address(terms.pay_to) or int(terms.pay_to, 16) == 0:
        raise PolicyRefused("payee", f"{terms.pay_to!r} is no address that can be paid")
    if terms.amount.micros <= 0:
        raise PolicyRefused("amount", f"{terms.amount} is not a positive amount")
    if not _NONCE.fullmatch(nonce):
        raise InvalidInput("nonce", "it is not 0x and 64 lower-case hex digits")
    if not 0 < valid_before_s < _LAST_SECOND:
        raise InvalidInput("valid_before_s", f"{valid_before_s} is no time in Unix seconds")
    if not _PAYMENT_ID.fullmatch(payment_id):
        raise InvalidInput("payment_id", "it is not 16 to 128 letters, digits, - or _")


def _check_signature(typed_data: TypedData, signature: str) -> None:
    """A signature by another key, or of another message, could never settle: refuse it here."""
    problem = "its signature is not 65 bytes of hex with v 27 or 28"
    if _SIGNATURE.fullmatch(signature) and signature[-2:] in ("1b", "1c"):
        try:
            signable = encode_typed_data(full_message=typed_data.as_json())
            signer = Account.recover_message(signable, signature=signature)
        except Exception:  # noqa: BLE001 -- key libraries differ in what they raise for a bad point
            signer = ""
        if signer == typed_data.payer:
            return
        problem = "its signature is not by the account that pays"
    raise WalletDown(
        f"Signing a payment from {typed_data.payer}: {problem}",
        "Check that the wallet's address and key belong together",
    )


def _payload(
    challenge: Challenge,
    requirement: Requirement,
    typed_data: TypedData,
    signature: str,
    payment_id: str,
) -> PaymentPayload | PaymentPayloadV1:
    exact = {"authorization": typed_data.authorization(), "signature": signature}
    document = challenge.document
    if not isinstance(document, PaymentRequired) or not isinstance(
        requirement, PaymentRequirements
    ):
        return PaymentPayloadV1(
            scheme=requirement.scheme, network=requirement.network, payload=exact
        )
    extensions = copy.deepcopy(document.extensions)
    if extensions:
        _identify(extensions, payment_id)
    return PaymentPayload(
        payload=exact, accepted=requirement, resource=document.resource, extensions=extensions
    )


def _identify(extensions: dict[str, Any], payment_id: str) -> None:
    """Name the payment where the seller takes a name for it, as x402's extension says.

    x402's own function for it loads all of its extensions, and JSON Schema: seconds at each start.
    """
    declared = extensions.get(PAYMENT_IDENTIFIER)
    if not isinstance(declared, dict):
        return
    info = declared.get("info")
    if isinstance(info, dict) and isinstance(info.get("required"), bool):
        extensions[PAYMENT_IDENTIFIER] = {**declared, "info": {**info, "id": payment_id}}
