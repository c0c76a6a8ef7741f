"""A goal in a chat: what is kept of it, whose it is, and what is asked before money is at stake."""

from __future__ import annotations

import pytest

from domain.goals import ASK_FOR_BUDGET, ASK_FOR_JOB
from domain.money import Usd
from ledger.drafts import KEPT_FOR
from tests.support.chatting import person, run_of
from tests.support.stack import FreshDatabase
from tests.support.world import World

GOAL = "Train on an A100 for 1 hour"
TRAIN_PY = (
    "Run my train.py from github.com/me/proj in docker image pytorch/pytorch on an A100 for 2 "
    "hours, under $5"
)
LEFT_OUT = "Not used: train.py, github.com/me/proj, docker image pytorch/pytorch."


@pytest.mark.parametrize("noise", ["asdf", "sing me a song", "the weather is fine", "any vendor"])
async def test_what_is_no_part_of_a_goal_is_not_kept(database: FreshDatabase, noise: str) -> None:
    async with World.open(database) as world:
        me = person(world)
        assert await me.told(noise) == ASK_FOR_JOB
        assert await world.database.db["chat_drafts"].count_documents({}) == 0
        run = await world.ledger.runs.get(run_of(await me.hears(f"{GOAL}, $5")))
        assert run.goal == f"{GOAL}, $5"


async def test_half_a_goal_is_forgotten_after_a_while(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me = person(world)
        assert await me.told("Render on 8 H100 for 20 hours") == ASK_FOR_BUDGET
        world.clock.advance(KEPT_FOR.total_seconds())
        assert (await me.told("by tonight")) == ASK_FOR_BUDGET, "it is kept that long"
        world.clock.advance(KEPT_FOR.total_seconds() + 1)
        assert await me.told("$5") == ASK_FOR_JOB, "it answers no old question"
        assert await world.ledger.runs.recent(limit=0) == []


async def test_old_drafts_of_others_do_not_pile_up(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        for page in "abc":
            await person(world, talk_id=page).told(GOAL)
        world.clock.advance(KEPT_FOR.total_seconds() + 1)
        await person(world, talk_id="d").told(GOAL)
        assert await world.database.db["chat_drafts"].count_documents({}) == 1


async def test_a_whole_goal_gets_no_old_draft_put_before_it(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me = person(world)
        assert await me.told("Render on 8 H100 for 20 hours, no ReliableGPU") == ASK_FOR_BUDGET
        run = await world.ledger.runs.get(run_of(await me.hears(f"{GOAL}, $5")))
        assert run.goal == f"{GOAL}, $5"
        assert run.spec is not None
        assert (run.spec.gpu_type, run.spec.gpu_count, run.spec.minutes) == ("A100", 1, 60)
        assert run.spec.excluded_vendors == ()
        assert await me.told("$9") == ASK_FOR_JOB, "the old goal is gone"


async def test_a_whole_goal_settles_no_old_doubt(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me = person(world)
        assert "How much may I spend" in await me.told("Render on an H100, $50 or $60")
        assert await me.told("Train on an A100 for 2 hours") != ASK_FOR_BUDGET, "it is a part"
        run = await world.ledger.runs.get(run_of(await me.hears("Train on an A100, $2")))
        assert (run.goal, run.budget_total) == ("Train on an A100, $2", Usd.parse(2))


@pytest.mark.parametrize("rest", ["make it training for $5", "for $5", "Train a 7B model, $5"])
async def test_the_rest_of_a_goal_goes_with_its_first_half(
    database: FreshDatabase, rest: str
) -> None:
    async with World.open(database) as world:
        me = person(world)
        first = "on 2 A100 for 3 hours" if rest == "for $5" else "for 3 hours by tonight"
        await me.told(first)
        run = await world.ledger.runs.get(run_of(await me.hears(rest)))
        assert run.spec is not None
        assert run.spec.minutes == 180


async def test_what_is_said_of_an_older_run_is_no_part_of_a_goal(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me, run = person(world), await world.start()
        await me.told(GOAL)
        assert run_of(await me.hears("give me my money back")) == run.id
        assert run_of(await me.hears("download my model")) == run.id
        new = await world.ledger.runs.get(run_of(await me.hears("$5")))
        assert new.goal == GOAL


async def test_visitors_who_share_a_user_share_no_draft(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        mine, hers = (person(world, "dashboard", page) for page in ("page_1", "page_2"))
        assert await mine.told("Render on 8 H100 for 20 hours") == ASK_FOR_BUDGET
        assert await hers.told("$5") == ASK_FOR_JOB
        await hers.told("stop")
        run = await world.ledger.runs.get(run_of(await mine.hears("$9")))
        assert run.goal == "Render on 8 H100 for 20 hours"
        assert run_of(await hers.hears("how is it going?")) == run.id, "the runs are shared"


@pytest.mark.parametrize("answer", ["you may spend $1,000,000.00 in all", "$1000000"])
async def test_a_huge_budget_is_asked_for_once_more(database: FreshDatabase, answer: str) -> None:
    async with World.open(database) as world:
        me = person(world)
        assert await me.told(f"{GOAL}, $1,000,000") == (
            "That is $1,000,000.00, more than the $1,000.00 that I take for granted. If you mean "
            'it, say "you may spend $1,000,000.00 in all"; else say how much I may spend.'
        )
        assert "If you mean it" in await me.told("yes"), "that is not it"
        assert await world.ledger.runs.recent(limit=0) == []
        run = await world.ledger.runs.get(run_of(await me.hears(answer)))
        assert (run.goal, run.budget_total) == (f"{GOAL}, $1,000,000", Usd.parse(1_000_000))


async def test_a_huge_budget_may_be_taken_back(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me = person(world)
        await me.told(f"{GOAL}, $5,000")
        run = await world.ledger.runs.get(run_of(await me.hears("$5")))
        assert run.budget_total == Usd.parse(5)


async def test_a_budget_up_to_the_bound_is_not_asked_about(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.ledger.runs.get(run_of(await person(world).hears(f"{GOAL}, $1000")))
        assert run.budget_total == Usd.parse(1_000)


async def test_the_words_for_a_huge_budget_raise_no_other_run(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run, me = await world.start(), person(world)
        await me.told(f"{GOAL}, $5,000")
        world.clock.advance(KEPT_FOR.total_seconds() + 1)
        said = await me.told("you may spend $5,000.00 in all")
        assert said.startswith("Which run do you mean?")
        assert (await world.run(run)).budget_total == Usd.parse(5)


async def test_a_vendor_that_is_named_alone_is_the_one_that_is_paid(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        said = await person(world).hears(f"{GOAL}, $5, only from ReliableGPU")
        assert "only from ReliableGPU" in said[1].text
        run = await world.ledger.runs.get(run_of(said))
        await world.tick_until(run, "Job started")
        assert [vendor for vendor, _ in await world.jobs(run)] == ["gpu_vendor_2"]


async def test_a_vendor_that_is_not_registered_is_asked_about(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me = person(world)
        assert await me.told(f"{GOAL}, $5, only from MegaGPU") == (
            "No vendor is registered here as MegaGPU. I can rent from FastGPU, ReliableGPU. Say "
            '"only from" one of them, or "any vendor".'
        )
        assert await world.ledger.runs.recent(limit=0) == []
        run = await world.ledger.runs.get(run_of(await me.hears("only from ReliableGPU")))
        assert run.spec is not None
        assert run.spec.only_vendors == ("gpu_vendor_2",)


async def test_any_vendor_will_do_where_it_is_said_so(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me = person(world)
        await me.told(f"{GOAL}, $5, only from MegaGPU")
        run = await world.ledger.runs.get(run_of(await me.hears("any vendor")))
        assert run.spec is not None
        assert run.spec.only_vendors == ()


async def test_where_all_that_are_named_are_left_out_nobody_is_rented_from(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        me = person(world)
        said = await me.hears(f"{GOAL}, $5, only from ReliableGPU, not from vendor 2")
        run = await world.ledger.runs.get(run_of(said))
        assert "to rent from alone" in await world.tick(run)
        assert world.transfers() == []


@pytest.mark.parametrize("yes", ["yes", "yes, start it", "ok", "go ahead", "start it anyway"])
async def test_what_is_ones_own_to_run_starts_with_a_yes_alone(
    database: FreshDatabase, yes: str
) -> None:
    async with World.open(database) as world:
        me = person(world)
        asked = await me.told(TRAIN_PY)
        assert asked.startswith(LEFT_OUT)
        assert "Shall I start it all the same?" in asked
        assert await world.ledger.runs.recent(limit=0) == []
        said = await me.hears(yes)
        run = await world.ledger.runs.get(run_of(said))
        assert run.goal == TRAIN_PY
        assert [p.data["notUsed"] for p in said if "notUsed" in p.data] == [list(run.not_used)]
        await world.tick_until(run, "Job started")


async def test_a_no_starts_nothing(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me = person(world)
        await me.told(TRAIN_PY)
        assert "Forgotten" in await me.told("no")
        assert await me.told("yes") != "", "it answers nothing any more"
        assert await world.ledger.runs.recent(limit=0) == []


async def test_a_yes_is_to_what_was_shown_and_to_nothing_said_since(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        me = person(world)
        assert await me.told(f"{GOAL} with my data") == ASK_FOR_BUDGET
        assert await me.told("yes") == ASK_FOR_BUDGET, "that was another question"
        assert "Not used: my data." in await me.told("$5")
        again = await me.told("and start tomorrow at 9am")
        assert "start tomorrow at 9am" in again
        assert await world.ledger.runs.recent(limit=0) == []
        assert run_of(await me.hears("yes, start it"))


async def test_a_yes_of_another_conversation_starts_nothing(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        await person(world, "dashboard", "page_1").told(TRAIN_PY)
        await person(world, "dashboard", "page_2").told("yes, start it")
        assert await world.ledger.runs.recent(limit=0) == []


async def test_a_yes_counts_beside_a_run_that_has_ended(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me, old = person(world), await world.start()
        await world.ticks(old)
        assert LEFT_OUT in await me.told(TRAIN_PY, old.id)
        said = await me.hears("yes, start it", old.id)
        assert run_of(said) != old.id


async def test_a_vendor_of_several_words_is_said_back_whole(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        asked = await person(world).told(f"{GOAL}, $5, only from TS vendor")
        assert asked.startswith("No vendor is registered here as TS vendor.")
        said = await person(world, "u2").hears(f"{GOAL}, $5, only from FastGPU vendor")
        run = await world.ledger.runs.get(run_of(said))
        assert run.spec is not None
        assert run.spec.only_vendors == ("gpu_vendor_1",)


async def test_a_question_is_answered_for_the_time_it_names(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        me = person(world)
        said = await me.told("how much would 4h of A100 cost?")
        assert said.startswith("4 hours of A100 cost $5.60 at FastGPU, $7.20 at ReliableGPU.")
        assert await world.ledger.runs.recent(limit=0) == []
