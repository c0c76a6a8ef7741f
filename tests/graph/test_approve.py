"""A payment above the threshold waits for a person; the answer binds these terms, once."""

from __future__ import annotations

import pytest
from langgraph.types import Command

from domain.approvals import Approval, ApprovalState
from domain.errors import Conflict, NotFound
from domain.money import Usd
from domain.networks import LOCAL
from domain.policy import SpendingPolicy
from ledger.run import Run
from server.ticks import WAITING
from tests.support.stack import FreshDatabase
from tests.support.world import World

CAREFUL = SpendingPolicy(LOCAL, Usd.parse(100), approval_threshold=Usd.parse(1))


async def question(world: World, run: Run) -> Approval:
    return (await world.ledger.approvals.of_run(run.id))[-1]


async def answer(world: World, run: Run, approval: Approval, yes: bool) -> Approval:
    return await world.ledger.approvals.decide(run.id, approval.id, yes, world.clock.now())


async def test_a_payment_above_the_threshold_waits_and_moves_nothing(
    database: FreshDatabase,
) -> None:
    async with World.open(database, policy=CAREFUL) as world:
        run = await world.start()
        assert [await world.tick(run) for _ in range(3)] == [WAITING] * 3
        asked = await question(world, run)
        assert (asked.vendor_id, asked.amount) == ("gpu_vendor_1", Usd.parse(1.4))
        assert world.transfers() == []
        assert (await world.run(run)).budget_remaining == Usd.parse(5)
        assert len(await world.journal(run, "approval_asked")) == 1


async def test_a_payment_at_the_threshold_does_not_wait(database: FreshDatabase) -> None:
    policy = SpendingPolicy(LOCAL, Usd.parse(100), approval_threshold=Usd.parse(1.4))
    async with World.open(database, policy=policy) as world:
        assert await world.tick(await world.start()) == "Job started"


async def test_an_approved_payment_is_made_once(database: FreshDatabase) -> None:
    async with World.open(database, policy=CAREFUL) as world:
        run = await world.start()
        await world.tick(run)
        asked = await question(world, run)
        await answer(world, run, asked, yes=True)
        assert (await world.ticks(run))[0] == "Job started"
        assert [t.value for t in world.transfers()] == [1_400_000]
        assert (await question(world, run)).state is ApprovalState.USED


async def test_the_pause_survives_a_restart_of_the_agent(database: FreshDatabase) -> None:
    async with World.open(database, policy=CAREFUL) as world:
        run = await world.start()
        await world.tick(run)
        async with world.another_process() as restarted:
            assert (await restarted.tick(run)).message == WAITING
            await answer(world, run, await question(world, run), yes=True)
        async with world.another_process() as restarted:
            assert (await restarted.tick(run)).message == "Job started"
        assert len(world.transfers()) == 1


async def test_a_rejected_payment_ends_the_run_unpaid(database: FreshDatabase) -> None:
    async with World.open(database, policy=CAREFUL) as world:
        run = await world.start()
        await world.tick(run)
        await answer(world, run, await question(world, run), yes=False)
        assert await world.ticks(run) == ["Run cancelled"]
        assert world.transfers() == []
        assert (await world.run(run)).budget_remaining == Usd.parse(5)


async def test_approving_twice_pays_once(database: FreshDatabase) -> None:
    async with World.open(database, policy=CAREFUL) as world:
        run = await world.start()
        await world.tick(run)
        asked = await question(world, run)
        await answer(world, run, asked, yes=True)
        await answer(world, run, asked, yes=True)
        await world.ticks(run)
        with pytest.raises(Conflict, match="used"):
            await answer(world, run, asked, yes=True)
        assert len(world.transfers()) == 1


async def test_an_answer_cannot_be_turned_round(database: FreshDatabase) -> None:
    async with World.open(database, policy=CAREFUL) as world:
        run = await world.start()
        await world.tick(run)
        asked = await question(world, run)
        await answer(world, run, asked, yes=False)
        with pytest.raises(Conflict, match="rejected"):
            await answer(world, run, asked, yes=True)


async def test_another_runs_approval_is_not_found(database: FreshDatabase) -> None:
    async with World.open(database, policy=CAREFUL) as world:
        mine, other = await world.start(), await world.start()
        await world.tick(mine)
        await world.tick(other)
        with pytest.raises(NotFound):
            await answer(world, mine, await question(world, other), yes=True)
        assert await world.tick(other) == WAITING


async def test_an_expired_approval_approves_nothing(database: FreshDatabase) -> None:
    async with World.open(database, policy=CAREFUL) as world:
        run = await world.start()
        await world.tick(run)
        asked = await question(world, run)
        world.clock.advance(minutes=61)
        with pytest.raises(Conflict, match="expired"):
            await answer(world, run, asked, yes=True)
        assert (await world.tick(run)).startswith("Approval expired")
        assert await world.tick(run) == WAITING
        assert (await question(world, run)).id != asked.id
        assert world.transfers() == []


async def test_a_yes_that_comes_before_the_quote_ends_is_useless_after_it(
    database: FreshDatabase,
) -> None:
    async with World.open(database, policy=CAREFUL) as world:
        run = await world.start()
        await world.tick(run)
        await answer(world, run, await question(world, run), yes=True)
        world.clock.advance(minutes=61)
        assert (await world.tick(run)).startswith("Approval expired")
        assert world.transfers() == []


async def test_a_changed_price_needs_a_new_approval(database: FreshDatabase) -> None:
    async with World.open(database, policy=CAREFUL) as world:
        run = await world.start()
        await world.tick(run)
        asked = await question(world, run)
        await answer(world, run, asked, yes=True)
        world.vendor_fault("gpu_vendor_1", "submit-job", "price_above_quote", when="challenge")
        assert (await world.tick(run)).startswith("Vendor failed")
        assert await world.tick(run) == WAITING
        new = await question(world, run)
        assert (new.id != asked.id, new.vendor_id) == (True, "gpu_vendor_2")
        assert world.transfers() == []


async def test_studio_may_answer_the_interrupt_itself(database: FreshDatabase) -> None:
    async with World.open(database, policy=CAREFUL) as world:
        run = await world.start()
        await world.tick(run)
        snapshot = await world.process.services.graph.aget_state(
            {"configurable": {"thread_id": run.id}}
        )
        pending = snapshot.interrupts[0]
        assert pending.value["amount"] == 1.4
        yes = {"approvalId": pending.value["approvalId"], "approve": True}
        resumed = await world.process.resume(run, Command(resume={pending.id: yes}))
        assert resumed["message"] == "Job started"
        assert len(world.transfers()) == 1


async def test_an_answer_to_the_interrupt_for_other_terms_is_no_answer(
    database: FreshDatabase,
) -> None:
    async with World.open(database, policy=CAREFUL) as world:
        run = await world.start()
        await world.tick(run)
        snapshot = await world.process.services.graph.aget_state(
            {"configurable": {"thread_id": run.id}}
        )
        stale = {"approvalId": "apr_" + "0" * 32, "approve": True}
        await world.process.resume(run, Command(resume={snapshot.interrupts[0].id: stale}))
        assert world.transfers() == []
        assert (await question(world, run)).state is ApprovalState.PENDING


async def test_more_time_above_the_threshold_waits_while_the_job_is_followed(
    database: FreshDatabase,
) -> None:
    policy = SpendingPolicy(LOCAL, Usd.parse(100), approval_threshold=Usd.parse(1.5))
    async with World.open(database, policy=policy) as world:
        run = await world.start("train on an A100 for 3 hours", 10)
        await world.tick_until(run, "Job started")
        for _ in range(5):
            assert await world.tick(run) == "Job still running"
        asked = await question(world, run)
        assert asked.amount > Usd.parse(1.5)
        assert len(world.transfers()) == 1
        await answer(world, run, asked, yes=True)
        for _ in range(3):
            await world.tick(run)
        assert len(world.transfers()) == 2
