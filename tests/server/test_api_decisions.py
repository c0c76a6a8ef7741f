"""A person's decisions over the API: cancelling a run, approving or rejecting a payment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.money import Usd
from server.app import create_app
from server.config.settings import Settings
from server.local.seed import seed
from server.wiring import Services, now, open_services
from tests.server.conftest import Api, Wallet, balanced, opening, serving


@pytest.fixture
async def careful(settings: Settings) -> AsyncIterator[tuple[Api, Services]]:
    """The API of an agent that asks before it pays more than a dollar."""
    asking = settings.completed(approval_threshold_usd=Usd.parse(1))
    async with open_services(asking) as services:
        await seed(services.deps.ledger.vendors, asking, now())
        async with serving(create_app(opening(services))) as api:
            yield api, services


async def approve(api: Api, run_id: str, approval_id: str, yes: object = True) -> Any:
    body = {"runId": run_id, "approvalId": approval_id, "approve": yes}
    return await api.http.post("/api/agent-approve", json=body)


async def cancel(api: Api, run_id: str) -> Any:
    return await api.http.post("/api/agent-cancel", json={"runId": run_id})


async def test_a_cancelled_run_gets_its_unused_time_back(api: Api, wallet: Wallet) -> None:
    run_id = (await api.start())["_id"]
    assert await api.message(run_id) == "Job started"
    assert (await cancel(api, run_id)).json() == {"message": "Run cancelled"}
    status = await api.status(run_id)
    assert status["run"]["status"] == "cancelled"
    [payment] = status["payments"]
    assert (payment["state"], payment["refunded"]) == ("refunded", payment["amount"])
    [told] = [o for o in status["observations"] if o["type"] == "payment_refunded"]
    assert told["data"]["refundedMicros"] == Usd.parse(payment["refunded"]).micros
    assert status["run"]["spent"] == await wallet.paid() == 0
    assert balanced(status["run"])
    assert await api.message(run_id) == "Run already cancelled"


async def test_an_ended_run_cannot_be_cancelled(api: Api) -> None:
    run_id = (await api.start())["_id"]
    await api.finish(run_id)
    answer = await cancel(api, run_id)
    assert answer.status_code == 409
    assert "ended already" in answer.json()["error"]


async def test_cancelling_a_run_that_is_not_there_is_404(api: Api) -> None:
    assert (await cancel(api, "0" * 24)).status_code == 404


async def test_a_payment_that_needs_approval_is_shown_and_paid_when_approved(
    careful: tuple[Api, Services],
) -> None:
    api, _ = careful
    run_id = (await api.start())["_id"]
    assert await api.message(run_id) == "Waiting for approval"
    waiting = (await api.status(run_id))["approvals"][0]
    assert (waiting["state"], waiting["amount"]) == ("pending", 1.4)
    assert waiting["what"] == "60 minutes of A100 at FastGPU for $1.40: the whole job"
    listed = (await api.http.get("/api/runs")).json()["runs"]
    assert [run["waitingFor"] for run in listed if run["_id"] == run_id] == [waiting["what"]]
    answer = await approve(api, run_id, waiting["_id"])
    assert answer.json() == {"message": "Payment of $1.40 approved"}
    assert await api.message(run_id) == "Job started"
    again = await approve(api, run_id, waiting["_id"])
    assert (again.status_code, "used" in again.json()["error"]) == (409, True)


async def test_a_rejected_payment_ends_the_run_unpaid(careful: tuple[Api, Services]) -> None:
    api, _ = careful
    run_id = (await api.start())["_id"]
    await api.message(run_id)
    waiting = (await api.status(run_id))["approvals"][0]
    await approve(api, run_id, waiting["_id"], yes=False)
    assert await api.message(run_id) == "Run cancelled"
    run = (await api.status(run_id))["run"]
    assert (run["spent"], "rejected" in run["reason"]) == (0, True)


async def test_another_runs_approval_is_404(careful: tuple[Api, Services]) -> None:
    api, _ = careful
    mine, other = (await api.start())["_id"], (await api.start())["_id"]
    await api.message(other)
    waiting = (await api.status(other))["approvals"][0]
    assert (await approve(api, mine, waiting["_id"])).status_code == 404


@pytest.mark.parametrize("answer", ["yes", 1, None])
async def test_an_answer_that_is_not_true_or_false_is_refused(api: Api, answer: object) -> None:
    refused = await approve(api, "0" * 24, "apr_" + "0" * 32, answer)
    assert refused.status_code == 422
    assert "approve" in refused.json()["error"]


async def test_what_nobody_answered_before_the_runs_end_waits_no_more(
    careful: tuple[Api, Services], wallet: Wallet
) -> None:
    api, _ = careful
    run_id = (await api.start())["_id"]
    assert await api.message(run_id) == "Waiting for approval"
    [asked] = (await api.status(run_id))["approvals"]
    assert asked["state"] == "pending"
    assert (await cancel(api, run_id)).json() == {"message": "Run cancelled"}
    [moot] = (await api.status(run_id))["approvals"]
    assert moot["state"] == "expired"
    for yes in (True, False):
        answer = await approve(api, run_id, moot["_id"], yes)
        assert answer.status_code == 409
        assert "ended already" in answer.json()["error"]
    assert await wallet.paid() == 0
