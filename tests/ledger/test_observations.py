"""The journal in MongoDB: in order, chained, keyed notes once, whoever writes and crashes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from domain.journal import LONGEST_CONTENT, Note, NoteType, first_broken
from ledger.ledger import Ledger
from ledger.observations import Head
from tests.support.builders import NOON, at, open_ledger
from tests.support.stack import FreshDatabase

RUN = "run_1"


@pytest.fixture
async def ledger(database: FreshDatabase) -> AsyncIterator[Ledger]:
    async with open_ledger(database) as opened:
        yield opened


def notes(*contents: str, key: bool = False) -> list[Note]:
    return [
        Note(NoteType("note"), text, {"text": text}, f"key of {text}" if key else None)
        for text in contents
    ]


async def told(ledger: Ledger) -> list[str]:
    entries = await ledger.observations.of_run(RUN)
    assert first_broken(entries) is None
    assert [e.seq for e in entries] == list(range(1, len(entries) + 1))
    return [e.note.content for e in entries]


async def test_notes_are_kept_in_order_and_chained(ledger: Ledger) -> None:
    head = await ledger.observations.append(RUN, Head(), notes("a", "b"), NOON)
    head = await ledger.observations.append(RUN, head, notes("c"), NOON)
    assert head.seq == 3
    assert await told(ledger) == ["a", "b", "c"]


async def test_nothing_to_write_changes_nothing(ledger: Ledger) -> None:
    head = Head(7, "hash")
    assert await ledger.observations.append(RUN, head, [], NOON) == head


async def test_a_stored_entry_comes_back_the_same(ledger: Ledger) -> None:
    note = Note(
        NoteType("payment"), "paid", {"amountMicros": 5, "nested": {"a": [1, None, True]}}, "k"
    )
    await ledger.observations.append(RUN, Head(), [note], NOON)
    [entry] = await ledger.observations.of_run(RUN)
    assert (entry.note, entry.created_at) == (note, NOON)


async def test_a_keyed_note_is_written_once(ledger: Ledger) -> None:
    head = await ledger.observations.append(RUN, Head(), notes("a", "b", key=True), NOON)
    head = await ledger.observations.append(RUN, head, notes("b", "c", key=True), NOON)
    await ledger.observations.append(RUN, head, notes("a", "d", key=True), NOON)
    assert await told(ledger) == ["a", "b", "c", "d"]


async def test_a_note_without_a_key_may_be_told_again(ledger: Ledger) -> None:
    head = await ledger.observations.append(RUN, Head(), notes("a"), NOON)
    await ledger.observations.append(RUN, head, notes("a"), NOON)
    assert await told(ledger) == ["a", "a"]


async def test_keys_of_one_run_do_not_hinder_another(ledger: Ledger) -> None:
    for run_id in ("run_0", RUN):
        await ledger.observations.append(run_id, Head(), notes("a", key=True), NOON)
    assert await told(ledger) == ["a"]


async def test_who_has_an_old_head_writes_after_the_true_end(ledger: Ledger) -> None:
    await ledger.observations.append(RUN, Head(), notes("a", "b"), NOON)
    head = await ledger.observations.append(RUN, Head(), notes("c"), NOON)
    assert head.seq == 3
    assert await told(ledger) == ["a", "b", "c"]


async def test_after_a_crash_between_insert_and_head_the_next_one_goes_on(ledger: Ledger) -> None:
    head = await ledger.observations.append(RUN, Head(), notes("a", key=True), NOON)
    await ledger.observations.append(RUN, head, notes("b", "c", key=True), NOON)
    # The head of that insert was lost with its process; the same notes are written again.
    after = await ledger.observations.append(RUN, head, notes("b", "c", "d", key=True), NOON)
    assert after.seq == 4
    assert await told(ledger) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("landed", [0, 1, 2, 3])
async def test_an_insert_that_landed_in_part_is_completed(ledger: Ledger, landed: int) -> None:
    whole = notes("a", "b", "c", key=True)
    await ledger.observations.append(RUN, Head(), whole[:landed], NOON)
    await ledger.observations.append(RUN, Head(), whole, NOON)
    assert await told(ledger) == ["a", "b", "c"]


@pytest.mark.parametrize("keyed", [True, False])
async def test_writers_that_race_all_get_their_notes_in_and_the_chain_holds(
    ledger: Ledger, keyed: bool
) -> None:
    writers = [
        ledger.observations.append(RUN, Head(), notes(f"{w}a", f"{w}b", key=keyed), NOON)
        for w in range(12)
    ]
    await asyncio.gather(*writers)
    texts = await told(ledger)
    assert sorted(texts) == sorted(f"{w}{x}" for w in range(12) for x in "ab")
    for w in range(12):
        assert texts.index(f"{w}a") < texts.index(f"{w}b")


async def test_writers_that_race_with_the_same_keyed_note_tell_it_once(ledger: Ledger) -> None:
    same = notes("a", "b", key=True)
    await asyncio.gather(*(ledger.observations.append(RUN, Head(), same, NOON) for _ in range(12)))
    assert await told(ledger) == ["a", "b"]


@pytest.mark.parametrize("landed", [0, 1, 2])
async def test_an_event_is_logged_once_however_often_its_note_is_tried(
    ledger: Ledger, landed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ledger.observations")
    whole = [Note(NoteType.PAYMENT_SETTLED, t, {"amountMicros": 5}, t) for t in "ab"]
    whole.insert(1, Note(NoteType.JOB_LOG, "Epoch 1/3", key="log"))
    await ledger.observations.append(RUN, Head(), whole[:landed], NOON)
    await ledger.observations.append(RUN, Head(), whole, at(NOON + timedelta(seconds=1))())
    await ledger.observations.append(RUN, Head(), whole, at(NOON + timedelta(seconds=2))())

    assert [r.getMessage() for r in caplog.records] == ["payment_settled: a", "payment_settled: b"]
    assert caplog.records[0].facts == {  # type: ignore[attr-defined]
        "event": "payment_settled",
        "run": RUN,
        "amountMicros": 5,
    }


async def test_a_long_content_is_cut(ledger: Ledger) -> None:
    await ledger.observations.append(RUN, Head(), notes("x" * 10_000), NOON)
    assert await told(ledger) == ["x" * LONGEST_CONTENT]


async def test_a_changed_entry_is_found(ledger: Ledger, database: FreshDatabase) -> None:
    await ledger.observations.append(RUN, Head(), notes("a", "b", "c"), NOON)
    await database.db["observations"].update_one({"seq": 2}, {"$set": {"content": "z"}})
    assert first_broken(await ledger.observations.of_run(RUN)) == 2


async def test_the_newest_entries_and_those_after_a_seq_can_be_read(ledger: Ledger) -> None:
    await ledger.observations.append(RUN, Head(), notes("a", "b", "c", "d"), NOON)
    newest = await ledger.observations.newest(RUN, 2)
    assert [e.note.content for e in newest] == ["c", "d"]
    after = await ledger.observations.of_run(RUN, after=1, limit=2)
    assert [e.note.content for e in after] == ["b", "c"]
    assert await ledger.observations.of_run(RUN, types=[NoteType("other")]) == []
