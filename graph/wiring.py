"""The one place where everything is put together: settings in, running services out."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import httpx
from eth_utils.crypto import keccak
from langchain_core.runnables import RunnableConfig
from pydantic import SecretStr

from domain.errors import ConfigError
from domain.policy import Caps, SpendingPolicy
from domain.slices import SliceRule
from graph.build import Graph, build_graph
from graph.checkpoints import Checkpoints
from graph.deps import Deps, Desk, Limits
from graph.planner import ModelPlanner, Planner, RankingPlanner
from graph.settings import Settings
from graph.state import AgentState
from ledger.ledger import Ledger
from ledger.store import Store
from tools.payments.cashier import Cashier
from tools.payments.cdp_api import CDP_BASE_PATH, CdpCredentials
from tools.payments.chain import ChainReader
from tools.payments.reconcile import Reconciler
from tools.payments.refunds import Refunds
from tools.payments.wallets import LocalWallet, Wallet, open_cdp_wallet
from tools.vendors.http import HttpVendorClient, VendorTimeouts

MODEL_TIMEOUT_S: Final = 30.0
LOCAL_WALLET_LABEL: Final = "agentic-gpu-renter local agent"
"""The local chain funds the account whose key is the keccak of this public label. No secret."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a server, a worker or a command works with."""

    settings: Settings
    deps: Deps
    checkpoints: Checkpoints
    graph: Graph


def now() -> datetime:
    """The time, in whole milliseconds: what MongoDB keeps."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def new_run_id() -> str:
    """24 hex digits, as the seed's ids, but not to be guessed."""
    return secrets.token_hex(12)


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Open everything that `settings` name, with indexes made; close it on leaving.

    Raises ConfigError, StoreDown, WalletDown.
    """
    if settings.mongodb_uri is None:
        raise ConfigError("MONGODB_URI", "it is not set", "Set it, or run: gpu-renter serve")
    uri, database = settings.mongodb_uri.get_secret_value(), settings.mongodb_db_name
    async with AsyncExitStack() as stack:
        # A proxy of the environment is for the world outside, not for this machine.
        direct = {
            f"all://{host}": httpx.AsyncHTTPTransport() for host in ("localhost", "127.0.0.1")
        }
        http = await stack.enter_async_context(
            httpx.AsyncClient(follow_redirects=False, mounts=direct)
        )
        store = Store.open(uri, database)
        stack.push_async_callback(store.close)
        ledger = Ledger.over(store)
        await ledger.ensure_indexes()
        checkpoints = await Checkpoints.open(uri, database, store)
        stack.push_async_callback(asyncio.to_thread, checkpoints.close)
        deps = await open_deps(settings, ledger, http)
        stack.push_async_callback(deps.planner.aclose)
        graph = build_graph(tick_desk, checkpoints.saver)
        yield Services(settings, deps, checkpoints, graph)


async def open_deps(settings: Settings, ledger: Ledger, http: httpx.AsyncClient) -> Deps:
    """The nodes' services over one HTTP client. Raises ConfigError, WalletDown."""
    wallet = await open_wallet(settings, http)
    chain = ChainReader(settings.network, settings.chain_url, http)
    vendors = HttpVendorClient(
        http,
        settings.gpu_vendor_secret,
        VendorTimeouts(
            connect_s=settings.vendor_connect_timeout_s,
            read_s=settings.vendor_read_timeout_s,
            total_s=settings.vendor_total_timeout_s,
        ),
    )
    policy = SpendingPolicy(
        settings.network,
        settings.max_payment_usd,
        max_per_run=settings.max_run_usd,
        approval_threshold=settings.approval_threshold_usd,
        caps=Caps(
            settings.max_user_day_usd, settings.max_user_hour_usd, settings.max_vendor_day_usd
        ),
    )
    cashier = Cashier(ledger, vendors, wallet, chain, policy, now)
    return Deps(
        ledger=ledger,
        vendors=vendors,
        cashier=cashier,
        refunds=Refunds(ledger, chain, settings.network, now),
        reconciler=Reconciler(ledger, cashier.judge, chain, settings.network, wallet.address, now),
        chain=chain,
        wallet=wallet,
        planner=open_planner(settings),
        now=now,
        limits=Limits(
            lease_seconds=settings.lease_seconds,
            quote_deadline_s=settings.quote_deadline_s,
            max_attempts=settings.max_attempts,
            poll_failure_limit=settings.poll_failure_limit,
            stall_minutes=settings.stall_minutes,
            approval_minutes=settings.approval_minutes,
            slices=SliceRule(settings.first_slice_minutes, settings.max_exposure_usd),
        ),
        artifacts=settings.data_dir / "artifacts",
    )


async def open_wallet(settings: Settings, http: httpx.AsyncClient) -> Wallet:
    """The wallet in force."""
    if settings.x402_private_key is not None:
        return LocalWallet(settings.x402_private_key)
    if (
        settings.cdp_api_key_id is not None
        and settings.cdp_api_key_secret is not None
        and settings.cdp_wallet_secret is not None
    ):
        credentials = CdpCredentials(
            settings.cdp_api_key_id.get_secret_value(),
            settings.cdp_api_key_secret,
            settings.cdp_wallet_secret,
        )
        return await open_cdp_wallet(
            http,
            credentials,
            account_name=settings.x402_wallet_id,
            base_path=settings.cdp_base_path or CDP_BASE_PATH,
        )
    return LocalWallet(SecretStr("0x" + keccak(text=LOCAL_WALLET_LABEL).hex()))


def open_planner(settings: Settings) -> Planner:
    """The planner in force."""
    if settings.planner_mode == "stub" or settings.fireworks_api_key is None:
        return RankingPlanner()
    from langchain_fireworks import ChatFireworks  # seconds to load: only where it is used

    model = ChatFireworks(
        model_name=settings.fireworks_model,
        api_key=settings.fireworks_api_key,
        base_url=settings.fireworks_api_base,
        timeout=MODEL_TIMEOUT_S,
        max_retries=0,
        temperature=0,
    )
    return ModelPlanner(model, settings.fireworks_model, MODEL_TIMEOUT_S)


@asynccontextmanager
async def tick_desk(
    state: AgentState,  # noqa: ARG001
    config: RunnableConfig,  # noqa: ARG001
    desk: Desk | None,
) -> AsyncIterator[Desk]:
    """The desk of the tick that invokes the graph."""
    if desk is None:
        raise ConfigError("context", "the graph is invoked without a desk", "Use server.ticks")
    yield desk
