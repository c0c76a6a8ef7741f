"""A job's life as its renter sees it: progress, paid time, failure, completion, manners."""

import asyncio
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from mock_vendor.accounts import dev_address
from mock_vendor.vendor import workload
from mock_vendor.vendor.jobs import NODE_LOST, PAID_TIME_RAN_OUT
from mock_vendor.vendor.store import Store

from .shop import SECRET, VENDOR, Shop, open_shop


async def test_each_poll_runs_one_epoch_until_the_job_completes() -> None:
    async with open_shop() as shop:
        job_id = await shop.launched(hours=2)
        polls = [await shop.status(job_id) for _ in range(3)]
        assert [p["status"] for p in polls] == ["running", "running", "completed"]
        assert [p["progress"] for p in polls] == [0.3333, 0.6667, 1.0]
        assert [p["usedMinutes"] for p in polls] == [40, 80, 120]
        assert [p["costSoFar"] for p in polls] == [0.93, 1.87, 2.8]
        for earlier, later in pairwise(polls):
            assert later["logs"][: len(earlier["logs"])] == earlier["logs"]
        assert polls[0]["logs"][1].startswith("Epoch 1/3 loss=")
        assert await shop.status(job_id) == polls[2]


async def test_the_artifact_is_the_model_that_was_trained() -> None:
    async with open_shop() as shop:
        job_id = await shop.launched(seed=5, epochs=2)
        await shop.status(job_id)
        done = await shop.status(job_id)
        file = await shop.client.get(done["artifactUrl"])
        expected = workload.run_epoch(workload.run_epoch(workload.start(5)))
        assert file.content == workload.artifact(expected)
        assert file.headers["etag"].strip('"') == workload.digest(file.content)
        assert done["finalMetrics"]["artifactSha256"] == workload.digest(file.content)
        assert done["finalMetrics"]["finalLoss"] == expected.losses[-1]
        checkpoint = await shop.client.get(f"/artifacts/{job_id}/checkpoint.json")
        assert workload.load(checkpoint.content) == expected


async def test_a_job_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with open_shop(vendor_data_dir=tmp_path) as shop:
        job_id = await shop.launched()
        before = await shop.status(job_id)
    async with open_shop(shop.chain, vendor_data_dir=tmp_path) as restarted:
        after = await restarted.status(job_id)
        assert after["logs"][: len(before["logs"])] == before["logs"]
        assert after["progress"] == 0.6667


async def test_two_polls_at_once_run_two_epochs_in_order() -> None:
    async with open_shop() as shop:
        job_id = await shop.launched(epochs=4)
        polls = await asyncio.gather(shop.status(job_id), shop.status(job_id))
        assert sorted(p["progress"] for p in polls) == [0.25, 0.5]
        assert [line[:9] for line in (await shop.status(job_id))["logs"][1:]] == [
            "Epoch 1/4",
            "Epoch 2/4",
            "Epoch 3/4",
        ]


async def test_a_job_stops_where_its_paid_time_ends_and_an_extension_resumes_it() -> None:
    async with open_shop() as shop:
        job_id = await shop.launched(hours=1, totalHours=3)
        await shop.status(job_id)
        paused = await shop.status(job_id)
        assert (paused["status"], paused["progress"]) == ("running", 0.3333)
        assert "paid time used up" in paused["logs"][-1]
        assert (paused["paidMinutes"], paused["usedMinutes"]) == (60, 60)
        assert (await shop.status(job_id))["logs"] == paused["logs"]
        answer = await extend(shop, job_id, 120)
        assert answer.status_code == 200
        assert answer.json()["paidUntil"] > paused["paidUntil"]
        assert answer.json()["paymentTxId"] == shop.chain.transfers[-1].tx_hash
        assert shop.settled() == [1_400_000, 2_800_000]
        polls = [await shop.status(job_id) for _ in range(2)]
        assert polls[-1]["status"] == "completed"


async def test_an_unextended_job_fails_when_its_patience_ends() -> None:
    async with open_shop(pause_poll_limit=2) as shop:
        job_id = await shop.launched(hours=1, totalHours=3)
        polls = [await shop.status(job_id) for _ in range(5)]
        assert [p["status"] for p in polls] == ["running"] * 4 + ["failed"]
        assert polls[-1]["errorMessage"] == PAID_TIME_RAN_OUT
        assert polls[-1]["costSoFar"] == 1.4
        assert (await shop.cancel(job_id)).json() == {"status": "cancelled"}
        assert (await extend(shop, job_id, 60, paid=False)).status_code == 409


async def test_an_extension_that_is_too_short_still_renews_the_patience() -> None:
    async with open_shop(pause_poll_limit=2) as shop:
        job_id = await shop.launched(hours=1, totalHours=3)
        polls = [await shop.status(job_id) for _ in range(3)]
        assert (await extend(shop, job_id, 10)).status_code == 200
        polls += [await shop.status(job_id) for _ in range(3)]
        assert [p["status"] for p in polls] == ["running"] * 6
        assert polls[-1]["progress"] == 0.3333


async def test_the_pause_can_end_by_the_clock() -> None:
    now = [1_900_000_000.0]
    async with open_shop(clock=lambda: now[0], pause_limit_s=60) as shop:
        body = await shop.submission(hours=1, totalHours=3)
        header = await shop.signed(body, valid_before=int(now[0]) + 300)
        job_id = (await shop.send(body, header)).json()["vendorJobId"]
        await shop.status(job_id)
        assert (await shop.status(job_id))["status"] == "running"
        now[0] += 61
        assert (await shop.status(job_id))["status"] == "failed"


async def test_an_extension_is_charged_once_for_repeats_and_rounded_up_to_a_cent() -> None:
    async with open_shop() as shop:
        job_id = await shop.launched(hours=1, totalHours=3)
        body = {"vendorJobId": job_id, "minutes": 7}
        header = await shop.signed(body, "/extend-job")
        answers = await asyncio.gather(*(shop.send(body, header, "/extend-job") for _ in range(4)))
        assert len({a.text for a in answers}) == 1
        assert shop.settled() == [1_400_000, 170_000]
        assert (await shop.status(job_id))["paidMinutes"] == 67
        assert (await shop.send(body | {"minutes": 8}, header, "/extend-job")).status_code == 409


async def test_each_gpu_is_paid_for_at_the_launch_and_later() -> None:
    async with open_shop() as shop:
        quote = await shop.quote(1, jobMetadata={"gpuCount": 8})
        assert quote["priceEstimate"] == 11.2
        params = {"totalHours": 3, "epochs": 3}
        body = {"vendorJobTemplateId": quote["vendorJobTemplateId"], "jobParams": params}
        job_id = (await shop.send(body, await shop.signed(body))).json()["vendorJobId"]
        assert (await extend(shop, job_id, 30)).status_code == 200
        assert shop.settled() == [11_200_000, 5_600_000]
        assert (await shop.status(job_id))["costSoFar"] == 11.2


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "8", None, 1_001])
async def test_no_quote_is_made_for_a_number_of_gpus_that_is_none(count: object) -> None:
    async with open_shop() as shop:
        wish = {"jobType": "train", "gpuType": "A10", "maxHours": 1}
        answer = await shop.client.post(
            "/quote",
            json=wish | {"jobMetadata": {"gpuCount": count}},
            headers={"x-vendor-id": "gpu_vendor_1"},
        )
        assert answer.status_code == 400
        assert answer.json()["error"] == "jobMetadata.gpuCount must be 1 to 1000"


def test_a_store_of_before_gpus_were_counted_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "vendor.db"
    with closing(sqlite3.connect(path)) as old:
        old.execute(
            "create table quotes(quote_id text primary key, vendor_id text not null, job_type text "
            "not null, gpu_type text not null, hours real not null, amount integer not null, "
            "expires_at real not null)"
        )
        old.execute("insert into quotes values ('q1', 'v', 'train', 'A10', 1, 1400000, 0)")
        old.commit()
    for _ in range(2):
        with closing(Store(path)) as store:
            quote = store.quote("q1")
            assert quote
            assert quote.gpu_count == 1


async def test_a_job_that_stands_still_for_want_of_paid_time_has_used_all_of_it() -> None:
    async with open_shop() as shop:
        job_id = await shop.launched(hours=0.25, totalHours=3, epochs=3)
        paused = await shop.status(job_id)
        assert (paused["progress"], paused["paidMinutes"], paused["usedMinutes"]) == (0, 15, 15)
        assert "(0 of 180 minutes done" in paused["logs"][-1]
        assert (await shop.cancel(job_id)).json()["refund"]["amount"] == 0.35


@pytest.mark.parametrize("epochs", [1, 3, 10])
async def test_each_job_of_the_failing_vendor_dies_part_way(epochs: int) -> None:
    async with open_shop(fail_vendor_id=VENDOR) as shop:
        job_id = await shop.launched(epochs=epochs)
        polls = [await shop.status(job_id) for _ in range(epochs + 1)]
        last = polls[-1]
        assert last["status"] == "failed"
        assert NODE_LOST in last["errorMessage"]
        assert polls[0]["status"] == "running"
        assert 0 < last["costSoFar"] <= 2.8
        assert "artifactUrl" not in last
        assert shop.settled() == [2_800_000]


async def test_random_failures_follow_their_seed() -> None:
    async def fates(seed: int) -> list[str]:
        async with open_shop(fail_rate=0.5, fail_seed=seed) as shop:
            jobs = [await shop.launched(epochs=1) for _ in range(6)]
            for job in jobs:
                await shop.status(job)
            return [str((await shop.status(job))["status"]) for job in jobs]

    first = await fates(1)
    assert set(first) == {"failed", "completed"}
    assert await fates(1) == first
    assert await fates(2) != first


async def test_with_the_clock_as_pace_polls_change_nothing() -> None:
    async with open_shop(pace="clock") as shop:
        job_id = await shop.launched()
        assert (await shop.status(job_id))["progress"] == 0
        await shop.service.step_all()
        assert (await shop.status(job_id))["progress"] == 0.3333
        assert (await shop.status(job_id))["progress"] == 0.3333


async def test_the_clock_runs_jobs_in_the_background() -> None:
    beats: list[float] = []
    beaten, forever = asyncio.Event(), asyncio.Event()

    async def sleep(interval_s: float) -> None:
        beats.append(interval_s)
        if len(beats) > 3:
            beaten.set()
            await forever.wait()

    async with open_shop(pace="clock", clock_epoch_s=7, sleep=sleep) as shop:
        job_id = await shop.launched()
        async with shop.app.router.lifespan_context(shop.app):
            await beaten.wait()
            assert (await shop.status(job_id))["status"] == "completed"
    assert beats == [7, 7, 7, 7]


async def test_strangers_learn_nothing() -> None:
    async with open_shop() as shop:
        job_id = await shop.launched()
        params = {"vendorJobId": job_id}
        for wrong in ("", "Bearer wrong", SECRET):
            headers = {"Authorization": wrong}
            answer = await shop.client.get("/job-status", params=params, headers=headers)
            assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})
        other = {"x-vendor-id": "gpu_vendor_2"}
        assert (await shop.client.get("/job-status", params=params, headers=other)).is_error
        nobody = {"x-vendor-id": "gpu_vendor_9"}
        unknown = await shop.client.get("/job-status", params=params, headers=nobody)
        assert unknown.status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/quote", {"gpuType": "A10", "maxHours": 1}, "jobType is required"),
        ("/quote", {"jobType": "t", "maxHours": 1}, "gpuType is required"),
        ("/quote", {"jobType": "t", "gpuType": "A10"}, "maxHours is required"),
        ("/quote", {"jobType": "t", "gpuType": "A10", "maxHours": -1}, "maxHours must be"),
        ("/quote", {"jobType": "t", "gpuType": "A10", "maxHours": True}, "maxHours must be"),
        ("/quote", {"jobType": "t", "gpuType": "B200", "maxHours": 1}, "is not offered"),
        ("/submit-job", {"jobParams": {}}, "vendorJobTemplateId is required"),
        ("/extend-job", {"minutes": 5}, "vendorJobId is required"),
        ("/cancel-job", {}, "vendorJobId is required"),
        ("/cancel-job", [], "must be a JSON object"),
    ],
)
async def test_a_faulty_request_is_told_what_is_wrong(path: str, body: Any, message: str) -> None:
    async with open_shop() as shop:
        answer = await shop.client.post(path, json=body)
        assert answer.status_code == 400
        assert message in answer.json()["error"]


@pytest.mark.parametrize(
    "params", [{"epochs": 0}, {"epochs": 10_001}, {"seed": "x"}, {"totalHours": 0}]
)
async def test_bad_job_parameters_are_refused_before_payment(params: dict[str, Any]) -> None:
    async with open_shop() as shop:
        body = await shop.submission(**params)
        assert (await shop.client.post("/submit-job", json=body)).status_code == 400


async def test_a_body_over_64_kib_is_refused() -> None:
    async with open_shop() as shop:
        answer = await shop.client.post("/quote", json={"jobType": "x" * 65_536})
        assert answer.status_code == 413


async def test_what_is_unknown_is_404() -> None:
    async with open_shop() as shop:
        assert (
            await shop.client.get("/job-status", params={"vendorJobId": "no"})
        ).status_code == 404
        assert (await shop.client.get("/artifacts/no/model.json")).status_code == 404
        body = {"vendorJobTemplateId": "no", "jobParams": {}}
        assert (await shop.client.post("/submit-job", json=body)).status_code == 404
        other = await shop.submission(vendor="gpu_vendor_2")
        assert (await shop.client.post("/submit-job", json=other)).status_code == 404
        assert shop.chain.balance_of(dev_address(VENDOR)) == 0


async def extend(shop: Shop, job_id: str, minutes: float, *, paid: bool = True) -> httpx.Response:
    body = {"vendorJobId": job_id, "minutes": minutes}
    if not paid:
        return await shop.client.post("/extend-job", json=body)
    return await shop.send(body, await shop.signed(body, "/extend-job"), "/extend-job")
