"""The journal's hash chain."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from domain.journal import Entry, Note, NoteType, entry, first_broken
from tests.support.builders import NOON


def chain(*contents: str) -> list[Entry]:
    entries: list[Entry] = []
    for content in contents:
        prev = entries[-1].hash if entries else ""
        note = Note(NoteType("note"), content, {"n": len(entries)})
        entries.append(entry("run_1", len(entries) + 1, prev, note, NOON))
    return entries


contents = st.lists(st.text(max_size=20), min_size=2, max_size=8)


@given(contents)
def test_an_untouched_journal_is_whole(texts: list[str]) -> None:
    assert first_broken(chain(*texts)) is None
    assert first_broken([]) is None


@given(contents, st.data())
def test_a_changed_entry_is_found(texts: list[str], data: st.DataObject) -> None:
    entries = chain(*texts)
    at = data.draw(st.integers(0, len(entries) - 1))
    changed = replace(entries[at].note, content=entries[at].note.content + "!")
    entries[at] = replace(entries[at], note=changed)
    assert first_broken(entries) == at + 1


@given(contents, st.data())
def test_a_removed_entry_is_found_unless_it_was_the_last(
    texts: list[str], data: st.DataObject
) -> None:
    entries = chain(*texts)
    at = data.draw(st.integers(0, len(entries) - 2))
    del entries[at]
    assert first_broken(entries) == at + 1


@given(contents, st.data())
def test_an_entry_put_in_later_is_found(texts: list[str], data: st.DataObject) -> None:
    entries = chain(*texts)
    at = data.draw(st.integers(0, len(entries) - 1))
    prev = entries[at - 1].hash if at else ""
    entries.insert(at, entry("run_1", at + 1, prev, Note(NoteType("note"), "forged"), NOON))
    broken = first_broken(entries)
    assert broken == at + 2


def test_an_entry_of_another_run_does_not_fit_in() -> None:
    first, second = chain("a", "b")
    other = entry("run_2", 2, first.hash, second.note, NOON)
    assert first_broken([first, replace(other, run_id="run_1")]) == 2


def test_the_time_and_the_key_of_an_entry_are_bound_too() -> None:
    sound = entry("run", 1, "", Note(NoteType("type"), "content", key="a"), NOON)
    later = replace(sound, created_at=NOON + timedelta(seconds=1))
    renamed = replace(sound, note=replace(sound.note, key="b"))
    assert first_broken([sound]) is None
    assert (first_broken([later]), first_broken([renamed])) == (1, 1)
