"""Refunds that others lay claim to, or that come while their payments are unknown."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
from pymongo import IndexModel

from domain.journal import Note
from domain.money import Usd
from domain.payments import PaymentState
from domain.slices import SliceRule
from graph.deps import Limits
from ledger.run import Run
from tests.graph.test_closing import Nodes
from tests.support.builders import check_books
from tests.support.rewritten import Rewritten
from tests.support.stack import FreshDatabase
from tests.support.world import AGENT, SIDE_BY_SIDE, World, Wraps
from tools.vendors.base import ClaimedRefund

FAST, RELIABLE = "gpu_vendor_1", "gpu_vendor_2"
Answers = Callable[[httpx.Request, dict[str, Any]], dict[str, Any] | None]
"""(request, the vendor's answer) → another answer, or None to leave it."""


class Altered(Rewritten):
    """A vendor's answers, changed by what is asked and of whom."""

    def __init__(self, inner: httpx.AsyncBaseTransport, answers: Answers) -> None:
        super().__init__(inner, lambda *_: None)
        self._answers = answers

    def changed(self, request: httpx.Request, answer: dict[str, Any]) -> dict[str, Any] | None:
        return self._answers(request, answer)


async def test_another_vendors_claim_to_a_refund_keeps_nobody_from_it(
    database: FreshDatabase,
) -> None:
    refund: dict[str, Any] = {}
    lying = [False]

    def answers(request: httpx.Request, answer: dict[str, Any]) -> dict[str, Any] | None:
        if request.url.path != "/job-status":
            return None
        if request.headers["x-vendor-id"] == RELIABLE:
            lie = {"status": "failed", "progress": 0.3, "logs": [], "refund": refund}
            return lie if lying[0] else None
        if answer.get("refund") and not refund:  # held back: it can be seen on the chain by all
            refund.update(answer["refund"])
            return {"status": "running", "progress": 0.3, "logs": []}
        return None

    wrap = Wraps(http=lambda inner: Altered(inner, answers))
    async with World.open(database, wrap=wrap, failing=FAST, refund_on_failure=True) as world:
        run, other = await world.start(), await world.start("Fine-tune on an A100, no FastGPU")
        while not refund:
            await world.tick(run)
        await world.tick_until(other, "Job started")
        lying[0] = True
        assert await world.tick(other) == "Job failed"
        lying[0] = False
        assert await world.tick(run) == "Job failed"
        assert (await world.run(run)).spent == Usd.parse(1.4) - Usd.parse(str(refund["amount"]))
        assert (await world.run(other)).spent == (await world.payments(other))[0].amount
        await books_agree(world, run, other)


async def test_a_refund_is_not_lost_with_the_payment_that_never_settled(
    database: FreshDatabase,
) -> None:
    """A vendor gives more time, never settles what pays for it, and pays a part back."""
    given, paid_back = [False], [""]

    def cancelled(path: str, _: dict[str, Any]) -> dict[str, Any] | None:
        refund = {"amount": 0.3, "txHash": paid_back[0]}
        return {"status": "cancelled", "refund": refund} if path == "/cancel-job" else None

    class Generous(Rewritten):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path != "/extend-job" or "payment-signature" not in request.headers:
                return await super().handle_async_request(request)
            given[0] = True
            more = {"vendorJobId": json.loads(request.content)["vendorJobId"]}
            return httpx.Response(200, json=more, request=request)

    wrap = Wraps(http=lambda inner: Generous(inner, cancelled))
    limits = Limits(slices=SliceRule(60, Usd.parse(5)))
    async with World.open(database, wrap=wrap, epochs=12, limits=limits) as world:
        run = await world.start("Fine-tune on an A100 for 4 hours", 20)
        while not given[0]:
            await world.tick(run)
        payee = (await world.payments(run))[0].pay_to
        paid_back[0] = world.chain.transfer(payee, AGENT, 300_000)
        await world.ledger.runs.request_cancel(run.id, "stop", world.clock.now())
        await world.ticks(run)
        world.clock.advance(minutes=60)
        world.chain.mint(AGENT, 1)
        await world.tick(run)
        launch, extension = await world.payments(run)
        assert (launch.state, launch.refunded) == (PaymentState.REFUNDED, Usd(300_000))
        assert not extension.state.paid
        await books_agree(world, run)


async def test_a_claim_to_pay_back_what_never_settled_goes_to_what_the_same_payee_was_paid(
    database: FreshDatabase,
) -> None:
    """Neither to another payee's payment, nor to one that another refund pays back already, nor to
    one off the chain; and to one alone.
    """
    async with World.open(database, failing=FAST) as world:
        run = await world.start()
        await world.ticks(run)
        heir, other = await world.payments(run)
        payments = world.ledger.payments
        paid_back = world.chain.transfer(heir.pay_to, AGENT, 300_000)
        claimed = world.chain.transfer(heir.pay_to, AGENT, 100_000)
        stored = await payments.documents.get(heir.id)
        assert stored

        async def also(name: str, slot: int, **changes: Any) -> None:
            await payments.documents.insert({**stored, "_id": name, "slot": slot, **changes})

        await payments.documents.change(heir.id, {}, {"$set": {"slot": 8}})
        lost = {"state": "expired", "settledBlock": None, "x402TxId": None}
        await also("pay_lost", 2, **lost, refundTx=paid_back, refundClaim=300_000)
        await also("pay_refunded", 3, refundTx=claimed, refundClaim=100_000)
        await also("pay_off_chain", 4, rail="none", x402TxId="local")
        await also("pay_open", 5, **lost | {"state": "authorized"}, vendorId="gpu_vendor_9")
        await also("pay_later", 9)

        for _ in range(2):
            assert await world.process.deps.refunds.confirm(run.id, note)
            after = {p.id: p for p in await world.payments(run)}
            assert (after[heir.id].refund_tx, after[heir.id].refunded) == (paid_back, Usd(300_000))
            assert after["pay_refunded"].refund_tx == claimed
            for untouched in ("pay_lost", "pay_off_chain", "pay_open", "pay_later", other.id):
                assert after[untouched].refund_tx is None


async def test_one_refund_for_all_is_booked_when_all_that_it_is_for_is_known_to_be_paid(
    database: FreshDatabase,
) -> None:
    """A job's extension is delivered and not seen on the chain yet; then all comes back."""
    nodes, refund = Nodes(), dict[str, Any]()

    def answers(request: httpx.Request, _: dict[str, Any]) -> dict[str, Any] | None:
        if request.url.path != "/job-status" or not refund:
            return None
        nodes.are = ""  # blocks were mined while the vendor answered
        return {"status": "failed", "progress": 0.1, "logs": [], "refund": refund}

    wrap = Wraps(chain=nodes, http=lambda inner: Altered(inner, answers))
    limits = Limits(slices=SliceRule(60, Usd.parse(5)))
    async with World.open(database, wrap=wrap, epochs=24, limits=limits) as world:
        run = await world.start("Fine-tune on an A100 for 4 hours", 20)
        await world.tick_until(run, "Job started")
        nodes.are = "behind"
        while not (await world.job(run)).extensions:
            await world.tick(run)
        launch, extension = await world.payments(run)
        micros = launch.amount.micros + extension.amount.micros - 100_000
        refund["txHash"] = world.chain.transfer(launch.pay_to, AGENT, micros)
        refund["amount"] = micros / 1e6
        assert await world.tick(run) == "Job failed"
        refund.clear()
        await world.ledger.runs.request_cancel(run.id, "stop", world.clock.now())
        await world.ticks(run)
        await world.tick(run)
        assert (await world.run(run)).spent == Usd(100_000)
        await books_agree(world, run)


async def test_two_refunds_of_one_transaction_are_booked_each_for_its_payment(
    database: FreshDatabase,
) -> None:
    async with World.open(database, failing=FAST, limits=SIDE_BY_SIDE) as world:
        runs = [await world.start(), await world.start()]
        for run in runs:
            await world.tick_until(run, "Job started")
        for run in runs:
            await world.tick_until(run, "Job failed")
        jobs = [(await world.ledger.jobs.of_run(await world.run(run)))[0] for run in runs]
        payee = (await world.payments(runs[0]))[0].pay_to
        tx = world.chain.batch([(payee, AGENT, 300_000), (payee, AGENT, 500_000)])
        world.chain.transfer("0x" + "77" * 20, AGENT, 0)
        refunds = world.process.deps.refunds
        # The second event is the first run's, and its vendor says so only by the amount.
        for job, micros in zip(jobs, (500_000, 300_000), strict=True):
            await refunds.claim(job, ClaimedRefund(Usd(micros), tx.upper().replace("X", "x")), note)
        for run in (*runs, *runs):
            assert await refunds.confirm(run.id, note)
        booked = [(await world.payments(run))[0].refunded for run in runs]
        assert booked == [Usd(500_000), Usd(300_000)]
        await books_agree(world, *runs)


async def test_one_event_pays_back_one_payment_whoever_else_claims_it(
    database: FreshDatabase,
) -> None:
    async with World.open(database, failing=FAST, limits=SIDE_BY_SIDE) as world:
        runs = [await world.start(), await world.start()]
        for run in runs:
            await world.tick_until(run, "Job started")
        for run in runs:
            await world.tick_until(run, "Job failed")
        jobs = [(await world.ledger.jobs.of_run(await world.run(run)))[0] for run in runs]
        tx = world.chain.transfer((await world.payments(runs[0]))[0].pay_to, AGENT, 300_000)
        refunds = world.process.deps.refunds
        for job in jobs:
            await refunds.claim(job, ClaimedRefund(Usd(300_000), tx), note)
        for run in (*runs, *runs):
            assert await refunds.confirm(run.id, note), "nothing is left to wait for"
        booked = [(await world.payments(run))[0].refunded for run in runs]
        assert booked == [Usd(300_000), Usd(0)]
        await books_agree(world, *runs)


async def test_a_strangers_transfer_of_nothing_is_no_refund(database: FreshDatabase) -> None:
    """Anybody may emit one from a vendor's address to ours. The true refund is booked after it."""
    async with World.open(database, failing=FAST) as world:
        run = await world.start()
        await world.tick_until(run, "Job started")
        await world.tick_until(run, "Job failed")
        payee = (await world.payments(run))[0].pay_to
        nothing = world.chain.transfer(payee, AGENT, 0)
        job = (await world.ledger.jobs.of_run(await world.run(run)))[0]
        await world.process.deps.refunds.claim(job, ClaimedRefund(Usd(1), nothing), note)
        await books_agree(world, run)
        assert (await world.payments(run))[0].state is PaymentState.SETTLED
        world.chain.transfer(payee, AGENT, 300_000)
        job_claim = ClaimedRefund(Usd(300_000), world.chain.transfers[-1].tx_hash)
        await world.process.deps.refunds.claim(job, job_claim, note)
        await books_agree(world, run)
        assert (await world.payments(run))[0].refunded == Usd(300_000)


async def test_a_refund_that_an_earlier_version_was_booking_is_booked_once(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.tick_until(run, "Job started")
        await world.tick(run)
        await world.ledger.runs.request_cancel(run.id, "stop", world.clock.now())
        await world.ticks(run)
        [payment] = await world.payments(run)
        booked = (await world.run(run)).spent
        await world.ledger.runs.documents.change(
            run.id, {}, {"$set": {"refunds": [payment.refund_tx]}}
        )
        await world.ledger.payments.documents.change(
            payment.id, {}, {"$set": {"state": "settled", "refunded": 0, "refundLog": None}}
        )
        await world.tick(run)
        assert (await world.run(run)).spent == booked
        await books_agree(world, run)


async def test_earlier_versions_indexes_are_dropped(database: FreshDatabase) -> None:
    earlier = [[("refundTx", 1)], [("refundTx", 1), ("payTo", 1)], [("state", 1)]]
    async with World.open(database) as world:
        documents = world.ledger.payments.documents
        await documents.ensure_indexes([IndexModel(keys) for keys in earlier])
        for _ in range(2):
            await world.ledger.payments.ensure_indexes()
        names = await database.db["payments"].index_information()
        assert not {"refundTx_1", "refundTx_1_payTo_1", "state_1"} & names.keys()
        assert names["one_refund_an_event"]["unique"]


def note(_: Note) -> None:
    """What the journal would be told."""


async def books_agree(world: World, *runs: Run) -> None:
    for run in runs:
        check_books(await world.run(run))
    report = await world.process.deps.reconciler.reconcile()
    assert report.ok
    assert report.unclaimed == ()
