"""intake: the goal becomes a job spec, once."""

from __future__ import annotations

from datetime import datetime

import pytest

from domain.goals.findings import Findings, find
from domain.jobs import JobSpec, Preference
from tests.support.stack import FreshDatabase
from tests.support.world import World


async def test_the_goal_is_understood_and_what_was_guessed_is_said(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start("Fine-tune cheaply on an A100 for 30 minutes")
        await world.tick(run)
        spec = (await world.run(run)).spec
        assert spec == JobSpec("fine-tune", "A100", 30, preference=Preference.CHEAPEST)
        [told] = await world.told(run, "job_spec")
        assert told == "Understood: fine-tune on 1 × A100 for 0.5 h, within $5.00, cheapest first"


async def test_a_spec_once_made_is_kept(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.tick(run)
        before = (await world.run(run)).spec
        await world.lose_checkpoints(run)
        await world.tick(run)
        assert (await world.run(run)).spec == before
        assert len(await world.told(run, "job_spec")) == 1


@pytest.mark.parametrize("goal", ["Train on an H100", "Render on a T4 for 2 hours"])
async def test_a_gpu_that_no_vendor_has_ends_the_run_unpaid(
    database: FreshDatabase, goal: str
) -> None:
    async with World.open(database) as world:
        run = await world.start(goal)
        message = await world.tick(run)
        assert message.startswith("Run failed: no registered vendor has ")
        assert await world.status(run) == "failed"
        assert world.transfers() == []


@pytest.mark.parametrize(
    "goal",
    [
        "hello",
        "how much is an A100?",
        "what can you do for $5?",
        "how much is training on an A100?",
    ],
)
async def test_what_is_no_goal_ends_the_run_unpaid(database: FreshDatabase, goal: str) -> None:
    async with World.open(database) as world:
        run = await world.start(goal)
        message = await world.tick(run)
        assert message.startswith("Run failed: the goal ")
        assert "For example: Fine-tune a 7B model on an A100 for 2 hours" in message
        assert await world.payments(run) == []


async def test_a_goal_is_read_once_from_its_start_to_the_jobs_end(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    goal, read = "Fine-tune on an A100 for 30 minutes", []

    def watched(text: str, now: datetime | None) -> Findings:
        read.append(text)
        return find(text, now)

    monkeypatch.setattr("domain.utterance.find", watched)
    async with World.open(database) as world:
        run = await world.start(goal)
        await world.tick_until(run, "Job completed")
    assert read == [goal]
