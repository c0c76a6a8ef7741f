"""A vendor's callback makes its job's run due, and nothing else ever happens of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from domain.money import Usd
from ledger.jobs import Job
from mock_vendor.vendor.callbacks import Callbacks
from mock_vendor.vendor.records import Job as VendorsJob
from server.config.settings import LOCAL_VENDOR_SECRET, Settings
from server.local.seed import seed
from server.runner.tick import Ticker
from server.wiring import Services, now, open_services
from tests.server.conftest import GOAL, Api
from tests.support.stack import FreshDatabase

ACME_SECRET = "the-secret-of-acme"
PATH = "/api/vendor-callback"


async def a_job(api: Api, services: Services) -> Job:
    run_id = (await api.start())["_id"]
    await api.message(run_id)
    [job] = await services.deps.ledger.jobs.of_run(await services.deps.ledger.runs.get(run_id))
    return job


def signed(body: str, *, secret: str = LOCAL_VENDOR_SECRET, age_s: float = 0) -> dict[str, Any]:
    """What a vendor sends: the content and its headers."""
    sent_at = now() - timedelta(seconds=age_s)
    headers = {
        "content-type": "application/json",
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": Webhook(secret.encode()).sign("msg_1", sent_at, body),
    }
    return {"content": body, "headers": headers}


def about(job: Job, vendor_id: str | None = None) -> str:
    return f'{{"vendorId": "{vendor_id or job.vendor_id}", "vendorJobId": "{job.vendor_job_id}"}}'


async def is_due(services: Services, job: Job) -> bool:
    due_at = (await services.deps.ledger.runs.get(job.run_id)).due_at
    return due_at is not None and due_at <= now()


async def put_off(services: Services, job: Job) -> None:
    later = now() + timedelta(hours=1)
    await services.deps.ledger.runs.documents.change(job.run_id, {}, {"$set": {"dueAt": later}})


async def test_a_signed_callback_makes_the_run_due_once(api: Api, services: Services) -> None:
    job = await a_job(api, services)
    await put_off(services, job)
    callback = signed(about(job))
    assert (await api.http.post(PATH, **callback)).status_code == 204
    assert await is_due(services, job)
    await put_off(services, job)
    assert (await api.http.post(PATH, **callback)).status_code == 204
    assert not await is_due(services, job), "a replayed callback has an effect"
    assert (await api.http.post(PATH, **signed(about(job), age_s=60))).status_code == 204
    assert not await is_due(services, job), "an older callback has an effect"


async def test_what_is_unsigned_forged_or_old_is_refused(api: Api, services: Services) -> None:
    job = await a_job(api, services)
    await put_off(services, job)
    body = about(job)
    unsigned = {"content": body, "headers": {"content-type": "application/json"}}
    other_body = {**signed(body), "content": body + " "}
    garbled = signed(body)
    garbled["headers"]["webhook-signature"] = "v1,\xe9 v1".encode("latin-1")
    garbled["headers"]["webhook-timestamp"] = "9" * 40
    for attempt in (
        unsigned,
        other_body,
        garbled,
        signed(body, secret="another secret"),
        signed(body, age_s=301),
        signed(body, age_s=-301),
    ):
        answer = await api.http.post(PATH, **attempt)
        assert answer.status_code == 401, attempt
        assert "signed" in answer.json()["error"]
    assert not await is_due(services, job)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"vendorId": "gpu_vendor_1", "vendorJobId": "job_of_nobody"}', 204),
        ('{"vendorId": "gpu_vendor_1", "vendorJobId": {"$gt": ""}}', 400),
        ('{"vendorJobId": "x"}', 400),
        ("[]", 400),
        ("{", 400),
    ],
)
async def test_a_callback_about_nothing_known_changes_nothing(
    api: Api, body: str, status: int
) -> None:
    assert (await api.http.post(PATH, **signed(body))).status_code == status


async def test_another_vendors_word_about_a_job_does_not_count(
    api: Api, services: Services
) -> None:
    job = await a_job(api, services)
    await put_off(services, job)
    acme = replace(
        await services.deps.ledger.vendors.get(job.vendor_id),
        vendor_id="acme",
        secret_env="GPU_VENDOR_SECRET_ACME",
    )
    await services.deps.ledger.vendors.put(acme, now())
    for said, secret in ((about(job), ACME_SECRET), (about(job, "nobody"), LOCAL_VENDOR_SECRET)):
        answer = await api.http.post(PATH, **signed(said, secret=secret))
        assert answer.status_code == 401
    of_its_own = signed(about(job, "acme"), secret=ACME_SECRET)
    assert (await api.http.post(PATH, **of_its_own)).status_code == 204
    assert not await is_due(services, job)


async def test_a_vendor_that_was_struck_off_calls_back_with_the_secret_of_its_job(
    api: Api, services: Services
) -> None:
    job = await a_job(api, services)
    await put_off(services, job)
    await services.deps.ledger.vendors.remove(job.vendor_id)
    assert (await api.http.post(PATH, **signed(about(job)))).status_code == 204
    assert await is_due(services, job)


async def test_the_mock_vendor_calls_back_when_a_job_ends(api: Api, services: Services) -> None:
    job = await a_job(api, services)
    await put_off(services, job)
    ended = VendorsJob(
        job_id=job.vendor_job_id,
        vendor_id=job.vendor_id,
        quote_id="q",
        payer="",
        status="completed",
        created_at=0,
        price_per_hour=1,
        paid_amount=1,
        paid_minutes=1,
        total_minutes=1,
        epochs=1,
        training=b"",
        callback_url=f"http://api{PATH}",
    )
    assert await Callbacks(SecretStr(LOCAL_VENDOR_SECRET), api.http).tell(ended)
    assert await is_due(services, job)
    assert not await Callbacks(SecretStr("another secret"), api.http).tell(ended)


async def test_where_vendors_reach_the_api_is_told_with_each_order(
    settings: Settings, database: FreshDatabase
) -> None:
    del database
    async with open_services(settings.completed(public_url="https://agent.example/")) as opened:
        await seed(opened.deps.ledger.vendors, settings, now())
        run_id = "run_with_callback"
        await opened.deps.ledger.runs.create(run_id, "u1", GOAL, Usd.parse(5), now())
        assert (await Ticker(opened).tick(run_id)).message == "Job started"
        [payment] = await opened.deps.ledger.payments.of_run(run_id)
    assert payment.order["callbackUrl"] == f"https://agent.example{PATH}"
