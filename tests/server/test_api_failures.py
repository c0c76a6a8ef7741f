"""What the API depends on goes away, is slow, or lies: it says so, and no money is lost."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from domain.errors import StoreDown
from ledger.store import Documents
from mock_vendor.accounts import dev_key
from server import app as configured
from server.app import create_app
from server.config.settings import Settings
from server.local.seed import seed
from server.wiring import Services, now, open_services
from tests.server.conftest import Api, Door, Wallet, balanced, impatient, opening, serving
from tests.support.stack import FreshDatabase, VendorAdmin

KEY = "0123456789abcdef"

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning")


@asynccontextmanager
async def with_settings(settings: Settings, **changes: Any) -> AsyncIterator[Api]:
    """The API over the same database with other settings."""
    async with (
        open_services(settings.completed(**changes)) as services,
        serving(create_app(opening(services))) as api,
    ):
        yield api


@asynccontextmanager
async def through(settings: Settings, door: Door, **changes: Any) -> AsyncIterator[Api]:
    """The API whose way to MongoDB is a door."""
    asked = settings.completed(mongodb_uri=SecretStr(door.url), **changes)
    async with serving(create_app(lambda: impatient(asked))) as api:
        yield api


async def ready(api: Api) -> dict[str, bool]:
    answer = (await api.http.get("/readyz")).json()
    assert answer["ready"] == all(d["ok"] for d in answer["dependencies"].values())
    assert ("error" in answer) != answer["ready"]
    return {name: d["ok"] for name, d in answer["dependencies"].items()}


async def paid_once(api: Api, wallet: Wallet, run_id: str, spent: float) -> None:
    """The run is complete, its books are right, and the chain agrees."""
    status = await api.status(run_id)
    assert status["run"]["status"] == "completed"
    assert balanced(status["run"])
    assert (status["run"]["spent"], status["run"]["reserved"]) == (spent, 0)
    settled = [p["amount"] for p in status["payments"] if p["state"] == "settled"]
    assert sum(settled) == spent
    assert await wallet.paid() == spent


async def test_a_mongodb_that_answers_and_gives_nothing_is_not_ready(
    api: Api, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object) -> None:
        raise StoreDown("MongoDB refused a command (code 13436)")

    assert await ready(api) == {"mongodb": True, "chain": True}
    monkeypatch.setattr(Documents, "get", refused)
    await services.deps.ledger.store.ping()

    assert await ready(api) == {"mongodb": False, "chain": True}


@pytest.mark.usefixtures("leaky_pymongo")
async def test_mongodb_down_at_start_and_then_back(
    settings: Settings, wallet: Wallet, mongo_door: Door
) -> None:
    await mongo_door.shut()
    async with through(settings, mongo_door) as api:
        refused = await api.http.post(
            "/api/agent-start", json={"userId": "u1", "goal": "Train", "budgetTotal": 5}
        )
        assert (await api.http.get("/healthz")).status_code == 200
        assert await ready(api) == {"services": False}
        await mongo_door.open()
        assert await ready(api) == {"mongodb": True, "chain": True}
        run_id = (await api.start())["_id"]
        await api.finish(run_id)

        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "5"
        assert refused.json()["error"].startswith("MongoDB did not answer (")
        await paid_once(api, wallet, run_id, 1.4)


@pytest.mark.usefixtures("leaky_pymongo")
async def test_mongodb_lost_between_ticks_and_then_back(
    settings: Settings, wallet: Wallet, mongo_door: Door
) -> None:
    async with through(settings, mongo_door) as api:
        run_id = (await api.start())["_id"]
        assert await api.message(run_id) == "Job started"
        await mongo_door.shut()
        refused = [
            await api.tick(run_id),
            await api.http.get("/api/agent-status", params={"runId": run_id}),
            await api.http.get("/api/runs"),
        ]
        assert await ready(api) == {"mongodb": False, "chain": True}
        await mongo_door.open()
        assert await ready(api) == {"mongodb": True, "chain": True}
        await api.finish(run_id)

        assert {answer.status_code for answer in refused} == {503}
        await paid_once(api, wallet, run_id, 1.4)


@pytest.mark.usefixtures("leaky_pymongo")
@pytest.mark.parametrize(
    "path", ["/quote", "/submit-job"], ids=["before paying", "while it is being paid"]
)
async def test_mongodb_lost_in_the_middle_of_a_tick(
    settings: Settings, wallet: Wallet, mongo_door: Door, path: str
) -> None:
    async def cut(response: httpx.Response) -> None:
        """Shut the door as soon as the vendor has answered."""
        paying = "payment-signature" in response.request.headers
        if response.request.url.path == path and (path == "/quote" or paying):
            await mongo_door.shut()

    asked = settings.completed(
        mongodb_uri=SecretStr(mongo_door.url), lease_seconds=1, quote_deadline_s=30
    )
    async with (
        httpx.AsyncClient(event_hooks={"response": [cut]}) as http,
        impatient(asked, http) as cut_off,
        serving(create_app(opening(cut_off))) as api,
    ):
        run_id = (await api.start())["_id"]
        refused = await api.tick(run_id)
        assert refused.status_code == 503
        assert refused.json()["error"].startswith("MongoDB did not answer (")
    lost = await wallet.paid()
    async with with_settings(settings) as api:
        held = (await api.status(run_id))["run"]
        assert balanced(held)
        assert held["spent"] == lost == (1.4 if path == "/submit-job" else 0)
        assert held["reserved"] == 0, "the next start asked the chain and closed what was open"
        await _until_the_lease_is_over(wallet.services, run_id)
        assert (await api.finish(run_id))[0] == "Job started"
        await paid_once(api, wallet, run_id, 1.4)


async def _until_the_lease_is_over(services: Services, run_id: str) -> None:
    """As if the dead tick's lease had run out."""
    await services.deps.ledger.runs.documents.change(run_id, {}, {"$set": {"lease": None}})


async def test_the_chain_down_while_paying_and_then_back(
    settings: Settings, wallet: Wallet, chain_door: Door
) -> None:
    async with with_settings(settings, rpc_url=SecretStr(chain_door.url)) as api:
        run_id = (await api.start())["_id"]
        await chain_door.shut()
        refused = await api.tick(run_id)
        assert await ready(api) == {"mongodb": True, "chain": False}
        held = (await api.status(run_id))["run"]
        await chain_door.open()
        assert await ready(api) == {"mongodb": True, "chain": True}
        assert (await api.finish(run_id))[0] == "Job started"

        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "5"
        assert balanced(held)
        assert held["status"] == "running"
        await paid_once(api, wallet, run_id, 1.4)


async def test_the_chain_lost_right_after_the_vendor_was_paid(
    settings: Settings, wallet: Wallet, chain_door: Door
) -> None:
    async def cut(response: httpx.Response) -> None:
        if "payment-signature" in response.request.headers:
            await chain_door.shut()

    asked = settings.completed(rpc_url=SecretStr(chain_door.url))
    async with (
        httpx.AsyncClient(event_hooks={"response": [cut]}) as http,
        impatient(asked, http) as services,
        serving(create_app(opening(services))) as api,
    ):
        run_id = (await api.start())["_id"]
        refused = await api.tick(run_id)
        held = await api.status(run_id)

        assert refused.status_code == 503
        assert (held["run"]["reserved"], held["run"]["spent"]) == (1.4, 0)
        assert [(p["status"], p["state"]) for p in held["payments"]] == [("pending", "authorized")]
        assert await wallet.paid() == 1.4
    async with with_settings(settings) as api:
        assert (await api.finish(run_id))[0] == "Job started"
        await paid_once(api, wallet, run_id, 1.4)


async def test_an_empty_wallet_waits_for_funds_and_pays_nothing(
    settings: Settings, wallet: Wallet
) -> None:
    poor = SecretStr(dev_key("poor"))
    async with with_settings(settings, x402_private_key=poor) as api:
        run_id = (await api.start())["_id"]
        for _ in range(2):
            assert (await api.message(run_id)).startswith("Waiting for funds: The wallet 0x")
        run = (await api.status(run_id))["run"]

        assert (run["status"], run["budgetRemaining"], run["reserved"]) == ("running", 5, 0)
    async with with_settings(settings) as api:
        assert (await api.finish(run_id))[0] == "Job started"
        await paid_once(api, wallet, run_id, 1.4)


async def test_no_vendor_is_reached_and_then_they_are(
    settings: Settings, services: Services, wallet: Wallet, api: Api
) -> None:
    vendors, nowhere = services.deps.ledger.vendors, settings.completed(vendor_port=1)
    await seed(vendors, nowhere, now())
    run_id = (await api.start())["_id"]

    assert await api.message(run_id) == "Waiting: no vendor made an offer for this job"
    assert balanced((await api.status(run_id))["run"])
    told = [o["content"] for o in (await api.status(run_id))["observations"]]
    assert any(content.startswith("gpu_vendor_1") for content in told)
    await seed(vendors, settings, now())
    assert (await api.finish(run_id))[0] == "Job started"
    await paid_once(api, wallet, run_id, 1.4)


async def test_a_wrong_vendor_secret_is_told_and_not_shown(
    settings: Settings, services: Services, wallet: Wallet
) -> None:
    wrong = SecretStr("not-the-vendors-secret")
    async with with_settings(settings, gpu_vendor_secret=wrong) as api:
        run_id = (await api.start())["_id"]
        assert await api.message(run_id) == "Waiting: no vendor made an offer for this job"
        status = await api.status(run_id)

        assert any("secret" in o["content"] for o in status["observations"])
        assert wrong.get_secret_value() not in json.dumps(status)
        assert (status["run"]["budgetRemaining"], await wallet.paid()) == (5, 0)
    assert (await services.deps.ledger.runs.get(run_id)).status.value == "running"


async def test_an_empty_registry_fails_the_run_with_its_reason(
    services: Services, api: Api, wallet: Wallet
) -> None:
    for vendor_id in ("gpu_vendor_1", "gpu_vendor_2"):
        await services.deps.ledger.vendors.remove(vendor_id)
    run_id = (await api.start())["_id"]

    assert await api.message(run_id) == "Run failed: no registered vendor has A100"
    assert await wallet.paid() == 0


FIRST = {"vendorId": "gpu_vendor_1"}


@pytest.mark.parametrize(
    ("fault", "spent"),
    [
        ({"name": "hang", "call": "quote", **FIRST}, 1.8),
        ({"name": "oversized_body", "call": "quote", **FIRST}, 1.8),
        ({"name": "refuse", "call": "submit-job", **FIRST}, 1.8),
        ({"name": "malformed_402", "call": "submit-job", **FIRST}, 1.8),
        ({"name": "price_above_quote", "call": "submit-job", **FIRST}, 1.8),
        ({"name": "wrong_pay_to", "call": "submit-job", **FIRST}, 1.8),
        ({"name": "redirect", "call": "submit-job", **FIRST}, 1.8),
        ({"name": "error_after_settling", "call": "submit-job", "times": 1}, 1.4),
        ({"name": "drop_response_after_settling", "call": "submit-job", "times": 1}, 1.4),
        ({"name": "oversized_body", "call": "job-status", "times": 1}, 1.4),
        ({"name": "error_before_settling", "call": "job-status", "times": 2}, 1.4),
        ({"name": "hang", "call": "artifacts", **FIRST}, 1.4),
    ],
    ids=lambda value: "{name} {call}".format(**value) if isinstance(value, dict) else "",
)
async def test_a_misbehaving_vendor_costs_nothing_twice(
    settings: Settings,
    services: Services,  # noqa: ARG001 - it fills the registry
    wallet: Wallet,
    vendor_admin: VendorAdmin,
    fault: dict[str, Any],
    spent: float,
) -> None:
    await vendor_admin.set_faults(fault)
    quick = {"quote_deadline_s": 2, "vendor_total_timeout_s": 2, "vendor_read_timeout_s": 2}
    async with with_settings(settings, **quick) as api:
        run_id = (await api.start())["_id"]
        await api.finish(run_id)

        assert [f["struck"] > 0 for f in await vendor_admin.faults()] == [True]
        await paid_once(api, wallet, run_id, spent)


@pytest.mark.usefixtures("leaky_pymongo")
async def test_no_secret_is_in_any_answer_or_log(
    database: FreshDatabase, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = {
        "mongodb_uri": SecretStr(f"mongodb://ada:{KEY}m@127.0.0.1:1/"),
        "x402_private_key": SecretStr(dev_key("poor")),
        "gpu_vendor_secret": SecretStr(f"{KEY}v"),
        "rpc_url": SecretStr(f"http://127.0.0.1:1/v2/{KEY}r"),
    }
    answers: list[httpx.Response] = []
    for asked in (
        settings.completed(**secrets),
        settings.completed(**secrets | {"mongodb_uri": SecretStr(database.uri)}),
    ):
        async with serving(create_app(lambda asked=asked: impatient(asked))) as api:  # type: ignore[misc]
            answers += [await api.http.get("/readyz"), await api.tick("a" * 24)]
            body = {"userId": "u1", "goal": "Train", "budgetTotal": 5}
            answers.append(await api.http.post("/api/agent-start", json=body))
            run_id = answers[-1].json().get("_id", "b" * 24)
            answers.append(await api.tick(run_id))
            answers.append(await api.http.get("/api/agent-status", params={"runId": run_id}))

    assert {503, 404, 200} <= {answer.status_code for answer in answers}
    told = caplog.text + "".join(answer.text for answer in answers)
    assert "MongoDB did not answer" in told
    assert KEY not in told
    assert dev_key("poor").removeprefix("0x") not in told


async def test_with_nothing_configured_the_app_starts_all_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And it walks past a failing vendor, from the first vendor's death to recovery."""
    local = {"CHAIN_PORT": "0", "VENDOR_PORT": "0", "FAIL_RATE": "0"}
    for name, value in {**local, "FAIL_VENDOR_ID": "gpu_vendor_1"}.items():
        monkeypatch.setenv(name, value)

    async with serving(configured.app) as api:
        assert (await api.http.get("/healthz")).status_code == 200
        while not (await api.http.get("/readyz")).is_success:
            pass  # it answers when the services are open, or after its patience
        run_id = (await api.start())["_id"]
        messages = await api.finish(run_id)
        status = await api.status(run_id)

    assert messages == [
        "Job started",
        "Job still running",
        "Job failed",
        "Job started",
        "Job still running",
        "Job still running",
        "Job completed",
    ]
    assert [(j["vendorId"], j["status"]) for j in status["jobs"]] == [
        ("gpu_vendor_1", "failed"),
        ("gpu_vendor_2", "completed"),
    ]
    assert status["jobs"][0]["errorMessage"]
    assert [(p["amount"], p["status"]) for p in status["payments"]] == [
        (1.4, "completed"),
        (1.8, "completed"),
    ]
    assert status["run"]["spent"] == 3.2
    assert balanced(status["run"])
    assert "recovery" in {o["type"] for o in status["observations"]}


async def test_a_setting_that_cannot_be_used_is_named_until_it_is_mended(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, chain_url: str
) -> None:
    assert settings.mongodb_uri is not None
    monkeypatch.setenv("MONGODB_URI", settings.mongodb_uri.get_secret_value())
    monkeypatch.setenv("MONGODB_DB_NAME", settings.mongodb_db_name)
    monkeypatch.setenv("RPC_URL", chain_url)
    monkeypatch.setenv("NETWORK", f"nowhere-{KEY}")
    async with serving(create_app(configured.open_configured)) as api:
        refused = await api.http.get("/api/runs")
        monkeypatch.delenv("NETWORK")
        mended = await api.http.get("/api/runs")

    assert refused.status_code == 503
    assert refused.json()["error"].startswith("NETWORK: it is not a known network. ")
    assert KEY not in refused.text
    assert (mended.status_code, mended.json()) == (200, {"runs": []})
