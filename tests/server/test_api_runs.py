"""Runs over the HTTP API: ticks, status, and the money behind them."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from domain.money import Usd
from ledger.holder import Holder
from server.access import EVERYBODY
from server.app import create_app
from server.chat.conversation import Chat
from server.dashboard.actions import step
from server.dashboard.sessions import Visitor
from server.wiring import Services
from tests.server.conftest import Api, Wallet, balanced, opening, serving
from tests.support.stack import VendorAdmin
from tests.support.world import SIDE_BY_SIDE

UNKNOWN = "0123456789abcdef01234567"


async def test_the_seeds_walk_through(api: Api, wallet: Wallet, vendor_admin: VendorAdmin) -> None:  # noqa: ARG001
    run_id = (await api.start())["_id"]

    assert await api.message(run_id) == "Job started"
    started = await api.status(run_id)
    assert started["run"] | {"budgetRemaining": 3.6, "spent": 1.4} == started["run"]
    assert [(job["vendorId"], job["status"]) for job in started["jobs"]] == [
        ("gpu_vendor_1", "running")
    ]
    assert started["vendorNames"] == {"gpu_vendor_1": "FastGPU", "gpu_vendor_2": "ReliableGPU"}
    payment = started["payments"][0]
    assert (payment["amount"], payment["currency"], payment["status"], payment["state"]) == (
        (1.4, "USD", "completed", "settled")
    )
    assert re.fullmatch(r"0x[0-9a-f]{64}", payment["x402TxId"])
    assert {o["vendorId"]: o["verdict"] for o in started["offers"]} == {
        "gpu_vendor_1": "taken",
        "gpu_vendor_2": "dearer",
    }
    assert await api.finish(run_id) == ["Job still running", "Job still running", "Job completed"]
    assert await api.message(run_id) == "Run already completed"

    ended = await api.status(run_id)
    assert (ended["run"]["status"], ended["run"]["reason"]) == ("completed", "")
    job = ended["jobs"][0]
    assert (job["status"], job["progress"], job["errorMessage"]) == ("completed", 1.0, None)
    assert job["artifactSha256"] == job["finalMetrics"]["artifactSha256"]
    told = {(o["type"], o["content"]) for o in ended["observations"]}
    assert ("job_log", "Training completed") in told
    assert any(
        type_ == "agent_reasoning" and "Proceeding with payment via x402" in content
        for type_, content in told
    )
    assert balanced(ended["run"])
    assert await wallet.paid() == ended["run"]["spent"] == 1.4


async def test_the_signed_authorization_is_in_no_answer(api: Api, services: Services) -> None:
    run_id = (await api.start())["_id"]
    await api.message(run_id)
    [payment] = await services.deps.ledger.payments.of_run(run_id)
    answer = await api.http.get("/api/agent-status", params={"runId": run_id})

    assert len(payment.header) > 100
    assert payment.header not in answer.text
    assert not any("header" in name.lower() for name in answer.json()["payments"][0])
    assert answer.json()["payments"][0]["nonce"] == payment.nonce


async def test_money_held_before_there_is_a_payment_shows_as_reserved(
    api: Api, services: Services
) -> None:
    run_id = (await api.start())["_id"]
    deps = services.deps
    run, lease = await deps.ledger.runs.acquire(run_id, deps.now, 60)
    await deps.ledger.budget.reserve(lease, run, 0, run.budget_total.scaled(1, 4))

    status = await api.status(run_id)

    assert status["payments"] == []
    assert (status["run"]["budgetRemaining"], status["run"]["reserved"]) == (3.75, 1.25)
    assert balanced(status["run"])


@pytest.mark.parametrize("asked", [0, 1, 5])
async def test_status_gives_the_newest_observations_oldest_first(api: Api, asked: int) -> None:
    run_id = (await api.start())["_id"]
    await api.message(run_id)

    every = (await api.status(run_id))["observations"]
    newest = (await api.status(run_id, observations=asked))["observations"]

    assert [o["seq"] for o in every] == list(range(1, len(every) + 1))
    assert len(every) > 5
    assert newest == every[len(every) - asked :]


@pytest.mark.parametrize("asked", ["-1", "1001", "many", "1.5", ""])
async def test_an_unusable_number_of_observations_is_refused(bare: Api, asked: str) -> None:
    answer = await bare.http.get(
        "/api/agent-status", params={"runId": UNKNOWN, "observations": asked}
    )

    assert answer.status_code == 422
    assert re.match(r"observations: .*\. Give a number from 0 to 1000", answer.json()["error"])


async def test_a_budget_below_every_offer_fails_the_run_and_pays_nothing(
    api: Api, wallet: Wallet
) -> None:
    run_id = (await api.start(budgetTotal=0.5))["_id"]

    assert (await api.message(run_id)).startswith("Run failed: the budget has $0.50 left")
    assert await api.message(run_id) == "Run already failed"
    run = (await api.status(run_id))["run"]
    assert (run["status"], run["budgetRemaining"], run["reserved"]) == ("failed", 0.5, 0)
    assert "the budget has $0.50 left" in run["reason"]
    assert await wallet.paid() == 0


async def test_an_unknown_run_is_not_found(api: Api) -> None:
    tick = await api.tick(UNKNOWN)
    status = await api.http.get("/api/agent-status", params={"runId": UNKNOWN})

    assert (tick.status_code, status.status_code) == (404, 404)
    assert tick.json() == status.json()
    assert tick.json() == {"error": f"There is no run '{UNKNOWN}'. Check the runId"}


@pytest.mark.parametrize("run_id", ["", "../etc", "a" * 65, "a b", "\x00", "½"])
async def test_a_run_id_that_is_none_is_a_bad_request(bare: Api, run_id: str) -> None:
    answer = await bare.tick(run_id)

    assert answer.status_code == 400
    assert answer.json()["error"].startswith("runId: it is not a run's id. ")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "runId: it is missing"),
        ({"runId": None}, "runId: it is not text"),
        ({"runId": {"$ne": ""}}, "runId: it is not text"),
        ({"runId": UNKNOWN, "force": True}, "force: this request has no such field"),
    ],
)
async def test_a_tick_names_what_is_wrong_with_its_request(
    bare: Api, body: dict[str, Any], said: str
) -> None:
    answer = await bare.http.post("/api/agent-tick", json=body)

    assert answer.status_code == 422
    assert answer.json()["error"].startswith(f"{said}. ")


async def test_a_status_without_a_run_id_says_so(bare: Api) -> None:
    answer = await bare.http.get("/api/agent-status")

    assert answer.status_code == 422
    assert answer.json()["error"].startswith("runId: it is missing. ")


async def test_runs_are_listed_newest_first_and_by_user(api: Api) -> None:
    first = await api.start(userId="ada")
    await api.start(userId="bob")
    last = await api.start(userId="ada")

    async def listed(**query: Any) -> list[str]:
        answer = await api.http.get("/api/runs", params=query)
        return [run["_id"] for run in answer.raise_for_status().json()["runs"]]

    assert await listed(userId="ada") == [last["_id"], first["_id"]]
    assert await listed(limit=1) == [last["_id"]]
    assert len(await listed()) == 3
    assert await listed(userId="nobody") == []


async def test_a_purchase_is_listed_and_looked_at_and_no_run_to_work_on(
    api: Api, services: Services
) -> None:
    ledger, now = services.deps.ledger, services.deps.now()
    first = await api.start()
    bought = await ledger.purchases.create("fetch_1", "GET https://x.test/", Usd.parse(1), now)
    last = await api.start()

    async def listed(**query: Any) -> list[str]:
        answer = await api.http.get("/api/runs", params=query)
        return [run["_id"] for run in answer.raise_for_status().json()["runs"]]

    assert sorted(await listed()) == sorted([first["_id"], bought.id, last["_id"]])
    assert await listed(userId="pay") == await listed(idPrefix="fetch") == [bought.id]
    shown = await api.status(bought.id)
    assert (shown["run"]["goal"], shown["run"]["status"]) == ("GET https://x.test/", "running")
    audit = await api.http.get("/api/audit", params={"runId": bought.id})
    assert audit.json()["whole"]
    assert (await api.tick(bought.id)).status_code == 404
    assert await ledger.purchases.get(bought.id) == bought


@pytest.mark.parametrize("limit", ["0", "-1", "201", "x"])
async def test_an_unusable_limit_is_refused(bare: Api, limit: str) -> None:
    answer = await bare.http.get("/api/runs", params={"limit": limit})

    assert answer.status_code == 422
    assert re.match(r"limit: .*\. Give a number from 1 to 200", answer.json()["error"])


async def test_of_two_ticks_at_once_one_works_and_the_other_is_told_to_wait(
    api: Api, wallet: Wallet
) -> None:
    run_id = (await api.start())["_id"]

    answers = await asyncio.gather(api.tick(run_id), api.tick(run_id))

    done, held = sorted(answers, key=lambda answer: answer.status_code)
    assert (done.status_code, done.json()) == (200, {"message": "Job started"})
    assert held.status_code == 409
    assert held.headers["retry-after"] == "1"
    assert held.json()["error"].startswith(f"Another tick works on run {run_id}. ")
    assert await wallet.paid() == 1.4


async def test_twenty_runs_in_parallel_complete_and_every_balance_is_right(
    services: Services, wallet: Wallet
) -> None:
    limits = replace(services.deps.limits, slices=SIDE_BY_SIDE.slices)
    side_by_side = replace(services, deps=replace(services.deps, limits=limits))
    async with serving(create_app(opening(side_by_side))) as api:
        runs = [(await api.start(userId=f"u{n}"))["_id"] for n in range(20)]

        await asyncio.gather(*map(api.finish, runs))

        statuses = [(await api.status(run_id, observations=0)) for run_id in runs]
        assert {status["run"]["status"] for status in statuses} == {"completed"}
        assert all(balanced(status["run"]) for status in statuses)
        assert all(
            [p["amount"] for p in status["payments"]] == [status["run"]["spent"]]
            for status in statuses
        )
        assert {status["run"]["reserved"] for status in statuses} == {0}
        assert len({status["payments"][0]["x402TxId"] for status in statuses}) == 20
        spent_micros = sum(round(status["run"]["spent"] * 1_000_000) for status in statuses)
        assert round(await wallet.paid() * 1_000_000) == spent_micros


async def test_a_run_whose_process_is_gone_says_when_it_goes_on_at_every_door(
    api: Api, services: Services
) -> None:
    run_id = (await api.start())["_id"]
    runs, now = services.deps.ledger.runs, services.deps.now
    await runs.acquire(run_id, now, 3600)
    left = {
        "lease.holder": Holder("another machine", 1, "1").document(),
        "lease.expiresAt": now() + timedelta(minutes=15),  # it would have been prolonged by now
    }
    assert await runs.documents.change(run_id, {}, {"$set": left})
    gone = f"The process that worked on run {run_id} is gone. It goes on in "

    answer = await api.tick(run_id)
    said = await Chat(services)._tick(await runs.get(run_id))
    stepped = await step(services, Visitor(EVERYBODY), run_id)

    assert (answer.status_code, answer.json()["code"]) == (409, "run_busy")
    assert answer.json()["error"].startswith(gone)
    assert 1 < int(answer.headers["retry-after"]) <= 900
    assert said.text.startswith(gone)
    assert stepped.startswith(gone)
