"""Old runs go with all that is theirs; what the wallet paid stays explained, whatever crashes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from domain.errors import Conflict
from domain.journal import Note
from domain.money import Usd
from domain.payments import PaymentState
from domain.slices import SliceRule
from graph.deps import Limits
from graph.persistence.transcripts import Transcripts, session_of
from ledger.deliveries import Deliveries
from ledger.ledger import Ledger
from ledger.run import Run
from server.reports.retention import Retention
from tests.chaos.effects import Crash, Life, Moment, When
from tests.chaos.record import Record
from tests.support.stack import FreshDatabase
from tests.support.world import AGENT, World
from tools.vendors.base import ClaimedRefund

KEPT = {"pruned", "vendors", "fleet", "allowances", "compared", "tallies"}


def retention(world: World, ledger: Ledger | None = None) -> Retention:
    return Retention(ledger or world.ledger, world.artifacts, world.clock.now)


async def an_old_run(world: World) -> Run:
    """A run with a refunded payment, whose books are closed and which ended 100 days ago."""
    run = await world.start()
    await world.ticks(run)
    failed, _ = await world.payments(run)
    world.chain.transfer(failed.pay_to, AGENT, 300_000)
    await world.process.deps.reconciler.reconcile()
    await world.tick(run)
    transcripts = Transcripts.beside(world.process.services.checkpoints.saver)
    await transcripts.add(session_of("", run.id), [HumanMessage("How is it going?")])
    deliveries = Deliveries(world.ledger.store, "receiver")
    await deliveries.documents.insert(deliveries._cursor(run.id, 3, world.clock.now()))
    (world.artifacts / run.id).mkdir(parents=True, exist_ok=True)
    (world.artifacts / run.id / "model.bin").write_bytes(b"weights")
    world.clock.advance(minutes=100 * 24 * 60)
    return await world.run(run)


def cutoff(world: World) -> datetime:
    return world.clock.now() - timedelta(days=90)


async def documents_of(database: FreshDatabase) -> dict[str, list[dict[str, Any]]]:
    names = await database.db.list_collection_names()
    found = {name: await database.db[name].find().to_list() for name in names}
    return {name: documents for name, documents in found.items() if documents}


async def test_of_an_old_run_stays_what_explains_its_money_and_the_end_of_its_journal(
    database: FreshDatabase,
) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        run = await an_old_run(world)
        before = await world.process.deps.reconciler.reconcile()
        journal = await world.journal(run)

        outcome = await retention(world).prune(cutoff(world))

        assert (outcome.removed, outcome.kept) == ([run.id], {})
        assert set(await documents_of(database)) <= KEPT
        assert not (world.artifacts / run.id).exists()
        after = await world.process.deps.reconciler.reconcile()
        assert before.ok
        assert after.ok
        assert after.ledger_total == before.ledger_total == Usd(2_900_000)
        assert after.unclaimed == ()
        kept = await world.ledger.pruned.find(run.id)
        assert kept is not None
        assert (kept.journal.seq, kept.journal.hash) == (journal[-1].seq, journal[-1].hash)
        assert (kept.spent, kept.status) == (run.spent, run.status)
        assert [p.refunded for p in kept.payments] == [Usd(300_000), Usd(0)]
        assert "order" not in str([p.order for p in kept.payments])
        assert not (await retention(world).prune(cutoff(world))).removed


async def test_the_id_of_a_removed_run_is_never_used_again(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await an_old_run_without_trouble(world)
        await retention(world).prune(cutoff(world))
        with pytest.raises(Conflict, match="was removed on 2026-04-11"):
            await world.ledger.runs.create(run.id, "u", "again", Usd.parse(5), world.clock.now())
        assert await world.ledger.runs.find(run.id) is None


async def an_old_run_without_trouble(world: World) -> Run:
    run = await world.start()
    await world.ticks(run)
    await world.tick(run)
    world.clock.advance(minutes=100 * 24 * 60)
    return await world.run(run)


OWED = [
    ("runs", {"dueAt": datetime(2026, 1, 2)}, "its books are not closed"),
    ("runs", {"journal.seq": 99}, "its journal is not whole"),
    ("payments", {"state": "authorized"}, "is not decided"),
    ("payments", {"refundTx": "0xclaimed"}, "has not come"),
    ("jobs", {"status": "running"}, "may still run"),
    ("jobs", {"unstopped": datetime(2026, 1, 2)}, "may still run"),
    ("observations", {"content": "forged"}, "its journal is not whole"),
    ("observations", {"type": None}, "its journal is not whole"),
]
"""What is changed in an old run that is over, and why it stays then."""


async def test_a_run_that_is_owed_anything_or_is_not_whole_stays(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await an_old_run_without_trouble(world)
        whole = await documents_of(database)
        for collection, change, why in OWED:
            await _restore(database, whole)
            await database.db[collection].update_one({}, {"$set": change})
            before = await documents_of(database)
            outcome = await retention(world).prune(cutoff(world))
            assert outcome.removed == [], why
            assert why in outcome.kept[run.id]
            assert await documents_of(database) == before, why


async def test_a_young_run_and_one_that_is_worked_on_stay(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        old = await an_old_run_without_trouble(world)
        young = await world.start()
        await world.ticks(young)
        await world.ledger.runs.acquire(old.id, world.clock.now, 60)
        outcome = await retention(world).prune(cutoff(world))
        assert (outcome.removed, list(outcome.kept)) == ([], [old.id])
        assert await world.ledger.runs.find(young.id) is not None


async def test_a_dry_run_changes_nothing(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await an_old_run_without_trouble(world)
        before = await documents_of(database)
        assert (await retention(world).prune(cutoff(world), dry_run=True)).removed == [run.id]
        assert await documents_of(database) == before


async def test_after_a_crash_at_any_moment_the_books_agree_and_the_rest_goes(
    database: FreshDatabase,
) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        run = await an_old_run(world)
        whole = await documents_of(database)
        moments = await _moments(world)
        assert len(moments) > 10
        for moment in moments:
            await _restore(database, whole)
            with pytest.raises(Crash):
                await retention(world, _dying(world, moment)[0]).prune(cutoff(world))
            report = await world.process.deps.reconciler.reconcile()
            assert report.ok, moment
            assert report.ledger_total == Usd(2_900_000), moment
            world.clock.advance(minutes=2)  # the dead process's lease runs out
            await retention(world).prune(cutoff(world))
            assert set(await documents_of(database)) <= KEPT, moment
            kept = await world.ledger.pruned.find(run.id)
            assert kept is not None
            states = [p.state for p in kept.payments]
            assert states == [PaymentState.REFUNDED, PaymentState.SETTLED], moment


async def test_the_refund_of_a_removed_run_pays_back_no_other(database: FreshDatabase) -> None:
    limits = Limits(slices=SliceRule(60, Usd.parse(5)))
    async with World.open(database, failing="gpu_vendor_1", limits=limits) as world:
        run, other = await world.start(), await world.start()
        for one in (run, other):
            await world.tick_until(one, "Job started")
        await world.ticks(run)
        job = (await world.ledger.jobs.of_run(await world.run(run)))[0]
        tx = world.chain.transfer((await world.payments(run))[0].pay_to, AGENT, 300_000)
        refunds, notes = world.process.deps.refunds, list[Note]()
        await refunds.claim(job, ClaimedRefund(Usd(300_000), tx), notes.append)
        await refunds.confirm(run.id, notes.append)
        await world.tick(run)
        world.clock.advance(minutes=1)
        outcome = await retention(world).prune(world.clock.now())
        assert outcome.removed == [run.id], outcome.kept

        await world.ticks(other)
        late = (await world.ledger.jobs.of_run(await world.run(other)))[0]
        await refunds.claim(late, ClaimedRefund(Usd(300_000), tx), notes.append)
        assert await refunds.confirm(other.id, notes.append)

        assert [p.refunded for p in await world.payments(other)] == [Usd(0), Usd(0)]
        report = await world.process.deps.reconciler.reconcile()
        assert (report.ok, report.unclaimed) == (True, ())


async def test_two_that_remove_the_same_run_keep_it_once(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await an_old_run_without_trouble(world)
        outcomes = [await retention(world).prune(cutoff(world)) for _ in range(2)]
        assert [outcome.removed for outcome in outcomes] == [[run.id], []]
        assert len((await documents_of(database))["pruned"]) == 1


def _dying(world: World, at: Moment | None = None) -> tuple[Ledger, Life]:
    """The ledger of a process that dies at a moment, or lives."""

    async def hook(moment: Moment) -> None:
        if moment == at:
            raise Crash(moment)

    life = Life(1, Record(), [hook])
    return Ledger.over(life.wraps().store(world.ledger.store)), life


async def _moments(world: World) -> list[Moment]:
    """Before each write of a whole removal, so after the one before it; and after the last."""
    ledger, life = _dying(world)
    await retention(world, ledger).prune(cutoff(world))
    return [*(moment for moment in life.moments if moment.when is When.BEFORE), life.moments[-1]]


async def _restore(database: FreshDatabase, whole: dict[str, list[dict[str, Any]]]) -> None:
    for name in await database.db.list_collection_names():
        await database.db[name].delete_many({})
        if whole.get(name):
            await database.db[name].insert_many(whole[name])
