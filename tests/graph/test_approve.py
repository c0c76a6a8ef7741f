"""A job above the threshold waits for a person; a yes binds its terms, up to its amount."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from domain.approvals import Approval, ApprovalState
from domain.errors import ApprovalRequired, Conflict, NotFound
from domain.ids import approval_id
from domain.money import ZERO, Usd
from domain.networks import LOCAL
from domain.policy import SpendingPolicy
from graph.context import TickContext
from graph.nodes.approve import ApprovalAnswer, read_answer
from graph.steps.purchases import purchase_of
from ledger.run import Run
from server.reports.audits import unapproved
from server.runner.tick import WAITING
from tests.support.builders import status_view
from tests.support.stack import FreshDatabase
from tests.support.world import Process, World

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


def _asks(approval: str = "apr_1") -> dict[str, object]:
    return {"approvalId": approval, "vendorId": "v", "payTo": "0x1", "amount": 1.4, "price": 1.4}


@pytest.mark.parametrize(
    ("given", "yes"),
    [
        (True, True),
        ("approve", True),
        ([{"type": "accept", "args": None}], True),
        ({"type": "response", "args": "approve"}, True),
        ({"approve": True}, True),
        ({"approvalId": "apr_1", "approve": True, "amount": 1.4}, True),
        (False, False),
        ("reject", False),
        ([{"type": "ignore", "args": None}], False),
        ({"approvalId": "apr_1"}, False),
    ],
)
def test_every_sensible_answer_to_the_question_counts(given: object, yes: bool) -> None:
    assert read_answer(given, _asks(), asked_before="apr_1") == ApprovalAnswer(yes)


@pytest.mark.parametrize(
    ("given", "asked_before", "problem"),
    [
        (True, "apr_0", "none of the several"),
        ([{"type": "accept"}], "", "none of the several"),
        ({"approvalId": "apr_0", "approve": True}, "apr_1", "apr_0"),
        ({"approvalId": "apr_1", "approve": True, "price": 9}, "apr_1", "another price"),
        ("perhaps", "apr_1", "neither"),
        ("yes", "apr_1", "neither"),
        (1, "apr_1", "neither"),
        ([], "apr_1", "neither"),
        ([{"type": "edit", "args": {"amount": 1}}], "apr_1", "neither"),
    ],
)
def test_an_answer_that_is_none_or_to_another_question_is_said_to_be_so(
    given: object, asked_before: str, problem: str
) -> None:
    answer = read_answer(given, _asks(), asked_before=asked_before)
    assert answer.yes is None
    assert problem in answer.problem


async def test_an_answer_that_is_not_taken_is_told_and_asked_again(database: FreshDatabase) -> None:
    async with World.open(database, policy=CAREFUL) as world:
        run = await world.start()
        await world.tick(run)
        assert "__interrupt__" in await world.process.resume(run, Command(resume="perhaps"))
        [told] = await world.told(run, "approval_not_taken")
        assert "neither approve nor reject" in told
        assert world.transfers() == []
        assert (await world.process.resume(run, Command(resume=True)))["message"] == "Job started"
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


async def test_the_threshold_counts_the_whole_job_and_one_yes_covers_its_slices(
    database: FreshDatabase,
) -> None:
    policy = SpendingPolicy(LOCAL, Usd.parse(100), approval_threshold=Usd.parse(4))
    async with World.open(database, policy=policy, epochs=8) as world:
        run = await world.start("train on an A100 for 3 hours", 10)
        assert await world.tick(run) == WAITING
        asked = await question(world, run)
        assert (asked.price, asked.minutes, asked.paid) == (Usd.parse(1.4), 60, ZERO)
        assert Usd.parse(4.2) <= asked.amount <= Usd.parse(4.3)
        assert asked.asks_for("FastGPU") == (
            f"60 minutes of A100 at FastGPU for $1.40 now; the whole job up to {asked.amount}"
        )
        await answer(world, run, asked, yes=True)
        await world.ticks(run)
        paid = sum(t.value for t in world.transfers())
        assert len(world.transfers()) > 2
        [used] = await world.ledger.approvals.of_run(run.id)
        assert used.state is ApprovalState.USED
        assert sum(a.micros for a in used.covered.values()) == paid <= used.amount.micros
        assert unapproved(await world.journal(run)) == (None, "")


async def test_a_whole_job_at_the_threshold_does_not_wait(database: FreshDatabase) -> None:
    policy = SpendingPolicy(LOCAL, Usd.parse(100), approval_threshold=Usd.parse(4.3))
    async with World.open(database, policy=policy, epochs=8) as world:
        run = await world.start("train on an A100 for 3 hours", 10)
        assert WAITING not in await world.ticks(run)


@asynccontextmanager
async def with_a_job_and_a_threshold_since(world: World) -> AsyncIterator[tuple[Run, Process]]:
    """A job in slices that was launched before anybody set a threshold."""
    run = await world.start("train on an A100 for 3 hours", 10)
    await world.tick_until(run, "Job started")
    world.policy = SpendingPolicy(LOCAL, Usd.parse(100), approval_threshold=Usd.parse(1.5))
    async with world.another_process() as process:
        for _ in range(5):
            assert (await process.tick(run)).message == "Job still running"
        yield run, process


async def test_more_time_waits_while_the_job_is_followed_and_names_the_new_total(
    database: FreshDatabase,
) -> None:
    async with (
        World.open(database) as world,
        with_a_job_and_a_threshold_since(world) as (run, process),
    ):
        [asked] = await world.ledger.approvals.of_run(run.id)
        assert asked.paid == Usd.parse(1.4)
        assert Usd.parse(4.2) <= asked.amount <= Usd.parse(4.3)
        assert f"the whole job up to {asked.amount}, of which $1.40 is paid" in asked.asks_for("V")
        seen, approvals = await world.run(run), await world.ledger.approvals.of_run(run.id)
        shown = status_view(
            seen,
            await world.ledger.jobs.of_run(seen),
            await world.ledger.payments.of_run(run.id),
            [],
            approvals,
        )
        assert shown["run"]["waitingFor"] == asked.asks_for("gpu_vendor_1")
        assert shown["jobs"][0]["waitingFor"] == shown["approvals"][0]["what"]
        assert len(world.transfers()) == 1
        await answer(world, run, asked, yes=True)
        for _ in range(4):
            await process.tick(run)
        assert len(world.transfers()) == 2
        [used] = await world.ledger.approvals.of_run(run.id)
        assert sorted(used.covered) == [0, 1]
        assert unapproved(await world.journal(run)) == (None, "")


async def test_more_time_that_is_rejected_is_not_asked_for_again(database: FreshDatabase) -> None:
    async with (
        World.open(database) as world,
        with_a_job_and_a_threshold_since(world) as (run, process),
    ):
        await answer(world, run, await question(world, run), yes=False)
        for _ in range(6):
            await process.tick(run)
        [still] = await world.ledger.approvals.of_run(run.id)
        assert still.state is ApprovalState.REJECTED
        assert len(world.transfers()) == 1


async def test_who_is_put_to_pay_past_the_question_is_led_back_to_it(
    database: FreshDatabase,
) -> None:
    async with World.open(database, policy=CAREFUL) as world:
        run = await world.start()
        await world.tick(run)
        asked = await question(world, run)
        config = RunnableConfig(configurable={"thread_id": run.id})
        graph = world.process.services.graph
        await graph.aupdate_state(config, {"phase": "pay"}, as_node="assess_budget")
        assert await world.tick(run) == WAITING
        assert world.transfers() == []
        assert (await world.run(run)).next_slot == 0
        [same] = await world.ledger.approvals.of_run(run.id)
        assert (same.id, same.state) == (asked.id, ApprovalState.PENDING)
        await answer(world, run, asked, yes=True)
        assert await world.tick(run) == "Job started"


async def test_the_cashier_signs_nothing_that_nobody_has_approved(database: FreshDatabase) -> None:
    async with World.open(database, policy=CAREFUL) as world:
        run = await world.start()
        await world.tick(run)
        deps, now = world.process.deps, world.clock.now
        held, lease = await world.ledger.runs.acquire(run.id, now, 60)
        decision = {"vendor_id": "gpu_vendor_1", "slot": 0}
        decision["template_id"] = held.offers[0].quote.template_id
        context = TickContext(deps, held, lease)
        purchase = await purchase_of(context, decision)
        assert purchase is not None
        with pytest.raises(ApprovalRequired, match="nobody has approved"):
            await deps.cashier.authorize(lease, held, purchase, context.observe)
        after = await world.run(run)
        assert (after.next_slot, after.reserved) == (0, ZERO)
        assert await world.payment_states(run) == []


async def test_a_question_of_an_older_version_is_understood(database: FreshDatabase) -> None:
    """It was about one payment: a yes pays that, and the rest of the job is asked about."""
    async with World.open(database, policy=CAREFUL, epochs=8) as world:
        run = await world.start("train on an A100 for 3 hours", 10)
        await world.tick(run)
        now = await question(world, run)
        terms = (0, "gpu_vendor_1", now.pay_to, Usd.parse(1.4), now.quote_id)
        older = {
            "_id": approval_id(run.id, *terms),
            "runId": run.id,
            "slot": 0,
            "vendorId": terms[1],
            "payTo": terms[2],
            "amount": terms[3].micros,
            "quoteId": terms[4],
            "state": "pending",
            "createdAt": now.created_at,
            "expiresAt": now.expires_at,
        }
        await database.db["approvals"].delete_many({})
        await database.db["approvals"].insert_one(older)
        assert await world.tick(run) == WAITING
        [asked] = await world.ledger.approvals.of_run(run.id)
        assert asked.asks_for("FastGPU") == "$1.40 to FastGPU"
        await answer(world, run, asked, yes=True)
        assert await world.tick(run) == "Job started"
        for _ in range(6):
            await world.tick(run)
        assert len(world.transfers()) == 1
        rest = await question(world, run)
        assert (rest.state, rest.paid) == (ApprovalState.PENDING, Usd.parse(1.4))
