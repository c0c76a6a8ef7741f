"""Each fault by its name: where it strikes, and what it leaves behind."""

import asyncio
import logging
from typing import Any

import httpx
import pytest
from x402.http import decode_payment_required_header

from mock_vendor.accounts import AGENT_FUNDS, dev_address
from mock_vendor.vendor.faults import Fault

from .shop import VENDOR, Json, Shop, header_for, open_shop


class Waiting:
    """Stands in for sleeping: tells when somebody waits, and for how long; wakes nobody."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.waits: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.started.set()
        await asyncio.Event().wait()


def fault(name: str, call: str = "*", times: int | None = None, **more: Any) -> Json:
    return {"name": name, "vendorId": VENDOR, "call": call, "times": times, **more}


async def paid(shop: Shop, **params: Any) -> tuple[Json, str]:
    """Return a submission and its signed payment, not sent yet."""
    body = await shop.submission(**params)
    return body, await shop.signed(body)


async def until_it_hangs(shop: Shop, waiting: Waiting, body: Json, header: str) -> None:
    """Send a payment that gets no answer, and give up once the vendor sits on it."""
    sending = asyncio.create_task(shop.send(body, header))
    await waiting.started.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_a_fault_strikes_its_vendor_and_call_as_often_as_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_shop() as shop:
        await shop.faults(fault("refuse", "quote", times=1))
        wish = {"jobType": "t", "gpuType": "A10", "maxHours": 1}
        other = {"x-vendor-id": "gpu_vendor_2"}
        with caplog.at_level(logging.WARNING):
            assert (await shop.client.post("/quote", json=wish, headers=other)).status_code == 200
            assert (await shop.client.post("/quote", json=wish)).status_code == 403
            assert (await shop.client.post("/quote", json=wish)).status_code == 200
        assert [r.getMessage() for r in caplog.records] == [
            "fault refuse strikes quote of gpu_vendor_1"
        ]
        listed = (await shop.client.get("/admin/faults")).json()["faults"]
        assert [f["struck"] for f in listed] == [1]
        assert (await shop.client.delete("/admin/faults")).json() == {"faults": []}


async def test_faults_can_be_set_from_the_start() -> None:
    async with open_shop(vendor_faults=[Fault(name="refuse")]) as shop:
        assert (await shop.client.post("/quote", json={})).status_code == 403


async def test_refuse_takes_no_money() -> None:
    async with open_shop() as shop:
        body, header = await paid(shop)
        await shop.faults(fault("refuse", "submit-job"))
        assert (await shop.send(body, header)).status_code == 403
        assert shop.settled() == []


async def test_error_before_settling_takes_no_money() -> None:
    async with open_shop() as shop:
        await shop.faults(fault("error_before_settling", "submit-job", times=1))
        body, header = await paid(shop)
        assert (await shop.send(body, header)).status_code == 500
        assert shop.settled() == []
        assert (await shop.send(body, header)).status_code == 200


async def test_error_after_settling_keeps_money_and_job_and_a_repeat_gets_the_answer() -> None:
    async with open_shop() as shop:
        await shop.faults(fault("error_after_settling", "submit-job", times=1))
        body, header = await paid(shop)
        assert (await shop.send(body, header)).status_code == 500
        assert (await shop.send(body, header)).headers["x-idempotent-replay"] == "1"
        assert shop.settled() == [2_800_000]


async def test_drop_response_after_settling_looks_like_a_lost_connection() -> None:
    async with open_shop() as shop:
        await shop.faults(fault("drop_response_after_settling", "submit-job", times=1))
        body, header = await paid(shop)
        with pytest.raises(httpx.ReadError):
            await shop.send(body, header)
        assert (await shop.send(body, header)).status_code == 200
        assert shop.settled() == [2_800_000]


async def test_faults_about_settling_strike_other_calls_before_and_after_their_effect() -> None:
    async with open_shop() as shop:
        job_id = await shop.launched()
        for name, progress in (("error_before_settling", 0), ("error_after_settling", 1)):
            await shop.faults(fault(name, "job-status"))
            answer = await shop.client.get("/job-status", params={"vendorJobId": job_id})
            assert answer.status_code == 500
            assert (
                await shop.client.get(f"/artifacts/{job_id}/checkpoint.json")
            ).is_success == bool(progress)


@pytest.mark.parametrize(
    ("name", "field", "wrong"),
    [
        ("price_above_quote", "amount", "5600000"),
        ("wrong_pay_to", "pay_to", dev_address("thief")),
        ("wrong_asset", "asset", dev_address("another token")),
        ("wrong_network", "network", "eip155:8453"),
    ],
)
async def test_a_crooked_challenge_is_wrong_in_one_field(name: str, field: str, wrong: str) -> None:
    async with open_shop() as shop:
        body = await shop.submission()
        honest = (await shop.challenge(body)).accepts[0]
        await shop.faults(fault(name))
        crooked = (await shop.challenge(body)).accepts[0]
        assert crooked == honest.model_copy(update={field: wrong})


@pytest.mark.parametrize(
    ("name", "victim", "loss"),
    [("price_above_quote", VENDOR, 5_600_000), ("wrong_pay_to", "thief", 2_800_000)],
)
async def test_who_signs_a_crooked_challenge_loses_the_money(
    name: str, victim: str, loss: int
) -> None:
    async with open_shop() as shop:
        await shop.faults(fault(name, times=1))
        body, header = await paid(shop)
        assert (await shop.send(body, header)).status_code == 200
        assert shop.settled(victim) == [loss]


async def test_redirect_points_elsewhere_and_takes_no_money() -> None:
    async with open_shop() as shop:
        body, header = await paid(shop)
        await shop.faults(fault("redirect", "submit-job"))
        answer = await shop.send(body, header)
        assert (answer.status_code, answer.headers["location"]) == (307, "/moved/submit-job")
        assert shop.settled() == []


async def test_malformed_402_is_no_challenge() -> None:
    async with open_shop() as shop:
        body = await shop.submission()
        await shop.faults(fault("malformed_402", "submit-job", times=1))
        answer = await shop.client.post("/submit-job", json=body)
        assert answer.status_code == 402
        with pytest.raises(ValueError, match=r".*"):
            decode_payment_required_header(answer.headers["PAYMENT-REQUIRED"])
        assert (await shop.challenge(body)).accepts


async def test_oversized_body_is_as_big_as_set() -> None:
    async with open_shop(oversized_bytes=1 << 20) as shop:
        job_id = await shop.launched()
        await shop.faults(fault("oversized_body", "job-status"))
        answer = await shop.client.get("/job-status", params={"vendorJobId": job_id})
        assert len(answer.content) > 1 << 20


async def test_slow_drip_sends_the_true_answer_a_byte_at_a_time() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async with open_shop(drip_interval_s=0.5, sleep=sleep) as shop:
        job_id = await shop.launched()
        await shop.faults(fault("slow_drip", "job-status"))
        answer = await shop.client.get("/job-status", params={"vendorJobId": job_id})
        assert answer.json()["progress"] == 0.3333
        assert waits == [0.5] * len(answer.content)


async def test_hang_takes_nothing_and_answers_nothing() -> None:
    waiting = Waiting()
    async with open_shop(sleep=waiting, hang_s=99) as shop:
        body, header = await paid(shop)
        await shop.faults(fault("hang", "submit-job", times=1, when="payment"))
        await until_it_hangs(shop, waiting, body, header)
        assert waiting.waits == [99]
        assert shop.settled() == []
        assert (await shop.send(body, header)).status_code == 200


async def test_silent_after_settling_takes_the_money_and_says_nothing() -> None:
    waiting = Waiting()
    async with open_shop(sleep=waiting) as shop:
        body, header = await paid(shop)
        await shop.faults(fault("silent_after_settling", "submit-job", times=1))
        await until_it_hangs(shop, waiting, body, header)
        assert shop.settled() == [2_800_000]
        assert (await shop.send(body, header)).status_code == 200
        assert shop.settled() == [2_800_000]


async def test_silent_before_settling_keeps_the_authorization_and_settles_it_later() -> None:
    waiting = Waiting()
    async with open_shop(sleep=waiting) as shop:
        body, header = await paid(shop)
        await shop.faults(fault("silent_before_settling", "submit-job", times=1))
        await until_it_hangs(shop, waiting, body, header)
        assert shop.settled() == []
        late = await shop.client.post("/admin/settle-held")
        assert [s["settled"] for s in late.json()["settled"]] == [True]
        assert shop.settled() == [2_800_000]
        assert (await shop.client.post("/admin/settle-held")).json() == {"settled": []}
        assert (await shop.send(body, header)).headers["x-idempotent-replay"] == "1"


async def test_a_held_authorization_that_expired_settles_no_more() -> None:
    waiting = Waiting()
    async with open_shop(sleep=waiting) as shop:
        body, header = await paid(shop)
        await shop.faults(fault("silent_before_settling", "submit-job", times=1))
        await until_it_hangs(shop, waiting, body, header)
        shop.chain.advance(400)
        (late,) = (await shop.client.post("/admin/settle-held")).json()["settled"]
        assert "valid_before" in late["error"]
        assert shop.settled() == []


@pytest.mark.parametrize(
    ("name", "launch", "line"),
    [
        ("never_boot", "queued", "Booting GPU instance"),
        ("ghost_job", "running", "queued on FastGPU"),
    ],
)
async def test_a_job_that_never_runs_is_billed_and_makes_no_progress(
    name: str, launch: str, line: str
) -> None:
    async with open_shop() as shop:
        await shop.faults(fault(name, "submit-job"))
        body, header = await paid(shop)
        answer = (await shop.send(body, header)).json()
        assert answer["status"] == launch
        polls = [await shop.status(answer["vendorJobId"]) for _ in range(3)]
        assert {(p["status"], p["progress"]) for p in polls} == {("running", 0)}
        assert line in polls[-1]["logs"][-1]
        assert shop.settled() == [2_800_000]
        await shop.cancel(answer["vendorJobId"])
        assert shop.chain.balance_of(dev_address("agent")) == AGENT_FUNDS


async def test_ghost_job_404_is_billed_and_denied() -> None:
    async with open_shop() as shop:
        await shop.faults(fault("ghost_job_404"))
        job_id = await shop.launched()
        answer = await shop.client.get("/job-status", params={"vendorJobId": job_id})
        assert answer.status_code == 404
        assert shop.settled() == [2_800_000]


async def test_fake_progress_claims_epochs_that_never_ran() -> None:
    async with open_shop() as shop:
        await shop.faults(fault("fake_progress"))
        job_id = await shop.launched()
        polls = [await shop.status(job_id) for _ in range(12)]
        assert [p["progress"] for p in polls[:3]] == [0.1, 0.2, 0.3]
        assert (polls[-1]["status"], polls[-1]["progress"]) == ("running", 0.99)
        assert (await shop.client.get(f"/artifacts/{job_id}/checkpoint.json")).status_code == 404


async def test_failing_refund_stops_the_job_and_pays_when_the_fault_is_gone() -> None:
    async with open_shop() as shop:
        job_id = await shop.launched()
        await shop.faults(fault("failing_refund", times=1))
        assert (await shop.cancel(job_id)).status_code == 502
        assert shop.chain.balance_of(dev_address("agent")) == AGENT_FUNDS - 2_800_000
        assert (await shop.cancel(job_id)).json()["refund"]["amount"] == 2.8


async def test_claimed_refund_names_a_transaction_that_is_not_there() -> None:
    async with open_shop() as shop:
        job_id = await shop.launched()
        await shop.faults(fault("claimed_refund"))
        claim = (await shop.cancel(job_id)).json()["refund"]
        assert claim["amount"] == 2.8
        assert shop.chain.json_rpc("eth_getTransactionReceipt", [claim["txHash"]]) is None
        assert shop.chain.balance_of(dev_address("agent")) == AGENT_FUNDS - 2_800_000


async def test_admin_needs_to_be_on_and_the_secret() -> None:
    async with open_shop(admin=False) as shop:
        assert (await shop.client.get("/admin/faults")).status_code == 404
    async with open_shop() as shop:
        stranger = {"Authorization": "Bearer wrong"}
        assert (await shop.client.get("/admin/faults", headers=stranger)).status_code == 401
        wrong = {"faults": [{"name": "no_such_fault"}]}
        assert (await shop.client.put("/admin/faults", json=wrong)).status_code == 422


async def test_an_extension_can_be_struck_like_a_launch() -> None:
    async with open_shop() as shop:
        job_id = await shop.launched(hours=1, totalHours=3)
        body = {"vendorJobId": job_id, "minutes": 60}
        await shop.faults(fault("error_after_settling", "extend-job", times=1))
        required = await shop.challenge(body, "/extend-job")
        header = header_for(required, "extension_number_1")
        assert (await shop.send(body, header, "/extend-job")).status_code == 500
        assert (await shop.send(body, header, "/extend-job")).status_code == 200
        assert shop.settled() == [1_400_000, 1_400_000]
        assert (await shop.status(job_id))["paidMinutes"] == 120
