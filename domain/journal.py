"""The journal of a run: what the agent saw, decided and did, each entry bound to the one before.

hash = sha256(previous hash, run, seq, time, key, type, content, data): an entry that is changed,
removed or put in later breaks every hash after it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

LONGEST_CONTENT: Final = 2_000
"""Characters of one entry's content; vendors' words are cut there."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something to be written into the journal.

    A note with a `key` is written once per run, however often a crash makes the agent repeat it.
    """

    type: str
    content: str
    data: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A note in its place: the `seq`-th of its run, counted from 1."""

    run_id: str
    seq: int
    note: Note
    created_at: datetime
    prev_hash: str
    hash: str


def entry(run_id: str, seq: int, prev_hash: str, note: Note, created_at: datetime) -> Entry:
    at_ms = round(created_at.timestamp() * 1000)
    bound = [prev_hash, run_id, seq, at_ms, note.key, note.type, note.content, dict(note.data)]
    digest = sha256(json.dumps(bound, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    return Entry(run_id, seq, note, created_at, prev_hash, digest)


def first_broken(entries: Iterable[Entry]) -> int | None:
    """The seq of the first entry that does not follow from those before it, or None."""
    prev_hash = ""
    for seq, e in enumerate(entries, start=1):
        expected = entry(e.run_id, seq, prev_hash, e.note, e.created_at)
        if (e.seq, e.prev_hash, e.hash) != (seq, prev_hash, expected.hash):
            return seq
        prev_hash = e.hash
    return None
