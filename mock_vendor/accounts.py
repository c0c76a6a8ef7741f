"""The local chain's fixed facts: chain id, token address, and the development accounts.

The development keys are *not secrets*: each is the keccak of a public label, so that every
machine gets the same accounts. Never send anything of value to them on a public chain.
"""

from typing import Final, Literal

from eth_account import Account
from eth_utils.crypto import keccak

Role = Literal["deployer", "facilitator", "agent", "gpu_vendor_1", "gpu_vendor_2", "poor"]

ROLES: Final[tuple[Role, ...]] = (
    "deployer",
    "facilitator",
    "agent",
    "gpu_vendor_1",
    "gpu_vendor_2",
    "poor",
)

LOCAL_CHAIN_ID: Final = 31337
LOCAL_NETWORK: Final = "eip155:31337"
"""The chain's CAIP-2 name, as x402 v2 writes it."""

LOCAL_USDC_ADDRESS: Final = "0x29E81De6323dA2bA9DA054100d8777E62425B6eF"
"""Where LocalUSDC lies on every fresh chain: the deployer's first contract (nonce 0)."""

TOKEN_NAME: Final = "USD Coin"
TOKEN_VERSION: Final = "2"
TOKEN_SYMBOL: Final = "USDC"

MICROS_PER_DOLLAR: Final = 1_000_000
AGENT_FUNDS: Final = 1_000 * MICROS_PER_DOLLAR
"""What the agent's account holds on a fresh chain, in micro-dollars."""


def dev_key(role: str) -> str:
    """Return the hex private key of a development account (keccak of a label, no secret).

    Any label is accepted, so that tests can make further vendors and payers.
    """
    return "0x" + keccak(text=f"agentic-gpu-renter local {role}").hex()


def dev_address(role: str) -> str:
    """Return the checksummed address of a development account."""
    return str(Account.from_key(dev_key(role)).address)
