"""The chains that payments may settle on, and the one token on each that counts as a dollar.

Addresses: Circle's list of USDC contracts; the local one is where the mock vendor's chain
deploys its token (its deployer's first transaction, so always the same address). The EIP-712
name and version are pinned here, not taken from a vendor's challenge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from domain.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Network:
    """One chain. `caip2` is its CAIP-2 id, as x402 v2 names networks."""

    caip2: str
    name: str
    usdc: str
    """Checksummed address of the USDC contract (6 decimals)."""
    eip712_name: str
    eip712_version: str
    default_rpc_url: str
    confirmations: int
    """Blocks on top of a transaction before it is believed."""
    x402_v1_name: str
    explorer_tx_url: str = ""
    """Prefix of a transaction's page, or empty."""
    is_local: bool = False
    is_test: bool = False
    """Whether it is a public test network, whose dollars are worth nothing."""

    @property
    def stakes(self) -> str:
        """What a payment here puts at stake, as a label: SIMULATION, TEST NETWORK or LIVE."""
        if self.is_local:
            return "SIMULATION"
        return "TEST NETWORK" if self.is_test else "LIVE"

    @property
    def chain_id(self) -> int:
        return int(self.caip2.removeprefix("eip155:"))

    def explorer_link(self, tx_hash: str) -> str | None:
        return f"{self.explorer_tx_url}{tx_hash}" if self.explorer_tx_url else None


LOCAL: Final = Network(
    caip2="eip155:31337",
    name="local chain",
    usdc="0x29E81De6323dA2bA9DA054100d8777E62425B6eF",
    eip712_name="USD Coin",
    eip712_version="2",
    default_rpc_url="http://127.0.0.1:8545",
    confirmations=0,
    x402_v1_name="local",
    is_local=True,
)
BASE_SEPOLIA: Final = Network(
    caip2="eip155:84532",
    name="Base Sepolia",
    usdc="0x036CbD53842c5426634e7929541eC2318f3dCF7e",
    eip712_name="USDC",
    eip712_version="2",
    default_rpc_url="https://sepolia.base.org",
    confirmations=2,
    x402_v1_name="base-sepolia",
    explorer_tx_url="https://sepolia.basescan.org/tx/",
    is_test=True,
)
BASE: Final = Network(
    caip2="eip155:8453",
    name="Base",
    usdc="0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
    eip712_name="USD Coin",
    eip712_version="2",
    default_rpc_url="https://mainnet.base.org",
    confirmations=5,
    x402_v1_name="base",
    explorer_tx_url="https://basescan.org/tx/",
)

ALL: Final = (LOCAL, BASE_SEPOLIA, BASE)


def network(name: str) -> Network:
    """The network called `name`: a CAIP-2 id ("eip155:84532") or an x402 v1 name ("base")."""
    for candidate in ALL:
        if name in (candidate.caip2, candidate.x402_v1_name):
            return candidate
    known = ", ".join(f"{n.caip2} ({n.name})" for n in ALL)
    raise InvalidInput("network", f"{name[:64]!r} is not a known network", f"Use one of {known}")
