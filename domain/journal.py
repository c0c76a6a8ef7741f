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
LONGEST_LINE: Final = 300
"""Characters of an entry's content in a log."""

_EVENTS: Final = ("payment_", "refund_", "budget_", "approval_", "run_", "job_", "recovery")
_NO_EVENTS: Final = ("job_log", "job_spec")
_FACTS: Final = {
    "paymentId": "payment",
    "approvalId": "approval",
    "vendorId": "vendor",
    "jobId": "job",
    "vendorJobId": "vendorJob",
    "slot": "slot",
    "amountMicros": "amountMicros",
    "refundedMicros": "refundedMicros",
    "x402TxId": "tx",
}
"""What a log tells of a note's data, and under which names: ids and amounts, nothing else."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something to be written into the journal.

    A note with a `key` is written once per run, however often a crash makes the agent repeat it.
    """

    type: str
    content: str
    data: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None


def is_event(note: Note) -> bool:
    """Whether operators are told of the note: money moved or was refused, a job or run changed.

    By the beginning of its type, so that a new note about money is told without being listed.
    """
    return note.type.startswith(_EVENTS) and note.type not in _NO_EVENTS


def event_line(note: Note) -> str:
    """The note in one line of a log: no line end of a vendor's words begins another."""
    words = "; ".join(" ".join(line.split()) for line in note.content.splitlines())
    shown = "".join(c if c.isprintable() else "?" for c in words)[:LONGEST_LINE]
    return f"{note.type}: {shown}"


def event_facts(run_id: str, note: Note) -> dict[str, str | int]:
    """The same as fields: the event's type, the run, and the ids and amounts that it is about."""
    data = {
        name: value
        for kept, name in _FACTS.items()
        if isinstance(value := note.data.get(kept), str | int) and not _empty(kept, value)
    }
    return {"event": note.type, "run": run_id, **data}


def _empty(name: str, value: str | int) -> bool:
    return value == "" or (name == "refundedMicros" and value == 0)


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
