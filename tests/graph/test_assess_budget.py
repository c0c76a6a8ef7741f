"""assess_budget: what an interrupted tick began comes first; then, can the rest reach the goal?"""

from __future__ import annotations

from typing import Any

import pytest

from domain.money import Usd
from domain.payments import PaymentState
from graph.deps import Limits
from graph.planner.planners import RankingPlanner
from graph.steps.work import spec_of
from tests.support.builders import a_payment, check_books
from tests.support.stack import FreshDatabase
from tests.support.world import AGENT, World


async def test_a_budget_that_no_vendor_can_meet_ends_the_run_unpaid(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start(dollars="0.5")
        assert "$0.50" in await world.tick(run)
        assert await world.status(run) == "failed"
        assert world.transfers() == []


async def test_a_budget_just_below_the_quotes_ends_the_run_unpaid(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start(dollars="1.39")
        await world.tick(run)
        assert await world.status(run) == "failed"
        assert world.transfers() == []


async def test_a_raise_while_the_agent_gives_up_for_its_budget_is_counted(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World.open(database) as world:
        run = await world.start(dollars="1.39")
        decide = RankingPlanner.next

        async def next_(planner: RankingPlanner, *args: Any) -> Any:
            more, now = Usd.parse("2"), world.clock.now()
            await world.ledger.budget.raise_total(run.id, "message_1", more, now)
            return await decide(planner, *args)

        monkeypatch.setattr(RankingPlanner, "next", next_)
        assert "raised" in await world.tick(run)
        assert await world.tick(run) == "Job started"
        assert len(world.transfers()) == 1


async def test_a_purchase_is_finished_from_the_ledger_when_the_checkpoint_is_lost(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        world.vendor_fault("gpu_vendor_1", "submit-job", "drop_response_after_settling", times=1)
        assert (await world.tick(run)).startswith("Job not started yet")
        await world.lose_checkpoints(run)
        assert await world.tick(run) == "Job started"
        assert len(world.transfers()) == len(await world.payments(run)) == 1


async def test_an_unsettled_purchase_is_sent_again_when_the_checkpoint_is_lost(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        world.vendor_fault("gpu_vendor_1", "submit-job", "hang", times=1, when="payment")
        await world.tick(run)
        assert world.transfers() == []
        await world.lose_checkpoints(run)
        assert await world.tick(run) == "Job started"
        assert len(world.transfers()) == len(await world.payments(run)) == 1


async def test_a_running_job_is_followed_on_when_the_checkpoint_is_lost(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.tick(run)
        await world.lose_checkpoints(run)
        await world.ticks(run)
        assert await world.status(run) == "completed"
        assert len(world.transfers()) == 1


@pytest.mark.parametrize("with_payment", [True, False])
async def test_a_reservation_that_nothing_was_signed_for_is_released(
    database: FreshDatabase, with_payment: bool
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        leased, lease = await world.ledger.runs.acquire(run.id, world.clock.now, 60)
        await world.ledger.budget.reserve(lease, leased, 0, Usd.parse("4.9"))
        if with_payment:
            await world.ledger.payments.open(a_payment(run.id, 0, amount=Usd.parse("4.9")))
        await world.ledger.runs.release(lease, world.clock.now())

        await world.ticks(run)

        after = await world.run(run)
        check_books(after)
        assert after.reservations == ()
        assert after.spent == Usd(sum(transfer.value for transfer in world.transfers()))
        assert len(world.transfers()) == 1
        released = [p for p in await world.payments(run) if p.state is PaymentState.RELEASED]
        assert len(released) == int(with_payment)


async def test_a_run_is_given_up_after_the_most_attempts(database: FreshDatabase) -> None:
    async with World.open(database, limits=Limits(max_attempts=2)) as world:
        world.vendor_fault("*", "submit-job", "refuse", when="challenge")
        run = await world.start()
        messages = await world.ticks(run)
        assert messages[-1] == "Run failed: 2 attempts came to nothing"
        assert world.transfers() == []
        assert (await world.run(run)).budget_remaining == run.budget_total


async def test_what_is_left_is_said_before_choosing(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.tick(run)
        told = await world.told(run, "agent_reasoning")
        assert told[0].startswith("Budget remaining: $5.00 of $5.00")
        assert spec_of(await world.run(run)).minutes == 60


async def test_an_empty_wallet_is_no_attempt_that_failed(database: FreshDatabase) -> None:
    async with World.open(database, limits=Limits(max_attempts=2)) as world:
        world.chain.transfer(AGENT, "0x" + "11" * 20, world.chain.balance_of(AGENT))
        run = await world.start()
        for _ in range(4):
            assert (await world.tick(run)).startswith("Waiting for funds")
