"""What the commands about money open: settings, the ledger, and where things answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from domain import networks
from domain.errors import ChainDown, InvalidInput

if TYPE_CHECKING:
    import httpx

    from ledger.ledger import Ledger
    from server.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Opened:
    settings: Settings
    """Completed with what a running `serve` has started, if one runs on this DATA_DIR."""
    ledger: Ledger
    http: httpx.AsyncClient


def money_settings(network: str | None = None, rpc_url: str | None = None) -> Settings:
    """The settings, on another network or with another RPC if asked.

    Another network does not take RPC_URL along. Raises ConfigError, InvalidInput.
    """
    from server.config.settings import Settings, written

    env = {name: value for name, value in written().items() if value}
    if network:
        wanted = networks.network(network)
        if env.get("NETWORK") not in (wanted.caip2, wanted.x402_v1_name):
            env.pop("RPC_URL", None)
        env["NETWORK"] = wanted.caip2
    if rpc_url:
        env["RPC_URL"] = rpc_url
    return Settings.load(env)


def payee(option: str, address: str) -> str:
    """An address that money may go to, as a person typed it. Raises InvalidInput."""
    from eth_utils.address import is_address, is_checksum_address, to_checksum_address

    if not address.startswith("0x") or not is_address(address) or not int(address, 16):
        raise InvalidInput(
            option, f"{address[:64]!r} is not an account's address", "Give 0x and 40 hex digits"
        )
    if not is_checksum_address(address):
        raise InvalidInput(
            option,
            f"{address} is not checksummed, so a typing error would go unseen",
            f"If it is right for certain, write it {to_checksum_address(address)}",
        )
    return str(address)


@contextmanager
def asking_chain(settings: Settings) -> Iterator[None]:
    """Say what to do where a local chain is silent: it runs only while somebody has started it.

    settings: as completed by `attach`, where a running server was found.
    """
    try:
        yield
    except ChainDown:
        if not settings.needs_chain:
            raise
        address = urlsplit(settings.chain_url).netloc
        raise ChainDown(
            f"There is no local chain at {address}: it runs with the server, and none runs in "
            "this folder",
            "Run: gpu-renter serve (here, and leave it running), or set RPC_URL to a chain that "
            "runs",
        ) from None


@asynccontextmanager
async def open_money(settings: Settings) -> AsyncIterator[Opened]:
    """The ledger that `open_store` finds, and a client for the chain. As everywhere, who has a
    clock of its own takes no lease.
    """
    from ledger.clock import ClockWatch
    from ledger.ledger import Ledger
    from server.local.stack import open_store
    from server.wiring import now
    from tools.wire.clients import open_client

    async with open_store(settings) as (store, reached), open_client() as http:
        ledger = Ledger.over(store)
        ledger.watch_clock(ClockWatch(store, now, reached.lease_seconds))
        await ledger.ensure_indexes()
        yield Opened(reached, ledger, http)
