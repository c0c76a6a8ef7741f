"""Is everything there that the configured mode needs? One check for each, with what to do."""

from __future__ import annotations

import platform
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Literal

from domain.errors import ChainDown, ConfigError, InvalidInput, RenterError, VendorError
from domain.jobs import JobSpec
from domain.money import ZERO, Usd
from domain.quotes import Offer, Quote, Vendor
from domain.vendor_secrets import REMEDY
from ledger.clock import ClockWatch
from ledger.store import Store
from server.config.settings import Settings
from server.doctor import surroundings as around
from server.local.stack import attach

if TYPE_CHECKING:
    from graph.deps import Deps

State = Literal["ok", "skipped", "wrong"]

PACKAGES: Final = ("agentic-gpu-renter", "langgraph", "pymongo", "x402", "fastapi")
LOCAL_PACKAGES: Final = ("eth", "trie", "web3")
LOG_PROBE_BLOCKS: Final = 100
MONGO_PROBE: Final = "doctor"
"""The collection that the write check writes to, and cleans up."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, how it is, and what to do about it where it is wrong."""

    name: str
    state: State
    finding: str
    remedy: str = ""


Finding = Callable[[], Awaitable[str]]


async def examine(env: dict[str, str] | None = None) -> AsyncIterator[Check]:
    """All checks, one after the other. Changes nothing but one document that it removes again.

    env: as of `Settings.load`. Asks each vendor for one quote, and the model, where one is
    configured, for one decision; it pays nothing.
    """
    yield Check("versions", "ok", _versions())
    try:
        settings = Settings.load(env)
    except ConfigError as error:
        yield Check("settings", "wrong", error.message, error.remedy)
        return
    modes = ", ".join(f"{need} {mode}" for need, mode, _ in settings.modes())
    yield Check("settings", "ok", modes)
    if settings.needs_mongo or settings.needs_chain:
        yield _local_packages(settings)
    async for check in _around(settings):
        yield check
    reached = await attach(settings)
    if reached is None:
        yield Check(
            "local services",
            "skipped",
            "they are not running, so MongoDB, chain, wallet and vendors were not looked at",
            "gpu-renter serve starts them",
        )
        return
    async with _opened(reached) as opened:
        if isinstance(opened, Check):
            yield opened
            return
        async for check in _needed(reached, opened):
            yield check


async def examine_services(settings: Settings, deps: Deps) -> AsyncIterator[Check]:
    """The same checks of services that are open: what a server is asked about itself."""
    yield Check("versions", "ok", _versions())
    modes = ", ".join(f"{need} {mode}" for need, mode, _ in settings.modes())
    yield Check("settings", "ok", modes)
    async for check in _around(settings):
        yield check
    async for check in _needed(settings, deps):
        yield check


async def _needed(settings: Settings, deps: Deps) -> AsyncIterator[Check]:
    """The checks of what each tick needs."""
    yield await _check("MongoDB", lambda: _mongodb(deps.ledger.store))
    yield await _check("chain", lambda: _chain(settings, deps.wallet.address))
    yield await _check("clock", lambda: around.clock(deps, local=settings.network.is_local))
    yield await _check("wallet", lambda: _wallet(deps, settings))
    yield await _check("exposure", lambda: around.exposure(deps, settings))
    async for check in _vendors(deps, settings):
        yield check
    yield await _check("planner", lambda: _planner(deps, settings))


async def _around(settings: Settings) -> AsyncIterator[Check]:
    yield await _check("disk", lambda: around.disk(settings))
    yield await _check("secrets", lambda: around.secrets_at_rest(settings))
    yield await _check("queue", lambda: around.queue(settings))
    yield await _check("webhooks", lambda: around.webhooks(settings))
    yield await _check("traces", lambda: around.traces(settings))


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} (not installed as a package)")
    return ", ".join(found)


def _local_packages(settings: Settings) -> Check:
    """Whether what the local mode needs is installed."""
    from server.local.mongodb import find_program

    remedy = "pip install 'agentic-gpu-renter[local]'"
    if settings.needs_chain:
        missing = [name for name in LOCAL_PACKAGES if find_spec(name) is None]
        if missing:
            return Check("local packages", "wrong", f"missing: {', '.join(missing)}", remedy)
    if settings.needs_mongo:
        try:
            find_program()
        except ConfigError as error:
            return Check("local packages", "wrong", error.message, error.remedy)
    return Check("local packages", "ok", "installed")


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Deps | Check]:
    """The agent's services over `settings`, or the check that says why they cannot be opened."""
    from ledger.ledger import Ledger
    from server.wiring import open_deps
    from tools.wire.clients import open_client
    from tools.wire.public_hosts import public_client

    assert settings.mongodb_uri is not None
    async with open_client() as http, public_client() as outside:
        vendor_http = http if settings.network.is_local else outside
        store = Store.open(settings.mongodb_uri.get_secret_value(), settings.mongodb_db_name)
        try:
            try:
                opened: Deps | Check = await open_deps(
                    settings, Ledger.over(store), http, vendor_http
                )
            except RenterError as error:
                opened = Check("wallet", "wrong", error.message, error.remedy)
            yield opened
        finally:
            await store.close()


async def _check(name: str, find: Finding) -> Check:
    try:
        return Check(name, "ok", await find())
    except RenterError as error:
        return Check(name, "wrong", error.message, error.remedy)


async def _mongodb(store: Store) -> str:
    """A majority-acknowledged, journaled write, read back and removed."""
    await store.ping()
    probe, id_ = store.documents(MONGO_PROBE), f"doctor-{time.time_ns()}"
    begun = time.perf_counter()
    await probe.insert({"_id": id_, "at": datetime.now(UTC)})
    took_ms = (time.perf_counter() - begun) * 1000
    if await probe.get(id_) is None:
        raise RenterError(
            "a write was acknowledged and cannot be read", "Check the server's health"
        )
    await probe.delete(id_)
    await ClockWatch(store, lambda: datetime.now(UTC)).check()
    return f"answers; a majority-acknowledged, journaled write took {took_ms:.1f} ms"


async def _chain(settings: Settings, address: str) -> str:
    """Whether the RPC is of this network, has its USDC, and finds the wallet's transfers."""
    from tools.payments.chain import ChainReader
    from tools.wire.clients import open_client

    async with open_client() as http:
        chain = ChainReader(settings.network, settings.chain_url, http)
        await chain.check()
        head, final = await chain.head(), await chain.final()
        try:
            # What every reconciliation needs, and some RPCs do not offer.
            await chain.transfers(
                sender=address, recipient=None, from_block=max(0, final.number - LOG_PROBE_BLOCKS)
            )
        except ChainDown as error:
            raise ChainDown(
                f"it answers, but not eth_getLogs, by which payments are found: {error.message}",
                "Set RPC_URL to an RPC that serves logs",
            ) from None
    network = settings.network
    behind = f", final up to {final.number:,}" if final.number != head.number else ""
    return (
        f"{network.name} ({network.caip2}) at block {head.number:,}{behind}, USDC at "
        f"{network.usdc}, serves logs"
    )


async def _wallet(deps: Deps, settings: Settings) -> str:
    address = deps.wallet.address
    balance = await deps.chain.balance(address)
    if balance == ZERO:
        raise ConfigError(
            "wallet",
            f"{address} holds no USDC on {settings.network.name}",
            f"Send it USDC on {settings.network.name}; it needs no other coin",
        )
    return f"{balance} USDC at {address}"


async def _vendors(deps: Deps, settings: Settings) -> AsyncIterator[Check]:
    """One quote of each registered vendor."""
    try:
        registered = await deps.ledger.vendors.all()
    except RenterError as error:
        yield Check("vendors", "wrong", error.message, error.remedy)
        return
    undecided = await deps.ledger.vendors.without_secret_env()
    if not registered:
        how = "vendors seed" if settings.network.is_local else "vendors add"
        yield Check("vendors", "wrong", "none is registered", f"gpu-renter {how}")
    for vendor in registered:
        if vendor.vendor_id in undecided:
            problem = "its registry entry does not say which secret it gets, so it gets none"
            yield Check(f"vendor {vendor.vendor_id}", "wrong", problem, REMEDY)
        elif other := _sharing(vendor, registered, settings):
            problem = f"it has the same secret as {other}, and so can act in its name"
            remedy = f"Have it give you one of its own, and set {vendor.secret_env} to that"
            yield Check(f"vendor {vendor.vendor_id}", "wrong", problem, remedy)
        else:
            yield await _vendor(deps, vendor)


def _sharing(vendor: Vendor, registered: list[Vendor], settings: Settings) -> str | None:
    """The id of a vendor elsewhere that has the same secret."""
    secrets = settings.vendor_secret_values()
    ours = secrets.get(vendor.secret_env or "")
    for other in registered:
        same = ours is not None and secrets.get(other.secret_env or "") == ours
        if same and other.endpoint != vendor.endpoint:
            return other.vendor_id
    return None


async def _vendor(deps: Deps, vendor: Vendor) -> Check:
    name = f"vendor {vendor.vendor_id}"
    spec = JobSpec("training", vendor.gpu_types[0] if vendor.gpu_types else "A100", 60)
    try:
        quote = await deps.vendors.quote(vendor, spec, spec.minutes)
    except (VendorError, InvalidInput) as error:
        remedy = error.remedy or "Check its endpoint and its secret"
        return Check(name, "wrong", error.message, remedy)
    paid = vendor.pay_to or "outside x402"
    return Check(name, "ok", f"quotes {quote.price} an hour of {spec.gpu_type}; paid {paid}")


async def _planner(deps: Deps, settings: Settings) -> str:
    from graph.planner.planners import Decided, Situation

    if settings.planner_mode == "stub":
        return "the deterministic ranking decides (PLANNER_MODE=stub)"
    vendor = Vendor("example", "Example", "https://example.invalid", Usd(1), 1.0, ("A100",), None)
    quote = Quote("example", "example-quote", "A100", 60, Usd.parse(1), 60.0, None)
    situation = Situation("Train on an A100", (Offer(quote, vendor),), Usd.parse(5), patience=False)
    step = await deps.planner.next(situation, [], [])
    if isinstance(step, Decided) and not step.fallback:
        return f"{settings.fireworks_model} decides through tool calls"
    why = step.fallback if isinstance(step, Decided) else "it wants to look things up first"
    raise ConfigError(
        "FIREWORKS_MODEL",
        f"{settings.fireworks_model} made no usable decision: {why}",
        "Check FIREWORKS_API_KEY and the model's name; until then the ranking decides",
    )
