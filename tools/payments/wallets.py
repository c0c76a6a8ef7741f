"""Wallets: who signs, and nothing else. What may be signed was decided before.

`LocalWallet` holds a key in this process. `CdpWallet` has the Coinbase Developer Platform sign,
through its typed-data endpoint: its bare-hash endpoint would hide the payment from the policies
that the owner set there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount
from pydantic import SecretStr

from domain.errors import ConfigError
from tools.payments.cdp_api import CDP_BASE_PATH, CDP_LIMITS, CdpApi, CdpCredentials, open_cdp_api
from tools.wire.exchange import Limits

CDP_ACCOUNT_NAME: Final = "agentic-gpu-renter"

_ACCOUNT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,34}[A-Za-z0-9]", re.ASCII)

TRANSFER_WITH_AUTHORIZATION = (
    ("from", "address"),
    ("to", "address"),
    ("value", "uint256"),
    ("validAfter", "uint256"),
    ("validBefore", "uint256"),
    ("nonce", "bytes32"),
)
"""The fields of EIP-3009's message, in the order that is hashed."""

_DOMAIN = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
)


@dataclass(frozen=True, slots=True)
class TypedData:
    """One EIP-712 message: EIP-3009's TransferWithAuthorization over one token."""

    token_name: str
    token_version: str
    chain_id: int
    verifying_contract: str
    payer: str
    pay_to: str
    value: int
    valid_after_s: int
    valid_before_s: int
    nonce: str

    def authorization(self) -> dict[str, str]:
        """The message as x402 and CDP write it: addresses and the nonce as hex, numbers as text."""
        return {
            "from": self.payer,
            "to": self.pay_to,
            "value": str(self.value),
            "validAfter": str(self.valid_after_s),
            "validBefore": str(self.valid_before_s),
            "nonce": self.nonce,
        }

    def as_json(self) -> dict[str, object]:
        """The whole message in EIP-712's JSON form, with its domain's type."""
        return {
            "domain": {
                "name": self.token_name,
                "version": self.token_version,
                "chainId": self.chain_id,
                "verifyingContract": self.verifying_contract,
            },
            "types": {
                "EIP712Domain": [{"name": n, "type": t} for n, t in _DOMAIN],
                "TransferWithAuthorization": [
                    {"name": n, "type": t} for n, t in TRANSFER_WITH_AUTHORIZATION
                ],
            },
            "primaryType": "TransferWithAuthorization",
            "message": self.authorization(),
        }


class Wallet(Protocol):
    """Something that signs for one account."""

    @property
    def address(self) -> str:
        """Checksummed address of the account that pays."""

    async def sign_typed_data(self, typed_data: TypedData) -> str:
        """The signature: 0x and 130 hex digits (r, s, v with v 27 or 28).

        Raises WalletDown when the signer cannot be reached (nothing was paid: a signature that
        nobody received moves no money), PolicyRefused when it will not sign this.
        """


class LocalWallet:
    """A private key in this process. Signing is deterministic (RFC 6979)."""

    def __init__(self, private_key: SecretStr | str) -> None:
        """Raises ConfigError, naming X402_PRIVATE_KEY and not the key, for a bad key."""
        text = private_key if isinstance(private_key, str) else private_key.get_secret_value()
        self._account = _account(text.strip())

    @property
    def address(self) -> str:
        return str(self._account.address)

    async def sign_typed_data(self, typed_data: TypedData) -> str:
        signed = self._account.sign_typed_data(full_message=typed_data.as_json())
        return "0x" + bytes(signed.signature).hex()

    def __repr__(self) -> str:
        return f"LocalWallet({self.address})"


def _account(key: str) -> LocalAccount:
    digits = key.removeprefix("0x").removeprefix("0X")
    if len(digits) != 64 or not all(char in "0123456789abcdefABCDEF" for char in digits):
        raise ConfigError(
            "X402_PRIVATE_KEY",
            "it is not a private key",
            "Give 32 bytes in hex: 64 digits, with or without 0x",
        )
    try:
        account: LocalAccount = Account.from_key("0x" + digits)
    except Exception:  # noqa: BLE001 -- key libraries differ in what they raise, and may quote the key
        raise ConfigError(
            "X402_PRIVATE_KEY", "no account has this private key", "Make a new key"
        ) from None
    return account


class CdpWallet:
    """An account at the Coinbase Developer Platform. Source: its API v2, "EVM accounts"."""

    def __init__(self, address: str, api: CdpApi) -> None:
        """For tests and `open_cdp_wallet`, which is the way in."""
        self._address = address
        self._api = api

    @property
    def address(self) -> str:
        return self._address

    async def sign_typed_data(self, typed_data: TypedData) -> str:
        """Sign at Coinbase. Sent once.

        Raises PolicyRefused when a policy there says no, WalletDown when no signature came, and
        ConfigError when it refuses the credentials.
        """
        data = typed_data.as_json()
        signing = self._api.sdk.evm.sign_typed_data(
            self._address, data["domain"], data["types"], data["primaryType"], data["message"]
        )
        return str(await self._api.ask(signing))

    def __repr__(self) -> str:
        return f"CdpWallet({self._address})"


async def open_cdp_wallet(
    http: httpx.AsyncClient,
    credentials: CdpCredentials,
    *,
    account_name: str = CDP_ACCOUNT_NAME,
    base_path: str = CDP_BASE_PATH,
    limits: Limits = CDP_LIMITS,
) -> CdpWallet:
    """The wallet of the account called `account_name`, which is made when there is none.

    Idempotent: one name is one account. Raises ConfigError for credentials, a name or an address
    that cannot work, WalletDown when Coinbase gives no usable answer.
    """
    if not _ACCOUNT_NAME.fullmatch(account_name):
        raise ConfigError("CDP_ACCOUNT_NAME", "it is not 2 to 36 letters, digits and hyphens")
    api = await open_cdp_api(http, credentials, base_path, limits)
    account = await api.ask(api.sdk.evm.get_or_create_account(account_name))
    return CdpWallet(api.address_of(account), api)
