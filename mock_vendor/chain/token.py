"""The ABI of LocalUSDC, as far as this package speaks it: selectors, topics, words."""

from typing import Final

from eth_utils.crypto import keccak

MINT: Final = "mint(address,uint256)"
TRANSFER: Final = "transfer(address,uint256)"
BALANCE_OF: Final = "balanceOf(address)"
AUTHORIZATION_STATE: Final = "authorizationState(address,bytes32)"

TRANSFER_EVENT: Final = "Transfer(address,address,uint256)"
AUTHORIZATION_USED_EVENT: Final = "AuthorizationUsed(address,bytes32)"
AUTHORIZATION_CANCELED_EVENT: Final = "AuthorizationCanceled(address,bytes32)"


def selector(signature: str) -> bytes:
    """Return the 4-byte selector of a function."""
    return keccak(text=signature)[:4]


def topic(signature: str) -> bytes:
    """Return the 32-byte first topic of an event."""
    return keccak(text=signature)


def word(value: bytes | int) -> bytes:
    """Pad a number or an address to a 32-byte ABI word."""
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\x00")


def address_bytes(address: str) -> bytes:
    """Return the 20 bytes of a hex address."""
    return bytes.fromhex(address.removeprefix("0x"))
