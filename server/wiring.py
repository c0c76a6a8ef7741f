"""The one place where everything is put together: settings in, running services out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import httpx
from eth_utils.crypto import keccak
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from pydantic import SecretStr

from domain.due import Pace
from domain.errors import ClockOff, ConfigError
from domain.money import ZERO
from domain.policy import Caps, OpenRuns, SpendingPolicy
from domain.slices import SliceRule
from domain.tokens import TokenLimits, TokenPrices
from graph.build import Graph, build_graph
from graph.context import TickContext
from graph.deps import Deps, Limits, callback_url
from graph.goals.reader import READ_TIMEOUT_S, GoalReader, ModelReader, RuleReader
from graph.persistence.checkpoints import Checkpoints
from graph.persistence.transcripts import Transcripts
from graph.planner.dry_run import Market
from graph.planner.planners import ModelPlanner, Planner, RankingPlanner
from graph.state import AgentState
from ledger.clock import ClockWatch
from ledger.holder import Holder
from ledger.ledger import Ledger
from ledger.store import Store
from server.config.settings import Settings
from tools.payments.cashier import Cashier
from tools.payments.cdp_api import CDP_BASE_PATH, CdpApi, CdpCredentials, open_cdp_api
from tools.payments.chain import ChainReader
from tools.payments.reconcile import Reconciler
from tools.payments.refunds import Refunds
from tools.payments.wallets import LocalWallet, Wallet, open_cdp_wallet
from tools.vendors.http import HttpVendorClient, VendorTimeouts
from tools.vendors.secrets import VendorSecrets
from tools.watched import watched_chain, watched_vendors
from tools.wire.clients import open_client
from tools.wire.observer import Observer
from tools.wire.public_hosts import public_client

NO_KEY: Final = "there is no FIREWORKS_API_KEY"
"""Why the ranking decides although nobody chose it."""
LOCAL_WALLET_LABEL: Final = "agentic-gpu-renter local agent"
"""The local chain funds the account whose key is the keccak of this public label. No secret."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a server, a worker or a command works with."""

    settings: Settings
    deps: Deps
    checkpoints: Checkpoints
    graph: Graph


OpenServices = Callable[[], AbstractAsyncContextManager[Services]]


def now() -> datetime:
    """The time, in whole milliseconds: what MongoDB keeps."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Open everything that `settings` name, with indexes made; close it on leaving.

    Raises ConfigError, StoreDown, WalletDown.
    """
    if settings.mongodb_uri is None:
        raise ConfigError("MONGODB_URI", "it is not set", "Set it, or run: gpu-renter serve")
    uri, database = settings.mongodb_uri.get_secret_value(), settings.mongodb_db_name
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(open_client())
        store = Store.open(uri, database)
        stack.push_async_callback(store.close)
        ledger = Ledger.over(store)
        await ledger.ensure_indexes()
        await _check_times(ledger, settings)
        checkpoints = await Checkpoints.open(uri, database, store, most_states=settings.run_states)
        stack.push_async_callback(asyncio.to_thread, checkpoints.close)
        await Transcripts.beside(checkpoints.saver).ensure_index()
        # A registered address must not lead requests into this machine's own network.
        vendor_http = http
        if not settings.network.is_local:
            vendor_http = await stack.enter_async_context(public_client())
        deps = await open_deps(settings, ledger, http, vendor_http)
        stack.push_async_callback(deps.planner.aclose)
        stack.push_async_callback(deps.reader.aclose)
        graph = build_graph(tick_context, checkpoints.saver)
        yield Services(settings, deps, checkpoints, graph)


async def _check_times(ledger: Ledger, settings: Settings) -> None:
    """Watch our clock from now on, and free the leases of our processes that were killed."""
    await asyncio.to_thread(Holder.me)  # read once, and kept: not on an event loop
    ledger.watch_clock(ClockWatch(ledger.store, now, settings.lease_seconds))
    with suppress(ClockOff):  # logged; nothing is ticked while it lasts
        await ledger.runs.check_clock()
        await ledger.runs.free_abandoned(now())


async def open_deps(
    settings: Settings,
    ledger: Ledger,
    http: httpx.AsyncClient,
    vendor_http: httpx.AsyncClient | None = None,
) -> Deps:
    """The nodes' services over one HTTP client; vendors are reached over their own, where given.

    Raises ConfigError, WalletDown.
    """
    wallet = await open_wallet(settings, http)
    observer = Observer()
    chain = watched_chain(ChainReader(settings.network, settings.chain_url, http), observer)
    vendors = watched_vendors(open_vendors(settings, vendor_http or http), observer)
    policy = SpendingPolicy(
        settings.network,
        settings.max_payment_usd,
        max_per_run=settings.max_run_usd,
        approval_threshold=settings.approval_threshold_usd,
        shortest_validity_s=settings.min_validity_s,
        caps=Caps(
            settings.max_user_day_usd,
            settings.max_user_hour_usd,
            settings.max_vendor_day_usd,
            settings.max_wallet_day_usd,
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
        limits=limits_of(settings),
        artifacts=settings.data_dir / "artifacts",
        tokens=TokenLimits(
            settings.fireworks_tokens_per_run, settings.fireworks_tokens_per_user_day
        ),
        reader=open_reader(settings),
        callback_url=callback_url(settings.public_url),
        observer=observer,
    )


def limits_of(settings: Settings) -> Limits:
    """How patient the agent is."""
    return Limits(
        lease_seconds=settings.lease_seconds,
        quote_deadline_s=settings.quote_deadline_s,
        quote_fresh_minutes=settings.quote_fresh_minutes,
        max_attempts=settings.max_attempts,
        poll_failure_limit=settings.poll_failure_limit,
        silent_minutes=settings.silent_minutes,
        stall_minutes=settings.stall_minutes,
        approval_minutes=settings.approval_minutes,
        pace=Pace(
            settings.poll_first_s,
            settings.poll_most_s,
            # The local vendors train an epoch at each poll: they are watched without a break.
            settings.poll_first_s if settings.network.is_local else settings.poll_lively_s,
        ),
        slices=SliceRule(settings.first_slice_minutes, settings.max_exposure_usd),
        vendors_clock=settings.network.is_local,
        open_runs=OpenRuns(settings.max_open_runs, settings.max_open_runs_per_user),
    )


def open_vendors(settings: Settings, http: httpx.AsyncClient) -> HttpVendorClient:
    """The client that asks vendors."""
    return HttpVendorClient(
        http,
        VendorSecrets(settings.vendor_secret_values()),
        VendorTimeouts(
            connect_s=settings.vendor_connect_timeout_s,
            read_s=settings.vendor_read_timeout_s,
            total_s=settings.vendor_total_timeout_s,
        ),
    )


def open_reader(settings: Settings) -> GoalReader:
    """Who reads what people say."""
    model = _open_model(settings, READ_TIMEOUT_S)
    if model is None:
        return RuleReader()
    return ModelReader(model, settings.fireworks_model, prices=_token_prices(settings))


@asynccontextmanager
async def open_market(settings: Settings) -> AsyncIterator[Market]:
    """The vendors, to ask for offers and nothing else: no wallet, no run, no write."""
    if settings.mongodb_uri is None:
        raise ConfigError("MONGODB_URI", "it is not set", "Set it, or run: gpu-renter serve")
    store = Store.open(settings.mongodb_uri.get_secret_value(), settings.mongodb_db_name)
    planner = open_planner(settings)
    try:
        async with open_client() if settings.network.is_local else public_client() as http:
            vendors = await Ledger.over(store).vendors.all()
            yield Market(vendors, open_vendors(settings, http), planner, limits_of(settings))
    finally:
        await planner.aclose()
        await store.close()


async def open_wallet(settings: Settings, http: httpx.AsyncClient) -> Wallet:
    """The wallet in force."""
    if settings.x402_private_key is not None:
        return LocalWallet(settings.x402_private_key)
    if settings.wallet_mode == "cdp":
        return await open_cdp_wallet(
            http,
            _cdp_credentials(settings),
            account_name=settings.x402_wallet_id,
            base_path=settings.cdp_base_path or CDP_BASE_PATH,
        )
    return LocalWallet(SecretStr("0x" + keccak(text=LOCAL_WALLET_LABEL).hex()))


async def open_cdp(settings: Settings, http: httpx.AsyncClient) -> CdpApi:
    """Coinbase's API with the credentials in force. Raises ConfigError where there are none."""
    base_path = settings.cdp_base_path or CDP_BASE_PATH
    return await open_cdp_api(http, _cdp_credentials(settings), base_path)


def _cdp_credentials(settings: Settings) -> CdpCredentials:
    key_id, key, secret = (
        settings.cdp_api_key_id,
        settings.cdp_api_key_secret,
        settings.cdp_wallet_secret,
    )
    if key_id is None or key is None or secret is None:
        raise ConfigError(
            "CDP_API_KEY_ID",
            "it is not set, and only a wallet at Coinbase has policies",
            "Set the three CDP_* variables; for a key, keep little on the account instead",
        )
    return CdpCredentials(key_id.get_secret_value(), key, secret)


def open_planner(settings: Settings) -> Planner:
    """The planner in force."""
    model = _open_model(settings, settings.fireworks_timeout_s)
    if model is None:
        chosen = "planner_mode" in settings.model_fields_set
        return RankingPlanner("" if chosen else NO_KEY)
    return ModelPlanner(
        model,
        settings.fireworks_model,
        settings.fireworks_timeout_s,
        tokens=settings.fireworks_tokens_per_decision,
        run_tokens=settings.fireworks_tokens_per_run,
        prices=_token_prices(settings),
    )


def _open_model(settings: Settings, timeout_s: float) -> BaseChatModel | None:
    """The model in force; None where rules read and the ranking decides."""
    if settings.planner_mode == "stub" or settings.fireworks_api_key is None:
        return None
    from graph.planner.fireworks import open_fireworks  # seconds to load: only where it is used

    key, base = settings.fireworks_api_key, settings.fireworks_api_base
    return open_fireworks(settings.fireworks_model, key, base, timeout_s)


def _token_prices(settings: Settings) -> TokenPrices | None:
    prices = (settings.fireworks_price_in_usd, settings.fireworks_price_out_usd)
    return None if None in prices else TokenPrices(prices[0] or ZERO, prices[1] or ZERO)


@asynccontextmanager
async def tick_context(
    state: AgentState,  # noqa: ARG001
    config: RunnableConfig,  # noqa: ARG001
    context: TickContext | None,
) -> AsyncIterator[TickContext]:
    """The context of the tick that invokes the graph."""
    if context is None:
        raise ConfigError(
            "context", "the graph is invoked without a context", "Use server.runner.tick"
        )
    yield context
