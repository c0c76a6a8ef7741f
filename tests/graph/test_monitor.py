"""monitor: one poll a tick, each line once, and an end that is noticed."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from domain.jobs import JobStatus
from graph.deps import Limits
from tests.support.rewritten import Rewritten
from tests.support.stack import FreshDatabase
from tests.support.world import World, Wraps
from tools.vendors.fields import MOST_LOG_LINES

FAST, RELIABLE = "gpu_vendor_1", "gpu_vendor_2"


async def test_each_line_of_the_log_is_told_once_and_in_order(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.ticks(run)
        lines = await world.told(run, "job_log")
        job = await world.job(run)
        assert lines == world.vendor._store.logs(job.vendor_job_id)
        assert job.lines == len(lines) == 5


async def test_a_line_is_told_once_though_the_checkpoint_is_lost_each_time(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        while await world.status(run) == "running":
            await world.tick(run)
            await world.lose_checkpoints(run)
        lines = await world.told(run, "job_log")
        assert len(lines) == len(set(lines)) == 5
        assert len(world.transfers()) == 1


async def test_what_polls_see_stands_in_the_run_until_the_job_ends(database: FreshDatabase) -> None:
    async with World.open(database, epochs=4) as world:
        run = await world.start()
        await world.tick(run)
        stored, progress = [], []
        for _ in range(3):
            assert await world.tick(run) == "Job still running"
            job = await world.job(run)
            stored.append(await world.ledger.jobs.documents.get(job.id))
            progress.append(job.progress)
            assert await world.ledger.jobs.find(job.id) == job
            assert await world.ledger.jobs.current(await world.run(run)) == job
            assert job.updated_at == world.clock.now()
            world.clock.advance(1)
        assert progress == [0.25, 0.5, 0.75]
        assert stored[0] == stored[1] == stored[2], "a job that only goes on is not written"
        assert await world.tick(run) == "Job completed"
        ended = await world.ledger.jobs.documents.get(job.id)
        assert ended is not None
        assert (ended["progress"], ended["logLines"], ended["pollFailures"]) == (1.0, 6, 0)


async def test_what_was_written_into_the_jobs_document_since_is_newer(
    database: FreshDatabase,
) -> None:
    """By a tick that died before it gave its lease back, or by an older version."""
    async with World.open(database, epochs=8) as world:
        run = await world.start()
        await world.tick(run)
        world.vendor_fault(FAST, "job-status", "error_before_settling", times=2)
        await world.tick(run)
        await world.tick(run)
        job = await world.job(run)
        assert job.poll_failures == 2
        written = {"poll_failures": 0, "progress": 0.5, "seen_in": job.seen_in + 1}
        await world.ledger.jobs.update(job, **written)
        seen = await world.job(run)
        assert (seen.poll_failures, seen.progress, seen.lines) == (0, 0.5, job.lines)


async def test_a_job_is_given_up_with_what_was_last_seen_of_it(database: FreshDatabase) -> None:
    async with World.open(database, epochs=8) as world:
        run = await world.start()
        for _ in range(3):
            await world.tick(run)
        seen = await world.job(run)
        assert seen.progress > 0
        world.vendor_fault(FAST, "job-status", "error_before_settling")
        await world.tick_until(run, "Job failed", minutes=2.5)
        lost = await world.ledger.jobs.documents.get(seen.id)
        assert lost is not None
        assert JobStatus(lost["status"]) is JobStatus.FAILED
        assert (lost["progress"], lost["logLines"]) == (seen.progress, seen.lines)
        assert lost["pollFailures"] == 3


async def test_a_completed_job_leaves_its_metrics_and_its_artifact(
    database: FreshDatabase, tmp_path: Path
) -> None:
    async with World.open(database, artifacts=tmp_path) as world:
        run = await world.start()
        messages = await world.ticks(run)
        assert messages == ["Job started", *["Job still running"] * 2, "Job completed"]
        job = await world.job(run)
        assert job.metrics["finalLoss"] < job.metrics["firstLoss"]
        assert job.artifact_path is not None
        content = await asyncio.to_thread(Path(job.artifact_path).read_bytes)
        assert sha256(content).hexdigest() == job.artifact_sha256 == job.metrics["artifactSha256"]
        assert Path(job.artifact_path).is_relative_to(tmp_path / run.id)
        assert await world.status(run) == "completed"


async def test_a_completed_job_without_its_artifact_is_completed_all_the_same(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "artifacts", "error_before_settling")
        run = await world.start()
        await world.ticks(run)
        assert await world.status(run) == "completed"
        assert len(await world.told(run, "artifact_failed")) == 1


async def test_an_artifact_that_could_not_be_had_is_fetched_later(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "artifacts", "error_before_settling")
        run = await world.start()
        assert (await world.ticks(run))[-1] == "Job completed"
        await world.tick(run)
        assert (await world.run(run)).due_at is not None
        assert (await world.job(run)).artifact_path is None
        world.clear_faults()
        await world.tick(run)
        job = await world.job(run)
        assert job.artifact_path is not None
        assert (await world.run(run)).due_at is None


async def test_an_artifact_is_asked_for_a_day_and_one_that_is_false_not_again(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "artifacts", "error_before_settling")
        run, other = await world.start(), await world.start()
        for each in (run, other):
            await world.ticks(each)
        world.clock.advance(minutes=24 * 60)
        await world.tick(run)
        assert (await world.run(run)).due_at is None
        world.clear_faults()
        forged = (await world.job(other)).artifact_url
        await world.ledger.jobs.documents.change(
            (await world.job(other)).id, {}, {"$set": {"artifactUrl": f"{forged}.elsewhere"}}
        )
        await world.tick(other)
        assert (await world.run(other)).due_at is None


async def test_an_ended_run_is_left_as_it_is(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.ticks(run)
        entries = len(await world.journal(run))
        assert await world.tick(run) == "Run already completed"
        assert len(await world.journal(run)) == entries


async def test_a_job_that_dies_is_noticed_with_its_last_words(database: FreshDatabase) -> None:
    async with World.open(database, failing=FAST) as world:
        run = await world.start()
        await world.tick_until(run, "Job failed")
        job = await world.job(run)
        assert job.status is JobStatus.FAILED
        assert "GPU node lost" in (job.error_message or "")


async def test_a_vendor_that_stops_answering_is_given_up_after_some_polls(
    database: FreshDatabase,
) -> None:
    limits = Limits(poll_failure_limit=3, silent_minutes=5)
    async with World.open(database, limits=limits) as world:
        run = await world.start()
        await world.tick(run)
        world.vendor_fault(FAST, "job-status", "hang")
        messages = []
        for minutes in (0, 5, 0):
            world.clock.advance(minutes=minutes)
            messages.append(await world.tick(run))
        assert messages == ["Job still running", "Job still running", "Job failed"]
        assert len(await world.told(run, "poll_failed")) == 3
        assert await world.tick(run) == "Job started"
        assert (await world.job(run)).vendor_id == RELIABLE


async def test_a_vendor_that_was_away_for_a_few_minutes_keeps_its_job(
    database: FreshDatabase,
) -> None:
    async with World.open(database, epochs=8) as world:
        run = await world.start()
        await world.tick(run)
        world.clock.advance(minutes=60)  # nobody ticked: that is not the vendor's silence
        world.vendor_fault(FAST, "job-status", "hang")
        for _ in range(9):
            assert await world.tick(run) == "Job still running"
            world.clock.advance(30)
        world.clear_faults()
        assert (await world.ticks(run))[-1] == "Job completed"
        assert len(world.transfers()) == 1


async def test_a_job_that_writes_a_long_log_is_followed(database: FreshDatabase) -> None:
    lines = [f"epoch {n:06d} " + "x" * 150 for n in range(9_000)]

    def talkative(path: str, answer: dict[str, Any]) -> dict[str, Any] | None:
        return {**answer, "logs": lines} if path == "/job-status" else None

    wrap = Wraps(http=lambda inner: Rewritten(inner, talkative))
    async with World.open(database, wrap=wrap, epochs=3) as world:
        run = await world.start()
        assert (await world.ticks(run))[-1] == "Job completed"
        assert await world.told(run, "poll_failed") == []
        assert len(await world.told(run, "job_log")) == MOST_LOG_LINES


async def test_a_clock_that_was_set_back_hides_nothing_that_was_seen(
    database: FreshDatabase,
) -> None:
    async with World.open(database, epochs=8) as world:
        run = await world.start()
        await world.tick(run)
        world.clock.advance(minutes=-30)
        await world.tick(run)
        assert (await world.job(run)).progress == 0.125


async def test_a_vendors_silence_is_measured_though_the_clock_was_set_back(
    database: FreshDatabase,
) -> None:
    async with World.open(database, epochs=8) as world:
        run = await world.start()
        await world.tick(run)
        world.vendor_fault(FAST, "job-status", "hang")
        await world.tick(run)
        world.clock.advance(minutes=-2 * 24 * 60)
        await world.tick_until(run, "Job failed", minutes=2.5)


async def test_one_failed_poll_is_forgotten_when_the_next_succeeds(database: FreshDatabase) -> None:
    async with World.open(database, epochs=8) as world:
        run = await world.start()
        await world.tick(run)
        for _ in range(3):
            world.vendor_fault(FAST, "job-status", "error_before_settling", times=1)
            assert await world.tick(run) == "Job still running"
            assert (await world.job(run)).poll_failures == 1
            assert await world.tick(run) == "Job still running"
            assert (await world.job(run)).poll_failures == 0


@pytest.mark.parametrize("fault", ["never_boot", "ghost_job"])
async def test_a_job_without_progress_is_stopped_and_moved(
    database: FreshDatabase, fault: str
) -> None:
    async with World.open(database, limits=Limits(stall_minutes=30)) as world:
        world.vendor_fault(FAST, "submit-job", fault)
        run = await world.start()
        await world.tick(run)
        world.clock.advance(minutes=30)
        assert await world.tick(run) == "Job still running"
        world.clock.advance(1)
        assert await world.tick(run) == "Job failed"
        first = await world.job(run)
        stopped = world.vendor._store.job(first.vendor_job_id)
        assert stopped is not None
        assert stopped.status == "cancelled"
        assert await world.tick(run) == "Job started"
        assert (await world.job(run)).vendor_id == RELIABLE


async def test_a_job_that_its_vendor_does_not_know_any_more_is_moved(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        world.vendor_fault(FAST, "submit-job", "ghost_job_404")
        run = await world.start()
        await world.tick_until(run, "Job failed", minutes=2.5)
        await world.ticks(run)
        [lost, _] = await world.ledger.jobs.of_run(await world.run(run))
        assert lost.unstopped is not None
        for _ in range(2):
            await world.tick(run)
            world.clock.advance(minutes=5)
        [lost, _] = await world.ledger.jobs.of_run(await world.run(run))
        assert lost.unstopped is None, "its vendor does not know it: nothing runs there"
        assert [vendor for vendor, _ in await world.jobs(run)] == [FAST, RELIABLE]
        assert await world.status(run) == "completed"
