"""Prometheus metrics: of this process's steps, and of the ledger."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from pymongo.monitoring import CommandListener, CommandStartedEvent

from domain import errors
from domain.money import Usd
from ledger.totals import RunTotals, Totals
from server.app import create_app
from server.config.settings import Settings
from server.telemetry import ledger_metrics
from server.telemetry.metrics import MOST_VENDORS, OTHER, Metrics
from server.telemetry.telemetry import Telemetry
from server.wiring import Services
from tests.server.conftest import GOAL, Api, Door, failing, impatient, opening, serving
from tests.support.fleet import READY_S, WorkerProcess, worker_environment
from tests.support.served import free_ports
from tests.support.stack import FreshDatabase, VendorAdmin
from tests.support.world import World
from tools.wire.observer import Observer

Samples = dict[tuple[str, ...], float]


def samples(text: str) -> Samples:
    """Each sample's value by its name and its labels' values, in the labels' alphabetical order."""
    return {
        (s.name.removeprefix("gpu_renter_"), *(v for _, v in sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


async def scrape(api: Api) -> Samples:
    answer = (await api.http.get("/metrics")).raise_for_status()
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return samples(answer.text)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scrape reads the ledger."""
    monkeypatch.setattr(ledger_metrics, "FRESH_S", 0)


@pytest.mark.usefixtures("fresh")
async def test_a_run_is_counted_tick_by_tick_and_dollar_by_dollar(
    services: Services, vendor_admin: VendorAdmin
) -> None:
    await vendor_admin.set_faults(
        {"name": "oversized_body", "vendorId": "gpu_vendor_2", "call": "quote"}
    )
    async with serving(create_app(opening(services))) as api:
        run_id = (await api.start())["_id"]
        messages = await api.finish(run_id)
        found = await scrape(api)
        text = (await api.http.get("/metrics")).text
        run = (await api.status(run_id))["run"]

    assert found["ticks_total", "running"] == len(messages) - 1
    assert found["ticks_total", "completed"] == 1
    assert found["tick_duration_seconds_count",] == len(messages)
    assert found["node_duration_seconds_count", "monitor"] == len(messages) - 1
    assert found["vendor_calls_total", "submit-job", "ok", "gpu_vendor_1"] == 2
    assert found["vendor_calls_total", "quote", "garbage", "gpu_vendor_2"] == 1
    assert found["chain_reads_total", "ok", "authorization"] >= 1
    assert found["payments", "settled"] == 1
    assert found["money_dollars", "settled"] == run["spent"] > 0
    assert found["money_dollars", "reserved"] == 0
    assert found["runs", "completed"] == 1
    assert found["jobs", "completed", "gpu_vendor_1"] == 1
    assert found["reconcile_timestamp_seconds",] > 0
    assert found["ledger_up",] == 1
    assert run_id not in text
    assert "pay_" not in text


@pytest.mark.usefixtures("fresh")
async def test_every_process_tells_the_same_of_the_ledger(services: Services, api: Api) -> None:
    await api.finish((await api.start())["_id"])
    async with serving(create_app(opening(services))) as another:
        here, there = await scrape(api), await scrape(another)

    of_the_ledger = ("payments", "money_dollars", "runs", "jobs", "model_tokens")
    assert {k: v for k, v in here.items() if k[0] in of_the_ledger} == {
        k: v for k, v in there.items() if k[0] in of_the_ledger
    }
    assert ("ticks_total", "completed") in here
    assert ("ticks_total", "completed") not in there


@pytest.mark.usefixtures("fresh")
async def test_a_reservation_that_may_still_settle_is_reserved_money(
    services: Services, api: Api
) -> None:
    ledger = services.deps.ledger
    started = await api.start()
    run, lease = await ledger.runs.acquire(started["_id"], services.deps.now, 60)
    await ledger.budget.reserve(lease, run, 0, Usd.parse("1.4"), None)
    await ledger.purchases.create("fetch_1", "GET", Usd.parse(1), services.deps.now())
    bought, lease = await ledger.purchases.acquire("fetch_1", services.deps.now, 60)
    await ledger.budget.reserve(lease, bought, 0, Usd.parse("0.6"), None)

    found = await scrape(api)
    assert (found["money_dollars", "reserved"], found["runs", "running"]) == (2.0, 1)


@pytest.mark.usefixtures("fresh")
async def test_the_model_is_counted_over_all_runs(services: Services, api: Api) -> None:
    for calls in (1, 2):
        run = await api.start()
        used = {"calls": calls, "tokensIn": 100 * calls, "tokensOut": 10, "cost": 250_000}
        await services.deps.ledger.runs.documents.change(run["_id"], {}, {"$set": {"model": used}})

    found = await scrape(api)

    assert found["model_calls",] == 3
    assert found["model_tokens", "in"] == 300
    assert found["model_tokens", "out"] == 20
    assert found["model_cost_dollars",] == 0.5


async def test_scrapes_in_a_row_read_the_ledger_once(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0

    class Counted(Totals):
        async def runs(self) -> list[RunTotals]:
            nonlocal reads
            reads += 1
            return list(await super().runs())

    monkeypatch.setattr(ledger_metrics, "Totals", Counted)
    read = ledger_metrics.LedgerMetrics(services.deps.ledger)
    for _ in range(3):
        await read.read()

    assert reads == 1


@pytest.mark.usefixtures("fresh")
async def test_metrics_answer_with_mongodb_away(settings: Settings, mongo_door: Door) -> None:
    through = settings.completed(mongodb_uri=SecretStr(mongo_door.url))
    async with serving(create_app(lambda: impatient(through))) as api:
        await api.start()
        before = await scrape(api)
        await mongo_door.shut()
        after = await scrape(api)

    assert before["ledger_up",] == 1
    assert after["ledger_up",] == 0
    assert ("runs", "running") not in after


async def test_metrics_answer_before_anything_is_open() -> None:
    app = create_app(failing(errors.StoreDown("MongoDB is away", "Wait")), Settings())
    async with serving(app) as api:
        assert (await scrape(api))["reconcile_timestamp_seconds",] == 0


class Commands(CommandListener):
    """Every command that MongoDB is sent."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.names.append(event.command_name)

    def succeeded(self, event: object) -> None:
        pass

    def failed(self, event: object) -> None:
        pass


async def test_a_watched_tick_sends_mongodb_not_one_command_more(database: FreshDatabase) -> None:
    commands = Commands()
    async with World.open(database, epochs=20, listeners=[commands]) as world:
        run = await world.start()
        await world.tick_until(run, "Job still running")
        commands.names.clear()
        await world.tick(run)
        alone = list(commands.names)
        async with Telemetry().listening(world.process.services):
            commands.names.clear()
            await world.tick(run)
            watched = list(commands.names)

    assert watched == alone != []


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (errors.LeaseHeld("busy"), "lease_held"),
        (errors.LeaseLost("lost"), "lease_lost"),
        (errors.StoreDown("down"), "dependency_down"),
        (errors.VendorUnreachable("v", "quote", "x"), "unreachable"),
        (errors.VendorBroken("v", "quote", "x"), "broken"),
        (errors.PolicyRefused("payee", "x"), "payment_refused"),
        (errors.NotFound("no"), "not_found"),
        (KeyError("bug"), "failed"),
    ],
)
def test_a_tick_that_fails_is_counted_by_what_failed(error: Exception, outcome: str) -> None:
    observer, metrics = Observer(), Metrics()
    with observer.listening(metrics), suppress(type(error)), observer.step("tick", "tick", run="r"):
        raise error

    assert metrics.registry.get_sample_value("gpu_renter_ticks_total", {"outcome": outcome}) == 1


def test_vendors_without_end_do_not_make_labels_without_end() -> None:
    observer, metrics = Observer(), Metrics()
    with observer.listening(metrics):
        for number in range(MOST_VENDORS + 50):
            with observer.step("vendor", "quote", vendor=f"vendor_{number}"):
                pass

    labels = {"vendor": OTHER, "call": "quote", "outcome": "ok"}
    assert metrics.registry.get_sample_value("gpu_renter_vendor_calls_total", labels) == 50


def test_what_a_comparison_of_the_books_finds_is_told_and_a_failed_one_changes_nothing() -> None:
    observer, metrics = Observer(), Metrics()
    with observer.listening(metrics):
        with observer.step("reconcile", "compare") as step:
            step.note(mismatches=3)
        with suppress(errors.ChainDown), observer.step("reconcile", "compare"):
            raise errors.ChainDown("away")

    assert metrics.registry.get_sample_value("gpu_renter_reconcile_mismatches") == 3


def test_who_stops_listening_hears_nothing_more() -> None:
    observer, metrics = Observer(), Metrics()
    with observer.listening(metrics), observer.step("tick", "tick"):
        pass
    with observer.step("tick", "tick"):
        pass

    assert metrics.registry.get_sample_value("gpu_renter_ticks_total", {"outcome": "ok"}) == 1


async def test_a_worker_answers_scrapes_at_a_port_of_its_own(
    settings: Settings, services: Services, tmp_path: Path
) -> None:
    """The command itself: a port that only its parts can open is no port."""
    deps = services.deps
    run = await deps.ledger.runs.create("run_1", "u1", GOAL, Usd.parse(5), deps.now())
    port = free_ports(1)[0]
    env = worker_environment(settings, None, WORKER_METRICS_PORT=str(port))
    worker = WorkerProcess("worker", tmp_path, env)
    worker.start()
    try:
        found: Samples = {}
        async with asyncio.timeout(READY_S), httpx.AsyncClient(trust_env=False) as http:
            while ("ticks_total", "running") not in found:
                await asyncio.sleep(0.05)
                with suppress(httpx.ConnectError):
                    found = samples((await http.get(f"http://127.0.0.1:{port}/metrics")).text)
    finally:
        worker.stop(signal.SIGTERM)

    assert found["ticks_total", "running"] >= 1
    assert ("ledger_up",) not in found
    assert (await deps.ledger.runs.get(run.id)).fence >= 1
