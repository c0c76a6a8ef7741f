"""The journal of a run: what the agent saw, decided and did, each entry bound to the one before.

hash = sha256(previous hash, run, seq, time, key, type, content, data): an entry that is changed,
removed or put in later breaks every hash after it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Flag, StrEnum, auto
from functools import reduce
from hashlib import sha256
from operator import or_
from typing import Any, Final, Literal, Self

LONGEST_CONTENT: Final = 2_000
"""Characters of one entry's content; vendors' words are cut there."""
LONGEST_LINE: Final = 300
"""Characters of an entry's content in a log."""

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
"""Fields of a note's data that go into a log, with their names there: only ids and amounts."""


class NoteClass(Flag):
    """What a note means for its run, and who is told of it."""

    PROGRESS = auto()
    """The job just runs, and reported something: the next tick comes before long."""
    NEWS = auto()
    """The run has moved on: the next tick comes soon."""
    MONEY = auto()
    """Money moved or was refused, or a job or run that it buys changed: operators are told."""
    TROUBLE = auto()
    """Only time, or a person, can help."""
    ANEW = auto()
    """The agent chooses again at once, without waiting for other offers."""
    SENT = auto()
    """WEBHOOK_URL is told."""


Tone = Literal["", "good", "warn", "bad", "mind", "dim"]
"""How a person is to take a note; `mind` is what the agent thinks."""

_NEWS, _MONEY, _TROUBLE = NoteClass.NEWS, NoteClass.MONEY, NoteClass.TROUBLE
_ANEW, _SENT, _NOTHING = NoteClass.ANEW, NoteClass.SENT, NoteClass(0)


class NoteType(StrEnum):
    """What a note is about. Each knows its classes, its tone, and its heading on a page."""

    _value_: str
    classes: NoteClass
    tone: Tone
    heading: str

    def __new__(
        cls, value: str, classes: NoteClass = _NOTHING, tone: Tone = "", heading: str = ""
    ) -> Self:
        member = str.__new__(cls, value)
        member._value_, member.classes, member.tone = value, classes, tone
        member.heading = heading or value.replace("_", " ").capitalize()
        return member

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        """A type that another version wrote: read as it is, and of no class."""
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = member._value_ = member.heading = value
        member.classes, member.tone = _NOTHING, ""
        return member

    AGENT_REASONING = "agent_reasoning", _SENT, "mind", "Decision"
    APPROVAL_ASKED = "approval_asked", _MONEY | _SENT, "warn"
    APPROVAL_EXPIRED = "approval_expired", _MONEY | _SENT | _ANEW, "warn"
    APPROVAL_NOT_TAKEN = "approval_not_taken", _MONEY
    APPROVAL_USED = "approval_used", _NEWS | _MONEY | _SENT, "good"
    ARTIFACT = "artifact", _NOTHING, "good", "Result downloaded"
    ARTIFACT_FAILED = "artifact_failed", _NOTHING, "bad"
    BUDGET_RAISED = "budget_raised", _MONEY | _SENT
    CANCEL_FAILED = "cancel_failed", _TROUBLE, "bad"
    CANCEL_REFUSED = "cancel_refused"
    CANCEL_TOO_LATE = "cancel_too_late"
    CHAIN_UNREACHABLE = "chain_unreachable", _TROUBLE
    EXTENSION_GIVEN_UP = "extension_given_up"
    EXTENSION_NOT_MADE = "extension_not_made"
    EXTENSION_UNANSWERED = "extension_unanswered", _TROUBLE
    EXTENSION_WAITS = "extension_waits"
    GOODS_RECEIVED = "goods_received"
    JOB_EXTENDED = "job_extended", _NEWS | _MONEY | _SENT
    JOB_LOG = "job_log", NoteClass.PROGRESS, "dim"
    JOB_SPEC = "job_spec", _NEWS, "mind", "Goal understood"
    JOB_STARTED = "job_started", _NEWS | _MONEY | _SENT
    JOB_STOPPED = "job_stopped", _MONEY
    LAUNCH_UNANSWERED = "launch_unanswered", _TROUBLE | _ANEW, "warn"
    NO_QUOTE = "no_quote"
    NOT_USED = "not_used", _NOTHING, "warn", "Left out of the goal"
    PAYMENT_AUTHORIZED = "payment_authorized", _MONEY | _SENT
    PAYMENT_BOOKED = "payment_booked", _MONEY | _SENT
    PAYMENT_EXPIRED = "payment_expired", _MONEY | _SENT, "bad"
    PAYMENT_NOT_MADE = "payment_not_made", _MONEY | _TROUBLE, "warn"
    PAYMENT_REFUNDED = "payment_refunded", _NEWS | _MONEY | _SENT, "good"
    PAYMENT_REFUSED = "payment_refused", _MONEY | _SENT, "bad"
    PAYMENT_RELEASED = "payment_released", _MONEY | _SENT
    PAYMENT_RESOLVED = "payment_resolved", _MONEY
    PAYMENT_SETTLED = "payment_settled", _MONEY | _SENT, "good"
    PAYMENT_UNCLEAR = "payment_unclear", _MONEY | _TROUBLE
    POLL_FAILED = "poll_failed", _TROUBLE, "warn", "Vendor did not answer"
    QUOTE = "quote"
    QUOTE_EXPIRED = "quote_expired"
    RECOVERY = "recovery", _MONEY | _SENT | _ANEW, "warn", "Recovering"
    REFUND_CLAIMED = "refund_claimed", _MONEY
    RUN_CANCELLED = "run_cancelled", _NEWS | _MONEY | _SENT, "bad"
    RUN_COMPLETED = "run_completed", _NEWS | _MONEY | _SENT, "good"
    RUN_FAILED = "run_failed", _NEWS | _MONEY | _SENT, "bad"
    SLOT_PAID_ELSEWHERE = "slot_paid_elsewhere"
    STATE_FORGOTTEN = "state_forgotten", _NOTHING, "bad", "A saved state was thrown away"
    TICK_FAILED = "tick_failed", _NOTHING, "bad", "A step failed"
    WALLET_SHORT = "wallet_short"


def classes_of(types: Iterable[NoteType]) -> NoteClass:
    """All classes that notes of these types have between them."""
    return reduce(or_, (type_.classes for type_ in types), _NOTHING)


@dataclass(frozen=True, slots=True)
class Note:
    """Something to be written into the journal.

    A note with a `key` is written once per run, however often a crash makes the agent repeat it.
    """

    type: NoteType
    content: str
    data: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None


def event_line(note: Note) -> str:
    """The note as one log line; line breaks in a vendor's words cannot begin another line."""
    words = "; ".join(" ".join(line.split()) for line in note.content.splitlines())
    shown = "".join(c if c.isprintable() else "?" for c in words)[:LONGEST_LINE]
    return f"{note.type}: {shown}"


def event_facts(run_id: str, note: Note) -> dict[str, str | int]:
    """The note as log fields: its type, the run, and the ids and amounts in its data."""
    data = {
        name: value
        for kept, name in _FACTS.items()
        if isinstance(value := note.data.get(kept), str | int) and not _empty(kept, value)
    }
    return {"event": note.type.value, "run": run_id, **data}


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
