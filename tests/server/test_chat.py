"""Talking with the agent: goals, questions, and what its owner's words change."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from domain.approvals import ApprovalState
from domain.errors import InvalidInput, NotFound
from domain.goals import ASK_FOR_BUDGET, ASK_FOR_JOB, LONGEST_GOAL
from domain.intents import Wants
from domain.jobs import Preference
from domain.money import Usd
from domain.networks import LOCAL
from domain.policy import SpendingPolicy
from domain.tokens import ModelUse
from graph.goals.reader import Asked, RuleReader
from server.chat.answers import HELP, NOT_STARTED, WELCOME
from server.chat.replies import LONGEST_WORDS
from tests.support.builders import check_books
from tests.support.chatting import Person, person, run_of
from tests.support.stack import FreshDatabase
from tests.support.world import World

NAMES = {"gpu_vendor_1": "FastGPU", "gpu_vendor_2": "ReliableGPU"}


async def test_a_whole_goal_starts_a_run_that_rents(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        said = await person(world).hears(
            "Fine-tune Llama 8B on an A100 for 30 minutes, under $5, cheapest you can find, by "
            "tonight, no ReliableGPU"
        )
        run = await world.ledger.runs.get(run_of(said))
        assert [piece.kind for piece in said] == ["run", "words", "action"]
        assert said[1].text == (
            "Understood: fine-tune on 1 × A100 for 0.5 h, within $5.00, done by 2026-01-01 23:59 "
            "UTC, cheapest first, without ReliableGPU."
        )
        assert run.spec is not None
        assert (run.spec.preference, run.spec.minutes) == (Preference.CHEAPEST, 30)
        assert run.user_id == "user_1"
        assert world.transfers() == []

        assert await world.tick(run) == "Job started"
        assert len(world.transfers()) == 1
        assert [vendor for vendor, _ in await world.jobs(run)] == ["gpu_vendor_1"]
        assert len(await world.told(run, "job_spec")) == 1


async def test_what_is_missing_is_asked_back_one_question_at_a_time(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        me = person(world)
        assert await me.told("hello there") == ASK_FOR_JOB
        assert await me.told("Fine-tune on an A100") == ASK_FOR_BUDGET
        assert "How much may I spend at most" in await me.told("$5 or $6")
        assert (await me.told("2 hours")).startswith("You named $5 and $6")
        said = await me.hears("6")
        run = await world.ledger.runs.get(run_of(said))
        assert run.budget_total == Usd.parse(6)
        assert run.spec is not None
        assert (run.spec.gpu_type, run.spec.minutes) == ("A100", 120)
        assert await me.told("Train on an H100") == ASK_FOR_BUDGET, "the next goal is a new one"


async def test_what_is_guessed_is_said(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        said = await person(world).told("Fine-tune a 7B model, $5")
        assert "1 × A100 for 1 h, within $5.00 (not said, so assumed: A100, 1 h)" in said


async def test_a_question_gets_an_answer_and_rents_nothing(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me = person(world)
        prices = "An hour of A100 costs $1.40 at FastGPU, $1.80 at ReliableGPU."
        assert (await me.told("how much does an A100 cost?")).startswith(prices)
        assert await me.told("do you have an H100?") == (
            "No registered vendor has H100; on offer: A10, A100."
        )
        assert await me.told("$5") == ASK_FOR_JOB
        assert (await me.told("what can you do?")) == HELP
        run = await world.ledger.runs.get(run_of(await me.hears("Train on an A100 for 1 hour")))
        assert "cost" not in run.goal


@pytest.mark.parametrize(
    "message",
    [
        "plan a fine-tune on an A100 for $5 but don't start it",
        "plan training on an A100 for $5, do not start",
        "a fine-tune on an A100 for $5, but not yet",
        "should I rent an A100 for $5?",
        "hi, can you explain how you pay $5 for an A100?",
        "tell me what you'd rent for $5 to train on an A100",
    ],
)
async def test_what_is_not_to_be_started_is_not(database: FreshDatabase, message: str) -> None:
    async with World.open(database) as world:
        me = person(world)
        await me.told(message)
        assert await world.ledger.runs.recent(limit=0) == []
        assert await me.told("don't spend more than $5: train on an A100") != NOT_STARTED


async def test_no_question_and_no_greeting_becomes_part_of_a_goal(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me = person(world)
        assert await me.told("hello") == ASK_FOR_JOB
        assert await me.told("what does $5 buy?") == HELP
        prices = await me.told("how much does training on an A100 cost?")
        assert prices.startswith("An hour of A100 costs $1.40 at FastGPU")
        assert await me.told("Train on an A100 for 2 hours") == ASK_FOR_BUDGET
        assert await me.told("hello") == HELP
        assert await me.told("how much would it cost to train for longer?") == HELP
        run = await world.ledger.runs.get(run_of(await me.hears("$5")))
        assert run.goal == "Train on an A100 for 2 hours"


async def test_a_question_about_a_run_is_no_goal_for_the_words_it_names(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        me, run = person(world), await world.start()
        for message in (
            "where is my trained model?",
            "why did my training run fail?",
            "how is my A100 run going?",
            "how much did the A100 cost?",
        ):
            assert run_of(await me.hears(message)) == run.id, message
        assert len(await world.ledger.runs.recent(limit=0)) == 1


async def test_nearly_stop_is_asked_about_and_a_budget_is_not_lowered(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        me = person(world)
        run = await world.ledger.runs.get(run_of(await me.hears("Train on an A100 for 1 h, $5")))
        for message in ("can you stop?", "abort mission", "never mind"):
            assert await me.told(message, run.id) == 'Shall I end the run? Then say "stop".'
        assert (await me.told("lower the budget to $3", run.id)).startswith(
            "I can raise a budget, not lower it. Of $5.00 I have spent $0.00"
        )
        now = await world.run(run)
        assert (now.cancel_requested, now.budget_total) == ("", Usd.parse(5))
        for message in ("set the budget to $3", "you may spend $3 in all", "only spend $3"):
            assert (await me.told(message, run.id)).startswith("I can raise a budget, not lower it")
        assert 'say "you may spend $20.00 in all"' in await me.told("make the budget $20", run.id)
        assert (await world.run(run)).budget_total == Usd.parse(5)
        await me.told("Train on an A100")
        assert (await me.told("never mind")).startswith("Forgotten.")
        await me.told("stop", run.id)
        assert await me.told("abort mission", run.id) == (
            "The run has ended already: it is cancelled."
        )


async def test_why_a_job_failed_and_where_the_result_is_are_told(database: FreshDatabase) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        me = person(world)
        run = await world.start()
        await world.tick_until(run, "Job failed")
        assert (await me.told("where is my model?", run.id)).startswith("There is no result yet.")
        await world.ticks(run)
        why = await me.told("why did it fail?", run.id)
        assert 'it failed at FastGPU with "GPU node lost after epoch' in why
        [done] = [
            j for j in await world.ledger.jobs.of_run(await world.run(run)) if j.artifact_path
        ]
        where = await me.told("where is my model?", run.id)
        assert str(done.artifact_path) in where
        assert str(done.artifact_sha256) in where


async def test_a_users_own_runs_are_listed_the_newest_first(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me, now = person(world), world.clock.now()
        assert await me.told("list my runs") == f"You have no runs yet. {ASK_FOR_JOB}"
        runs = world.ledger.runs
        bought = await world.ledger.purchases.create("fetch_1", "GET", Usd.parse(1), now)
        await world.ledger.purchases.documents.change(bought.id, {}, {"$set": {"userId": "user_1"}})
        await runs.create("hers", "user_2", "Render", Usd.parse(1), now)
        first = await world.start("Train on an A100")
        await me.told("stop", first.id)
        world.clock.advance(1)
        second = await world.start("Fine-tune on an A100 " + "for a long while " * 10)
        assert await me.told("Train on an A100") == ASK_FOR_BUDGET
        for run_id in (None, second.id):
            listed = await me.told("list my runs", run_id)
            head, newest, oldest = listed.split("\n")
            assert head == "Your newest runs:"
            assert newest.startswith(f"- {second.id}, running: Fine-tune on an A100 for a long")
            assert len(newest) < 150
            assert oldest == f"- {first.id}, cancelled: Train on an A100"
            assert await me.told("thanks!", run_id) == WELCOME
        run = await runs.get(run_of(await me.hears("$5")))
        assert run.goal == "Train on an A100"


async def test_the_failure_of_the_last_job_and_of_the_run_are_told(database: FreshDatabase) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        me, run = person(world), await world.start("Fine-tune on an A100, no ReliableGPU", 2)
        await world.tick_until(run, "Run failed")
        why = await me.told("why did it fail?")
        assert why.startswith("Your run is failed (")
        assert "The job at FastGPU is failed" in why
        assert 'It ended with "GPU node lost after epoch' in why
        chosen = await me.told("why did you choose that vendor?")
        assert "to FastGPU for 60 minutes of A100" in chosen
        assert "Why: " in chosen


async def test_why_a_vendor_was_chosen_is_told_to_the_last_word(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start("Fine-tune on an A100 for 9 hours, no ReliableGPU", 50)
        await world.tick_until(run, "Job started")
        decided = [
            e for e in await world.journal(run, "agent_reasoning") if "reason" in e.note.data
        ]
        reason = str(decided[-1].note.data["reason"])
        assert len(reason) > LONGEST_WORDS
        assert f"Why: {reason}" in await person(world).told("why did you choose that vendor?")


async def test_a_half_said_goal_outlives_the_process(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        assert await person(world).told("Train on an A100 for 2 hours") == ASK_FOR_BUDGET
        async with world.another_process() as process:
            said = await Person(process).hears("make it 5 dollars")
        run = await world.ledger.runs.get(run_of(said))
        assert (run.goal, run.budget_total) == (
            "Train on an A100 for 2 hours make it 5 dollars",
            Usd.parse(5),
        )


async def test_a_run_that_a_crash_left_half_started_is_not_started_twice(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        me = person(world)
        await me.told("Train on an A100")
        draft = await world.database.db["chat_drafts"].find_one()
        assert draft is not None
        budget, now = Usd.parse(5), world.clock.now()
        await world.ledger.runs.create(draft["runId"], "user_1", "Train", budget, now)
        run = run_of(await me.hears("Fine-tune on an A100, $4"))
        assert run != draft["runId"]
        assert len(await world.ledger.runs.recent(limit=0)) == 2


async def test_what_cannot_be_used_is_said_and_forgotten(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me = person(world)
        await me.told("Train on an A100")
        assert (await me.told("for 100 days")).startswith("I cannot use that: ")
        run = await world.ledger.runs.get(run_of(await me.hears("$5")))
        assert run.goal == "Train on an A100"
        assert await me.told("Train on an A100") == ASK_FOR_BUDGET
        assert await me.told("stop") == "Forgotten. Tell me a new goal whenever you like."
        assert await me.told("hello") == ASK_FOR_JOB


async def test_a_greeting_is_no_part_of_the_goal(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me = person(world)
        assert await me.told("Hi there! Train on an A100") == ASK_FOR_BUDGET
        run = await world.ledger.runs.get(run_of(await me.hears("$5")))
        assert run.goal == "Train on an A100"


async def test_the_ledger_answers_for_a_run(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me, run = person(world), await world.start()
        assert "No job has started yet" in await me.told("How is it going?", run.id)
        assert await me.told("what did you spend?", run.id) == (
            "Nothing so far. Of $5.00 I have spent $0.00; $5.00 is left."
        )
        await world.tick_until(run, "Job started")
        [payment] = await world.payments(run)
        going = await me.told("how is it going?", run.id)
        assert f"The job at {NAMES[payment.vendor_id]} is " in going
        spent = await me.told("What did you spend and why?", run.id)
        left = Usd.parse(5) - payment.amount
        assert f"Of $5.00 I have spent {payment.amount}; {left} is left." in spent
        assert (
            f"- {payment.amount} to {NAMES[payment.vendor_id]} for 60 minutes of A100: paid"
            in spent
        )
        assert str(payment.tx_id) in spent
        [why] = [t for t in await world.told(run, "agent_reasoning") if "Proceeding" in t]
        assert why.partition(f"{payment.vendor_id}: ")[2][:60] in spent
        assert len(world.transfers()) == 1, "questions move nothing"


async def test_a_failure_and_a_recovery_are_told(database: FreshDatabase) -> None:
    async with World.open(database, failing="gpu_vendor_1") as world:
        me, run = person(world), await world.start()
        await world.ticks(run)
        going = await me.told("is it done?", run.id)
        assert going.startswith("Your run is completed. ")
        payments = await world.payments(run)
        spent = await me.told("what did you pay, and why?", run.id)
        assert all(f"{p.amount} to {NAMES[p.vendor_id]}" in spent for p in payments)
        assert "gpu_vendor" not in going + spent
        assert f"I have spent {(await world.run(run)).spent}" in spent


async def test_the_budget_is_raised_once_for_each_message(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me, run = person(world), await world.start(dollars=1)
        for _ in range(2):
            said = await me.told("You may spend 2 more", run.id, "message-1")
            assert said.startswith("Done: I may spend $2.00 more, $3.00 in all.")
        await asyncio.gather(*(me.told("add $1", run.id, "message-2") for _ in range(4)))
        await me.told("raise the budget to $5", run.id)
        assert "already" in await me.told("raise the budget to $5", run.id)
        after = await world.run(run)
        check_books(after)
        assert after.budget_total == Usd.parse(5)
        told = await world.told(run, "budget_raised")
        assert Counter(told) == {
            "The owner raised the budget by $2.00 to $3.00": 1,
            "The owner raised the budget by $1.00 to $4.00": 1,
            "The owner raised the budget by $1.00 to $5.00": 1,
        }


@pytest.mark.parametrize("message", ["you may spend $500 more", "raise the budget to $505"])
async def test_a_raise_to_more_than_ten_times_the_budget_is_asked_about(
    database: FreshDatabase, message: str
) -> None:
    async with World.open(database) as world:
        me, run = person(world), await world.start(dollars=5)
        [_, asked] = await me.hears(message, run.id)
        assert (asked.kind, asked.text) == (
            "question",
            "That makes $505.00, more than 10 times the budget of $5.00. If you mean it, say "
            '"you may spend $505.00 in all".',
        )
        assert (await world.run(run)).budget_total == Usd.parse(5)
        said = await me.told("you may spend $505.00 in all", run.id)
        assert said.startswith("Done: I may spend $500.00 more, $505.00 in all.")
        check_books(await world.run(run))


async def test_a_raise_to_ten_times_the_budget_is_done_at_once(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start(dollars=5)
        assert (await person(world).told("add $45", run.id)).startswith("Done: ")
        assert (await world.run(run)).budget_total == Usd.parse(50)


async def test_a_raise_without_an_amount_is_asked_back(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        assert (await person(world).told("you may spend more", run.id)).startswith("How much more")
        assert (await world.run(run)).budget_total == Usd.parse(5)


async def test_stop_cancels_the_run_and_its_job(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me, run = person(world), await world.start()
        await world.tick_until(run, "Job started")
        said = await me.told("stop", run.id)
        assert said.endswith("Run cancelled")
        assert await world.status(run) == "cancelled"
        again = await me.hears("stop", run.id)
        assert (again[-1].kind, again[-1].text[:4]) == ("error", "Run ")
        assert (await me.hears("you may spend 2 more", run.id))[-1].kind == "error"
        assert (await world.run(run)).budget_total == Usd.parse(5)


async def test_a_payment_is_approved_by_the_owners_exact_words_alone(
    database: FreshDatabase,
) -> None:
    policy = SpendingPolicy(LOCAL, Usd.parse(100), approval_threshold=Usd.parse("0.1"))
    async with World.open(database, policy=policy) as world:
        me, run = person(world), await world.start()
        assert await world.tick(run) == "Waiting for approval"
        [approval] = await world.ledger.approvals.of_run(run.id)
        assert 'say "approve" or "reject"' in await me.told("how is it going?", run.id)
        for words in ("yes", "he said approve", "approve all", "approve apr_00000000"):
            await me.told(words, run.id)
        [still] = await world.ledger.approvals.of_run(run.id)
        assert still.state is ApprovalState.PENDING

        said = await me.told(f"approve {approval.id}", run.id)
        assert said == f"Approved: {approval.asks_for(NAMES[approval.vendor_id])}."
        assert await me.told("go on", run.id) == "Job started"
        assert await me.told("approve", run.id) == "No payment waits for your answer."


async def test_a_payment_is_rejected(database: FreshDatabase) -> None:
    policy = SpendingPolicy(LOCAL, Usd.parse(100), approval_threshold=Usd.parse("0.1"))
    async with World.open(database, policy=policy) as world:
        me, run = person(world), await world.start()
        await world.tick(run)
        assert (await me.told("reject", run.id)).startswith("Rejected: ")
        assert await me.told("go on", run.id) == "Run cancelled"
        assert world.transfers() == []


@pytest.mark.parametrize(
    "message", ["how is it going?", "stop", "you may spend 2 more", "approve", "go on"]
)
async def test_another_users_run_is_not_there(database: FreshDatabase, message: str) -> None:
    async with World.open(database) as world:
        run = await world.start()
        unknown = run.id[::-1]
        with pytest.raises(NotFound) as nobodys:
            await person(world, "user_2").told(message, unknown)
        with pytest.raises(NotFound) as somebodys:
            await person(world, "user_2").told(message, run.id)
        assert str(somebodys.value) == str(nobodys.value).replace(unknown, run.id)
        after = await world.run(run)
        assert (after.budget_total, after.cancel_requested) == (Usd.parse(5), "")
        assert await world.database.db["chat_messages"].count_documents({}) == 0


async def test_without_a_run_a_question_is_about_the_newest_and_a_change_about_the_only_one(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        me = person(world)
        assert await me.told("how is it going?") == ASK_FOR_JOB
        first = await world.start(dollars=3)
        world.clock.advance(1)
        second = await world.start(dollars=4)
        assert run_of(await me.hears("how is it going?")) == second.id
        assert (await me.told("stop")).startswith("Which run do you mean?")
        assert await me.told("cancel", second.id) is not None
        assert (await me.told("stop")).endswith("Run cancelled")
        assert await world.status(first) == "cancelled"
        assert await person(world, "user_2").told("what did you spend?") == ASK_FOR_JOB


async def test_what_is_not_understood_is_helped_and_moves_nothing(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        assert await person(world).told("sing me a song", run.id) == HELP
        assert (await world.run(run)).fence == 0


@pytest.mark.parametrize("message", ["", "  \u200b ", "x" * (LONGEST_GOAL + 1)])
async def test_what_is_no_message_is_refused(database: FreshDatabase, message: str) -> None:
    async with World.open(database) as world:
        with pytest.raises(InvalidInput, match="message: "):
            await person(world).told(message)


async def test_the_transcript_has_every_word_of_both(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me, run = person(world), await world.start()
        asked = ["how is it going?", "what did you spend?", "sing"]
        told = [await me.told(message, run.id) for message in asked]
        from graph.persistence.transcripts import Transcripts, session_of

        transcripts = Transcripts.beside(world.process.services.checkpoints.saver)
        kept = await transcripts.last(session_of("user_1", run.id), 100)
        assert [m.text for m in kept] == [t for pair in zip(asked, told, strict=True) for t in pair]
        assert [m.type for m in kept] == ["human", "ai"] * 3
        assert [m.text for m in await transcripts.last(session_of("user_1", run.id), 1)] == told[
            -1:
        ]


async def test_what_a_question_cost_the_model_is_counted_in_the_run(
    database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wants(*_: object) -> Asked:
        return Asked(Wants.STATUS, ModelUse(1, 100, 10))

    monkeypatch.setattr(RuleReader, "wants", wants)
    async with World.open(database) as world:
        run = await world.start()
        assert "Your run is" in await person(world).told("hand me the ledger", run.id)
        assert (await world.ledger.runs.get(run.id)).model == ModelUse(1, 100, 10)
