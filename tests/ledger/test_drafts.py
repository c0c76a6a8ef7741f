"""Half-filled goals."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from domain.errors import Conflict
from domain.utterance import Utterance
from ledger.drafts import KEPT_FOR, MOST_SAID, Drafts
from tests.support.builders import NOON, open_ledger
from tests.support.stack import FreshDatabase

HELLO = Utterance("Train on an A100", NOON)


async def test_a_draft_is_kept_for_its_user_until_it_is_forgotten(database: FreshDatabase) -> None:
    async with open_ledger(database) as ledger:
        drafts = Drafts(ledger.store)
        first = await drafts.add(None, "u1", HELLO, "run_1")
        longer = await drafts.add(first, "u1", Utterance("$5", NOON), "run_2")
        assert await drafts.find("u1") == longer
        assert [said.text for said in longer.said] == ["Train on an A100", "$5"]
        assert longer.run_id == "run_1"
        assert await drafts.find("u2") is None
        assert await drafts.forget("u1")
        assert not await drafts.forget("u1")


async def test_of_two_messages_at_once_one_is_asked_for_again(database: FreshDatabase) -> None:
    async with open_ledger(database) as ledger:
        drafts = Drafts(ledger.store)
        for draft in (None, await drafts.add(None, "u2", HELLO, "run_2")):
            user = "u2" if draft else "u1"
            adding = [drafts.add(draft, user, HELLO, f"run_{n}") for n in range(4)]
            done = await asyncio.gather(*adding, return_exceptions=True)
            assert sum(isinstance(one, Conflict) for one in done) == 3


async def test_a_draft_is_replaced_or_dropped_only_as_it_was_read(database: FreshDatabase) -> None:
    async with open_ledger(database) as ledger:
        drafts = Drafts(ledger.store)
        first = await drafts.add(None, "u1", HELLO, "run_1")
        second = await drafts.replace(first, Utterance("Render on an H100", NOON), "run_2")
        assert await drafts.find("u1") == second
        assert ([u.text for u in second.said], second.run_id) == (["Render on an H100"], "run_2")
        with pytest.raises(Conflict):
            await drafts.replace(first, HELLO, "run_3")
        await drafts.drop(first)
        assert await drafts.find("u1") == second
        await drafts.drop(second)
        assert await drafts.find("u1") is None


async def test_a_draft_is_too_old_some_time_after_its_last_word(database: FreshDatabase) -> None:
    async with open_ledger(database) as ledger:
        drafts, later = Drafts(ledger.store), NOON + KEPT_FOR
        draft = await drafts.add(None, "u1", HELLO, "run_1")
        assert not draft.too_old(later)
        longer = await drafts.add(draft, "u1", Utterance("$5", later), "")
        assert not longer.too_old(later + KEPT_FOR)
        assert longer.too_old(later + KEPT_FOR + timedelta(seconds=1))


async def test_the_first_words_stay_and_the_draft_stays_small(database: FreshDatabase) -> None:
    async with open_ledger(database) as ledger:
        drafts = Drafts(ledger.store)
        draft = await drafts.add(None, "u1", HELLO, "run_1")
        for n in range(2 * MOST_SAID):
            draft = await drafts.add(draft, "u1", Utterance(f"word {n}", NOON), "")
        assert len(draft.said) == MOST_SAID
        assert draft.said[0] == HELLO
        with pytest.raises(Conflict):
            await drafts.add(None, "u1", HELLO, "run_9")
