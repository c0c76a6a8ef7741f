"""What a run's owner says to it: what is answered to the point, and what changes nothing."""

from __future__ import annotations

import pytest

from domain.approvals import ApprovalState
from domain.money import Usd
from domain.networks import LOCAL
from domain.policy import SpendingPolicy
from domain.slices import SliceRule
from graph.deps import Limits
from server.chat.answers import HELP
from tests.support.builders import check_books
from tests.support.chatting import person, run_of
from tests.support.stack import FreshDatabase
from tests.support.world import World

ASKS_FIRST = SpendingPolicy(LOCAL, Usd.parse(100), approval_threshold=Usd.parse("0.1"))
PRICES = "- FastGPU: $1.40 an hour for A10, A100"


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (
            "raise the budget to -5",
            '"-5" is less than nothing, and I can raise a budget, not lower',
        ),
        ("-5", '"-5" is less than nothing'),
        (
            "raise the budget to 30 euros",
            'I count in US dollars, and convert nothing, so I left "30',
        ),
        ("30 euros", 'I count in US dollars, and convert nothing, so I left "30 euros" alone'),
        ("you may spend €30 more", 'so I left "€30" alone'),
        ("raise the budget to the moon", 'I read no single amount of dollars in "the moon"'),
        ("raise the budget to $6 or $7", 'I read no single amount of dollars in "$6 or $7"'),
    ],
)
async def test_an_amount_that_is_none_is_told_and_raises_nothing(
    database: FreshDatabase, message: str, why: str
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        [_, said] = await person(world).hears(message, run.id)
        assert said.kind == "question"
        assert why in said.text
        assert said.text.endswith(
            'To raise it, say it like "you may spend $2 more" or "raise the budget to $10.00".'
        )
        assert (await world.run(run)).budget_total == Usd.parse(5)


async def test_money_back_is_told_as_the_books_have_it(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me, run = person(world), await world.start()
        nothing = await me.told("give me my money back", run.id)
        assert nothing.startswith("No money has come back so far.")
        assert "nothing paid that could come back" in nothing

        await world.tick_until(run, "Job started")
        running = await me.told("give me my money back", run.id)
        assert 'Say "stop" to cancel' in running
        assert not (await world.run(run)).cancel_requested, "it is no order to stop"

        await me.told("stop", run.id)
        await world.tick(run)
        [payment] = await world.payments(run)
        assert payment.refunded
        ended = await me.told("was anything refunded?", run.id)
        assert ended.startswith(f"{payment.refunded} came back from ")
        assert "is in the budget again" in ended
        check_books(await world.run(run))


@pytest.mark.parametrize(
    "words",
    ["approve please", "please approve", "yes, approve it", "ok approve", "Yes please, approve"],
)
async def test_a_payment_may_be_approved_politely(database: FreshDatabase, words: str) -> None:
    async with World.open(database, policy=ASKS_FIRST) as world:
        me, run = person(world), await world.start()
        await world.tick(run)
        assert (await me.told(words, run.id)).startswith("Approved: ")


@pytest.mark.parametrize("words", ["yes", "ok", "yes please", "sure", "no, approve"])
async def test_a_bare_yes_pays_nothing_and_is_told_what_would(
    database: FreshDatabase, words: str
) -> None:
    async with World.open(database, policy=ASKS_FIRST) as world:
        me, run = person(world), await world.start()
        await world.tick(run)
        [approval] = await world.ledger.approvals.of_run(run.id)
        await me.told("how is it going?", run.id)
        said = await me.told(words, run.id)
        [after] = await world.ledger.approvals.of_run(run.id)
        assert after.state is ApprovalState.PENDING
        if words != "no, approve":
            assert said.startswith(f"Waiting for your approval: {approval.asks_for('FastGPU')}")
            assert said.endswith('To answer it, say "approve" or "reject".')


async def test_no_rejects_the_payment_that_was_just_asked_about(database: FreshDatabase) -> None:
    async with World.open(database, policy=ASKS_FIRST) as world:
        me, run = person(world), await world.start()
        await world.tick(run)
        await me.told("can you stop?", run.id)
        assert (await me.told("no", run.id)).startswith("Waiting for your approval: "), (
            "it answered another question"
        )
        assert (await me.told("no", run.id)).startswith("Rejected: ")
        assert await me.told("go on", run.id) == "Run cancelled"
        assert world.transfers() == []


async def test_no_rejects_what_the_last_step_waits_for(database: FreshDatabase) -> None:
    async with World.open(database, policy=ASKS_FIRST) as world:
        me, run = person(world), await world.start()
        assert await me.told("go on", run.id) == "Waiting for approval"
        assert (await me.told("no thanks", run.id)).startswith("Rejected: ")


@pytest.mark.parametrize("word", ["yes", "no", "ok"])
async def test_a_bare_yes_or_no_elsewhere_is_told_what_can_be_said(
    database: FreshDatabase, word: str
) -> None:
    async with World.open(database) as world:
        me, run = person(world), await world.start()
        for run_id in (run.id, None):
            said = await me.told(word, run_id)
            assert said.startswith("I do not know what that answers")
            assert said.endswith(HELP)


async def test_help_and_prices_are_given_with_and_without_a_run(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me = person(world)
        run = None
        for _ in range(2):
            assert await me.told("help", run) == HELP
            prices = await me.told("show me the prices", run)
            assert PRICES in prices.split("\n")
            assert "gpu-renter plan" in prices
            run = (await world.start()).id
        assert await world.database.db["chat_drafts"].count_documents({}) == 0
        one = await me.told("how much is an A100?", run)
        assert one.startswith("An hour of A100 costs $1.40 at FastGPU, $1.80 at ReliableGPU.")
        mine = await me.told("how much did the A100 cost?", run)
        assert mine.startswith("Nothing so far.")


@pytest.mark.parametrize(
    "message",
    [
        "Train on an H100 for 2 hours, $5",
        "Render my film on an A100, spend at most $5",
        "fine-tune Llama on an A100 with a budget of $5",
    ],
)
async def test_a_new_goal_in_a_run_is_sent_to_a_chat_of_its_own(
    database: FreshDatabase, message: str
) -> None:
    async with World.open(database) as world:
        me, run = person(world), await world.start()
        said = await me.told(message, run.id)
        assert said.startswith("That is a new goal")
        assert len(await world.ledger.runs.recent(limit=0)) == 1
        after = await world.run(run)
        assert (after.budget_total, after.cancel_requested) == (Usd.parse(5), "")


async def test_a_new_goal_after_a_runs_end_begins_another_one(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me, run = person(world), await world.start("Train on a T4")
        await world.ticks(run)
        assert "has begun" in await me.told("Train on an A100 for 2 hours, under $5", run.id)
        assert len(await world.ledger.runs.recent(limit=0)) == 2
        assert "has begun" not in await me.told("why did it fail?", run.id)


async def test_half_a_goal_after_a_runs_end_is_asked_about_until_it_begins(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        me, run = person(world), await world.start("Train on a T4")
        await world.ticks(run)
        assert "How much" in await me.told("Now I want an A100 for 2 hours", run.id)
        assert "Your run is failed" in await me.told("how is it going?", run.id)
        assert "has begun" in await me.told("$5", run.id)
        assert len(await world.ledger.runs.recent(limit=0)) == 2
        assert await me.told("$5", run.id) == HELP


async def test_a_stop_speaks_of_a_job_only_where_there_is_one(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me, new, working = person(world), await world.start(), await world.start()
        await world.tick(working)
        assert (await me.told("stop", new.id)).startswith("Cancelling the run.")
        told = await me.told("stop", working.id)
        assert told.startswith("Cancelling the run: its job is stopped at the vendor.")


@pytest.mark.parametrize(
    "message", ["how is the training on the A100 for 2 hours going", "stop", "why an A100 for $5"]
)
async def test_what_is_about_the_run_is_no_new_goal(database: FreshDatabase, message: str) -> None:
    async with World.open(database) as world:
        me, run = person(world), await world.start()
        assert "new goal" not in await me.told(message, run.id)


async def test_a_result_is_told_with_how_to_take_it(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me, run = person(world), await world.start()
        await world.ticks(run)
        where = await me.told("where is my model?", run.id)
        assert '"Download the result" on the run\'s page' in where
        assert f"GET /api/agent-artifact?runId={run.id}" in where


@pytest.mark.parametrize("question", ["what's happening?", "why?", "how is it going?"])
async def test_why_nothing_could_be_rented_is_told_with_the_remedy(
    database: FreshDatabase, question: str
) -> None:
    limits = Limits(slices=SliceRule(first_minutes=60, exposure=Usd.parse("0.001")))
    async with World.open(database, limits=limits) as world:
        me, run = person(world), await world.start()
        before = await me.told(question, run.id)
        assert "could be rented" not in before, "nothing has been tried yet"
        await world.tick(run)
        said = await me.told(question, run.id)
        assert "Nothing could be rented yet: no vendor made an offer for this job." in said
        assert "FastGPU: not asked: a minute of it costs more than MAX_EXPOSURE_USD" in said
        assert "have MAX_EXPOSURE_USD raised where this server runs" in said


async def test_vendors_that_make_no_offer_are_asked_again(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me, run = person(world), await world.start()
        world.vendor_fault("*", "quote", "refuse")
        await world.tick(run)
        said = await me.told("what's happening?", run.id)
        assert "no vendor made an offer for this job" in said
        assert "I ask again by myself" in said
        world.clear_faults()
        await world.tick_until(run, "Job started")
        assert "could be rented" not in await me.told("what's happening?", run.id)


async def test_a_run_that_failed_before_it_began_is_told_with_the_remedy(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        me, run = person(world), await world.start("Train on an H100 for 1 hour")
        await world.tick(run)
        why = await me.told("why?", run.id)
        assert "no registered vendor has H100" in await me.told("what's happening?", run.id)
        assert "Name another GPU or vendor in a new run" in why
        poor = await world.start("Train on an A100 for 100 hours", 1)
        await world.tick(poor)
        assert "larger budget" in await me.told("what's happening?", poor.id)


async def test_a_payment_that_the_limits_forbid_is_told(database: FreshDatabase) -> None:
    policy = SpendingPolicy(LOCAL, Usd.parse("0.5"))
    async with World.open(database, policy=policy) as world:
        me, run = person(world), await world.start()
        await world.tick(run)
        assert "MAX_PAYMENT_USD" in await me.told("what's happening?", run.id)


async def test_a_start_is_told_in_words_that_a_user_knows(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        said = await person(world).hears("Train on an A100 for 1 hour, $5")
        assert said[-1].text == (
            f"Run {run_of(said)} has begun, and may spend $5.00 at most. I look for a GPU, rent it "
            'and watch over the job; ask "how is it going?" at any time. If nothing moves, say "go '
            'on", and I take the next step at once.'
        )
        assert "worker" not in said[-1].text
