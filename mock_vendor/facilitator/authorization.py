"""Reading and checking the EIP-3009 authorization inside an x402 payment."""

from dataclasses import dataclass
from typing import Any

from eth_utils.address import is_address, to_checksum_address
from x402 import PaymentPayload, PaymentRequirements
from x402.mechanisms.evm.constants import (
    ERR_AUTHORIZATION_VALUE_MISMATCH,
    ERR_INVALID_SIGNATURE,
    ERR_MISSING_EIP712_DOMAIN,
    ERR_NETWORK_MISMATCH,
    ERR_RECIPIENT_MISMATCH,
    ERR_UNSUPPORTED_SCHEME,
)
from x402.mechanisms.evm.eip712 import hash_eip3009_authorization
from x402.mechanisms.evm.types import ExactEIP3009Payload
from x402.mechanisms.evm.verify import verify_eoa_signature

_HALF_CURVE_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


class MalformedAuthorization(ValueError):
    """The payment holds no well-formed EIP-3009 authorization."""


@dataclass(frozen=True)
class Authorization:
    """What a payer signed. Addresses checksummed; value in micro-dollars; times in s.

    `nonce` is lower-case 0x hex of 32 bytes, `signature` lower-case 0x hex.
    """

    payer: str
    to: str
    value: int
    valid_after: int
    valid_before: int
    nonce: str
    signature: str

    @property
    def key(self) -> tuple[str, str]:
        """What the token lets settle once: (payer, nonce)."""
        return self.payer, self.nonce


def read_authorization(payload: dict[str, Any]) -> Authorization:
    """Parse the scheme payload of an x402 payment. Raises MalformedAuthorization."""
    try:
        signed = payload["authorization"]
        nonce = bytes.fromhex(str(signed["nonce"]).removeprefix("0x"))
        signature = bytes.fromhex(str(payload["signature"]).removeprefix("0x"))
        if len(nonce) != 32 or not is_address(signed["from"]) or not is_address(signed["to"]):
            raise MalformedAuthorization("the authorization's nonce or addresses are malformed")
        return Authorization(
            payer=str(to_checksum_address(signed["from"])),
            to=str(to_checksum_address(signed["to"])),
            value=_uint(signed["value"]),
            valid_after=_uint(signed["validAfter"]),
            valid_before=_uint(signed["validBefore"]),
            nonce="0x" + nonce.hex(),
            signature="0x" + signature.hex(),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedAuthorization(f"malformed authorization: {error}") from error


def mismatch(
    authorization: Authorization, payload: PaymentPayload, requirements: PaymentRequirements
) -> str | None:
    """Return the x402 reason why the payment does not meet the requirements, or None.

    Checks scheme, network, payee, amount and the signature (of a plain account); not the window,
    the nonce or the balance, which only the chain knows.
    """
    if payload.accepted.scheme != "exact" or requirements.scheme != "exact":
        return ERR_UNSUPPORTED_SCHEME
    if payload.accepted.network != requirements.network:
        return ERR_NETWORK_MISMATCH
    if authorization.to.lower() != requirements.pay_to.lower():
        return ERR_RECIPIENT_MISMATCH
    if authorization.value != int(requirements.amount):
        return ERR_AUTHORIZATION_VALUE_MISMATCH
    if not {"name", "version"} <= requirements.extra.keys():
        return ERR_MISSING_EIP712_DOMAIN
    return None if _is_signed(authorization, payload, requirements) else ERR_INVALID_SIGNATURE


def _is_signed(
    authorization: Authorization, payload: PaymentPayload, requirements: PaymentRequirements
) -> bool:
    """Whether the payer signed it. As strict as the token: 65 bytes, low s, v of 27 or 28."""
    raw = bytes.fromhex(authorization.signature[2:])
    if len(raw) != 65 or raw[64] not in (27, 28):
        return False
    if int.from_bytes(raw[32:64], "big") > _HALF_CURVE_ORDER:
        return False
    signed = ExactEIP3009Payload.from_dict(payload.payload).authorization
    token, extra = requirements.asset, requirements.extra
    try:
        chain_id = int(requirements.network.split(":")[1])
        digest = hash_eip3009_authorization(
            signed, chain_id, token, extra["name"], extra["version"]
        )
    except (ValueError, TypeError, IndexError):
        return False
    return bool(verify_eoa_signature(digest, raw, authorization.payer))


def _uint(value: Any) -> int:
    number = int(value)
    if isinstance(value, (bool, float)) or number < 0 or number >= 1 << 256:
        raise MalformedAuthorization(f"not an unsigned integer: {value!r}")
    return number
